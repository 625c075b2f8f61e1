//! A byte read at each function entry and loop header, from a page that the
//! watchdog can take away.

use wasmer::LocalFunctionIndex;
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::wasmparser::Operator;

use super::touch;

/// Where the safepoint region begins in a guest's address space: above the
/// largest memory (1 GiB), below 2 GiB, so that reading it is one instruction
/// with a 32-bit displacement.
pub(crate) const BASE: u32 = 0x7FFF_0000;

/// The region's size in bytes. Each safepoint of a function reads an address of
/// its own in it, since the compiler merges reads of equal ones; a function has
/// fewer loops than this has bytes.
pub(crate) const LEN: u32 = 0x1_0000;

#[derive(Debug)]
pub(crate) struct Safepoints;

impl ModuleMiddleware for Safepoints {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(FunctionSafepoints { count: 0 })
    }
}

#[derive(Debug)]
struct FunctionSafepoints {
    /// Safepoints written so far.
    count: u32,
}

impl FunctionSafepoints {
    fn poll(&mut self, state: &mut MiddlewareReaderState<'_>) {
        state.extend(&touch(BASE + self.count % LEN));
        self.count += 1;
    }
}

impl<'a> FunctionMiddleware<'a> for FunctionSafepoints {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        if self.count == 0 {
            self.poll(state);
        }
        let is_loop = matches!(operator, Operator::Loop { .. });
        state.push_operator(operator);
        if is_loop {
            self.poll(state);
        }
        Ok(())
    }
}
