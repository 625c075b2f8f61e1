//! What one plugin does to itself, no other feels.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use vortex_sandbox::{Runtime, SandboxError};

use crate::util::{assert_fails, call, cpu, header, hook, isolated};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

/// Each way to fail, again and again on threads of its own, beside two plugins
/// whose every call must be right.
#[test]
fn failing_plugins_disturb_no_other() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(20)).unwrap();
        let guilty: Vec<_> = [
            "loop-store",
            "recursion",
            "grow-forever",
            "unreachable",
            "answer-huge",
            "fill-64mib",
        ]
        .map(|name| hook(&runtime, name))
        .into();
        let (allow, counter) = (hook(&runtime, "allow"), hook(&runtime, "counter"));
        let done = AtomicBool::new(false);
        let failed = AtomicU64::new(0);
        thread::scope(|scope| {
            for half in guilty.chunks(3) {
                let (done, failed) = (&done, &failed);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        for hook in half {
                            assert!(call(hook, "/").is_err());
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let mut rounds = 0;
            // Until both have met often enough.
            while rounds < 3_000 || failed.load(Ordering::Relaxed) < 60 {
                assert!(call(&allow, "/").unwrap().allow);
                rounds += 1;
                let count = header(&call(&counter, "/").unwrap(), "x-count");
                assert_eq!(count, rounds.to_string());
            }
            done.store(true, Ordering::Relaxed);
        });
        for hook in [&allow, &counter] {
            let stats = hook.plugin().stats();
            assert_eq!((stats.failures, stats.instances_created), (0, 1));
        }
        for hook in &guilty {
            let stats = hook.plugin().stats();
            assert_eq!(stats.calls, stats.failures, "{}", hook.plugin().name());
            assert_eq!(
                stats.calls,
                stats.instances_discarded,
                "{}",
                hook.plugin().name()
            );
        }
    });
}

/// Within one plugin too: guilty calls on two threads, innocent ones on two others.
#[test]
fn failing_calls_disturb_no_other_call() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(20)).unwrap();
        for name in ["spin-on-bang", "trap-on-bang"] {
            let hook = hook(&runtime, name);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..30 {
                            assert_fails!(
                                call(&hook, "/!"),
                                SandboxError::CpuBudget { .. } | SandboxError::Aborted
                            );
                        }
                    });
                    scope.spawn(|| {
                        for _ in 0..2_000 {
                            assert!(call(&hook, "/").unwrap().allow);
                        }
                    });
                }
            });
            let stats = hook.plugin().stats();
            assert_eq!((stats.calls, stats.failures), (4_060, 60));
            assert!(stats.instances_created <= 64);
        }
    });
}
