//! The start function as an export, so that it runs like any other.
//!
//! wasmer would run it while it makes the instance, and keep the instance when it
//! fails: nobody could tell then why.

use wasmer::sys::{FunctionMiddleware, MiddlewareError, ModuleMiddleware};
use wasmer::{ExportIndex, LocalFunctionIndex};
use wasmer_types::ModuleInfo;

/// The name that the start function is exported under.
pub(crate) const EXPORT: &str = "vortex:start";

#[derive(Debug)]
pub(crate) struct StartFunction;

impl ModuleMiddleware for StartFunction {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(Unchanged)
    }

    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        if let Some(function) = info.start_function.take() {
            info.exports
                .insert(EXPORT.to_owned(), ExportIndex::Function(function));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Unchanged;

impl FunctionMiddleware<'_> for Unchanged {}
