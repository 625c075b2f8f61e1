//! The thread that stops guests.
//!
//! It ticks while calls run and sleeps while none do. A call that it finds running
//! gets its thread's CPU clock sampled; one that has used up its CPU time or wall
//! limit, or whose context wants it stopped, loses its safepoints. One whose CPU
//! time runs out soon is sent the alarm, which is not late as the watchdog can be.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::alarm;
use super::budget::{Meter, Phase, Stop};
use super::caller::nanos;
use crate::{RuntimeConfig, SandboxError};

/// The longest tick. A call is first looked at, and stopped, up to a tick late.
const MAX_TICK: Duration = Duration::from_micros(500);
/// The shortest tick, for the smallest budgets.
const MIN_TICK: Duration = Duration::from_micros(50);
/// The CPU time before the end of its budget from which on a call that has used a tick
/// is sent the alarm: more than the watchdog is ever late. Few calls come that far.
const ALARM_LEAD: Duration = Duration::from_millis(32);
/// Rounds without any new call after which the watchdog goes to sleep. Waking it
/// costs the next call a system call, so it waits longer than calls are apart in
/// a gateway that has anything to do.
const IDLE_ROUNDS: u32 = 128;

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

impl Shared {
    fn new() -> Self {
        Self {
            arrivals: Mutex::default(),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            tick: AtomicU64::new(nanos(MAX_TICK)),
        }
    }
}

impl Watchdog {
    pub(crate) fn start() -> Result<Arc<Self>, SandboxError> {
        alarm::install();
        let shared = Arc::new(Shared::new());
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

    /// One that never looks.
    #[cfg(test)]
    pub(super) fn asleep() -> Arc<Self> {
        alarm::install();
        Arc::new(Self {
            shared: Arc::new(Shared::new()),
            thread: thread::current(),
            join: None,
        })
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

/// A meter with what the watchdog remembers of the call it saw running.
struct Watched {
    meter: Arc<Meter>,
    call: u64,
    since: Option<Sighting>,
}

/// The moment at which a call was first seen.
struct Sighting {
    at: Instant,
    /// What its thread's CPU clock said when it began, or somewhat later.
    cpu: u64,
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
                    wait = wait.min(watched.check(now, tick));
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
    fn check(&mut self, now: Instant, tick: Duration) -> Duration {
        let (meter, call) = (&self.meter, self.call);
        let cpu = meter.cpu();
        let since = self.since.get_or_insert_with(|| {
            meter.see(call, now);
            Sighting {
                at: now,
                // What a call says that has just begun may lie ahead.
                cpu: meter.began().min(cpu),
            }
        });
        let cpu_used = Duration::from_nanos(cpu.saturating_sub(since.cpu));
        let wall_used = now.saturating_duration_since(since.at);
        let left = self.meter.cpu_limit.saturating_sub(cpu_used);
        let due = if left.is_zero() {
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
        } else if cpu_used >= tick && left <= ALARM_LEAD {
            self.meter.alarm(self.call);
        }
        left
    }
}
