//! Panics of the code below, as errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::SandboxError;

/// Runs code that handles untrusted input and may panic in a dependency.
///
/// Whatever `work` had in its hands is thrown away by the caller, so that no
/// half-changed state is seen.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, SandboxError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| SandboxError::Panic {
        message: message(&*panic),
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(256).collect()
}
