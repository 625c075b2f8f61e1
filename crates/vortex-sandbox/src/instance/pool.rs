//! The instances of one plugin.

use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_timer::Delay;
use tokio::sync::Semaphore;
use vortex_hook_core::HookContext;

use super::guest::Guest;
use super::trimmer;
use super::watchdog::Watchdog;
use crate::SandboxError;
use crate::module::compile::Compiled;

/// A bounded set of instances, made when they are needed and used one call at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Itself, for the thread that trims it.
    this: Weak<Self>,
    name: Arc<str>,
    watchdog: Arc<Watchdog>,
    max_instances: usize,
    instance_wait: Duration,
    idle_timeout: Option<Duration>,
    state: Mutex<State>,
    /// Slots handed over to those who wait in line, in order.
    handover: Semaphore,
    pub(crate) created: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) trimmed: AtomicU64,
}

struct State {
    /// `None` once the pool is closed.
    compiled: Option<Arc<Compiled>>,
    /// Instances that wait; the last one used is the first one taken, for warm caches.
    #[allow(
        clippy::vec_box,
        reason = "a guest is some hundred bytes, and moves in and out at every call"
    )]
    idle: Vec<Box<Guest>>,
    /// How many of them, from the first on, no call has taken since the pool was
    /// last trimmed.
    unused: usize,
    /// Whether the pool is being trimmed from time to time.
    trimmed: bool,
    /// Slots that are taken, those handed over included.
    taken: usize,
    /// Calls in line that no slot has been handed over to.
    waiting: usize,
}

/// What a slot is filled with.
enum Found {
    /// An instance that has waited.
    Idle(Box<Guest>),
    /// What to make one of; nothing where the pool was closed.
    Code(Option<Arc<Compiled>>),
}

impl State {
    #[inline]
    fn find(&mut self) -> Found {
        let found = self.idle.pop();
        self.unused = self.unused.min(self.idle.len());
        match found {
            Some(guest) => Found::Idle(guest),
            // A pool that was closed has none idle either.
            None => Found::Code(self.compiled.clone()),
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("open", &self.compiled.is_some())
            .field("idle", &self.idle.len())
            .field("taken", &self.taken)
            .field("waiting", &self.waiting)
            .finish()
    }
}

impl Pool {
    pub(crate) fn new(
        name: Arc<str>,
        compiled: Arc<Compiled>,
        watchdog: Arc<Watchdog>,
    ) -> Arc<Self> {
        let config = Arc::clone(&compiled.config);
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            name,
            watchdog,
            max_instances: config.max_instances,
            instance_wait: config.instance_wait,
            idle_timeout: config.idle_timeout,
            state: Mutex::new(State {
                idle: Vec::new(),
                unused: 0,
                trimmed: false,
                compiled: Some(compiled),
                taken: 0,
                waiting: 0,
            }),
            handover: Semaphore::new(0),
            created: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
        })
    }

    /// An instance for one call; waits in line when all are in use.
    pub(crate) async fn acquire<P>(pool: P, cx: &HookContext) -> Result<Lease<P>, SandboxError>
    where
        P: Deref<Target = Self>,
    {
        let found = match pool.take()? {
            Some(found) => found,
            None => {
                pool.wait_in_line(cx).await?;
                pool.state().find()
            }
        };
        Lease::of_slot(pool).with(found, cx)
    }

    /// An instance for one call, or `None` when all are in use.
    #[inline]
    pub(crate) fn try_acquire(
        &self,
        cx: &HookContext,
    ) -> Option<Result<Lease<&Self>, SandboxError>> {
        match self.take() {
            Ok(Some(found)) => Some(Lease::of_slot(self).with(found, cx)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// An instance that no call has run on, if there may be one more at once. It
    /// is not kept.
    pub(crate) fn fresh(&self) -> Result<Lease<&Self>, SandboxError> {
        let compiled = {
            let mut state = self.state();
            if !self.take_slot(&mut state)? {
                drop(state);
                return Err(self.saturated(Duration::ZERO));
            }
            state.compiled.clone()
        };
        let mut lease = Lease::of_slot(self);
        lease.keep = false;
        lease.guest = Some(self.make(compiled, &HookContext::new())?);
        Ok(lease)
    }

    /// Takes a slot, if one is free.
    #[inline]
    fn take_slot(&self, state: &mut State) -> Result<bool, SandboxError> {
        if state.compiled.is_none() {
            return Err(self.unloaded());
        }
        let is_free = state.taken < self.max_instances;
        state.taken += usize::from(is_free);
        Ok(is_free)
    }

    /// Takes a slot, if one is free, and what there is to fill it with.
    #[inline]
    fn take(&self) -> Result<Option<Found>, SandboxError> {
        let mut state = self.state();
        Ok(self.take_slot(&mut state)?.then(|| state.find()))
    }

    /// Waits until a slot is handed over.
    async fn wait_in_line(&self, cx: &HookContext) -> Result<(), SandboxError> {
        let start = Instant::now();
        let until_deadline = cx.deadline().map(|d| d.saturating_duration_since(start));
        let wait = self
            .instance_wait
            .min(until_deadline.unwrap_or(Duration::MAX));
        let mut place = match Place::in_line(self)? {
            Some(place) => place,
            None => return Ok(()),
        };
        // Dropped before the place is left, see `Place::drop`.
        let mut handover = pin!(self.handover.acquire());
        let mut timeout = Delay::new(wait);
        poll_fn(|task| {
            if let Poll::Ready(slot) = handover.as_mut().poll(task) {
                return Poll::Ready(slot.map_err(|_| self.unloaded()).map(|slot| {
                    slot.forget();
                    place.served = true;
                }));
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

    fn make(
        &self,
        compiled: Option<Arc<Compiled>>,
        cx: &HookContext,
    ) -> Result<Box<Guest>, SandboxError> {
        let compiled = compiled.ok_or_else(|| self.unloaded())?;
        let guest = Guest::new(&compiled, &self.watchdog, cx)?;
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(guest))
    }

    /// Makes one instance and keeps it, so that the first call finds it.
    pub(crate) fn warm(&self) -> Result<(), SandboxError> {
        // Where no slot is free there are instances, and busy ones at that.
        let lease = self.try_acquire(&HookContext::new());
        lease.transpose().map(drop)
    }

    /// Frees the instances that wait, and the code as soon as no call runs it.
    /// Calls from now on fail with [`SandboxError::Unloaded`].
    pub(crate) fn close(&self) {
        let (idle, compiled) = {
            let mut state = self.state();
            state.unused = 0;
            (std::mem::take(&mut state.idle), state.compiled.take())
        };
        self.handover.close();
        // Outside of the lock, since unmapping takes a while.
        drop(idle);
        drop(compiled);
    }

    /// What instances are made of; `None` once the pool is closed.
    pub(crate) fn code(&self) -> Option<Arc<Compiled>> {
        self.state().compiled.clone()
    }

    pub(crate) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    /// Drops the instances that no call has taken since this was done last; returns
    /// whether it is to be done again, since there are others that wait.
    pub(super) fn trim(&self) -> bool {
        let (unused, again) = {
            let mut state = self.state();
            let end = state.unused;
            let unused: Vec<_> = state.idle.drain(..end).collect();
            state.unused = state.idle.len();
            state.trimmed = !state.idle.is_empty();
            (unused, state.trimmed)
        };
        self.trimmed
            .fetch_add(unused.len() as u64, Ordering::Relaxed);
        // Outside of the lock, since unmapping takes a while.
        drop(unused);
        again
    }

    /// Takes a slot back, and the instance that ran in it if that may be kept.
    #[inline]
    fn give_back(&self, guest: Option<Box<Guest>>, keep: bool) {
        let mut kept = None;
        if let Some(mut guest) = guest {
            if keep && guest.recycle() {
                kept = Some(guest);
            } else {
                self.discarded.fetch_add(1, Ordering::Relaxed);
                // Unmapping takes a while, and the slot is taken until it is done.
                drop(guest);
            }
        }
        let mut state = self.state();
        let mut trim_every = None;
        if state.compiled.is_some() {
            state.idle.extend(kept.take());
            if !state.trimmed && !state.idle.is_empty() && self.idle_timeout.is_some() {
                trim_every = self.idle_timeout;
                state.trimmed = true;
                state.unused = state.idle.len();
            }
        }
        if state.waiting > 0 {
            state.waiting -= 1;
            drop(state);
            self.handover.add_permits(1);
        } else {
            state.taken -= 1;
            drop(state);
        }
        if kept.is_some() {
            self.discarded.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(every) = trim_every {
            trimmer::trim(Weak::clone(&self.this), every);
        }
    }

    #[inline]
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, so a poisoned one guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saturated(&self, waited: Duration) -> SandboxError {
        if self.handover.is_closed() {
            return self.unloaded();
        }
        SandboxError::Saturated {
            max_instances: self.max_instances,
            waited,
        }
    }

    fn unloaded(&self) -> SandboxError {
        SandboxError::Unloaded {
            name: self.name.to_string(),
        }
    }
}

/// A place in line. Each is either counted as waiting, or has a slot handed over:
/// one permit of the semaphore.
struct Place<'p> {
    pool: &'p Pool,
    served: bool,
}

impl<'p> Place<'p> {
    /// A place in line, or `None` with a slot taken that has become free.
    fn in_line(pool: &'p Pool) -> Result<Option<Self>, SandboxError> {
        let mut state = pool.state();
        if state.compiled.is_none() {
            return Err(pool.unloaded());
        }
        if state.taken < pool.max_instances {
            state.taken += 1;
            return Ok(None);
        }
        state.waiting += 1;
        let served = false;
        Ok(Some(Self { pool, served }))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let mut state = self.pool.state();
        if state.waiting > 0 {
            state.waiting -= 1;
        } else if let Ok(slot) = self.pool.handover.try_acquire() {
            // Every place left in line has a slot, and this one is too many.
            slot.forget();
            state.taken -= 1;
        }
    }
}

/// An instance for the time of one call; goes back to the pool, or is thrown away.
pub(crate) struct Lease<P: Deref<Target = Pool>> {
    pool: P,
    guest: Option<Box<Guest>>,
    /// Whether the pool may keep the instance.
    keep: bool,
}

impl<P: Deref<Target = Pool>> Lease<P> {
    /// A lease without an instance, for a slot that is taken already.
    #[inline]
    fn of_slot(pool: P) -> Self {
        Self {
            pool,
            guest: None,
            keep: true,
        }
    }

    #[inline]
    fn with(mut self, found: Found, cx: &HookContext) -> Result<Self, SandboxError> {
        self.guest = Some(match found {
            Found::Idle(guest) => guest,
            Found::Code(compiled) => self.pool.make(compiled, cx)?,
        });
        Ok(self)
    }
}

impl<P: Deref<Target = Pool>> Deref for Lease<P> {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        match &self.guest {
            Some(guest) => guest,
            None => unreachable!("a lease is handed out with its guest"),
        }
    }
}

impl<P: Deref<Target = Pool>> DerefMut for Lease<P> {
    fn deref_mut(&mut self) -> &mut Guest {
        match &mut self.guest {
            Some(guest) => guest,
            None => unreachable!("a lease is handed out with its guest"),
        }
    }
}

impl<P: Deref<Target = Pool>> Drop for Lease<P> {
    fn drop(&mut self) {
        self.pool.give_back(self.guest.take(), self.keep);
    }
}
