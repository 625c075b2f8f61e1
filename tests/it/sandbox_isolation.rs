//! Breaks 6 and 9: what one instance has seen, no other sees; and an instance
//! may be made, called and dropped on three threads.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vortex_hook_core::{Hook, HookContext, HookInput, HookType};
use vortex_sandbox::{Plugin, Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, cpu, fixture, header, hook, hook_with, isolated, runtime, wat,
};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

/// Stains its memory, a grown page and a global when the path holds a `!`, and
/// then fails as the letter behind it says; otherwise looks for stains, and
/// allows only if it finds none.
const STAINING: &str = r#"(module
    (memory (export "memory") 4)
    (data (i32.const 16) "{\"allow\":true}")
    (data (i32.const 48) "{\"allow\":false}")
    (global $stain (mut i32) (i32.const 0))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    ;; The byte behind the first '!', or 0.
    (func $order (param $at i32) (param $len i32) (result i32)
      (local $end i32)
      (local.set $end (i32.add (local.get $at) (local.get $len)))
      (loop $next
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 33))
          (then (return (i32.load8_u offset=1 (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
      (i32.const 0))
    (func $stained (result i32)
      (local $at i32) (local $end i32)
      (if (global.get $stain) (then (return (i32.const 1))))
      (local.set $at (i32.const 131072))
      (local.set $end (i32.shl (memory.size) (i32.const 16)))
      (loop $next
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
      (i32.const 0))
    (func (export "handle") (param $ptr i32) (param $len i32) (result i64)
      (local $order i32)
      (local.set $order (call $order (local.get $ptr) (local.get $len)))
      (drop (memory.grow (i32.const 2)))
      (if (local.get $order)
        (then
          (global.set $stain (i32.const 1))
          (memory.fill (i32.const 131072) (i32.const 0xaa)
            (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 131072)))
          (if (i32.eq (local.get $order) (i32.const 0x61)) (then (unreachable)))
          (if (i32.eq (local.get $order) (i32.const 0x73)) (then (loop (br 0))))
          (if (i32.eq (local.get $order) (i32.const 0x65)) (then (return (i64.const 0))))))
      (select (i64.const 0x30_0000000f) (i64.const 0x10_0000000e) (call $stained))))"#;

fn staining(config: RuntimeConfig) -> (Runtime, WasmHook) {
    let runtime = Runtime::new(config).unwrap();
    let hook = WasmHook::new(runtime.load("staining", &wat(STAINING)).unwrap()).unwrap();
    (runtime, hook)
}

/// However an instance ends, the next one begins with the module's own memory.
#[test]
fn a_fresh_instance_is_clean() {
    isolated(LIMIT, || {
        let config = RuntimeConfig {
            max_instances: 1,
            ..cpu(20)
        };
        let (runtime, hook) = staining(config);
        for round in 0..20 {
            match round % 4 {
                0 => assert_fails!(call(&hook, "/!a"), SandboxError::Aborted),
                1 => assert_fails!(call(&hook, "/!s"), SandboxError::CpuBudget { .. }),
                2 => assert_fails!(call(&hook, "/!e"), SandboxError::BadPointer { .. }),
                _ => {
                    // Under another plugin and engine too, which get the same addresses.
                    runtime.unload("staining");
                    let plugin = runtime.load("staining", &wat(STAINING)).unwrap();
                    let hook = WasmHook::new(plugin).unwrap();
                    assert!(call(&hook, "/").unwrap().allow, "stained in round {round}");
                    return;
                }
            }
            assert!(call(&hook, "/").unwrap().allow, "stained in round {round}");
        }
    });
}

/// The guest finds stains where they are: in the same instance.
#[test]
fn an_instance_keeps_its_state() {
    let (_runtime, hook) = staining(cpu(1_000));
    assert!(call(&hook, "/").unwrap().allow);
    assert!(!call(&hook, "/!x").unwrap().allow);
    assert!(!call(&hook, "/").unwrap().allow);
    assert_eq!(hook.plugin().stats().instances_created, 1);
}

/// An instance that grew past the high-water mark is replaced, however it ended.
#[test]
fn an_instance_that_grew_is_not_kept() {
    let config = RuntimeConfig {
        keep_bytes: 0x7_ffff,
        ..cpu(1_000)
    };
    let (_runtime, hook) = staining(config);
    // Six pages are kept, eight are not.
    assert!(!call(&hook, "/!x").unwrap().allow);
    assert!(!call(&hook, "/").unwrap().allow);
    assert!(call(&hook, "/").unwrap().allow);
    let stats = hook.plugin().stats();
    assert_eq!((stats.instances_created, stats.instances_discarded), (2, 1));
}

/// A guest that never frees: four calls of 60 KB fit under the mark, the fifth
/// is on a fresh instance.
#[test]
fn memory_does_not_pile_up() {
    let config = RuntimeConfig {
        keep_bytes: 4 << 16,
        max_instances: 1,
        ..cpu(1_000)
    };
    let hook = hook_with("alloc-bump", config);
    let path = "p".repeat(60_000);
    for round in 1..=12 {
        assert!(call(&hook, &path).unwrap().allow);
        let stats = hook.plugin().stats();
        assert_eq!(stats.instances_discarded, round / 4, "after call {round}");
        assert_eq!(
            stats.instances_created,
            (round - 1) / 4 + 1,
            "after call {round}"
        );
    }
}

/// A guest of Rust counts up in one instance, until a large input makes that grow.
#[test]
fn state_lives_on_until_the_instance_goes() {
    let hook = hook_with(
        "counter",
        RuntimeConfig {
            // 17 pages to begin with, and one more for the first inputs.
            keep_bytes: 18 << 16,
            ..cpu(1_000)
        },
    );
    let count = |body: &[u8]| {
        let input = HookInput::new(HookType::PreRequest).with_body(body);
        let output = futures_executor::block_on(hook.call(&HookContext::new(), &input)).unwrap();
        header(&output, "x-count")
    };
    let large = vec![7; HookInput::MAX_BODY];
    assert_eq!(
        [
            count(b""),
            count(b""),
            count(&large),
            count(b""),
            count(b"")
        ],
        ["1", "2", "3", "1", "2"]
    );
}

/// A mark below what the module begins with keeps what has not grown.
#[test]
fn what_has_not_grown_is_kept() {
    let hook = hook_with(
        "allow",
        RuntimeConfig {
            keep_bytes: 0,
            ..cpu(1_000)
        },
    );
    for _ in 0..3 {
        assert!(call(&hook, "/").unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
    assert!(call(&hook, &"p".repeat(70_000)).unwrap().allow);
    assert_eq!(hook.plugin().stats().instances_discarded, 1);
}

/// One instance, called in turn by threads that begin and end.
#[test]
fn an_instance_wanders_from_thread_to_thread() {
    let runtime = Runtime::new(RuntimeConfig {
        max_instances: 1,
        ..cpu(2_000)
    })
    .unwrap();
    let counter = runtime.load("counter", &fixture("counter")).unwrap();
    // Made on a thread that is gone when the first call comes.
    let hook = thread::spawn(move || WasmHook::new(counter).unwrap())
        .join()
        .unwrap();
    for round in 1..=50 {
        let hook = hook.clone();
        let output = thread::spawn(move || call(&hook, "/").unwrap())
            .join()
            .unwrap();
        assert_eq!(header(&output, "x-count"), round.to_string());
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
    // Dropped on yet another thread, while this one never called it.
    thread::spawn(move || runtime.unload("counter"))
        .join()
        .unwrap();
    assert_fails!(call(&hook, "/"), SandboxError::Unloaded { .. });
}

/// Traps and budgets are those of the thread that calls, not of the one that made
/// the instance, which runs guests of its own meanwhile.
#[test]
fn traps_and_budgets_wander_along() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(RuntimeConfig {
            max_instances: 1,
            ..cpu(20)
        })
        .unwrap();
        let (traps, spins) = (
            hook(&runtime, "trap-on-bang"),
            hook(&runtime, "spin-on-bang"),
        );
        let busy = hook_with("allow", cpu(2_000));
        for _ in 0..10 {
            for hook in [&traps, &spins] {
                assert!(call(hook, "/").unwrap().allow);
            }
            thread::scope(|scope| {
                scope.spawn(|| assert_fails!(call(&traps, "/!"), SandboxError::Aborted));
                scope.spawn(|| assert_fails!(call(&spins, "/!"), SandboxError::CpuBudget { .. }));
                for _ in 0..100 {
                    assert!(call(&busy, "/").unwrap().allow);
                }
            });
        }
    });
}

/// A leased instance may itself be sent between two calls.
#[test]
fn a_leased_instance_may_be_sent() {
    let runtime = runtime();
    let wasm = wat(
        r#"(module (memory (export "memory") 1) (func (export "next") (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (i32.load (i32.const 0))))"#,
    );
    let plugin: &Plugin = &runtime.load("next", &wasm).unwrap();
    let (give, take) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut instance = plugin.instance().unwrap();
            assert_eq!(instance.call::<(), i32>("next", ()).unwrap(), 1);
            give.send(instance).unwrap();
        });
        let mut instance = take.recv().unwrap();
        assert_eq!(instance.call::<(), i32>("next", ()).unwrap(), 2);
        assert_eq!(instance.read(0, 4).unwrap(), [2, 0, 0, 0]);
    });
}
