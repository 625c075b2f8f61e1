//! Calls of a hook without an executor.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anyhow::{Result, bail};
use vortex_hook_core::{Hook, HookContext, HookError, HookInput, HookOutput};

/// Calls a hook that decides at once; it is an error when it has to wait.
///
/// The outer result is the benchmark's, the inner one the hook's.
///
/// # Errors
///
/// If the hook has to wait.
pub fn call(
    hook: &impl Hook,
    cx: &HookContext,
    input: &HookInput<'_>,
) -> Result<Result<HookOutput, HookError>> {
    // As a chain does.
    if let Some(result) = hook.call_now(cx, input) {
        return Ok(result);
    }
    let mut future = pin!(hook.call(cx, input));
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => bail!("the hook waits, though nothing else uses its instances"),
    }
}
