//! What one call may use, and how it is seen from the outside while it runs.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vortex_hook_core::{CancellationToken, HookContext};

use super::alarm;
use super::caller::{Moment, ThreadClock, nanos};
use super::memory::Reservation;
use super::watchdog::Watchdog;
use crate::{RuntimeConfig, SandboxError};

/// Why a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    CpuTime,
    WallTime,
    Deadline,
    Cancelled,
}

/// The phase of a meter, kept with a count of calls in one atomic word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    Running,
    Stopped(Stop),
    /// The instance is gone.
    Retired,
}

const PHASE_BITS: u64 = 3;

/// What moments are told from in one word.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Phase {
    fn pack(self, calls: u64) -> u64 {
        let phase = match self {
            Self::Idle => 0,
            Self::Running => 1,
            Self::Stopped(Stop::CpuTime) => 2,
            Self::Stopped(Stop::WallTime) => 3,
            Self::Stopped(Stop::Deadline) => 4,
            Self::Stopped(Stop::Cancelled) => 5,
            Self::Retired => 6,
        };
        calls << PHASE_BITS | phase
    }

    /// The phase, and the count of calls.
    fn unpack(word: u64) -> (Self, u64) {
        let phase = match word & ((1 << PHASE_BITS) - 1) {
            0 => Self::Idle,
            1 => Self::Running,
            2 => Self::Stopped(Stop::CpuTime),
            3 => Self::Stopped(Stop::WallTime),
            4 => Self::Stopped(Stop::Deadline),
            5 => Self::Stopped(Stop::Cancelled),
            _ => Self::Retired,
        };
        (phase, word >> PHASE_BITS)
    }
}

/// The meter of one instance: the call writes it, the watchdog and the alarm read it.
///
/// A short call costs a tick of the processor's counter here, a few stores, and two
/// atomic operations; once in a millisecond it makes a system call, see [`Moment`].
/// Whether the call, the watchdog or the alarm ends it is decided by one
/// compare-exchange, so that who comes late can never hit the next call.
#[derive(Debug)]
pub(crate) struct Meter {
    state: AtomicU64,
    /// The thread that the call runs on, its CPU clock, and what that said at most
    /// when the call began, in nanoseconds.
    thread: AtomicI32,
    clock: AtomicI32,
    began: AtomicU64,
    /// The last call that an alarm was set for, or sent to, or is just being sent to.
    alarmed: AtomicU64,
    /// Whether it was sent, under the lock of `guest`.
    was_sent: AtomicBool,
    pub(crate) cpu_limit: Duration,
    pub(crate) wall_limit: Duration,
    /// What the call had used when it was stopped, in nanoseconds. The watchdog and
    /// the alarm may both write the former, which is then over the limit either way.
    cpu_used: AtomicU64,
    wall_used: AtomicU64,
    /// The last call that the watchdog found running, and when, in nanoseconds
    /// since `EPOCH`.
    seen_call: AtomicU64,
    seen_at: AtomicU64,
    /// Set for a call whose context has either.
    context: Mutex<Context>,
    /// `None` once the instance is gone: the meter may outlive it by a round.
    guest: Mutex<Option<Arc<Reservation>>>,
}

#[derive(Debug, Default)]
struct Context {
    deadline: Option<Instant>,
    cancellation: Option<CancellationToken>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks, so a poisoned one guards sound data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    pub(crate) fn new(config: &RuntimeConfig, guest: Arc<Reservation>) -> Self {
        Self {
            state: AtomicU64::new(Phase::Idle.pack(0)),
            thread: AtomicI32::new(0),
            clock: AtomicI32::new(0),
            began: AtomicU64::new(0),
            alarmed: AtomicU64::new(0),
            was_sent: AtomicBool::new(false),
            cpu_limit: config.cpu_time,
            wall_limit: config.wall_limit(),
            cpu_used: AtomicU64::new(0),
            wall_used: AtomicU64::new(0),
            seen_call: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
            context: Mutex::default(),
            guest: Mutex::new(Some(guest)),
        }
    }

    /// Publishes that a call begins on this thread.
    #[inline]
    pub(crate) fn begin(&self, cx: &HookContext, watchdog: &Watchdog) {
        if cx.deadline().is_some() || cx.cancellation().is_some() {
            *lock(&self.context) = Context {
                deadline: cx.deadline(),
                cancellation: cx.cancellation().cloned(),
            };
        }
        let moment = Moment::now();
        self.began.store(moment.cpu, Ordering::Relaxed);
        self.clock.store(moment.clock.0, Ordering::Relaxed);
        // After the end of the call before, for whoever sees this one's: see `alarm`.
        self.thread.store(moment.thread, Ordering::Release);
        let (_, calls) = Phase::unpack(self.state.load(Ordering::Relaxed));
        let call = calls + 1;
        // Sequentially consistent, with the load in `notice`: either the watchdog
        // sees this call before it goes to sleep, or this call sees it asleep.
        self.state
            .store(Phase::Running.pack(call), Ordering::SeqCst);
        watchdog.notice();
        if alarm::is_wary() {
            self.alarmed.fetch_max(call, Ordering::SeqCst);
            alarm::set(nanos(self.cpu_limit));
        }
    }

    /// Publishes that the call is over. `Err` when the watchdog or the alarm was first:
    /// the guest has lost its safepoints and must be thrown away. No alarm reaches the
    /// thread when this has returned.
    #[inline]
    pub(crate) fn end(&self, cx: &HookContext) -> Result<(), Stop> {
        let (_, calls) = Phase::unpack(self.state.load(Ordering::Relaxed));
        let result = self.state.compare_exchange(
            Phase::Running.pack(calls),
            Phase::Idle.pack(calls),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        // Sequentially consistent, as in `alarm`: either this sees that an alarm is
        // being sent, or the watchdog sees that the call has ended, and sends none.
        if self.alarmed.load(Ordering::SeqCst) == calls {
            let was_sent = {
                // The watchdog has the lock while it sends.
                let _sent = lock(&self.guest);
                self.was_sent.swap(false, Ordering::Relaxed)
            };
            alarm::silence(was_sent);
        }
        if cx.deadline().is_some() || cx.cancellation().is_some() {
            *lock(&self.context) = Context::default();
        }
        match result.map_err(Phase::unpack) {
            Err((Phase::Stopped(stop), _)) => Err(stop),
            _ => Ok(()),
        }
    }

    /// How long the last call has run since the watchdog first saw it: zero for
    /// one that was over by then.
    #[inline]
    pub(crate) fn seen_for(&self) -> Duration {
        let (_, calls) = Phase::unpack(self.state.load(Ordering::Relaxed));
        if self.seen_call.load(Ordering::Acquire) != calls {
            return Duration::ZERO;
        }
        let at = Duration::from_nanos(self.seen_at.load(Ordering::Relaxed));
        EPOCH.elapsed().saturating_sub(at)
    }

    /// The watchdog has found call number `call` running.
    pub(crate) fn see(&self, call: u64, now: Instant) {
        let at = now.saturating_duration_since(*EPOCH);
        self.seen_at.store(nanos(at), Ordering::Relaxed);
        self.seen_call.store(call, Ordering::Release);
    }

    /// The error for a call that was stopped.
    pub(crate) fn error(&self, stop: Stop) -> SandboxError {
        let used = |used: &AtomicU64| Duration::from_nanos(used.load(Ordering::Relaxed));
        match stop {
            Stop::CpuTime => SandboxError::CpuBudget {
                limit: self.cpu_limit,
                used: used(&self.cpu_used),
            },
            Stop::WallTime => SandboxError::WallLimit {
                limit: self.wall_limit,
                used: used(&self.wall_used),
            },
            Stop::Deadline => SandboxError::DeadlineExceeded,
            Stop::Cancelled => SandboxError::Cancelled,
        }
    }

    /// What the watchdog sees: the phase, and which call it is.
    pub(crate) fn observe(&self) -> (Phase, u64) {
        Phase::unpack(self.state.load(Ordering::SeqCst))
    }

    /// What the CPU clock of the running call's thread says, in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        ThreadClock(self.clock.load(Ordering::Relaxed)).read()
    }

    /// What it said at most when the call began.
    pub(crate) fn began(&self) -> u64 {
        self.began.load(Ordering::Relaxed)
    }

    /// Sends call number `call` the alarm, unless it has ended or was sent it.
    pub(crate) fn alarm(&self, call: u64) {
        if self.alarmed.load(Ordering::Relaxed) >= call {
            return;
        }
        // The end of an alarmed call waits for this lock, so that the thread is there,
        // and runs this call, as long as a signal is sent to it.
        let _sending = lock(&self.guest);
        self.alarmed.fetch_max(call, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::Acquire);
        if self.state.load(Ordering::SeqCst) == Phase::Running.pack(call) {
            self.was_sent.store(alarm::send(thread), Ordering::Relaxed);
        }
    }

    /// In the handler of the alarm, on the thread of the call that runs on `guest`:
    /// stops it if its CPU time is used up, or says how much is left, in nanoseconds.
    pub(crate) fn alarm_rings(&self, guest: &Reservation) -> Option<u64> {
        // Somebody else may send that signal as well, before the call or after it.
        let state = self.state.load(Ordering::Relaxed);
        let (phase, call) = Phase::unpack(state);
        if phase != Phase::Running || self.alarmed.load(Ordering::Relaxed) != call {
            return None;
        }
        let used = ThreadClock::OWN.read().saturating_sub(self.began());
        let left = nanos(self.cpu_limit).saturating_sub(used);
        if left > 0 {
            return Some(left);
        }
        self.cpu_used.store(used, Ordering::Relaxed);
        self.stop_call(call, Stop::CpuTime, guest);
        None
    }

    /// Whether the context of the running call wants it stopped.
    pub(crate) fn wanted_by_context(&self, now: Instant) -> Option<Stop> {
        let context = lock(&self.context);
        if context.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Stop::Deadline);
        }
        let cancelled = context.cancellation.as_ref()?.is_cancelled();
        cancelled.then_some(Stop::Cancelled)
    }

    /// Stops call number `call`, unless it has ended.
    pub(crate) fn stop(&self, call: u64, stop: Stop, used: Duration) {
        // The lock keeps the memory mapped while its protection is changed.
        let guest = lock(&self.guest);
        let Some(guest) = guest.as_ref() else { return };
        let slot = match stop {
            Stop::CpuTime => &self.cpu_used,
            _ => &self.wall_used,
        };
        slot.store(nanos(used), Ordering::Relaxed);
        self.stop_call(call, stop, guest);
    }

    fn stop_call(&self, call: u64, stop: Stop, guest: &Reservation) {
        let stopped = self.state.compare_exchange(
            Phase::Running.pack(call),
            Phase::Stopped(stop).pack(call),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if stopped.is_ok() {
            guest.stop_guest();
        }
    }

    /// Takes the safepoints away again, should the first time have failed.
    pub(crate) fn insist(&self) {
        if let Some(guest) = lock(&self.guest).as_ref() {
            guest.stop_guest();
        }
    }

    /// Lets go of the memory; the watchdog forgets the meter at its next round.
    pub(crate) fn retire(&self) {
        *lock(&self.guest) = None;
        let (_, calls) = Phase::unpack(self.state.load(Ordering::Relaxed));
        self.state
            .store(Phase::Retired.pack(calls), Ordering::Release);
    }
}
