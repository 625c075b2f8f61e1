//! Breaks 1 and 2: traps near the end of the stack must neither hang the
//! process nor be free of charge.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vortex_sandbox::{Plugin, Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, call, cpu, fixture, hook, isolated, wat, within};

const LIMIT: Duration = Duration::from_secs(120);

/// Each way to end a call at the bottom of a recursion whose depth `$d` has come
/// down to zero, with how it is told: "" for no error.
const ENDS: &[(&str, &str, &str)] = &[
    ("abort", "unreachable", "aborted"),
    (
        "div",
        "(drop (i32.div_s (i32.const 1) (local.get $d)))",
        "integer divide by zero",
    ),
    (
        "rem",
        "(drop (i64.rem_u (i64.const 1) (i64.extend_i32_u (local.get $d))))",
        "integer divide by zero",
    ),
    (
        "min",
        "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (local.get $d) (i32.const 1))))",
        "integer overflow",
    ),
    (
        "nan",
        "(drop (i32.trunc_f32_s (f32.div (f32.const 0) (f32.convert_i32_s (local.get $d)))))",
        "invalid conversion to integer",
    ),
    (
        "big",
        "(drop (i64.trunc_f64_u (f64.const 1e300)))",
        "integer overflow",
    ),
    (
        "null",
        "(call_indirect (type $f) (local.get $d))",
        "uninitialized element",
    ),
    (
        "type",
        "(call_indirect (type $f) (i32.const 1))",
        "indirect call type mismatch",
    ),
    (
        "index",
        "(call_indirect (type $f) (i32.const 99))",
        "out of bounds table access",
    ),
    (
        "load",
        "(drop (i64.load (i32.const -1)))",
        "out of bounds memory access",
    ),
    (
        "store",
        "(i32.store8 (i32.const 0x400000) (i32.const 1))",
        "out of bounds memory access",
    ),
    (
        "copy",
        "(memory.copy (local.get $d) (i32.const 0x3fffff) (i32.const 2))",
        "out of bounds memory access",
    ),
    (
        "copy-far",
        "(memory.copy (i32.const -1) (local.get $d) (i32.const -1))",
        "out of bounds memory access",
    ),
    (
        "fill",
        "(memory.fill (i32.const 0x400001) (i32.const 1) (local.get $d))",
        "out of bounds memory access",
    ),
    ("spin", "(loop (br 0))", "CPU budget"),
    // These go through the host and come back.
    ("grow", "(drop (memory.grow (i32.const 1)))", ""),
    ("grow-far", "(drop (memory.grow (i32.const -1)))", ""),
    (
        "copied",
        "(memory.copy (i32.const 1) (local.get $d) (i32.const 0x200000))",
        "",
    ),
    (
        "filled",
        "(memory.fill (local.get $d) (i32.const 7) (i32.const 0x200000))",
        "",
    ),
];

/// A module with a recursion for each end; the depth is the parameter.
fn ends() -> Vec<u8> {
    let functions: String = ENDS
        .iter()
        .map(|(name, end, _)| {
            format!(
                r#"(func ${name} (export "{name}") (param $d i32)
                     (if (i32.eqz (local.get $d)) (then {end} (return)))
                     (call ${name} (i32.sub (local.get $d) (i32.const 1))))"#
            )
        })
        .collect();
    wat(&format!(
        r#"(module
             (memory (export "memory") 64)
             (type $f (func))
             (table 4 4 funcref)
             (elem (i32.const 1) $other)
             (func $other (param i64))
             {functions})"#
    ))
}

fn small_stack(millis: u64) -> RuntimeConfig {
    RuntimeConfig {
        stack_bytes: 64 << 10,
        ..cpu(millis)
    }
}

fn run(plugin: &Plugin, export: &str, depth: i32) -> Result<(), SandboxError> {
    plugin.instance().unwrap().call(export, (depth,))
}

/// The first depth at which the stack, and not the guest's own end, is what ends a call.
fn end_of_stack(plugin: &Plugin, export: &str, max: i32) -> i32 {
    let (mut fits, mut overflows) = (0, max);
    assert_fails!(run(plugin, export, max), SandboxError::StackOverflow { .. });
    while overflows - fits > 1 {
        let middle = fits + (overflows - fits) / 2;
        match run(plugin, export, middle) {
            Err(SandboxError::StackOverflow { .. }) => overflows = middle,
            _ => fits = middle,
        }
    }
    overflows
}

/// Calls a guest at each depth up to and past the end of its stack, while another
/// thread makes calls and traps of its own; at the end traps once more elsewhere.
fn sweep(
    runtime: &Runtime,
    plugin: &Plugin,
    export: &str,
    depths: impl Iterator<Item = i32>,
    expected: &str,
) {
    let innocent = hook(runtime, "allow");
    let trapping = hook(runtime, "div-zero");
    let swept = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !swept.load(Ordering::Relaxed) {
                assert!(call(&innocent, "/").unwrap().allow);
                assert_fails!(call(&trapping, "/"), SandboxError::Trap { .. });
            }
        });
        let (mut ended, mut overflowed) = (0, 0);
        for depth in depths {
            match run(plugin, export, depth) {
                Err(SandboxError::StackOverflow { limit }) => {
                    assert_eq!(limit, plugin.config().stack_bytes);
                    overflowed += 1;
                }
                Ok(()) => {
                    assert_eq!(expected, "", "{export} at {depth}");
                    ended += 1;
                }
                Err(error) => {
                    let told = error.to_string();
                    let known = !expected.is_empty() && told.contains(expected);
                    assert!(known, "{export} at {depth}: {told}");
                    ended += 1;
                }
            }
        }
        swept.store(true, Ordering::Relaxed);
        // Both sides of the end have been seen.
        assert!(
            ended > 0 && overflowed > 0,
            "{export}: {ended}, {overflowed}"
        );
    });
    thread::scope(|scope| {
        scope.spawn(|| assert_fails!(call(&trapping, "/"), SandboxError::Trap { .. }));
    });
}

/// Every kind of trap at every depth around the end of a small stack.
#[test]
fn no_trap_hangs_at_the_end_of_the_stack() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(small_stack(2_000)).unwrap();
        let plugin = runtime.load("ends", &ends()).unwrap();
        for (export, _, expected) in ENDS {
            let plugin = match *expected {
                // What is stopped by its budget has a small one.
                "CPU budget" => &runtime.load_with("spin", &ends(), &small_stack(4)).unwrap(),
                _ => &plugin,
            };
            let end = end_of_stack(plugin, export, 8_000);
            // A backtrace takes some 3 KiB of stack, a frame of these 16 bytes or more.
            sweep(&runtime, plugin, export, end - 220..end + 8, expected);
        }
    });
}

/// The depths at which the hang was found: the default stack, a one-parameter
/// recursion, `unreachable`, then bulk operations out of bounds.
#[test]
fn no_trap_hangs_at_the_end_of_the_default_stack() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(5_000)).unwrap();
        for (name, expected) in [
            ("deep-unreachable", "aborted"),
            ("deep-copy-oob", "out of bounds memory access"),
            ("deep-fill-oob", "out of bounds memory access"),
        ] {
            let plugin = runtime.load(name, &fixture(name)).unwrap();
            let end = end_of_stack(&plugin, "run", 70_000);
            let coarse = (0..70_000).step_by(7_000);
            let found = (65_000..65_600)
                .step_by(20)
                .chain((32_600..32_800).step_by(10));
            let close = (end - 200..end + 5).step_by(5);
            sweep(
                &runtime,
                &plugin,
                "run",
                coarse.chain(found).chain(close),
                expected,
            );
        }
    });
}

/// Through the hook, as a request would do it.
#[test]
fn a_request_cannot_hang_the_process() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(5_000)).unwrap();
        let hook = hook(&runtime, "deep-unreachable");
        for depth in (65_350..65_550).step_by(10) {
            let result = call(&hook, &format!("/!{depth}"));
            assert_fails!(
                result,
                SandboxError::Aborted | SandboxError::StackOverflow { limit: 0x10_0000 }
            );
        }
    });
}

/// Fuel that runs out near the end of the stack is an abort of the metering's own.
#[test]
fn fuel_may_run_out_at_the_end_of_the_stack() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(small_stack(2_000)).unwrap();
        let wasm = ends();
        let run = |fuel| {
            let config = RuntimeConfig {
                max_fuel: Some(fuel),
                ..small_stack(2_000)
            };
            let plugin = runtime.load_with("fuel", &wasm, &config).unwrap();
            run(&plugin, "abort", 1_000_000)
        };
        let (mut short, mut enough) = (0, 200_000);
        while enough - short > 1 {
            let middle = short + (enough - short) / 2;
            match run(middle) {
                Err(SandboxError::FuelExhausted { .. }) => short = middle,
                _ => enough = middle,
            }
        }
        // Some 15 operators a frame, some 200 frames.
        for fuel in (enough - 3_000..enough).step_by(13) {
            assert_fails!(run(fuel), SandboxError::FuelExhausted { .. });
        }
        assert_fails!(run(enough), SandboxError::StackOverflow { .. });
    });
}

/// Frames that are larger than a guard page do not step over it.
#[test]
fn large_frames_meet_the_guard() {
    let loads: String = (0..900)
        .map(|n| format!("(i64.load offset={} (i32.const 0))\n", n * 8))
        .collect();
    let sums = "i64.add\n".repeat(899);
    let wasm = wat(&format!(
        r#"(module (memory (export "memory") 1)
             (func $f (export "run") (result i64)
               {loads} (drop (call $f)) {sums}))"#
    ));
    within(LIMIT, move || {
        let runtime = Runtime::new(cpu(2_000)).unwrap();
        let plugin = runtime.load("frames", &wasm).unwrap();
        for _ in 0..3 {
            let mut instance = plugin.instance().unwrap();
            assert_fails!(
                instance.call::<(), i64>("run", ()),
                SandboxError::StackOverflow { limit: 0x10_0000 }
            );
        }
    });
}

/// A trap deep in the stack costs nothing beside the way down: its backtrace ends at
/// the guest. With one frame for each of the guest's it took as long as the budget,
/// always, and some of the host's memory.
#[test]
fn a_deep_trap_costs_no_more_than_the_way_down() {
    let module = |end: &str| {
        wat(&format!(
            r#"(module (memory (export "memory") 1)
                 (func $down (export "run") (param $d i32)
                   (if (i32.eqz (local.get $d)) (then {end} (return)))
                   (call $down (i32.sub (local.get $d) (i32.const 1)))))"#
        ))
    };
    let config = RuntimeConfig {
        stack_bytes: 8 << 20,
        ..cpu(20)
    };
    let runtime = Runtime::new(config).unwrap();
    // The way down alone is within the budget, once the stack's pages are there.
    let returns = runtime.load("returns", &module("")).unwrap();
    let passes = (0..20).any(|_| run(&returns, "run", 450_000).is_ok());
    assert!(passes);
    let traps = runtime.load("traps", &module("unreachable")).unwrap();
    let aborts = (0..20).any(|_| matches!(run(&traps, "run", 450_000), Err(SandboxError::Aborted)));
    assert!(aborts);
}
