//! Plugins that fail, or do not end, in a chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vortex_hook_core::{CancellationToken, hook_fn};
use vortex_plugins::{
    ChainError, ChainOrder, FailPolicy, HookChain, HookContext, HookOutput, HookType, PluginHost,
    Registration, RuntimeConfig, SandboxError,
};

use crate::facade::{LIMIT, Store, reference, run, run_in, spec, stopped_by, summary};
use crate::util::{cpu, eventually, within};

/// More CPU time than a test may take: what stops a guest in time is something else.
fn endless() -> RuntimeConfig {
    RuntimeConfig {
        wall_time: Some(10 * LIMIT),
        ..cpu(10 * LIMIT.as_millis() as u64)
    }
}

/// A plugin with a native hook behind it, and how often that has run.
fn with_witness(host: &PluginHost, name: &str, policy: FailPolicy) -> (Arc<HookChain>, Witness) {
    let spec = spec(name).on_error(policy);
    let chain = host.chain(ChainOrder::default(), [spec]).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let witness = hook_fn(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(HookOutput::allow().with_header("x-witness", "1").unwrap())
    });
    chain.register(Registration::new(
        "witness",
        [HookType::PreRequest],
        witness,
    ));
    (chain, Witness(calls))
}

struct Witness(Arc<AtomicUsize>);

impl Witness {
    fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Each failure of a plugin denies with the reason, or is skipped, as its spec says.
#[test]
fn the_fail_policy_decides_about_every_failure() {
    type Check = fn(&SandboxError) -> bool;
    let cases: [(&str, Check); 7] = [
        ("spin", |e| matches!(e, SandboxError::CpuBudget { .. })),
        ("unreachable", |e| matches!(e, SandboxError::Aborted)),
        ("div-zero", |e| matches!(e, SandboxError::Trap { .. })),
        ("recursion", |e| {
            matches!(e, SandboxError::StackOverflow { .. })
        }),
        ("answer-bad-json", |e| {
            matches!(e, SandboxError::BadAnswer(_))
        }),
        ("answer-past-end", |e| {
            matches!(e, SandboxError::BadPointer { .. })
        }),
        ("alloc-null", |e| {
            matches!(e, SandboxError::BadPointer { .. })
        }),
    ];
    within(LIMIT, move || {
        let store = Store::with(&cases.map(|(name, _)| name));
        let host = store.host_with(cpu(200));
        for (name, check) in cases {
            let (chain, witness) = with_witness(&host, name, FailPolicy::Deny);
            let result = run(&chain, "/spin");
            let error = stopped_by(&result, name);
            assert!(check(error), "{name}: {error:?}");
            assert_eq!(witness.calls(), 0, "{name}: the chain went on");

            let (chain, witness) = with_witness(&host, name, FailPolicy::Skip);
            let output = run(&chain, "/spin").unwrap();
            assert_eq!(
                summary(&output),
                "allow=true status=0 x-witness=1",
                "{name}"
            );
            assert_eq!(witness.calls(), 1);
            // Both calls have failed, on one plugin: the second was no other's success.
            let stats = host.load(&reference(name)).unwrap().hook().plugin().stats();
            assert_eq!((stats.calls, stats.failures), (2, 2), "{name}");
        }
    });
}

/// An answer that denies is no failure, whatever the fail policy.
#[test]
fn a_denial_is_not_skipped() {
    let store = Store::with(&["deny-429"]);
    let host = store.host();
    let (chain, witness) = with_witness(&host, "deny-429", FailPolicy::Skip);
    let output = run(&chain, "/").unwrap();
    assert_eq!(summary(&output), "allow=false status=429");
    assert_eq!(witness.calls(), 0);
}

/// When all instances are busy, waiting ends with an error like any other.
/// Chains share the instances of a plugin.
#[test]
fn saturation_denies_or_is_skipped() {
    let store = Store::with(&["counter"]);
    let config = RuntimeConfig {
        max_instances: 1,
        instance_wait: Duration::from_millis(20),
        ..cpu(10_000)
    };
    let host = store.host_with(config);
    let (deny, _) = with_witness(&host, "counter", FailPolicy::Deny);
    let (skip, _) = with_witness(&host, "counter", FailPolicy::Skip);
    let loaded = host.load(&reference("counter")).unwrap();
    let held = loaded.hook().plugin().instance().unwrap();
    let result = run(&deny, "/");
    let error = stopped_by(&result, "counter");
    assert!(
        matches!(
            error,
            SandboxError::Saturated {
                max_instances: 1,
                ..
            }
        ),
        "{error:?}"
    );
    let output = run(&skip, "/").unwrap();
    assert_eq!(summary(&output), "allow=true status=0 x-witness=1");
    drop(held);
    for (n, chain) in [deny, skip].iter().enumerate() {
        let output = run(chain, "/").unwrap();
        let expected = format!("allow=true status=0 x-count={} x-witness=1", n + 1);
        assert_eq!(summary(&output), expected);
    }
}

/// Limits of a spec are that plugin's in that chain, and nobody else's.
#[test]
fn limits_belong_to_a_spec() {
    within(LIMIT, || {
        let store = Store::with(&["spin", "header-rewrite"]);
        let host = store.host_with(cpu(300));
        let spin = |millis| {
            let spec = spec("spin").with_config(cpu(millis));
            (host.chain(ChainOrder::default(), [spec]).unwrap(), millis)
        };
        let default = host.chain(ChainOrder::default(), [spec("spin")]).unwrap();
        // Loaded one after the other under one name: each chain keeps its own.
        for (chain, millis) in [spin(10), (default, 300), spin(30)] {
            assert!(run(&chain, "/").unwrap().allow);
            let result = run(&chain, "/spin");
            let error = stopped_by(&result, "spin");
            assert!(
                matches!(error, SandboxError::CpuBudget { limit, .. } if *limit == Duration::from_millis(millis)),
                "{error:?}"
            );
        }

        let short = RuntimeConfig {
            output_bytes: 16,
            ..cpu(10_000)
        };
        let short = spec("header-rewrite").with_config(short);
        let short = host.chain(ChainOrder::default(), [short]).unwrap();
        let full = host.chain(ChainOrder::default(), [spec("header-rewrite")]);
        let result = run(&short, "/");
        let error = stopped_by(&result, "header-rewrite");
        assert!(
            matches!(error, SandboxError::OutputTooLarge { max: 16, len } if *len > 16),
            "{error:?}"
        );
        assert!(run(&full.unwrap(), "/").unwrap().modified);
    });
}

/// The same limits are the same plugin; others are another one.
#[test]
fn the_same_limits_share_a_plugin() {
    let store = Store::with(&["counter"]);
    let host = store.host();
    let own = || spec("counter").with_config(host.runtime().config().clone());
    let first = host
        .chain(ChainOrder::default(), [spec("counter"), own()])
        .unwrap();
    assert_eq!(
        summary(&run(&first, "/").unwrap()),
        "allow=true status=0 x-count=2"
    );
    let other = spec("counter").with_config(cpu(9_000));
    let other = host.chain(ChainOrder::default(), [other]).unwrap();
    assert_eq!(
        summary(&run(&other, "/").unwrap()),
        "allow=true status=0 x-count=1"
    );
}

/// A deadline ends a plugin that spins, and the run with it, whatever the fail policy.
#[test]
fn a_deadline_stops_a_spinning_plugin() {
    within(LIMIT, || {
        let store = Store::with(&["spin"]);
        let host = store.host_with(endless());
        for policy in [FailPolicy::Deny, FailPolicy::Skip] {
            let (chain, witness) = with_witness(&host, "spin", policy);
            let cx = HookContext::new().with_timeout(Duration::from_millis(50));
            let result = run_in(&chain, &cx, "/spin");
            match policy {
                // It was the plugin that could not finish: its error says why.
                FailPolicy::Deny => {
                    let error = stopped_by(&result, "spin");
                    assert!(matches!(error, SandboxError::DeadlineExceeded), "{error:?}");
                }
                FailPolicy::Skip => assert!(
                    matches!(&result, Err(ChainError::DeadlineExceeded { hook }) if hook == "spin"),
                    "{result:?}"
                ),
            }
            assert_eq!(witness.calls(), 0, "the chain went on");
            // Without a deadline the next request is served.
            assert!(run(&chain, "/").unwrap().allow);
            assert_eq!(witness.calls(), 1);
        }
        let (chain, _) = with_witness(&host, "spin", FailPolicy::Skip);
        let plugin = Arc::clone(host.load(&reference("spin")).unwrap().hook().plugin());
        let calls = plugin.stats().calls;
        let cx = HookContext::new().with_timeout(Duration::ZERO);
        let result = run_in(&chain, &cx, "/");
        assert!(
            matches!(&result, Err(ChainError::DeadlineExceeded { hook }) if hook == "spin"),
            "{result:?}"
        );
        assert_eq!(plugin.stats().calls, calls, "called past the deadline");
    });
}

/// So does a cancellation by another thread while the plugin spins.
#[test]
fn a_cancellation_stops_a_spinning_plugin() {
    within(LIMIT, || {
        let store = Store::with(&["spin"]);
        let host = store.host_with(endless());
        for policy in [FailPolicy::Deny, FailPolicy::Skip] {
            let (chain, witness) = with_witness(&host, "spin", policy);
            let plugin = Arc::clone(host.load(&reference("spin")).unwrap().hook().plugin());
            let before = plugin.stats();
            let token = CancellationToken::new();
            let cx = HookContext::new().with_cancellation(token.clone());
            let over = AtomicBool::new(false);
            let result = thread::scope(|scope| {
                scope.spawn(|| {
                    eventually("a call", || {
                        let stats = plugin.stats();
                        stats.calls > before.calls && stats.instances_idle == 0
                    });
                    // By now it spins, and does so until it is told to stop.
                    thread::sleep(Duration::from_millis(100));
                    assert!(!over.load(Ordering::SeqCst), "over before the cancellation");
                    token.cancel();
                });
                let result = run_in(&chain, &cx, "/spin");
                over.store(true, Ordering::SeqCst);
                result
            });
            match policy {
                FailPolicy::Deny => {
                    let error = stopped_by(&result, "spin");
                    assert!(matches!(error, SandboxError::Cancelled), "{error:?}");
                }
                FailPolicy::Skip => assert!(
                    matches!(&result, Err(ChainError::Cancelled { hook }) if hook == "spin"),
                    "{result:?}"
                ),
            }
            assert_eq!(witness.calls(), 0, "the chain went on");
            // A cancelled context starts nothing; another one is served.
            assert!(matches!(
                run_in(&chain, &cx, "/"),
                Err(ChainError::Cancelled { .. })
            ));
            assert!(run(&chain, "/").unwrap().allow);
            assert_eq!(witness.calls(), 1);
        }
    });
}
