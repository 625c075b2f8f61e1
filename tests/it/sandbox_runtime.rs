//! Plugins by name, their counters, and calls of any export.

use std::sync::Arc;
use std::time::Duration;

use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, Value, WasmHook};

use crate::util::{assert_fails, call, cpu, fixture, header, hook, runtime, wat};

/// A load replaces what had the name; whoever holds the old one goes on with it.
#[test]
fn a_load_replaces() {
    let runtime = runtime();
    let old = WasmHook::new(runtime.load("plugin", &fixture("allow")).unwrap()).unwrap();
    let new = WasmHook::new(runtime.load("plugin", &fixture("deny")).unwrap()).unwrap();
    assert!(call(&old, "/").unwrap().allow);
    assert!(!call(&new, "/").unwrap().allow);
    assert!(Arc::ptr_eq(&runtime.get("plugin").unwrap(), new.plugin()));
    // It is the new one that is unloaded.
    assert!(runtime.unload("plugin"));
    assert_fails!(call(&new, "/"), SandboxError::Unloaded { name } if name == "plugin");
    assert!(call(&old, "/").unwrap().allow);
}

/// Names share the code of a module, and nothing that its instances remember.
#[test]
fn a_module_under_two_names_is_compiled_once() {
    let runtime = runtime();
    let counter = fixture("counter");
    let load = |name: &str| WasmHook::new(runtime.load(name, &counter).unwrap()).unwrap();
    let count = |hook: &WasmHook| header(&call(hook, "/").unwrap(), "x-count").to_owned();
    let [first, second] = ["first", "second"].map(load);
    assert_eq!(runtime.compilations(), 1);
    assert_eq!([&first, &first, &second].map(count), ["1", "2", "1"]);
    // It lives as long as the last of them.
    assert!(runtime.unload("first"));
    assert_eq!(count(&second), "2");
    let third = load("third");
    assert_eq!((count(&third).as_str(), runtime.compilations()), ("1", 1));
    // Other limits may make other code; so does another module.
    let other = runtime.load_with("other", &counter, &cpu(777)).unwrap();
    assert_eq!(runtime.compilations(), 2);
    assert_eq!(other.max_cpu(), Duration::from_millis(777));
    hook(&runtime, "allow");
    assert_eq!(runtime.compilations(), 3);
    for name in ["second", "third"] {
        assert!(runtime.unload(name));
    }
    load("first");
    assert_eq!(runtime.compilations(), 4);
}

#[test]
fn a_failing_load_keeps_what_was_there() {
    let runtime = runtime();
    let hook = hook(&runtime, "allow");
    for bad in ["imports-wasi", "memory64", "table-huge", "reserved-export"] {
        assert!(runtime.load("allow", &fixture(bad)).is_err());
        assert!(Arc::ptr_eq(&runtime.get("allow").unwrap(), hook.plugin()));
        assert!(call(&hook, "/").unwrap().allow);
    }
    let config = RuntimeConfig {
        stack_bytes: 1,
        ..cpu(100)
    };
    assert_fails!(
        runtime.load_with("allow", &fixture("deny"), &config),
        SandboxError::Config {
            setting: "stack_bytes",
            ..
        }
    );
    assert!(Arc::ptr_eq(&runtime.get("allow").unwrap(), hook.plugin()));
}

#[test]
fn unloading_is_idempotent() {
    let runtime = runtime();
    assert!(runtime.get("allow").is_none() && !runtime.unload("allow"));
    let first = hook(&runtime, "allow");
    assert!(runtime.unload("allow"));
    assert!(!runtime.unload("allow") && runtime.get("allow").is_none());
    // The name is free again.
    let second = hook(&runtime, "allow");
    assert_fails!(call(&first, "/"), SandboxError::Unloaded { .. });
    assert!(call(&second, "/").unwrap().allow);
    assert_fails!(
        WasmHook::new(first.plugin().clone()),
        SandboxError::Unloaded { .. }
    );
}

#[test]
fn nothing_is_loaded_after_a_close() {
    let runtime = runtime();
    let hook = hook(&runtime, "allow");
    runtime.close();
    runtime.close();
    assert_fails!(
        runtime.load("late", &fixture("allow")),
        SandboxError::Unloaded { name } if name == "late"
    );
    assert!(runtime.get("allow").is_none() && !runtime.unload("allow"));
    assert_fails!(call(&hook, "/"), SandboxError::Unloaded { .. });
}

/// Each plugin has the limits it was loaded with.
#[test]
fn limits_are_those_of_the_plugin() {
    let runtime = Runtime::new(cpu(20)).unwrap();
    let small = RuntimeConfig {
        output_bytes: 10,
        ..cpu(10)
    };
    let plugin = runtime
        .load_with("small", &fixture("allow"), &small)
        .unwrap();
    assert_eq!(plugin.config(), &small);
    assert_eq!(plugin.max_cpu(), Duration::from_millis(10));
    assert_eq!(runtime.config(), &cpu(20));
    let small = WasmHook::new(plugin).unwrap();
    assert_fails!(
        call(&small, "/"),
        SandboxError::OutputTooLarge { len: 14, max: 10 }
    );
    assert!(call(&hook(&runtime, "allow"), "/").unwrap().allow);
}

#[test]
fn names_and_digests() {
    let runtime = runtime();
    for name in ["allow", "", "päth/../ \0 \u{1f980}"] {
        let plugin = runtime.load(name, &fixture("allow")).unwrap();
        assert_eq!(plugin.name(), name);
        assert!(runtime.get(name).is_some());
    }
    // SHA-256 of the empty module.
    let empty = runtime.load("empty", b"\0asm\x01\0\0\0").unwrap();
    let hex: String = empty
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476"
    );
}

#[test]
fn stats_count() {
    let runtime = runtime();
    let hook = hook(&runtime, "trap-on-bang");
    let stats = || {
        let stats = hook.plugin().stats();
        let made = [
            stats.instances_created,
            stats.instances_discarded,
            stats.instances_idle as u64,
        ];
        (stats.calls, stats.failures, made)
    };
    // Made by `WasmHook::new`, so that its errors come early.
    assert_eq!(stats(), (0, 0, [1, 0, 1]));
    call(&hook, "/").unwrap();
    assert_eq!(stats(), (1, 0, [1, 0, 1]));
    call(&hook, "/!").unwrap_err();
    assert_eq!(stats(), (2, 1, [1, 1, 0]));
    call(&hook, "/").unwrap();
    assert_eq!(stats(), (3, 1, [2, 1, 1]));
    // An instance of one's own is none of the hook's, and no hook call.
    let instance = hook.plugin().instance().unwrap();
    assert_eq!(stats(), (3, 1, [3, 1, 1]));
    drop(instance);
    assert_eq!(stats(), (3, 1, [3, 2, 1]));
    runtime.unload("trap-on-bang");
    call(&hook, "/").unwrap_err();
    let (calls, failures, [_, _, idle]) = stats();
    assert_eq!((calls, failures, idle), (4, 2, 0));
}

#[test]
fn exports_are_called_by_type() {
    let wasm = wat(r#"(module (memory 1)
        (global (export "global") i32 (i32.const 1))
        (func (export "none"))
        (func (export "mix") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
          (local.get 3) (local.get 2) (local.get 1) (local.get 0))
        (func (export "five") (result i32 i32 i32 i32 i32)
          (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5))
        (func (export "vector") (param v128)))"#);
    let runtime = runtime();
    let plugin = runtime.load("types", &wasm).unwrap();
    let mut instance = plugin.instance().unwrap();
    instance.call::<(), ()>("none", ()).unwrap();
    let mixed: (f64, f32, i64, i32) = instance.call("mix", (-1, i64::MIN, 1.5_f32, -2.5)).unwrap();
    assert_eq!(mixed, (-2.5, 1.5, i64::MIN, -1));
    assert_fails!(
        instance.call::<(), i32>("none", ()),
        SandboxError::MistypedExport { export, found, expected }
            if export == "none" && found == "a function () -> ()" && expected == "a function () -> (i32)"
    );
    assert_fails!(
        instance.call::<(i32, i32), ()>("mix", (1, 2)),
        SandboxError::MistypedExport { expected, .. } if expected == "a function (i32, i32) -> ()"
    );
    assert_fails!(
        instance.call::<(), ()>("five", ()),
        SandboxError::MistypedExport { .. }
    );
    assert_fails!(
        instance.call::<(), ()>("vector", ()),
        SandboxError::MistypedExport { found, .. } if found == "a function (v128) -> ()"
    );
    assert_fails!(
        instance.call::<(), ()>("global", ()),
        SandboxError::MistypedExport { found, .. } if found == "a global"
    );
    assert_fails!(
        instance.call::<i32, ()>("nothing", 1),
        SandboxError::MissingExport { export, expected }
            if export == "nothing" && expected == "a function (i32) -> ()"
    );
    // Said before anything ran, so that the instance is as good as before.
    instance.call::<(), ()>("none", ()).unwrap();
    assert_ne!(Value::I32(1), Value::I64(1));
}

/// A memory that is not exported cannot be read from outside.
#[test]
fn memory_is_accessed_by_its_export() {
    let runtime = runtime();
    let load = |text| runtime.load("memory", &wat(text)).unwrap();
    let hidden = load(r#"(module (memory 1) (data (i32.const 0) "a"))"#);
    let mut instance = hidden.instance().unwrap();
    assert_eq!(
        (instance.read(0, 1), instance.write(0, b"b")),
        (None, false)
    );
    let shown = load(r#"(module (memory (export "memory") 1) (data (i32.const 7) "abc"))"#);
    let mut instance = shown.instance().unwrap();
    assert_eq!(instance.read(7, 3).unwrap(), b"abc");
    assert!(instance.write(8, b"xyz"));
    assert_eq!(instance.read(7, 4).unwrap(), b"axyz");
    assert_eq!(instance.read(65_536, 0), Some(Vec::new()));
    assert_eq!(instance.read(65_537, 0), None);
    assert_eq!(instance.read(u32::MAX, u32::MAX), None);
    assert!(!instance.write(u32::MAX, b"ab"));
}

/// Every setting outside of its range is named, with the value and the rule.
#[test]
fn settings_are_checked() {
    let good = cpu(100);
    let zero = Duration::ZERO;
    let short = Duration::from_micros(999);
    let cases = [
        (
            "memory_bytes",
            "65535",
            RuntimeConfig {
                memory_bytes: 65_535,
                ..good.clone()
            },
        ),
        (
            "memory_bytes",
            "1073741825",
            RuntimeConfig {
                memory_bytes: (1 << 30) + 1,
                ..good.clone()
            },
        ),
        (
            "stack_bytes",
            "65535",
            RuntimeConfig {
                stack_bytes: 65_535,
                ..good.clone()
            },
        ),
        (
            "stack_bytes",
            "8388609",
            RuntimeConfig {
                stack_bytes: (8 << 20) + 1,
                ..good.clone()
            },
        ),
        (
            "output_bytes",
            "0",
            RuntimeConfig {
                output_bytes: 0,
                ..good.clone()
            },
        ),
        (
            "output_bytes",
            "1073741825",
            RuntimeConfig {
                output_bytes: (1 << 30) + 1,
                ..good.clone()
            },
        ),
        (
            "max_instances",
            "0",
            RuntimeConfig {
                max_instances: 0,
                ..good.clone()
            },
        ),
        (
            "max_instances",
            "10001",
            RuntimeConfig {
                max_instances: 10_001,
                ..good.clone()
            },
        ),
        (
            "cpu_time",
            "0ns",
            RuntimeConfig {
                cpu_time: zero,
                ..good.clone()
            },
        ),
        (
            "cpu_time",
            "999µs",
            RuntimeConfig {
                cpu_time: short,
                ..good.clone()
            },
        ),
        (
            "wall_time",
            "999µs",
            RuntimeConfig {
                wall_time: Some(short),
                ..good.clone()
            },
        ),
    ];
    for (name, shown, config) in cases {
        for result in [
            Runtime::new(config.clone()).map(|_| ()),
            runtime().load_with("x", b"", &config).map(|_| ()),
        ] {
            assert_fails!(
                result,
                SandboxError::Config { setting, value, rule }
                    if *setting == name && value == shown && !rule.is_empty()
            );
        }
    }
    // The ends of the ranges.
    for config in [
        RuntimeConfig {
            memory_bytes: 65_536,
            output_bytes: 1,
            max_instances: 1,
            stack_bytes: 65_536,
            ..cpu(1)
        },
        RuntimeConfig {
            memory_bytes: RuntimeConfig::MAX_MEMORY,
            stack_bytes: 8 << 20,
            max_instances: 10_000,
            wall_time: Some(Duration::MAX),
            cpu_time: Duration::MAX,
            instance_wait: Duration::MAX,
            ..good
        },
    ] {
        let runtime = Runtime::new(config).unwrap();
        let plugin = runtime.load("ends", &wat(r#"(module (memory 1) (func (export "run")))"#));
        plugin
            .unwrap()
            .instance()
            .unwrap()
            .call::<(), ()>("run", ())
            .unwrap();
    }
}
