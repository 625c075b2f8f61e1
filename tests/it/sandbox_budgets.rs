//! Each budget stops what exceeds it, says which it was, its limit and what was
//! used, and leaves the next call alone.

use std::thread;
use std::time::Duration;

use vortex_hook_core::{CancellationToken, HookContext};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, call_in, cpu, eventually, fixture, hook, hook_with, isolated, wat, within,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Every kind of endless guest runs into its CPU budget, again and again.
#[test]
fn cpu_time_stops_endless_guests() {
    for name in [
        "loop-empty",
        "loop-store",
        "loop-nested",
        "loop-brtable",
        "loop-grow",
        "loop-indirect",
        "calls-exponential",
    ] {
        within(LIMIT, move || {
            let hook = hook_with(name, cpu(5));
            for _ in 0..3 {
                let limit = Duration::from_millis(5);
                assert_fails!(
                    call(&hook, "/"),
                    SandboxError::CpuBudget { limit: l, used } if *l == limit && *used >= limit
                );
            }
            assert_eq!(hook.plugin().max_cpu(), Duration::from_millis(5));
        });
    }
}

/// A Rust guest, and one whose next call is innocent.
#[test]
fn the_call_after_a_stopped_one_works() {
    for (name, spin) in [("spin", "/spin"), ("spin-on-bang", "/!")] {
        within(LIMIT, move || {
            let hook = hook_with(name, cpu(5));
            for _ in 0..20 {
                assert_fails!(call(&hook, spin), SandboxError::CpuBudget { .. });
                assert!(call(&hook, "/").unwrap().allow);
            }
            let stats = hook.plugin().stats();
            assert_eq!((stats.failures, stats.instances_discarded), (20, 20));
        });
    }
}

/// The wall limit holds where the CPU budget does not.
#[test]
fn wall_time_stops_a_guest() {
    within(LIMIT, || {
        let limit = Duration::from_millis(30);
        let config = RuntimeConfig {
            wall_time: Some(limit),
            ..cpu(60_000)
        };
        let hook = hook_with("spin-on-bang", config);
        for _ in 0..5 {
            assert_fails!(
                call(&hook, "/!"),
                SandboxError::WallLimit { limit: l, used } if *l == limit && *used >= limit
            );
            assert!(call(&hook, "/").unwrap().allow);
        }
    });
}

/// Ten times the CPU budget is the wall limit that nobody has set.
#[test]
fn the_wall_limit_has_a_default() {
    let config = RuntimeConfig {
        wall_time: None,
        ..cpu(7)
    };
    assert_eq!(config.wall_limit(), Duration::from_millis(70));
    let far = RuntimeConfig {
        cpu_time: Duration::MAX,
        ..config
    };
    assert_eq!(far.wall_limit(), Duration::MAX);
}

#[test]
fn a_deadline_stops_a_guest() {
    within(LIMIT, || {
        let hook = hook_with("spin-on-bang", cpu(60_000));
        for _ in 0..5 {
            let cx = HookContext::new().with_timeout(Duration::from_millis(20));
            assert_fails!(call_in(&hook, &cx, "/!"), SandboxError::DeadlineExceeded);
            assert!(cx.is_expired());
            // A context of its own, and one that has passed.
            assert!(call(&hook, "/").unwrap().allow);
            assert_fails!(call_in(&hook, &cx, "/"), SandboxError::DeadlineExceeded);
            let later = HookContext::new().with_timeout(LIMIT);
            assert!(call_in(&hook, &later, "/").unwrap().allow);
        }
    });
}

#[test]
fn a_cancelled_token_stops_a_guest() {
    within(LIMIT, || {
        let hook = hook_with("spin-on-bang", cpu(60_000));
        for _ in 0..5 {
            let token = CancellationToken::new();
            let cx = HookContext::new().with_cancellation(token.clone());
            let before = hook.plugin().stats().calls;
            thread::scope(|scope| {
                let spinning = scope.spawn(|| call_in(&hook, &cx, "/!"));
                eventually("a call in flight", || hook.plugin().stats().calls > before);
                token.cancel();
                assert_fails!(spinning.join().unwrap(), SandboxError::Cancelled);
            });
            // The token is cancelled for good; the plugin works without it.
            assert_fails!(call_in(&hook, &cx, "/"), SandboxError::Cancelled);
            assert!(call(&hook, "/").unwrap().allow);
        }
    });
}

/// The context of one call does not stop the next one on the same instance, which
/// here runs into its own budget.
#[test]
fn a_context_is_forgotten_with_its_call() {
    isolated(LIMIT, || {
        let hook = hook_with("spin-on-bang", cpu(20));
        for _ in 0..3 {
            let token = CancellationToken::new();
            let cancelled = HookContext::new().with_cancellation(token.clone());
            assert!(call_in(&hook, &cancelled, "/").unwrap().allow);
            token.cancel();
            assert_fails!(call(&hook, "/!"), SandboxError::CpuBudget { .. });
            let expired = HookContext::new().with_timeout(Duration::from_millis(200));
            assert!(call_in(&hook, &expired, "/").unwrap().allow);
            eventually("expired", || expired.is_expired());
            assert_fails!(call(&hook, "/!"), SandboxError::CpuBudget { .. });
        }
    });
}

/// Memory ends where the limit says, and the guest that gives up over it is told
/// from one that just aborts.
#[test]
fn memory_is_limited() {
    let limit = 5 << 16;
    let config = RuntimeConfig {
        memory_bytes: limit + 1_000,
        output_bytes: 100,
        ..cpu(2_000)
    };
    let hook = hook_with("grow-forever", config.clone());
    for _ in 0..3 {
        assert_fails!(
            call(&hook, "/"),
            SandboxError::MemoryLimit { limit: l, used } if *l == limit + 1_000 && *used == limit
        );
    }
    // An abort without a refused growth in the same call is an abort.
    let aborts = wat(r#"(module (memory 1)
        (func (export "grow") (result i32) (memory.grow (i32.const 100)))
        (func (export "abort") unreachable))"#);
    let runtime = Runtime::new(config).unwrap();
    let plugin = runtime.load("aborts", &aborts).unwrap();
    let mut instance = plugin.instance().unwrap();
    assert_eq!(instance.call::<(), i32>("grow", ()).unwrap(), -1);
    assert_fails!(instance.call::<(), ()>("abort", ()), SandboxError::Aborted);
}

/// The module's own maximum is an answer to the guest, not the sandbox's limit.
#[test]
fn the_modules_own_maximum_holds() {
    let runtime = Runtime::new(cpu(2_000)).unwrap();
    let wasm = wat(r#"(module (memory (export "memory") 1 3)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "size") (result i32) (memory.size)))"#);
    let plugin = runtime.load("grows", &wasm).unwrap();
    let mut instance = plugin.instance().unwrap();
    let mut grow = |pages: i32| instance.call::<_, i32>("grow", (pages,)).unwrap();
    assert_eq!(
        [
            grow(0),
            grow(1),
            grow(2),
            grow(-1),
            grow(1),
            grow(1),
            grow(0)
        ],
        [1, 1, -1, -1, 2, -1, 3]
    );
    assert_eq!(instance.call::<(), i32>("size", ()).unwrap(), 3);
    assert_eq!(instance.memory_len(), 3 << 16);
    assert_eq!(instance.read(0, 3 << 16).unwrap(), vec![0; 3 << 16]);
    assert!(instance.read(1, 3 << 16).is_none());
    assert!(!instance.write((3 << 16) - 1, &[1, 2]));
    assert!(instance.write((3 << 16) - 2, &[1, 2]));
}

#[test]
fn the_stack_is_limited() {
    for stack_bytes in [64 << 10, 1 << 20] {
        // On a thread of its own: the stack of a thread only ever grows.
        within(LIMIT, move || {
            let config = RuntimeConfig {
                stack_bytes,
                ..cpu(5_000)
            };
            let recursion = hook_with("recursion", config.clone());
            let deep = hook_with("deep-unreachable", config);
            for _ in 0..3 {
                assert_fails!(
                    call(&recursion, "/"),
                    SandboxError::StackOverflow { limit } if *limit == stack_bytes
                );
                assert_fails!(call(&deep, "/!1000"), SandboxError::Aborted);
            }
        });
    }
}

/// A start function is on a budget like a call.
#[test]
fn start_functions_have_budgets() {
    within(LIMIT, || {
        let runtime = Runtime::new(cpu(5)).unwrap();
        let made = |name| {
            let plugin = runtime.load(name, &fixture(name)).unwrap();
            (WasmHook::new(plugin.clone()).map(|_| ()), plugin)
        };
        for _ in 0..3 {
            let (looped, plugin) = made("start-loop");
            assert_fails!(looped, SandboxError::CpuBudget { .. });
            assert_fails!(plugin.instance(), SandboxError::CpuBudget { .. });
            assert_eq!(plugin.stats().instances_created, 0);
            let (trapped, _) = made("start-trap");
            assert_fails!(trapped, SandboxError::Aborted);
        }
        assert!(call(&hook(&runtime, "allow"), "/").unwrap().allow);
    });
}
