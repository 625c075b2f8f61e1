//! The thread that a call runs on, and what it has used.
//!
//! To read the CPU clock of a thread takes a system call, which is as long as a short
//! call. So a thread keeps an anchor: what it had used at some tick. It cannot have
//! used more since than has passed since, which bounds what it has used when a call
//! begins. A guest is thus never charged for what ran before it, and is let off by
//! less than a millisecond.
#![allow(
    unsafe_code,
    reason = "reads the CPU clocks of threads and the counter of the processor"
)]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;

use super::alarm;

/// The longest that a tick can be, in nanoseconds. No processor whose counter Linux
/// keeps time by counts slower than 800 MHz.
const TICK_NS: u64 = 2;

/// The age, in ticks, from which on an anchor is made anew: a millisecond at most.
const MAX_AGE: u64 = 1_000_000 / TICK_NS;

/// A thread that no signal is to be sent to, and that none can be.
const NOBODY: libc::pid_t = -1;

/// The CPU clock of a thread, as `clock_gettime` takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(pub(crate) libc::clockid_t);

impl ThreadClock {
    /// That of the thread that reads it.
    pub(crate) const OWN: Self = Self(libc::CLOCK_THREAD_CPUTIME_ID);

    /// That of the calling thread, for others to read.
    fn current() -> Self {
        let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: `pthread_self` is a live thread, and `clock` is valid for a write.
        // On failure the clock stays that of whoever reads it, the watchdog, and the
        // wall limit is what stops the call.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        Self(clock)
    }

    /// CPU time that the thread has used so far, in nanoseconds; zero once it has ended.
    ///
    /// Safe to call in a signal handler.
    pub(crate) fn read(self) -> u64 {
        nanoseconds(self.0)
    }
}

/// What a clock says; zero when it is none.
fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for a write; a clock of a thread that has ended is an
    // error that leaves it as it is.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// A duration in whole nanoseconds, at most some centuries.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment on the calling thread.
pub(crate) struct Moment {
    /// The thread's number in the kernel, if it may be sent signals.
    pub(crate) thread: libc::pid_t,
    pub(crate) clock: ThreadClock,
    /// CPU time that the thread has used, in nanoseconds: so much, or less by up to
    /// a millisecond.
    pub(crate) cpu: u64,
}

struct Anchor {
    /// Zero before there is an anchor.
    thread: Cell<libc::pid_t>,
    clock: Cell<libc::clockid_t>,
    at: Cell<u64>,
    cpu: Cell<u64>,
}

thread_local! {
    static ANCHOR: Anchor = const {
        Anchor {
            thread: Cell::new(0),
            clock: Cell::new(0),
            // Far from any tick, so that the first moment makes an anchor.
            at: Cell::new(1 << 63),
            cpu: Cell::new(0),
        }
    };
}

impl Moment {
    /// This moment.
    #[inline]
    pub(crate) fn now() -> Self {
        ANCHOR.with(|anchor| {
            let now = ticks();
            let mut age = now.wrapping_sub(anchor.at.get());
            // A counter that was set back makes an age beyond all ages.
            if age > MAX_AGE {
                anchor.renew(now);
                age = 0;
            }
            Self {
                thread: anchor.thread.get(),
                clock: ThreadClock(anchor.clock.get()),
                cpu: anchor.cpu.get() + age * TICK_NS,
            }
        })
    }
}

/// Sends the calling thread no signals from now on.
pub(super) fn keep_quiet() {
    ANCHOR.with(|anchor| anchor.thread.set(NOBODY));
}

impl Anchor {
    #[cold]
    fn renew(&self, now: u64) {
        if self.thread.get() == 0 {
            // SAFETY: it takes nothing and cannot fail.
            self.thread.set(unsafe { libc::gettid() });
            self.clock.set(ThreadClock::current().0);
            alarm::enter_thread();
        }
        // The tick was before: whatever is used in between counts as used since.
        self.at.set(now);
        self.cpu.set(ThreadClock::OWN.read());
    }
}

/// A counter that all processors share, of which each tick is `TICK_NS` or less.
///
/// The processor's own is read in half the time that the system's clock takes, and is
/// used where Linux keeps time by it, which it does as long as it finds it steady and
/// the same on all processors.
#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if *HAS_COUNTER {
        // SAFETY: every x86-64 processor has the instruction, and Linux, which keeps
        // time by it in the vDSO, lets programs use it.
        return unsafe { std::arch::x86_64::_rdtsc() };
    }
    nanoseconds(libc::CLOCK_MONOTONIC)
}

static HAS_COUNTER: LazyLock<bool> = LazyLock::new(|| {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
});

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    /// A moment is never before what the thread has used, nor a millisecond after it,
    /// whatever ran in between.
    #[test]
    fn a_moment_bounds_what_was_used() {
        let mut wait = 1;
        for round in 0..20_000_u64 {
            let before = ThreadClock::OWN.read();
            let moment = Moment::now();
            let after = ThreadClock::OWN.read();
            assert!(before <= moment.cpu, "round {round}: overcharged");
            assert!(
                moment.cpu <= after + 1_000_000,
                "round {round}: let off by {} ns",
                moment.cpu - after
            );
            wait = wait * 7 % 10_007;
            for turn in 0..wait {
                black_box(turn);
            }
        }
    }

    /// Its clock is the one that others read.
    #[test]
    fn others_read_the_clock_of_a_moment() {
        let moment = Moment::now();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) {}
        let clock = moment.clock;
        let read = std::thread::spawn(move || clock.read()).join().unwrap();
        assert!(read > 0 && read <= ThreadClock::OWN.read());
        // SAFETY: it takes nothing and cannot fail.
        assert_eq!(moment.thread, unsafe { libc::gettid() });
    }

    /// A tick is as long as is said, or shorter.
    #[test]
    fn ticks_are_short() {
        let (start, first) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(20));
        let passed = (ticks() - first) * TICK_NS;
        assert!(u128::from(passed) >= start.elapsed().as_nanos() / 10 * 9);
    }
}
