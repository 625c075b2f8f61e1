//! The one trait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;

use crate::{HookContext, HookError, HookInput, HookOutput};

/// Code that looks at a request or connection and decides.
///
/// Implement it with the re-exported [`async_trait`](macro@crate::async_trait)
/// for a hook with state or I/O; for a decision that needs neither, [`hook_fn`]
/// makes one of a closure. Which hook types it runs for and what its failure
/// means is said where it is registered, not here.
///
/// ```
/// use vortex_hook_core::{async_trait, Hook, HookContext, HookError, HookInput, HookOutput};
///
/// struct Tag(&'static str);
///
/// #[async_trait]
/// impl Hook for Tag {
///     async fn call(&self, _: &HookContext, _: &HookInput<'_>) -> Result<HookOutput, HookError> {
///         // A look-up in a database would be awaited here.
///         HookOutput::allow().with_header("x-tag", self.0).map_err(HookError::new)
///     }
/// }
/// ```
#[async_trait]
pub trait Hook: Send + Sync {
    /// Decides on one input.
    ///
    /// # Errors
    ///
    /// Any [`HookError`]; the registration's [`FailPolicy`](crate::FailPolicy) says what it means.
    async fn call(&self, cx: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError>;

    /// [`Hook::call`] for a hook that can decide at once, without a future.
    ///
    /// A chain asks this first. `None`, the default, sends it to [`Hook::call`];
    /// a hook that returns it must not have decided anything yet.
    fn call_now(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Option<Result<HookOutput, HookError>> {
        let _ = (cx, input);
        None
    }
}

/// A hook from a closure that decides at once.
///
/// ```
/// use http::StatusCode;
/// use vortex_hook_core::{hook_fn, HookOutput};
///
/// let only_get = hook_fn(|_, input| {
///     Ok(match input.method() {
///         Some(&http::Method::GET) => HookOutput::allow(),
///         _ => HookOutput::deny(StatusCode::METHOD_NOT_ALLOWED),
///     })
/// });
/// ```
pub fn hook_fn<F>(f: F) -> impl Hook + fmt::Debug
where
    F: Fn(&HookContext, &HookInput<'_>) -> Result<HookOutput, HookError> + Send + Sync,
{
    HookFn(f)
}

struct HookFn<F>(F);

impl<F> fmt::Debug for HookFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookFn")
    }
}

#[async_trait]
impl<F> Hook for HookFn<F>
where
    F: Fn(&HookContext, &HookInput<'_>) -> Result<HookOutput, HookError> + Send + Sync,
{
    async fn call(&self, cx: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError> {
        (self.0)(cx, input)
    }

    fn call_now(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Option<Result<HookOutput, HookError>> {
        Some((self.0)(cx, input))
    }
}

/// The boxed future of an asynchronous closure hook.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<HookOutput, HookError>> + Send + 'a>>;

/// A hook from a closure that returns a boxed future.
///
/// ```
/// use vortex_hook_core::{async_hook_fn, HookOutput};
///
/// let patient = async_hook_fn(|_, _| Box::pin(async {
///     std::future::ready(()).await;
///     Ok(HookOutput::allow())
/// }));
/// ```
pub fn async_hook_fn<F>(f: F) -> impl Hook + fmt::Debug
where
    F: for<'a> Fn(&'a HookContext, &'a HookInput<'a>) -> HookFuture<'a> + Send + Sync,
{
    AsyncHookFn(f)
}

struct AsyncHookFn<F>(F);

impl<F> fmt::Debug for AsyncHookFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsyncHookFn")
    }
}

#[async_trait]
impl<F> Hook for AsyncHookFn<F>
where
    F: for<'a> Fn(&'a HookContext, &'a HookInput<'a>) -> HookFuture<'a> + Send + Sync,
{
    async fn call(&self, cx: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError> {
        (self.0)(cx, input).await
    }
}
