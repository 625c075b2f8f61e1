#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use vortex_hook_core::HookContext;
use wasmer::Value;

use super::*;
use crate::instance::budget::{Phase, Stop};
use crate::instance::caller::Moment;
use crate::instance::guest::Guest;
use crate::instance::running::{CallFailure, Running};
use crate::instance::watchdog::Watchdog;
use crate::module::compile::Compiled;
use crate::{Isolation, RuntimeConfig, SandboxError};

const SPIN: &str = r#"(module (memory 1) (func (export "spin") (loop (br 0)))
    (func (export "rest")))"#;

/// When a test gives up on a guest.
const LIMIT: Duration = Duration::from_secs(20);

fn guest(cpu_time: Duration, isolation: Isolation) -> Guest {
    let config = RuntimeConfig {
        cpu_time,
        isolation,
        ..RuntimeConfig::default()
    };
    let compiled = Compiled::new(&wat::parse_str(SPIN).unwrap(), &config).unwrap();
    Guest::new(
        &Arc::new(compiled),
        &Watchdog::asleep(),
        &HookContext::new(),
    )
    .unwrap()
}

/// Sends the alarm to the first call after `calls`, once, when it has run for a
/// millisecond, and stops it some other way when that did not do it.
fn alarm_once(meter: &Meter, calls: u64, sent: &AtomicBool, over: &AtomicBool) {
    let start = Instant::now();
    let is_over = || over.load(Ordering::Relaxed);
    while meter.observe() != (Phase::Running, calls + 1)
        || meter.cpu().saturating_sub(meter.began()) < 1_000_000
    {
        assert!(!is_over(), "the call has ended early");
        thread::yield_now();
    }
    meter.alarm(calls + 1);
    sent.store(true, Ordering::Relaxed);
    while !is_over() {
        if start.elapsed() > LIMIT {
            meter.stop(calls + 1, Stop::WallTime, start.elapsed());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the signal has come since it was silenced.
fn rang() -> bool {
    LOCAL.with(|local| local.rang.load(Ordering::Relaxed))
}

/// Has the next calls on this thread set no timer.
fn forget() {
    LOCAL.with(|local| local.wary.set(0));
}

/// Runs `work` on a guest, as one call that is sent the alarm once; it is told when.
fn alarmed<T>(
    guest: &mut Guest,
    work: impl FnOnce(&mut Running<'_>, &AtomicBool) -> Result<T, CallFailure>,
) -> Result<T, SandboxError> {
    forget();
    let meter = guest.meter();
    let [sent, over] = [false; 2].map(AtomicBool::new);
    let (_, calls) = meter.observe();
    thread::scope(|scope| {
        scope.spawn(|| alarm_once(&meter, calls, &sent, &over));
        let result = guest.on_budget(&HookContext::new(), |running| work(running, &sent));
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// What is left until this thread's timer rings; zero when it is not set.
fn until_timer() -> i64 {
    // SAFETY: a struct of numbers, for which zeros are values.
    let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
    let timer = LOCAL.with(|local| local.timer.load(Ordering::Relaxed));
    // SAFETY: `time` is valid for a write; without a timer it stays as it is.
    unsafe { libc::syscall(libc::SYS_timer_gettime, timer, &mut time) };
    time.it_value.tv_sec * 1_000_000_000 + time.it_value.tv_nsec
}

fn signal() -> libc::c_int {
    SIGNAL.unwrap()
}

/// One signal to begin with, and no watchdog that looks.
#[test]
fn the_alarm_alone_stops_a_guest() {
    for isolation in [Isolation::Reuse, Isolation::PerCall] {
        let limit = Duration::from_millis(10);
        for _ in 0..10 {
            let mut guest = guest(limit, isolation);
            let rested = guest.on_budget(&HookContext::new(), |running| {
                Ok(running.call_dynamic("rest", &[])?)
            });
            assert_eq!(rested.unwrap().len(), 0);
            assert!(guest.recycle());
            let stopped = alarmed(&mut guest, |running, _| {
                Ok(running.call_dynamic("spin", &[])?)
            });
            match stopped {
                Err(SandboxError::CpuBudget { limit: l, used }) => assert!(l == limit && used >= l),
                other => panic!("{other:?}"),
            }
            assert!(!guest.recycle());
            assert_eq!(until_timer(), 0);
        }
    }
}

/// A call that was sent the alarm and ends in time leaves nothing behind, and the
/// next one on the same thread and instance is its own.
#[test]
fn no_alarm_outlives_its_call() {
    let mut guest = guest(Duration::from_secs(2), Isolation::Reuse);
    for _ in 0..20 {
        let set = alarmed(&mut guest, |_, _| {
            let start = Instant::now();
            while until_timer() == 0 && start.elapsed() < LIMIT {}
            Ok(until_timer())
        });
        assert!(set.unwrap() > 0);
        assert_eq!(until_timer(), 0);
        let meter = guest.meter();
        let (phase, calls) = meter.observe();
        assert_eq!(phase, Phase::Idle);
        forget();
        let next = guest.on_budget(&HookContext::new(), |running| {
            // Nor does a signal that the watchdog has not sent do anything.
            // SAFETY: a signal with a handler, to this thread.
            unsafe { libc::raise(signal()) };
            assert_eq!(until_timer(), 0);
            Ok(running.call_dynamic("rest", &[])?)
        });
        next.unwrap();
        // Nor is one sent to a call that is over.
        LOCAL.with(|local| local.rang.store(false, Ordering::Relaxed));
        meter.alarm(calls + 1);
        assert!(!rang());
    }
    // SAFETY: as above; no call runs.
    unsafe { libc::raise(signal()) };
}

/// Sets what it has when it is dropped, also by a test that fails.
struct SetAtLast<'a>(&'a AtomicBool);

impl Drop for SetAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// However close to its end a call is sent the alarm, it is over before the end is.
#[test]
fn no_signal_comes_after_the_end() {
    let mut guest = guest(Duration::from_secs(60), Isolation::Reuse);
    let (meter, over) = (guest.meter(), AtomicBool::new(false));
    let mut timers = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let (Phase::Running, call) = meter.observe() {
                    meter.alarm(call);
                }
            }
        });
        let _over = SetAtLast(&over);
        for turn in 0..40_000_u64 {
            forget();
            let set = guest.on_budget(&HookContext::new(), |_| {
                (0..turn * 7 % 60_013).for_each(|turn| {
                    std::hint::black_box(turn);
                });
                Ok(until_timer() > 0)
            });
            timers += u32::from(set.unwrap());
            for _ in 0..3 {
                assert!(!rang() && until_timer() == 0, "call {turn}");
            }
        }
    });
    // No signal was missed.
    assert!(Moment::now().thread > 0);
    assert!(timers > 10, "{timers} calls were alarmed in time");
}

/// The calls after one that was sent the alarm need none, and those after them are left
/// to the watchdog again.
#[test]
fn a_thread_that_was_sent_the_alarm_sets_its_own() {
    let cx = HookContext::new();
    let stopped = |guest: &mut Guest| {
        let (meter, over) = (guest.meter(), AtomicBool::new(false));
        let (_, calls) = meter.observe();
        thread::scope(|scope| {
            scope.spawn(|| {
                let start = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    if start.elapsed() > LIMIT {
                        meter.stop(calls + 1, Stop::WallTime, start.elapsed());
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let spun = guest.on_budget(&cx, |running| Ok(running.call_dynamic("spin", &[])?));
            over.store(true, Ordering::Relaxed);
            assert!(
                matches!(spun, Err(SandboxError::CpuBudget { .. })),
                "{spun:?}"
            );
        });
    };
    let limit = Duration::from_millis(10);
    let spun = alarmed(&mut guest(limit, Isolation::Reuse), |running, _| {
        Ok(running.call_dynamic("spin", &[])?)
    });
    assert!(spun.is_err());
    for _ in 0..3 {
        stopped(&mut guest(limit, Isolation::Reuse));
        assert_eq!(until_timer(), 0);
    }
    let mut innocent = guest(Duration::from_secs(2), Isolation::Reuse);
    for call in 0..2 * WARY {
        let set = innocent.on_budget(&cx, |_| Ok(until_timer() > 0)).unwrap();
        assert_eq!(set, call < WARY);
        assert_eq!(until_timer(), 0);
    }
    // It may still be sent the alarm.
    assert!(Moment::now().thread > 0);
}

/// A thread that blocks the signal gets one of them in its life, and the watchdog.
#[test]
fn a_thread_that_blocks_the_signal_is_left_in_peace() {
    let mut guest = guest(Duration::from_secs(2), Isolation::Reuse);
    // SAFETY: a set of numbers, which `sigemptyset` fills.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid, and the thread is this test's own.
    unsafe {
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, signal());
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, ptr::null_mut());
    }
    let count_waiting = || {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: all are valid, and whoever is told of the signal may be nobody.
        let take = || unsafe { libc::sigtimedwait(&signals, ptr::null_mut(), &now) };
        std::iter::from_fn(|| (take() == signal()).then_some(())).count()
    };
    for waiting in [1, 0] {
        alarmed(&mut guest, |_, sent| {
            while !sent.load(Ordering::Relaxed) {}
            Ok(())
        })
        .unwrap();
        assert_eq!(count_waiting(), waiting);
    }
}

/// The host's code that is interrupted finds its `errno` as it was, also where the
/// handler's own system calls fail.
#[test]
fn errno_is_kept() {
    let mut guest = guest(Duration::from_secs(2), Isolation::Reuse);
    enter_thread();
    let set = alarmed(&mut guest, |_, _| {
        let start = Instant::now();
        while until_timer() == 0 && start.elapsed() < LIMIT {}
        LOCAL.with(|local| local.timer.swap(NEVER, Ordering::Relaxed));
        // SAFETY: the address of this thread's `errno`.
        unsafe { *libc::__errno_location() = 77 };
        handler(signal(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: as above.
        Ok(unsafe { *libc::__errno_location() })
    });
    assert_eq!(set.unwrap(), 77);
}

extern "C" fn embedders(_: libc::c_int) {}

/// A signal that somebody handles, or ignores, is left alone.
#[test]
fn only_free_signals_are_taken() {
    // Beyond those that the sandbox takes.
    let signal = libc::SIGRTMAX() - 3;
    for theirs in [embedders as *const () as usize, libc::SIG_IGN] {
        // SAFETY: a handler that does nothing, for a signal that nobody sends.
        unsafe { libc::signal(signal, theirs) };
        assert!(!take(signal));
        assert_eq!(action_of(signal).unwrap().sa_sigaction, theirs);
    }
    // SAFETY: as above.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    assert!(take(signal));
    // SAFETY: as above.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Whoever takes the signal away later gets no alarm, and is not killed by one: the
/// watchdog stops the guest. In a process of its own, since it is of no more use then.
#[test]
fn a_signal_that_was_taken_away_is_not_sent() {
    const TAKEN: &str = "VORTEX_TEST_TAKEN";
    if std::env::var_os(TAKEN).is_none() {
        let name = "instance::alarm::tests::a_signal_that_was_taken_away_is_not_sent";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(TAKEN, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let watchdog = Watchdog::start().unwrap();
    // SAFETY: the default, which ends the process.
    unsafe { libc::signal(signal(), libc::SIG_DFL) };
    let config = RuntimeConfig {
        cpu_time: Duration::from_millis(10),
        ..RuntimeConfig::default()
    };
    let compiled = Arc::new(Compiled::new(&wat::parse_str(SPIN).unwrap(), &config).unwrap());
    for _ in 0..5 {
        let mut guest = Guest::new(&compiled, &watchdog, &HookContext::new()).unwrap();
        let stopped = guest.on_budget(&HookContext::new(), |running| {
            Ok::<Box<[Value]>, CallFailure>(running.call_dynamic("spin", &[])?)
        });
        assert!(matches!(stopped, Err(SandboxError::CpuBudget { .. })));
    }
}
