//! The instances of one plugin.

use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_timer::Delay;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use vortex_hook_core::HookContext;

use super::guest::Guest;
use super::watchdog::Watchdog;
use crate::SandboxError;
use crate::module::compile::Compiled;

/// A bounded set of instances, made when they are needed and used one call at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    watchdog: Arc<Watchdog>,
    max_instances: usize,
    instance_wait: Duration,
    /// One permit for each instance that may run; serves waiters in order.
    permits: Semaphore,
    state: Mutex<State>,
    pub(crate) created: AtomicU64,
    pub(crate) discarded: AtomicU64,
}

struct State {
    /// `None` once the pool is closed.
    compiled: Option<Arc<Compiled>>,
    /// Instances that wait; the last one used is the first one taken, for warm caches.
    idle: Vec<Guest>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("open", &self.compiled.is_some())
            .field("idle", &self.idle.len())
            .finish()
    }
}

impl Pool {
    pub(crate) fn new(name: &str, compiled: Arc<Compiled>, watchdog: Arc<Watchdog>) -> Self {
        let config = &compiled.config;
        Self {
            name: name.to_owned(),
            watchdog,
            max_instances: config.max_instances,
            instance_wait: config.instance_wait,
            permits: Semaphore::new(config.max_instances),
            state: Mutex::new(State {
                idle: Vec::new(),
                compiled: Some(compiled),
            }),
            created: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
        }
    }

    /// An instance for one call; waits in line when all are in use.
    pub(crate) async fn acquire(&self, cx: &HookContext) -> Result<Lease<'_>, SandboxError> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait_in_line(cx).await?,
        };
        self.lease(permit, cx)
    }

    /// An instance that no call has run on, if there may be one more at once. It
    /// is not kept.
    pub(crate) fn fresh(&self) -> Result<Lease<'_>, SandboxError> {
        let permit = self.permits.try_acquire();
        let permit = permit.map_err(|_| self.saturated(Duration::ZERO))?;
        let compiled = self.state().compiled.clone();
        Ok(Lease {
            pool: self,
            guest: Some(self.make(compiled, &HookContext::new())?),
            keep: false,
            _permit: permit,
        })
    }

    async fn wait_in_line(&self, cx: &HookContext) -> Result<SemaphorePermit<'_>, SandboxError> {
        if self.permits.is_closed() {
            return Err(self.unloaded());
        }
        let start = Instant::now();
        let until_deadline = cx.deadline().map(|d| d.saturating_duration_since(start));
        let wait = self
            .instance_wait
            .min(until_deadline.unwrap_or(Duration::MAX));
        let mut acquire = pin!(self.permits.acquire());
        let mut timeout = Delay::new(wait);
        poll_fn(|task| {
            if let Poll::Ready(permit) = acquire.as_mut().poll(task) {
                return Poll::Ready(permit.map_err(|_| self.unloaded()));
            }
            Pin::new(&mut timeout)
                .poll(task)
                .map(|()| Err(self.waited(cx, start.elapsed())))
        })
        .await
    }

    fn waited(&self, cx: &HookContext, waited: Duration) -> SandboxError {
        if cx.is_expired() {
            SandboxError::DeadlineExceeded
        } else {
            self.saturated(waited)
        }
    }

    fn lease<'p>(
        &'p self,
        permit: SemaphorePermit<'p>,
        cx: &HookContext,
    ) -> Result<Lease<'p>, SandboxError> {
        let (idle, compiled) = {
            let mut state = self.state();
            match state.idle.pop() {
                None => (None, state.compiled.clone()),
                idle => (idle, None),
            }
        };
        // A pool that was closed has none idle either.
        let guest = match idle {
            Some(guest) => guest,
            None => self.make(compiled, cx)?,
        };
        Ok(Lease {
            pool: self,
            guest: Some(guest),
            keep: true,
            _permit: permit,
        })
    }

    fn make(
        &self,
        compiled: Option<Arc<Compiled>>,
        cx: &HookContext,
    ) -> Result<Guest, SandboxError> {
        let compiled = compiled.ok_or_else(|| self.unloaded())?;
        let guest = Guest::new(&compiled, &self.watchdog, cx)?;
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(guest)
    }

    /// Makes one instance and keeps it, so that the first call finds it.
    pub(crate) fn warm(&self) -> Result<(), SandboxError> {
        match self.permits.try_acquire() {
            Ok(permit) => self.lease(permit, &HookContext::new()).map(drop),
            // Then there are instances, and busy ones at that.
            Err(TryAcquireError::NoPermits) => Ok(()),
            Err(TryAcquireError::Closed) => Err(self.unloaded()),
        }
    }

    /// Frees the instances that wait, and the code as soon as no call runs it.
    /// Calls from now on fail with [`SandboxError::Unloaded`].
    pub(crate) fn close(&self) {
        self.permits.close();
        let (idle, compiled) = {
            let mut state = self.state();
            (std::mem::take(&mut state.idle), state.compiled.take())
        };
        // Outside of the lock, since unmapping takes a while.
        drop(idle);
        drop(compiled);
    }

    pub(crate) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    fn give_back(&self, guest: Guest, keep: bool) {
        if keep && guest.is_reusable() {
            let mut state = self.state();
            if state.compiled.is_some() {
                state.idle.push(guest);
                return;
            }
        }
        self.discarded.fetch_add(1, Ordering::Relaxed);
        drop(guest);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, so a poisoned one guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saturated(&self, waited: Duration) -> SandboxError {
        if self.permits.is_closed() {
            return self.unloaded();
        }
        SandboxError::Saturated {
            max_instances: self.max_instances,
            waited,
        }
    }

    fn unloaded(&self) -> SandboxError {
        SandboxError::Unloaded {
            name: self.name.clone(),
        }
    }
}

/// An instance for the time of one call; goes back to the pool, or is thrown away.
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    guest: Option<Guest>,
    /// Whether the pool may keep the instance.
    keep: bool,
    // Dropped after the guest is back, so that whoever waits for it finds the guest.
    _permit: SemaphorePermit<'p>,
}

impl Deref for Lease<'_> {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        match &self.guest {
            Some(guest) => guest,
            None => unreachable!("a lease has its guest until it is dropped"),
        }
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Guest {
        match &mut self.guest {
            Some(guest) => guest,
            None => unreachable!("a lease has its guest until it is dropped"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.pool.give_back(guest, self.keep);
        }
    }
}
