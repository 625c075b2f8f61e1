//! A watchdog that comes too late hits nobody: not the next call, and no
//! innocent one on a busy machine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vortex_sandbox::{Runtime, SandboxError, WasmHook};

use crate::util::{assert_fails, call, cpu, isolated, wat};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

/// Turns as many times as the decimal digits behind the `!` in its input say,
/// and allows.
const WORKING: &str = r#"(module
    (memory (export "memory") 2)
    (data (i32.const 16) "{\"allow\":true}")
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func $turns (param $at i32) (param $len i32) (result i32)
      (local $end i32) (local $digit i32) (local $turns i32)
      (local.set $end (i32.add (local.get $at) (local.get $len)))
      (block $none
        (loop $scan
          (br_if $none (i32.ge_u (local.get $at) (local.get $end)))
          (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 33))
            (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $scan))))
        (loop $next
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
          (if (i32.lt_u (local.get $digit) (i32.const 10))
            (then
              (local.set $turns
                (i32.add (i32.mul (local.get $turns) (i32.const 10)) (local.get $digit)))
              (br $next)))))
      (local.get $turns))
    (func (export "handle") (param $ptr i32) (param $len i32) (result i64)
      (local $turns i32)
      (local.set $turns (call $turns (local.get $ptr) (local.get $len)))
      (loop $turn
        (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
        (br_if $turn (i32.gt_s (local.get $turns) (i32.const 0))))
      (i64.const 0x10_0000000e)))"#;

fn working(runtime: &Runtime) -> WasmHook {
    WasmHook::new(runtime.load("working", &wat(WORKING)).unwrap()).unwrap()
}

/// Turns that take about a millisecond: the best of some rounds, since the
/// machine may be busy.
fn turns_in_a_millisecond() -> u64 {
    const TURNS: u64 = 5_000_000;
    let runtime = Runtime::new(cpu(10_000)).unwrap();
    let hook = working(&runtime);
    let took = (0..10).map(|_| {
        let start = Instant::now();
        call(&hook, &format!("/!{TURNS}")).unwrap();
        start.elapsed()
    });
    let best = took.min().unwrap().as_micros().max(1);
    TURNS * 1_000 / u64::try_from(best).unwrap()
}

/// Calls that take as long as the watchdog lets them, so that they end while it
/// makes up its mind; each is followed by short ones on the same instance or its
/// successor, which must never be those that are hit.
#[test]
fn no_stop_reaches_the_next_call() {
    isolated(LIMIT, || {
        let start = turns_in_a_millisecond();
        let runtime = Runtime::new(cpu(1)).unwrap();
        let hook = working(&runtime);
        let (stopped, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut turns = start;
                    for round in 0..4_000 {
                        match call(&hook, &format!("/!{turns}")) {
                            Ok(output) => {
                                assert!(output.allow);
                                passed.fetch_add(1, Ordering::Relaxed);
                                turns += turns / 64;
                            }
                            error => {
                                assert_fails!(error, SandboxError::CpuBudget { .. });
                                stopped.fetch_add(1, Ordering::Relaxed);
                                turns -= turns / 64;
                            }
                        }
                        for _ in 0..3 {
                            let short = call(&hook, "/").map(|output| output.allow);
                            assert!(matches!(short, Ok(true)), "round {round}: {short:?}");
                        }
                    }
                });
            }
        });
        let counts = [&stopped, &passed].map(|count| count.load(Ordering::Relaxed));
        assert!(
            counts.iter().all(|count| *count > 50),
            "stopped, passed: {counts:?}"
        );
        // Whoever was stopped has lost the instance, and nobody else has. A call that
        // had its answer when it was stopped keeps that, but not the instance.
        let stats = hook.plugin().stats();
        assert_eq!(stats.failures, counts[0]);
        assert!(stats.instances_discarded >= counts[0]);
    });
}

/// Threads of the host that take the CPUs away make a call last long, which is not
/// its fault: only its own CPU time counts.
#[test]
fn a_busy_host_kills_no_innocent_guest() {
    isolated(LIMIT, || {
        let turns = turns_in_a_millisecond() * 4;
        let runtime = Runtime::new(cpu(20)).unwrap();
        let hook = working(&runtime);
        let done = AtomicBool::new(false);
        let threads = thread::available_parallelism().map_or(4, |n| n.get() * 4);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let start = Instant::now();
            let calls = (0..40)
                .map(|_| call(&hook, &format!("/!{turns}")))
                .filter(Result::is_ok)
                .count();
            let lasted = start.elapsed() / 40;
            done.store(true, Ordering::Relaxed);
            assert_eq!(calls, 40);
            eprintln!("calls of 4 ms lasted {lasted:?}");
        });
        assert_eq!(hook.plugin().stats().instances_created, 1);
    });
}
