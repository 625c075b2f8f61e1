//! Break 7: code is freed when nothing can run it any more, and not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vortex_hook_core::{CancellationToken, HookContext};
use vortex_sandbox::{Runtime, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, call_in, cpu, eventually, fixture, hook, isolated, threads_named, wat,
};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

/// A guest that answers with a status of its own, after some turns of a loop.
fn version(status: u32, turns: u32) -> Vec<u8> {
    wat(&format!(
        r#"(module
             (memory (export "memory") 2)
             (data (i32.const 16) "{{\"allow\":false,\"status\":{status}}}")
             (func (export "alloc") (param i32) (result i32) (i32.const 65536))
             (func (export "handle") (param i32 i32) (result i64)
               (local $n i32)
               (loop $next
                 (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (br_if $next (i32.lt_u (local.get $n) (i32.const {turns}))))
               (i64.const 0x10_0000001c)))"#
    ))
}

/// Waits until a call of this hook runs.
fn until_running(hook: &WasmHook) {
    eventually("a call in flight", || {
        let stats = hook.plugin().stats();
        stats.calls > 0 && stats.instances_idle == 0
    });
}

/// A call that is in flight when its plugin is unloaded ends as if nothing had been.
#[test]
fn a_call_in_flight_finishes() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(60_000)).unwrap();
        let mut in_flight = 0;
        for turns in [300_000_000, 1_000_000_000] {
            let plugin = runtime.load("slow", &version(451, turns)).unwrap();
            let hook = WasmHook::new(plugin).unwrap();
            thread::scope(|scope| {
                let running = scope.spawn(|| call(&hook, "/").unwrap());
                until_running(&hook);
                assert!(runtime.unload("slow"));
                assert_fails!(call(&hook, "/"), SandboxError::Unloaded { name } if name == "slow");
                in_flight += u32::from(!running.is_finished());
                assert_eq!(running.join().unwrap().deny_status(), 451);
            });
            assert_eq!(hook.plugin().stats().instances_idle, 0);
        }
        assert!(
            in_flight > 0,
            "every call had ended before its plugin was unloaded"
        );
    });
}

/// Unloaded, closed or dropped around a call that only the watchdog can end: its
/// cancellation still holds.
#[test]
fn a_call_in_flight_is_still_watched() {
    isolated(LIMIT, || {
        for how in 0..3 {
            let runtime = Runtime::new(cpu(60_000)).unwrap();
            let hook = hook(&runtime, "spin-on-bang");
            let token = CancellationToken::new();
            let cx = HookContext::new().with_cancellation(token.clone());
            thread::scope(|scope| {
                let spinning = scope.spawn(|| call_in(&hook, &cx, "/!"));
                until_running(&hook);
                match how {
                    0 => assert!(runtime.unload("spin-on-bang")),
                    1 => runtime.close(),
                    _ => drop(runtime),
                }
                assert!(!spinning.is_finished());
                let next = call(&hook, "/");
                match how {
                    // The hook holds all that it needs.
                    2 => assert!(next.unwrap().allow),
                    _ => assert_fails!(next, SandboxError::Unloaded { .. }),
                }
                token.cancel();
                assert_fails!(spinning.join().unwrap(), SandboxError::Cancelled);
            });
        }
    });
}

/// Calls, loads, replacements and unloads of one name at the same time: every
/// answer is the one of the version that was called.
#[test]
fn calls_race_with_loads_and_unloads() {
    isolated(Duration::from_secs(120), || {
        let runtime = Runtime::new(cpu(10_000)).unwrap();
        let versions: Vec<(u16, Vec<u8>)> = (0..4)
            .map(|n| (480 + n, version(480 + u32::from(n), 2_000)))
            .collect();
        let status_of = |hook: &WasmHook| {
            let digest = hook.plugin().digest();
            *DIGESTS
                .get_or_init(|| {
                    let runtime = Runtime::new(cpu(100)).unwrap();
                    let digest = |wasm: &[u8]| runtime.load("digest", wasm).unwrap().digest();
                    versions
                        .iter()
                        .map(|(status, wasm)| (digest(wasm), *status))
                        .collect()
                })
                .get(&digest)
                .unwrap()
        };
        let until = Instant::now() + Duration::from_secs(4);
        let (answered, refused, rounds) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut held: Option<WasmHook> = None;
                    while Instant::now() < until {
                        if let Some(plugin) = runtime.get("raced") {
                            match WasmHook::new(Arc::clone(&plugin)) {
                                Ok(hook) => held = Some(hook),
                                Err(error) => assert_fails!(
                                    Err::<(), _>(error),
                                    SandboxError::Unloaded { .. }
                                ),
                            }
                        }
                        let Some(hook) = &held else { continue };
                        for _ in 0..2_000 {
                            match call(hook, "/") {
                                Ok(output) => {
                                    assert_eq!(output.deny_status(), status_of(hook));
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                                error => {
                                    assert_fails!(error, SandboxError::Unloaded { .. });
                                    refused.fetch_add(1, Ordering::Relaxed);
                                    break;
                                }
                            }
                        }
                    }
                });
            }
            for offset in 0..2 {
                let (runtime, versions, rounds) = (&runtime, &versions, &rounds);
                scope.spawn(move || {
                    let mut round = offset;
                    while Instant::now() < until {
                        runtime.load("raced", &versions[round % 4].1).unwrap();
                        round += 1;
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // At times of its own: straight after a load nobody would hold the plugin.
            scope.spawn(|| {
                while Instant::now() < until {
                    thread::sleep(Duration::from_millis(3));
                    runtime.unload("raced");
                }
            });
        });
        let counts = [&answered, &refused, &rounds].map(|count| count.load(Ordering::Relaxed));
        assert!(
            counts.iter().all(|count| *count > 0),
            "answered, refused, rounds: {counts:?}"
        );
    });
}

static DIGESTS: std::sync::OnceLock<std::collections::HashMap<[u8; 32], u16>> =
    std::sync::OnceLock::new();

/// A hook outlives its runtime; its budget and its memory too.
#[test]
fn hooks_may_outlive_their_runtime() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(20)).unwrap();
        let (used, unused) = (
            hook(&runtime, "spin-on-bang"),
            hook(&runtime, "trap-on-bang"),
        );
        assert!(call(&used, "/").unwrap().allow);
        drop(runtime);
        for _ in 0..3 {
            assert!(call(&used, "/").unwrap().allow);
            assert_fails!(call(&used, "/!"), SandboxError::CpuBudget { .. });
            assert_fails!(call(&unused, "/!"), SandboxError::Aborted);
            assert!(call(&unused, "/").unwrap().allow);
        }
    });
}

/// Closing is for good, and for every plugin.
#[test]
fn a_closed_runtime_answers_no_more() {
    let runtime = Runtime::new(cpu(1_000)).unwrap();
    let (used, unused) = (hook(&runtime, "allow"), hook(&runtime, "deny"));
    assert!(call(&used, "/").unwrap().allow);
    runtime.close();
    for (hook, name) in [(&used, "allow"), (&unused, "deny")] {
        assert_fails!(call(hook, "/"), SandboxError::Unloaded { name: n } if n == name);
        assert_fails!(hook.plugin().instance(), SandboxError::Unloaded { .. });
        assert_fails!(
            WasmHook::new(Arc::clone(hook.plugin())),
            SandboxError::Unloaded { .. }
        );
        assert_eq!(hook.plugin().stats().instances_idle, 0);
    }
    runtime.close();
}

/// Closed while threads call: each of their calls ends with an answer or with
/// the word that the plugin is unloaded.
#[test]
fn a_runtime_may_be_closed_under_calls() {
    isolated(Duration::from_secs(60), || {
        for _ in 0..30 {
            let runtime = Runtime::new(cpu(10_000)).unwrap();
            let hooks = ["allow", "checksum"].map(|name| hook(&runtime, name));
            let closed = AtomicBool::new(false);
            let answered = AtomicU64::new(0);
            thread::scope(|scope| {
                for hook in &hooks {
                    scope.spawn(|| {
                        loop {
                            // Read first: what begins after the close is refused.
                            let was_closed = closed.load(Ordering::SeqCst);
                            match call(hook, "/") {
                                Ok(_) => {
                                    assert!(!was_closed);
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                                error => {
                                    assert_fails!(error, SandboxError::Unloaded { .. });
                                    break;
                                }
                            }
                        }
                    });
                }
                eventually("some answers", || answered.load(Ordering::Relaxed) > 10);
                runtime.close();
                closed.store(true, Ordering::SeqCst);
            });
        }
    });
}

/// The watchdog's thread ends with the last who needs it, asleep or awake.
#[test]
fn watchdogs_end() {
    isolated(Duration::from_secs(60), || {
        let watched = |what, watchdogs| {
            eventually(what, || threads_named("vortex-watchdog") == watchdogs);
        };
        for round in 0..20 {
            let runtime = Runtime::new(cpu(1_000)).unwrap();
            watched("a watchdog", 1);
            let hook = hook(&runtime, "allow");
            call(&hook, "/").unwrap();
            if round == 0 {
                // Long enough that it has gone to sleep.
                thread::sleep(Duration::from_millis(300));
            }
            drop(runtime);
            // A held plugin keeps it.
            watched("one watchdog", 1);
            drop(hook);
            watched("no watchdog", 0);
        }
    });
}

/// A watchdog that sleeps wakes for the next call.
#[test]
fn a_sleeping_watchdog_wakes() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(10)).unwrap();
        let spinning = hook(&runtime, "spin-on-bang");
        let quick = WasmHook::new(runtime.load("allow", &fixture("allow")).unwrap()).unwrap();
        // It sleeps after 128 rounds without a call, of half a millisecond at the most.
        for pause in [0, 1, 20, 60, 62, 64, 66, 68, 70, 80, 100, 150, 300] {
            thread::sleep(Duration::from_millis(pause));
            call(&quick, "/").unwrap();
            thread::sleep(Duration::from_millis(pause));
            assert_fails!(call(&spinning, "/!"), SandboxError::CpuBudget { .. });
        }
    });
}
