//! What a hook may know of the time it has.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use tokio_util::sync::CancellationToken;

use crate::Exchange;

/// The deadline and the cancellation of one run of a chain.
///
/// A context without either is free: nothing is allocated, no clock is read.
/// The chain checks both before each hook and drops a hook's future when the
/// context is cancelled while it waits. A hook that does not await must look
/// at [`HookContext::is_cancelled`] itself; a sandboxed plugin is stopped by
/// its watchdog.
///
/// ```
/// use std::time::Duration;
/// use vortex_hook_core::{CancellationToken, HookContext};
///
/// let token = CancellationToken::new();
/// let cx = HookContext::new()
///     .with_timeout(Duration::from_millis(50))
///     .with_cancellation(token.clone());
/// assert!(!cx.is_cancelled());
/// token.cancel();
/// assert!(cx.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct HookContext {
    deadline: Option<Instant>,
    cancellation: Option<CancellationToken>,
    exchange: Option<Arc<Exchange>>,
}

impl HookContext {
    /// A context without deadline that is never cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the moment after which no hook is started and a sandboxed one is stopped.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the deadline to `timeout` from now; one too far away to be told is none.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// Sets the token whose cancellation ends the run.
    #[must_use]
    pub fn with_cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// Sets the exchange that the run belongs to.
    #[must_use]
    pub fn with_exchange(mut self, exchange: Arc<Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// The exchange that the run belongs to, if one was given.
    #[must_use]
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_deref()
    }

    /// The deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The cancellation token, if there is one.
    #[must_use]
    pub fn cancellation(&self) -> Option<&CancellationToken> {
        self.cancellation.as_ref()
    }

    /// Whether the run has been cancelled.
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
    }

    /// Whether the deadline has passed.
    #[must_use]
    #[inline]
    pub fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|d| Instant::now() >= d)
    }

    /// Runs `future` to its end, or to the cancellation of this context (`None`).
    pub(crate) async fn until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        match &self.cancellation {
            None => Some(future.await),
            Some(token) => token.run_until_cancelled(future).await,
        }
    }
}
