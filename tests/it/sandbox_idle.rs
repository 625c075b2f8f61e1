//! Instances that nobody calls are dropped, and made again when somebody does.

use std::thread;
use std::time::Duration;

use vortex_sandbox::{Isolation, PluginStats, Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{
    Random, assert_fails, call, cpu, eventually, fixture, header, hook, hook_with, isolated,
    reservations, threads_named,
};

const LIMIT: Duration = Duration::from_secs(120);

fn idle_after(millis: u64) -> RuntimeConfig {
    RuntimeConfig {
        idle_timeout: Some(Duration::from_millis(millis)),
        ..cpu(10_000)
    }
}

fn stats(hook: &WasmHook) -> PluginStats {
    hook.plugin().stats()
}

/// The first one included, which is made before anybody calls; each begins anew.
#[test]
fn an_instance_that_nobody_calls_is_dropped() {
    let hook = hook_with("counter", idle_after(20));
    for round in 1..=3 {
        eventually("it is dropped", || stats(&hook).instances_trimmed == round);
        assert_eq!(stats(&hook).instances_idle, 0);
        // The guest would say 2 if it remembered the round before.
        assert_eq!(header(&call(&hook, "/").unwrap(), "x-count"), "1");
        assert_eq!(stats(&hook).instances_created, round + 1);
    }
    assert_eq!(stats(&hook).instances_discarded, 0);
}

/// For as long as its plugin is loaded.
#[test]
fn an_instance_without_a_timeout_is_kept() {
    let config = RuntimeConfig {
        idle_timeout: None,
        ..cpu(10_000)
    };
    let (kept, dropped) = (
        hook_with("counter", config),
        hook_with("allow", idle_after(5)),
    );
    for round in 1..=5 {
        let expected = round.to_string();
        assert_eq!(header(&call(&kept, "/").unwrap(), "x-count"), expected);
        eventually("the other is dropped", || {
            stats(&dropped).instances_trimmed == round
        });
        assert!(call(&dropped, "/").unwrap().allow);
    }
    assert_eq!(stats(&kept).instances_created, 1);
}

/// The image that isolated calls begin with outlives the instance that left it.
#[test]
fn isolated_calls_begin_alike_on_the_next_instance() {
    let config = RuntimeConfig {
        isolation: Isolation::PerCall,
        ..idle_after(10)
    };
    let hook = hook_with("counter", config);
    for round in 1..=3 {
        for _ in 0..3 {
            assert_eq!(header(&call(&hook, "/").unwrap(), "x-count"), "1");
        }
        eventually("it is dropped", || stats(&hook).instances_trimmed >= round);
    }
}

/// Callers that pause for about as long as instances are kept, while plugins are
/// unloaded and loaded again under them.
#[test]
fn callers_and_the_trimmer_do_not_disturb_each_other() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(idle_after(1)).unwrap();
        let [checksum, traps] = ["answer-in-place", "trap-on-bang"].map(fixture);
        let load = |name: &str, wasm| WasmHook::new(runtime.load(name, wasm).unwrap()).unwrap();
        let shared = load("shared", &traps);
        thread::scope(|scope| {
            for caller in 0..4 {
                let (load, runtime, shared, checksum) = (&load, &runtime, &shared, &checksum);
                scope.spawn(move || {
                    let mut random = Random::new(caller + 1);
                    let name = format!("own-{caller}");
                    for _ in 0..30 {
                        let own = load(&name, checksum);
                        for _ in 0..10 {
                            assert!(call(&own, "/").is_ok());
                            if random.below(10) == 0 {
                                assert_fails!(call(shared, "/!"), SandboxError::Aborted);
                            } else {
                                assert!(call(shared, "/").unwrap().allow);
                            }
                            thread::sleep(Duration::from_micros(random.below(3_000)));
                        }
                        assert!(runtime.unload(&name));
                        assert_fails!(call(&own, "/"), SandboxError::Unloaded { .. });
                    }
                });
            }
        });
        let end = stats(&shared);
        assert!(end.instances_trimmed > 0, "{end:?}");
        eventually("the last is dropped", || stats(&shared).instances_idle == 0);
        let end = stats(&shared);
        assert_eq!(
            end.instances_created,
            end.instances_trimmed + end.instances_discarded,
            "{end:?}"
        );
        drop(shared);
        drop(runtime);
        assert_eq!(reservations(), 0);
        // One for the whole process, however many pools there were.
        assert_eq!(threads_named("vortex-trim"), 1);
    });
}

#[test]
fn a_timeout_of_nothing_is_refused() {
    let config = RuntimeConfig {
        idle_timeout: Some(Duration::ZERO),
        ..RuntimeConfig::default()
    };
    assert_fails!(
        Runtime::new(config),
        SandboxError::Config {
            setting: "idle_timeout",
            ..
        }
    );
    // One that no clock can count is as good as none.
    let config = RuntimeConfig {
        idle_timeout: Some(Duration::MAX),
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::new(config).unwrap();
    assert!(call(&hook(&runtime, "allow"), "/").unwrap().allow);
}
