//! A byte read at each function entry, loop header and bulk operation, from a
//! region that the watchdog can take away.
//!
//! The read is an atomic one, which on the machines at hand is the same
//! instruction. A plain one could be merged with a read of the same address by
//! the guest's own code, which comes first and then leaves a loop without its
//! safepoint. Guests have no atomic operators, and the compiler moves no read
//! across one.

use wasmer::LocalFunctionIndex;
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::wasmparser::Operator;

use super::byte_at;

/// Where the safepoint region begins in a guest's address space: above the
/// largest memory (1 GiB), below 2 GiB, so that reading it is one instruction
/// with a 32-bit displacement.
pub(crate) const BASE: u32 = 0x7FFF_0000;

/// The region's size in bytes. Each safepoint of a function reads an address of
/// its own in it, so that not even two of them could be merged; a function has
/// fewer than this has bytes, see [`MAX_BLOCKS`](crate::ModuleLimits::MAX_BLOCKS).
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
        state.extend(&[
            Operator::I32Const { value: 0 },
            Operator::I32AtomicLoad8U {
                memarg: byte_at(BASE + self.count % LEN),
            },
            Operator::Drop,
        ]);
        self.count += 1;
    }
}

impl<'a> FunctionMiddleware<'a> for FunctionSafepoints {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        let is_bulk = matches!(
            operator,
            Operator::MemoryCopy { .. } | Operator::MemoryFill { .. }
        );
        if self.count == 0 || is_bulk {
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
