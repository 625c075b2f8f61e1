//! The thread that drops instances which no call uses any more.
//!
//! It is not the watchdog, since dropping takes its time, and it sleeps for as long
//! as no pool has instances that wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{LazyLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::pool::Pool;

/// How many times in the shortest of all periods the thread looks what is due.
const LOOKS: u32 = 4;

/// More than any process lives, and not too much to be added to a moment.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// Pools on their way to the thread; `None` where it could not be started: then
/// instances are kept.
static ARRIVALS: LazyLock<Option<Sender<Trimmed>>> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    let builder = thread::Builder::new().name("vortex-trim".to_owned());
    let started = builder.spawn(move || run(&receiver));
    started.is_ok().then_some(sender)
});

/// A pool that is trimmed from time to time.
struct Trimmed {
    pool: Weak<Pool>,
    every: Duration,
    due: Instant,
}

/// Trims `pool` in every such period, for as long as it has instances that wait.
pub(super) fn trim(pool: Weak<Pool>, every: Duration) {
    if let Some(arrivals) = &*ARRIVALS {
        let every = every.min(LONGEST);
        let due = Instant::now() + every;
        // The thread ends only with the process.
        let _ = arrivals.send(Trimmed { pool, every, due });
    }
}

fn run(arrivals: &Receiver<Trimmed>) {
    let mut pools: Vec<Trimmed> = Vec::new();
    // When it is looked what is due; never, as long as there are no pools.
    let mut look: Option<Instant> = None;
    loop {
        let arrived = match look {
            Some(look) => arrivals.recv_timeout(look.saturating_duration_since(Instant::now())),
            None => arrivals.recv().map_err(RecvTimeoutError::from),
        };
        let now = Instant::now();
        match arrived {
            Ok(pool) => {
                let soon = now + pool.every / LOOKS;
                look = Some(look.map_or(soon, |look| look.min(soon)));
                pools.push(pool);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if look.is_some_and(|look| now < look) {
            continue;
        }
        pools.retain_mut(|trimmed| trimmed.stays(now));
        look = pools.iter().map(|pool| now + pool.every / LOOKS).min();
    }
}

impl Trimmed {
    /// Trims the pool if that is due; returns whether to look at it again.
    fn stays(&mut self, now: Instant) -> bool {
        if now < self.due {
            // Of one that is gone, even the address keeps some memory.
            return self.pool.strong_count() > 0;
        }
        self.due = now + self.every;
        // One that is empty comes back with its next instance.
        self.pool.upgrade().is_some_and(|pool| pool.trim())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use vortex_hook_core::HookContext;

    use super::*;
    use crate::RuntimeConfig;
    use crate::instance::pool::Lease;
    use crate::instance::watchdog::Watchdog;
    use crate::module::compile::Compiled;

    /// A pool that is trimmed by the test, long before its time.
    fn pool() -> Arc<Pool> {
        let config = RuntimeConfig {
            idle_timeout: Some(Duration::from_secs(3_600)),
            ..RuntimeConfig::default()
        };
        let wasm = wat::parse_str("(module (memory 1))").unwrap();
        let compiled = Compiled::new(&wasm, &config).unwrap();
        Pool::new("p".into(), Arc::new(compiled), Watchdog::start().unwrap())
    }

    fn lease(pool: &Pool) -> Lease<&Pool> {
        pool.try_acquire(&HookContext::new()).unwrap().unwrap()
    }

    #[test]
    fn what_no_call_has_taken_since_the_last_time_is_dropped() {
        let pool = pool();
        drop([(); 3].map(|()| lease(&pool)));
        assert_eq!(pool.idle(), 3);
        // Two at a time are all that is needed.
        drop([(); 2].map(|()| lease(&pool)));
        drop(lease(&pool));
        assert!(pool.trim());
        assert_eq!(pool.idle(), 2);
        drop(lease(&pool));
        assert!(pool.trim());
        assert_eq!(pool.idle(), 1);
        assert!(!pool.trim());
        assert_eq!(pool.idle(), 0);
        // What has been used since it was first looked at stays.
        drop(lease(&pool));
        drop(lease(&pool));
        assert!(pool.trim());
        assert_eq!(pool.idle(), 1);
        // One in use does not wait, and nothing is left to do.
        let busy = lease(&pool);
        assert!(!pool.trim());
        drop(busy);
        assert_eq!(pool.idle(), 1);
        assert_eq!(pool.trimmed.load(Ordering::Relaxed), 3);
        pool.close();
        assert!(!pool.trim());
    }
}
