//! The signals that stop guests in time reach threads in any state, and leave no trace.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, cpu, isolated, wat};

const LIMIT: Duration = Duration::from_secs(120);

/// Timers that the process has in the kernel; each thread that the alarm has reached
/// has one.
fn timers() -> usize {
    let timers = std::fs::read_to_string("/proc/self/timers").unwrap();
    timers
        .lines()
        .filter(|line| line.starts_with("ID:"))
        .count()
}

/// A guest that spins with hardly a byte left on its stack: the frame of a signal
/// needs hundreds.
#[test]
fn a_guest_at_the_end_of_its_stack_is_stopped() {
    const DEEP: &str = r#"(module (memory 1)
        (func $down (export "down") (param $depth i32) (param $spin i32)
          (if (local.get $depth)
            (then
              (call $down (i32.sub (local.get $depth) (i32.const 1)) (local.get $spin)))
            (else (if (local.get $spin) (then (loop (br 0))))))))"#;
    isolated(LIMIT, || {
        let runtime = Runtime::new(RuntimeConfig {
            stack_bytes: 64 << 10,
            ..cpu(10)
        })
        .unwrap();
        let plugin = runtime.load("deep", &wat(DEEP)).unwrap();
        let down = |depth: i32, spin: i32| {
            let mut instance = plugin.instance().unwrap();
            instance.call::<_, ()>("down", (depth, spin))
        };
        let (mut fits, mut exceeds) = (0, 1 << 20);
        while fits + 1 < exceeds {
            let middle = i32::midpoint(fits, exceeds);
            match down(middle, 0) {
                Ok(()) => fits = middle,
                error => {
                    assert_fails!(error, SandboxError::StackOverflow { .. });
                    exceeds = middle;
                }
            }
        }
        for depth in fits - 3..=fits {
            for _ in 0..5 {
                assert_fails!(down(depth, 1), SandboxError::CpuBudget { .. });
            }
            assert_fails!(down(exceeds, 1), SandboxError::StackOverflow { .. });
        }
        assert_eq!(timers(), 1, "no alarm was sent, which shows nothing");
    });
}

/// Threads that end right after a call that was sent the alarm: the timers end with
/// them, and nothing comes when the signal stack is gone.
#[test]
fn timers_end_with_their_threads() {
    const THREADS: usize = 1_000;
    const AT_ONCE: usize = 8;
    const TURNS: &str = r#"(module (memory 1)
        (func (export "turn") (param $turns i32)
          (loop $turn
            (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
            (br_if $turn (local.get $turns)))))"#;
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(20)).unwrap();
        let plugin = runtime.load("turns", &wat(TURNS)).unwrap();
        let reached = AtomicUsize::new(0);
        for batch in 0..THREADS / AT_ONCE {
            thread::scope(|scope| {
                for _ in 0..AT_ONCE {
                    scope.spawn(|| {
                        let mut instance = plugin.instance().unwrap();
                        if batch % 10 == 0 {
                            let spun = instance.call::<_, ()>("turn", (0,));
                            assert_fails!(spun, SandboxError::CpuBudget { .. });
                        } else {
                            instance.call::<_, ()>("turn", (4_000_000,)).unwrap();
                        }
                        drop(instance);
                        reached.fetch_add(usize::from(timers() > 0), Ordering::Relaxed);
                    });
                }
            });
            // A scope does not wait for the destructors of its threads.
            crate::util::eventually("timers end", || timers() == 0);
        }
        let reached = reached.load(Ordering::Relaxed);
        assert!(reached > 50, "{reached} threads were sent the alarm");
    });
}
