//! The thread that stops guests.
//!
//! It ticks while calls run and sleeps while none do. A call that has lasted a
//! tick gets its thread's CPU clock sampled; one that has used up its CPU time or
//! wall limit, or whose context wants it stopped, loses its safepoints.
#![allow(unsafe_code, reason = "reads the CPU clocks of other threads")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::budget::{Meter, Phase, Stop};
use crate::{RuntimeConfig, SandboxError};

/// The longest tick. A call is first looked at, and stopped, up to a tick late.
const MAX_TICK: Duration = Duration::from_micros(500);
/// The shortest tick, for the smallest budgets.
const MIN_TICK: Duration = Duration::from_micros(50);
/// Rounds without any new call after which the watchdog goes to sleep. Waking it
/// costs the next call a system call, so it waits longer than calls are apart in
/// a gateway that has anything to do.
const IDLE_ROUNDS: u32 = 128;

/// The CPU clock of a thread, as `clock_gettime` takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(pub(crate) libc::clockid_t);

impl ThreadClock {
    /// The clock of the calling thread.
    pub(crate) fn current() -> Self {
        thread_local! {
            static CLOCK: ThreadClock = {
                let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
                // SAFETY: `pthread_self` is a live thread, and `clock` is valid for a
                // write. On failure the clock stays that of whoever reads it, the
                // watchdog, and the wall limit is what stops the call.
                unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
                ThreadClock(clock)
            };
        }
        CLOCK.with(|clock| *clock)
    }

    /// CPU time that the thread has used so far; zero once it has ended.
    pub(crate) fn read(self) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is valid for a write; a clock of a thread that has ended is
        // an error that leaves it as it is.
        unsafe { libc::clock_gettime(self.0, &mut time) };
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

/// A handle to the watchdog thread, which ends with the last handle.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Meters that the watchdog has not picked up yet.
    arrivals: Mutex<Vec<Arc<Meter>>>,
    /// Whether it sleeps, and must be woken by the next call.
    asleep: AtomicBool,
    ended: AtomicBool,
    /// The tick in nanoseconds.
    tick: AtomicU64,
}

impl Watchdog {
    pub(crate) fn start() -> Result<Arc<Self>, SandboxError> {
        let shared = Arc::new(Shared {
            arrivals: Mutex::default(),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            tick: AtomicU64::new(nanos(MAX_TICK)),
        });
        let watched = Arc::clone(&shared);
        let join = thread::Builder::new()
            .name("vortex-watchdog".to_owned())
            .spawn(move || Rounds::new(watched).run())
            .map_err(|source: io::Error| SandboxError::Watchdog { source })?;
        Ok(Arc::new(Self {
            shared,
            thread: join.thread().clone(),
            join: Some(join),
        }))
    }

    /// Ticks finely enough for plugins with these limits.
    pub(crate) fn serve(&self, config: &RuntimeConfig) {
        let smallest = config.cpu_time.min(config.wall_limit());
        let tick = (smallest / 8).clamp(MIN_TICK, MAX_TICK);
        self.shared.tick.fetch_min(nanos(tick), Ordering::Relaxed);
    }

    /// Watches a meter until it is retired.
    pub(crate) fn watch(&self, meter: Arc<Meter>) {
        let mut arrivals = self
            .shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        arrivals.push(meter);
    }

    /// Called when a call has begun: wakes the watchdog if it sleeps.
    pub(crate) fn notice(&self) {
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // It does not panic, and if it did there would be nothing left to do.
            let _ = join.join();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A meter with what the watchdog remembers of the call it saw running.
struct Watched {
    meter: Arc<Meter>,
    call: u64,
    since: Option<Sighting>,
}

/// The moment at which a call was first seen.
struct Sighting {
    at: Instant,
    cpu: Duration,
}

/// The watchdog's own state.
struct Rounds {
    shared: Arc<Shared>,
    watched: Vec<Watched>,
}

impl Rounds {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            watched: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut idle = 0;
        while !self.shared.ended.load(Ordering::SeqCst) {
            let (active, wait) = self.round();
            idle = if active { 0 } else { idle + 1 };
            if idle < IDLE_ROUNDS {
                thread::sleep(wait);
                continue;
            }
            // Say so first and look again then, see `Meter::begin`.
            self.shared.asleep.store(true, Ordering::SeqCst);
            let (active, _) = self.round();
            if !active && !self.shared.ended.load(Ordering::SeqCst) {
                thread::park();
            }
            self.shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// Looks at every meter once. Returns whether any call began or ran since the
    /// last round, and how long to wait until the next.
    fn round(&mut self) -> (bool, Duration) {
        let tick = Duration::from_nanos(self.shared.tick.load(Ordering::Relaxed));
        let arrivals = std::mem::take(
            &mut *self
                .shared
                .arrivals
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.watched
            .extend(arrivals.into_iter().map(|meter| Watched {
                meter,
                call: 0,
                since: None,
            }));
        let now = Instant::now();
        let (mut active, mut wait) = (false, tick);
        self.watched.retain_mut(|watched| {
            let (phase, call) = watched.meter.observe();
            if call != watched.call {
                active = true;
                watched.call = call;
                watched.since = None;
            }
            match phase {
                Phase::Idle => {}
                Phase::Running => {
                    active = true;
                    wait = wait.min(watched.check(now));
                }
                Phase::Stopped(_) => {
                    active = true;
                    watched.meter.insist();
                }
                Phase::Retired => return false,
            }
            true
        });
        (active, wait.max(MIN_TICK))
    }
}

impl Watched {
    /// Stops the running call if it is due; returns after how long it may be.
    fn check(&mut self, now: Instant) -> Duration {
        let cpu = self.meter.clock().read();
        let Some(since) = &self.since else {
            // What it used before is not known: at most a tick.
            self.since = Some(Sighting { at: now, cpu });
            self.meter.see(self.call, now);
            return self.meter.cpu_limit;
        };
        let cpu_used = cpu.saturating_sub(since.cpu);
        let wall_used = now.saturating_duration_since(since.at);
        let due = if cpu_used >= self.meter.cpu_limit {
            Some((Stop::CpuTime, cpu_used))
        } else if wall_used >= self.meter.wall_limit {
            Some((Stop::WallTime, wall_used))
        } else {
            self.meter
                .wanted_by_context(now)
                .map(|stop| (stop, wall_used))
        };
        if let Some((stop, used)) = due {
            self.meter.stop(self.call, stop, used);
        }
        self.meter.cpu_limit.saturating_sub(cpu_used)
    }
}
