//! `unreachable` as a fault instead of a call into the host.
//!
//! wasmer compiles `unreachable` to a call that captures a backtrace on the
//! guest's own stack. Near the end of that stack the capture itself faults while
//! it holds a lock of the whole process, and every later trap on any thread
//! hangs. A faulting read is handled on the signal stack and is safe at any depth.

use std::sync::OnceLock;

use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::wasmparser::Operator;
use wasmer::{ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, Mutability, Type};
use wasmer_types::ModuleInfo;

use super::fault;

/// The exported global that says whether the guest aborted: 0 or 1.
pub(crate) const EXPORT: &str = "vortex:aborted";

#[derive(Debug, Default)]
pub(crate) struct Aborts {
    flag: OnceLock<u32>,
}

impl ModuleMiddleware for Aborts {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(FunctionAborts {
            flag: self.flag.get().copied(),
        })
    }

    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let index = info
            .globals
            .push(GlobalType::new(Type::I32, Mutability::Var));
        info.global_initializers.push(GlobalInit::I32Const(0));
        info.exports
            .insert(EXPORT.to_owned(), ExportIndex::Global(index));
        self.flag
            .set(index.as_u32())
            .map_err(|_| MiddlewareError::new("Aborts", "used for two modules"))
    }
}

#[derive(Debug)]
struct FunctionAborts {
    flag: Option<u32>,
}

impl<'a> FunctionMiddleware<'a> for FunctionAborts {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        if matches!(operator, Operator::Unreachable) {
            let global_index = self
                .flag
                .ok_or_else(|| MiddlewareError::new("Aborts", "the module was not prepared"))?;
            state.push_operator(Operator::I32Const { value: 1 });
            state.push_operator(Operator::GlobalSet { global_index });
            state.extend(&fault());
        }
        // The operator itself stays: it ends the block, and is never reached.
        state.push_operator(operator);
        Ok(())
    }
}
