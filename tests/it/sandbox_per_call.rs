//! `Isolation::PerCall`: a call finds nothing of those before it.

use std::fs::File;
use std::thread;
use std::time::Duration;

use http::header::HeaderName;
use vortex_hook_core::{Exchange, Hook, HookContext, HookError, HookInput, HookOutput, HookType};
use vortex_sandbox::{Isolation, Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{self, assert_fails, call, cpu, fixture, wat};

fn per_call() -> RuntimeConfig {
    RuntimeConfig {
        isolation: Isolation::PerCall,
        ..cpu(2_000)
    }
}

fn isolated(wasm: &[u8]) -> WasmHook {
    let runtime = Runtime::new(per_call()).unwrap();
    WasmHook::new(runtime.load("isolated", wasm).unwrap()).unwrap()
}

/// A guest that tries to remember: in memory that was zero, in its data, in
/// globals exported and not, in grown memory. It allows only when nothing is
/// left of an earlier call. The start function has left a trace that must stay.
const REMEMBERS: &str = r#"(module
  (memory (export "memory") 3 12)
  (data (i32.const 16) "{\"allow\":true}")
  (data (i32.const 48) "{\"allow\":false}")
  (data (i32.const 70000) "original")
  (global $hidden (mut i64) (i64.const 5))
  (global $wide (mut v128) (v128.const i64x2 1 2))
  (global $shown (export "shown") (mut f64) (f64.const 1.5))
  (global $started (mut i32) (i32.const 0))
  (func $start
    (global.set $started (i32.add (global.get $started) (i32.const 1)))
    (i32.store (i32.const 150000) (i32.const 77))
    (drop (memory.grow (i32.const 2))))
  (start $start)
  (func (export "alloc") (param i32) (result i32) (i32.const 8192))
  (func $clean (result i32)
    (if (i64.ne (global.get $hidden) (i64.const 5)) (then (return (i32.const 0))))
    (if (v128.any_true (v128.xor (global.get $wide) (v128.const i64x2 1 2)))
      (then (return (i32.const 0))))
    (if (f64.ne (global.get $shown) (f64.const 1.5)) (then (return (i32.const 0))))
    (if (i32.ne (global.get $started) (i32.const 1)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load (i32.const 150000)) (i32.const 77)) (then (return (i32.const 0))))
    (if (i32.ne (memory.size) (i32.const 5)) (then (return (i32.const 0))))
    (if (i64.ne (i64.load (i32.const 70000)) (i64.const 0x6c616e696769726f))
      (then (return (i32.const 0))))
    (if (i64.ne (i64.load (i32.const 100000)) (i64.const 0)) (then (return (i32.const 0))))
    (if (i64.ne (i64.load (i32.const 262144)) (i64.const 0)) (then (return (i32.const 0))))
    ;; Memory that an earlier call grew comes back as zeros.
    (if (i32.ne (memory.grow (i32.const 4)) (i32.const 5)) (then (return (i32.const 0))))
    (i64.eqz (i64.load (i32.const 400000))))
  (func (export "handle") (param i32 i32) (result i64)
    (local $answer i64)
    (local.set $answer
      (select (i64.const 0x10_0000000e) (i64.const 0x30_0000000f) (call $clean)))
    (global.set $hidden (i64.const 6))
    (global.set $wide (v128.const i64x2 3 4))
    (global.set $shown (f64.const 2.5))
    (global.set $started (i32.const 9))
    (i32.store (i32.const 150000) (i32.const 78))
    (i64.store (i32.const 70000) (i64.const -1))
    (i64.store (i32.const 100000) (i64.const -1))
    (i64.store (i32.const 262144) (i64.const -1))
    (i64.store (i32.const 400000) (i64.const -1))
    (local.get $answer)))"#;

#[test]
fn a_guest_cannot_remember() {
    let hook = isolated(&wat(REMEMBERS));
    for round in 0..50 {
        assert!(call(&hook, "/").unwrap().allow, "round {round}");
    }
    // One instance served them all: it was brought back, not replaced.
    assert_eq!(hook.plugin().stats().instances_created, 1);

    let reuse = Runtime::new(cpu(2_000)).unwrap();
    let reuse = WasmHook::new(reuse.load("reuse", &wat(REMEMBERS)).unwrap()).unwrap();
    assert!(call(&reuse, "/").unwrap().allow);
    assert!(
        !call(&reuse, "/").unwrap().allow,
        "the guest does remember, where it may"
    );
}

#[test]
fn instances_share_the_image_of_the_first() {
    let hook = isolated(&wat(REMEMBERS));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert!(call(&hook, "/").unwrap().allow);
                }
            });
        }
    });
    assert_eq!(hook.plugin().stats().instances_discarded, 0);
}

#[test]
fn a_counter_counts_to_one() {
    let hook = isolated(&fixture("counter"));
    let answers: Vec<_> = (0..5).map(|_| call(&hook, "/").unwrap()).collect();
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert!(
        answers[0].modified,
        "the guest says how often it was called"
    );
}

#[test]
fn a_failed_call_leaves_nothing_either() {
    let hook = isolated(&wat(r#"(module (memory (export "memory") 1)
          (data (i32.const 16) "{\"allow\":true}")
          (global $calls (mut i32) (i32.const 0))
          (func (export "alloc") (param i32) (result i32) (i32.const 8192))
          (func (export "handle") (param i32 i32) (result i64)
            (if (i32.or (global.get $calls) (i32.load8_u (i32.const 40000))) (then (loop (br 0))))
            (global.set $calls (i32.const 1))
            (i32.store8 (i32.const 40000) (i32.const 1))
            (if (i32.eq (i32.load8_u (i32.add (i32.const 8192) (i32.const 9))) (i32.const 112))
              (then (unreachable)))
            (i64.const 0x10_0000000e)))"#));
    let ask = |hook_type| -> Result<HookOutput, HookError> {
        let input = HookInput::new(hook_type);
        futures_executor::block_on(hook.call(&HookContext::new(), &input))
    };
    for _ in 0..5 {
        // The type begins with a `p` in these alone.
        assert_fails!(ask(HookType::PreRequest), SandboxError::Aborted);
        assert!(ask(HookType::OnConnect).unwrap().allow);
    }
}

/// Instances live apart from one another's memory: a write to a shared image
/// would be seen by the next instance.
#[test]
fn a_large_image_is_restored() {
    let text = format!(
        r#"(module (memory (export "memory") 40)
          (data (i32.const 16) "{{\"allow\":true}}")
          (data (i32.const 48) "{{\"allow\":false}}")
          (data (i32.const 65536) "{data}")
          (data (i32.const 2097152) "end")
          (func (export "alloc") (param i32) (result i32) (i32.const 8192))
          (func (export "handle") (param i32 i32) (result i64)
            (local $at i32) (local $sum i32)
            (local.set $at (i32.const 65536))
            (loop $next
              (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
              (i32.store8 (local.get $at) (i32.const 0))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $at) (i32.const 2162688))))
            (select (i64.const 0x10_0000000e) (i64.const 0x30_0000000f)
              (i32.eq (local.get $sum) (i32.const {sum})))))"#,
        data = "x".repeat(100_000),
        sum = 100_000 * u32::from(b'x') + b"end".iter().map(|b| u32::from(*b)).sum::<u32>(),
    );
    let hook = isolated(&wat(&text));
    for _ in 0..5 {
        assert!(call(&hook, "/").unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
}

/// A process that may open no more files has none for images either.
#[test]
fn without_descriptors_images_are_copied() {
    util::isolated(Duration::from_secs(60), || {
        let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!(!files.is_empty());
        let hook = isolated(&wat(REMEMBERS));
        for round in 0..50 {
            assert!(call(&hook, "/").unwrap().allow, "round {round}");
        }
        assert_eq!(hook.plugin().stats().instances_created, 1);
    });
}

#[test]
fn what_is_kept_on_purpose_is_kept() {
    let runtime = Runtime::new(per_call()).unwrap();
    let plugin = runtime.load("frame-echo", &fixture("frame-echo")).unwrap();
    let hook = WasmHook::new(plugin).unwrap();
    let cx = HookContext::new().with_exchange(Exchange::new().into());
    for expected in ["", "+", "++"] {
        let input = HookInput::new(HookType::PreRequest);
        let output = futures_executor::block_on(hook.call(&cx, &input)).unwrap();
        let context = output.headers.get(&HeaderName::from_static("x-context"));
        assert_eq!(context.unwrap(), [expected]);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
}

#[test]
fn fuel_and_isolation_go_together() {
    let config = RuntimeConfig {
        max_fuel: Some(1_000_000),
        ..per_call()
    };
    let runtime = Runtime::new(config).unwrap();
    let hook = WasmHook::new(runtime.load("fuel", &wat(REMEMBERS)).unwrap()).unwrap();
    for _ in 0..20 {
        assert!(call(&hook, "/").unwrap().allow);
    }
}
