//! Plugins that are replaced and removed while chains run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use vortex_plugins::{
    ChainOrder, FailPolicy, HookChain, HookType, PluginHost, RuntimeConfig, SandboxError,
};

use crate::facade::{
    Gate, LIMIT, REQUEST, Store, reference, run, run_as, spec, stopped_by, summary,
};
use crate::util::{cpu, eventually, fixture, isolated, wat, within};

const ALLOW: &str = "allow=true status=0";
const DENY: &str = "allow=false status=403";
const DENY_429: &str = "allow=false status=429";

/// The summary of one answer.
fn answer(chain: &HookChain) -> String {
    summary(&run(chain, "/").unwrap())
}

fn chain_of(host: &PluginHost, text: &str) -> Arc<HookChain> {
    host.chain(ChainOrder::default(), [spec(text)]).unwrap()
}

/// A store with one plugin in versions of these fixtures: 1.0.0, 2.0.0 …
fn versions(fixtures: &[&str]) -> Store {
    let store = Store::new();
    for (n, fixture) in fixtures.iter().enumerate() {
        store.put("gate", &format!("{}.0.0", n + 1), fixture);
    }
    store
}

#[test]
fn every_place_gets_the_new_version_and_keeps_its_own_settings() {
    let store = versions(&["counter", "deny-429", "unreachable"]);
    for (name, fixture) in [("denies", "deny"), ("bystander", "counter")] {
        store.put(name, "1.0.0", fixture);
    }
    let host = store.host();
    // Twice in this chain, before and behind one that denies.
    let sorted = host
        .chain(
            ChainOrder::Priority,
            [
                spec("denies"),
                spec("gate@^1").with_priority(9),
                spec("gate@^1").with_priority(-9),
                spec("bystander").with_priority(-10),
            ],
        )
        .unwrap();
    let lenient = spec("gate@1.0.0").on_error(FailPolicy::Skip);
    let lenient = host.chain(ChainOrder::default(), [lenient]).unwrap();
    let without = chain_of(&host, "denies");
    assert_eq!(answer(&sorted), format!("{DENY} x-count=1"));
    assert_eq!(answer(&lenient), format!("{ALLOW} x-count=2"));

    assert_eq!(host.replace(&reference("gate@2.0.0")).unwrap(), 3);
    // The denial of priority -9 comes before the one of priority 0.
    assert_eq!(answer(&sorted), format!("{DENY_429} x-count=2"));
    assert_eq!(answer(&lenient), DENY_429);
    assert_eq!(answer(&without), DENY);
    assert_eq!([&sorted, &lenient, &without].map(|c| c.len()), [4, 1, 1]);

    // Fail policies are kept as well, and so are they over several replacements.
    assert_eq!(host.replace(&reference("gate@latest")).unwrap(), 3);
    let result = run(&sorted, "/");
    let error = stopped_by(&result, "gate");
    assert!(matches!(error, SandboxError::Aborted), "{error:?}");
    assert_eq!(answer(&lenient), ALLOW);
    assert_eq!(host.replace(&reference("gate@^1")).unwrap(), 3);
    // It was unloaded in between and has forgotten what it had counted.
    assert_eq!(answer(&sorted), format!("{DENY} x-count=1"));
    assert_eq!(host.replace(&reference("nowhere")).unwrap(), 0);
}

/// A replacement in a chain by registration stays where the old one stood.
#[test]
fn the_place_in_a_chain_is_kept() {
    let store = versions(&["deny", "deny-429"]);
    store.put("behind", "1.0.0", "unreachable");
    let host = store.host();
    let specs = [spec("gate@^1"), spec("behind")];
    let chain = host.chain(ChainOrder::Registration, specs).unwrap();
    for _ in 0..2 {
        assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
        assert_eq!(answer(&chain), DENY_429);
        assert_eq!(host.replace(&reference("gate@^1")).unwrap(), 1);
        assert_eq!(answer(&chain), DENY);
    }
}

#[test]
fn new_hook_types_come_with_the_new_version() {
    let store = Store::new();
    let wasm = fixture("counter");
    store.put_wasm("gate", "1.0.0", &REQUEST, &wasm);
    let later = [HookType::PostResponse, HookType::OnClose];
    store.put_wasm("gate", "2.0.0", &later, &wasm);
    let host = store.host();
    let chain = chain_of(&host, "gate@^1");
    let types = || HookType::ALL.map(|t| chain.has_hooks(t));
    assert_eq!(types(), [true, false, false, false]);
    assert_eq!(answer(&chain), format!("{ALLOW} x-count=1"));
    assert_eq!(host.replace(&reference("gate")).unwrap(), 1);
    assert_eq!(types(), [false, true, false, true]);
    assert_eq!(answer(&chain), ALLOW);
    // It is the same module, so it is not compiled again and counts on.
    let none = http::HeaderMap::new();
    let output = run_as(&chain, HookType::PostResponse, "/", &none).unwrap();
    assert_eq!(summary(&output), format!("{ALLOW} x-count=2"));
}

/// A run that has begun finishes with the old version, which is freed then.
#[test]
fn a_run_in_flight_finishes_with_the_old_version() {
    within(LIMIT, || {
        let store = versions(&["counter", "deny-429"]);
        let host = store.host();
        let chain = host.chain(ChainOrder::default(), []).unwrap();
        let mut gate = Gate::in_front_of(&chain);
        host.add(&chain, spec("gate@^1")).unwrap();
        let old = Arc::downgrade(host.load(&reference("gate@^1")).unwrap().hook().plugin());
        let fresh = |chain: &Arc<HookChain>, gate: &mut Gate| gate.while_running(chain, || {});

        let in_flight = gate.while_running(&chain, || {
            assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
            assert!(old.upgrade().is_some(), "freed under a run");
        });
        let in_flight = summary(&in_flight.unwrap());
        assert_eq!(in_flight, format!("{ALLOW} x-count=1"));
        assert!(old.upgrade().is_none(), "the old version is not freed");
        let output = fresh(&chain, &mut gate).unwrap();
        assert_eq!(summary(&output), DENY_429);
    });
}

/// Four threads run two chains without a pause through many replacements. Each
/// run ends with the old or the new answer, and none that begins after
/// a replacement has the old one.
#[test]
fn no_request_notices_a_replacement() {
    isolated(LIMIT, || {
        const ROUNDS: u64 = 60;
        let store = versions(&["allow", "deny-429"]);
        store.put("counter", "1.0.0", "counter");
        let host = store.host();
        let chains = [ChainOrder::Registration, ChainOrder::Priority].map(|order| {
            let specs = [spec("counter"), spec("gate@^1"), spec("counter")];
            host.chain(order, specs).unwrap()
        });
        let done = AtomicBool::new(false);
        // The version that is in force, counted up before and after each replacement:
        // even while one stands, odd while it changes.
        let epoch = AtomicU64::new(0);
        let counts = [(); 4].map(|()| AtomicU64::new(0));
        let answers = [AtomicU64::new(0), AtomicU64::new(0)];
        thread::scope(|scope| {
            let _done = OnDrop(&done);
            for (n, count) in counts.iter().enumerate() {
                let (chain, done, epoch, answers) = (&chains[n % 2], &done, &epoch, &answers);
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        let before = epoch.load(Ordering::SeqCst);
                        let output = run(chain, "/").expect("no request fails");
                        let after = epoch.load(Ordering::SeqCst);
                        let new = match (output.allow, output.status.map(|s| s.as_u16())) {
                            (true, None) => 0,
                            (false, Some(429)) => 1,
                            _ => panic!("neither version's answer: {output:?}"),
                        };
                        if before == after && before % 2 == 0 {
                            assert_eq!(new, before / 2 % 2, "the answer of another version");
                        }
                        answers[new as usize].fetch_add(1, Ordering::SeqCst);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            // Every thread has a run between any two replacements, and some during each.
            let everybody_runs = || {
                let before = counts.each_ref().map(|c| c.load(Ordering::SeqCst));
                eventually("runs", || {
                    let now = counts.each_ref().map(|c| c.load(Ordering::SeqCst));
                    now.iter()
                        .zip(before)
                        .all(|(now, before)| *now > before + 1)
                });
            };
            everybody_runs();
            for round in 1..=ROUNDS {
                let version = ["gate@1.0.0", "gate@2.0.0"][(round % 2) as usize];
                epoch.fetch_add(1, Ordering::SeqCst);
                assert_eq!(host.replace(&reference(version)).unwrap(), 2);
                epoch.fetch_add(1, Ordering::SeqCst);
                everybody_runs();
            }
        });
        for (version, answers) in answers.iter().enumerate() {
            assert!(
                answers.load(Ordering::SeqCst) >= ROUNDS,
                "version {version}"
            );
        }
    });
}

/// Stops the threads of a scope, which waits for them, even when a test fails.
struct OnDrop<'d>(&'d AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whatever is wrong with the new version, the old one goes on everywhere.
#[test]
fn a_failed_replacement_changes_nothing() {
    let store = versions(&["counter", "no-handle", "imports-wasi", "allow", "deny"]);
    store.flip("gate", "4.0.0");
    store.put_wasm("gate", "6.0.0", &[], &fixture("allow"));
    let host = store.host();
    let strict = chain_of(&host, "gate@^1");
    let roomy = RuntimeConfig {
        output_bytes: 10_000,
        ..cpu(20_000)
    };
    let lenient = spec("gate@^1").with_config(roomy).skip_if_missing();
    let lenient = host.chain(ChainOrder::Priority, [lenient]).unwrap();
    let mut count = 0;
    for version in ["2.0.0", "3.0.0", "4.0.0", "6.0.0", "7.0.0", "^0.1"] {
        let new = reference(&format!("gate@{version}"));
        let error = host.replace(&new).unwrap_err();
        assert_eq!(error.is_missing(), ["7.0.0", "^0.1"].contains(&version));
        count += 1;
        for chain in [&strict, &lenient] {
            assert_eq!(chain.len(), 1);
            assert_eq!(
                answer(chain),
                format!("{ALLOW} x-count={count}"),
                "{version}"
            );
        }
    }
    assert_eq!(host.replace(&reference("gate@5.0.0")).unwrap(), 2);
    assert_eq!([&strict, &lenient].map(|c| answer(c)), [DENY, DENY]);
}

/// One place cannot take the new version: it begins with more memory than the
/// limits there allow. Then no place gets it.
#[test]
fn all_places_are_replaced_or_none() {
    let store = versions(&["allow"]);
    let large = wat(r#"(module (memory (export "memory") 100)
        (data (i32.const 16) "{\"allow\":false}")
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "handle") (param i32 i32) (result i64) (i64.const 0x10_0000000f)))"#);
    store.put_wasm("gate", "2.0.0", &REQUEST, &large);
    let host = store.host();
    let small = RuntimeConfig {
        memory_bytes: 4 << 20,
        ..cpu(10_000)
    };
    let roomy = chain_of(&host, "gate@^1");
    let spec = spec("gate@^1").with_config(small);
    let tight = host.chain(ChainOrder::default(), [spec]).unwrap();
    assert!(host.load(&reference("gate@^2")).is_ok(), "the premise");
    assert!(host.replace(&reference("gate@^2")).is_err());
    assert_eq!([&roomy, &tight].map(|c| answer(c)), [ALLOW, ALLOW]);
    drop(tight);
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
    assert_eq!(answer(&roomy), "allow=false status=0");
}

#[test]
fn limits_and_optionality_outlive_a_replacement() {
    let store = versions(&["allow", "spin"]);
    let host = store.host();
    let tight = spec("gate@^1").with_config(cpu(20));
    let tight = host.chain(ChainOrder::default(), [tight]).unwrap();
    let tighter = spec("gate@^1").with_config(cpu(30));
    let tighter = host.chain(ChainOrder::default(), [tighter]).unwrap();
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 2);
    for (chain, millis) in [(&tight, 20), (&tighter, 30)] {
        assert_eq!(answer(chain), ALLOW);
        let result = run(chain, "/spin");
        let error = stopped_by(&result, "gate");
        assert!(
            matches!(error, SandboxError::CpuBudget { limit, .. } if limit.as_millis() == millis),
            "{error:?}"
        );
    }
}

/// A chain that is gone is no place any more, and holds no plugin.
#[test]
fn dropped_chains_are_forgotten() {
    let store = versions(&["allow", "deny"]);
    let host = store.host();
    let (kept, dropped) = (chain_of(&host, "gate@^1"), chain_of(&host, "gate@^1"));
    assert_eq!(host.replace(&reference("gate@^1")).unwrap(), 2);
    let memory = Arc::downgrade(&dropped);
    drop(dropped);
    assert!(memory.upgrade().is_none(), "the host keeps a chain");
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
    assert_eq!(Weak::weak_count(&memory), 0, "the host remembers a chain");
    assert_eq!(answer(&kept), DENY);
    let last = Arc::downgrade(&kept);
    drop(kept);
    assert_eq!(host.replace(&reference("gate@^1")).unwrap(), 0);
    assert_eq!(Weak::weak_count(&last), 0, "the host remembers a chain");
    assert!(host.remove(&"gate".parse().unwrap()), "it is still loaded");
    assert!(!host.remove(&"gate".parse().unwrap()));
}

/// What its owner has taken out of a chain by hand is not put back.
#[test]
fn what_was_unregistered_by_hand_stays_out() {
    let store = versions(&["allow", "deny"]);
    let host = store.host();
    let chain = chain_of(&host, "gate@^1");
    let id = host.add(&chain, spec("gate@^1")).unwrap().unwrap();
    assert!(chain.unregister(id));
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
    assert_eq!(chain.len(), 1);
    assert_eq!(answer(&chain), DENY);
}

#[test]
fn removed_plugins_are_gone_everywhere() {
    let store = versions(&["counter", "deny"]);
    store.put("other", "1.0.0", "counter");
    let host = store.host();
    let name = "gate".parse().unwrap();
    assert!(!host.remove(&name), "nothing is loaded yet");
    let specs = || [spec("gate@^1"), spec("other"), spec("gate@^1")];
    let first = host.chain(ChainOrder::Registration, specs()).unwrap();
    let second = host.chain(ChainOrder::Priority, specs()).unwrap();
    let plugin = Arc::downgrade(host.load(&reference("gate@^1")).unwrap().hook().plugin());
    assert_eq!(answer(&first), format!("{ALLOW} x-count=2"));

    assert_eq!([&first, &second].map(Arc::weak_count), [3, 3]);
    assert!(host.remove(&name));
    assert_eq!([&first, &second].map(Arc::weak_count), [1, 1], "remembered");
    assert!(plugin.upgrade().is_none(), "not freed");
    assert!(host.runtime().get("gate").is_none());
    for (chain, n) in [(&first, 2), (&second, 3)] {
        assert_eq!(chain.len(), 1);
        assert_eq!(answer(chain), format!("{ALLOW} x-count={n}"));
    }
    assert!(!host.remove(&name), "removed twice");
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 0);
    assert_eq!([&first, &second].map(|c| c.len()), [1, 1]);

    // It is installed still, and may come back: with a fresh start.
    assert!(host.add(&first, spec("gate@^1")).unwrap().is_some());
    assert_eq!(answer(&first), format!("{ALLOW} x-count=1"));
    assert_eq!(host.replace(&reference("gate@^2")).unwrap(), 1);
    assert_eq!(answer(&first), format!("{DENY} x-count=5"));
}

/// A run that has begun and not reached the plugin fails there, or skips it.
#[test]
fn a_run_in_flight_fails_where_a_plugin_was_removed() {
    within(LIMIT, || {
        for policy in [FailPolicy::Deny, FailPolicy::Skip] {
            let store = Store::with(&["deny"]);
            let host = store.host();
            let chain = host.chain(ChainOrder::default(), []).unwrap();
            let mut gate = Gate::in_front_of(&chain);
            host.add(&chain, spec("deny").on_error(policy)).unwrap();
            let result = gate.while_running(&chain, || {
                assert!(host.remove(&"deny".parse().unwrap()));
            });
            match policy {
                FailPolicy::Deny => {
                    let error = stopped_by(&result, "deny");
                    assert!(
                        matches!(error, SandboxError::Unloaded { name } if name == "deny"),
                        "{error:?}"
                    );
                }
                FailPolicy::Skip => assert!(result.unwrap().allow),
            }
            let after = gate.while_running(&chain, || {});
            assert_eq!(summary(&after.unwrap()), ALLOW);
        }
    });
}

/// A plugin that is added while another thread removes it is either in the
/// chain and works, or is not there: no chain is left with an unloaded one.
#[test]
fn adding_and_removing_at_once_leaves_no_dead_plugin() {
    isolated(LIMIT, || {
        let store = Store::with(&["allow"]);
        let host = store.host();
        let name = "allow".parse().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    host.remove(&name);
                    thread::yield_now();
                }
            });
            let _done = OnDrop(&done);
            for round in 0..3_000 {
                let chain = chain_of(&host, "allow");
                // A removal fails the run that it meets, and is over for the next.
                let results = [(); 4].map(|()| run(&chain, "/"));
                let failed = results.iter().filter(|result| result.is_err()).count();
                assert!(failed <= 1, "round {round}: {results:?}");
            }
        });
    });
}

/// Chains work on when the host that made them is gone.
#[test]
fn chains_outlive_their_host() {
    let store = Store::with(&["counter", "spin"]);
    let host = store.host_with(cpu(50));
    let specs = [spec("counter"), spec("spin")];
    let chain = host.chain(ChainOrder::default(), specs).unwrap();
    assert_eq!(answer(&chain), format!("{ALLOW} x-count=1"));
    drop(host);
    drop(store);
    assert_eq!(answer(&chain), format!("{ALLOW} x-count=2"));
    for _ in 0..2 {
        // Limits are still watched over, and a stopped instance is still replaced.
        let result = within(LIMIT, {
            let chain = Arc::clone(&chain);
            move || run(&chain, "/spin")
        });
        let error = stopped_by(&result, "spin");
        assert!(matches!(error, SandboxError::CpuBudget { .. }), "{error:?}");
    }
    assert_eq!(answer(&chain), format!("{ALLOW} x-count=5"));
}
