//! Every loop and every recursion keeps its safepoint, in optimised code too.

use std::time::Duration;

use vortex_sandbox::{Plugin, Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, cpu, isolated, wat};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs an endless guest on a budget, without and with fuel.
fn is_stopped(plugin: &Plugin, which: i32) {
    let result = plugin.instance().unwrap().call::<_, ()>("run", (which,));
    assert_fails!(result, SandboxError::CpuBudget { .. });
}

/// Bodies of functions `(param $n i32)` that never end, each a shape of control
/// flow that an optimiser treats in its own way.
const SHAPES: &[&str] = &[
    "(loop (br 0))",
    "(loop (br_if 0 (i32.const 1)) (br 0))",
    "(loop (br_if 0 (i32.eqz (i32.const 0))))",
    // Counting, in a local, in a global, in memory, and not observably at all.
    "(loop (local.set $n (i32.add (local.get $n) (i32.const 1))) (br 0))",
    "(loop (global.set $g (i32.add (global.get $g) (i32.const 1))) (br 0))",
    "(loop (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (br 0))",
    "(loop (drop (i32.mul (local.get $n) (local.get $n))) (br 0))",
    // Reading the same place in every turn, which could be moved out.
    "(loop (drop (i32.load (i32.const 8))) (br 0))",
    "(loop (br_if 0 (i32.eqz (i32.load (i32.const 1024)))))",
    "(loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0x7fff0001)))))",
    // A comparison that never comes true.
    "(loop (br_if 0 (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 2))) (i32.or (local.get $n) (i32.const 1)))) (br 0))",
    // Nested: the outermost, the innermost, the middle one.
    "(loop $a (loop $b (loop $c) (br_if $b (i32.const 0))) (br $a))",
    "(loop $a (loop $b (loop $c (br $c))))",
    "(loop $a (loop $b (loop $c (br $b))))",
    "(loop $a (loop $b (loop $c (br $a))))",
    // Several ways back, through a table, an if, a block.
    "(loop $a (if (i32.and (local.get $n) (i32.const 1)) (then (local.set $n (i32.const 2)) (br $a)) (else (local.set $n (i32.const 3)) (br $a))))",
    "(loop $a (block $b (br_table $a $b $a (local.get $n))) (br $a))",
    "(loop $a (block $b (br_if $b (i32.const 1)) (unreachable)) (br $a))",
    "(block $out (loop $a (br_if $out (i32.const 0)) (br $a)))",
    // Values carried around.
    "(i32.const 1) (loop (param i32) (i32.const 1) (i32.add) (br 0))",
    "(i64.const 1) (i32.const 2) (loop (param i64 i32) (drop) (i32.const 3) (br 0))",
    "(drop (loop (result i32) (br 0)))",
    // Floats, vectors, selects.
    "(local $f f64) (loop (local.set $f (f64.sqrt (f64.add (local.get $f) (f64.const 1)))) (br 0))",
    "(local $v v128) (loop (local.set $v (i8x16.add (local.get $v) (i8x16.splat (local.get $n)))) (br 0))",
    "(loop (local.set $n (select (local.get $n) (i32.const 1) (local.get $n))) (br 0))",
    // Calls of all kinds, in loops and without.
    "(loop (call $nothing) (br 0))",
    "(loop (call_indirect (type $f) (i32.const 0)) (br 0))",
    "(loop (drop (memory.grow (i32.const 0))) (br 0))",
    "(loop (drop (memory.size)) (br 0))",
    "(loop (memory.copy (i32.const 0) (i32.const 1) (i32.const 1)) (br 0))",
    "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0)) (br 0))",
    "(drop (call $wide (i32.const 60)))",
    "(loop (call $ping (i32.const 500)) (br 0))",
    // Behind what is never reached, and in front of it.
    "(block (br 0) (loop (br 0))) (loop (br 0))",
    "(loop (br 0)) (unreachable)",
    "(if (local.get $n) (then (loop (br 0))) (else (loop (br 0))))",
];

fn shapes() -> Vec<u8> {
    let cases: String = SHAPES
        .iter()
        .enumerate()
        .map(|(n, body)| {
            format!(
                r#"(func $shape{n} (param $n i32) {body})
                   (elem (i32.const {}) $shape{n})"#,
                n + 1
            )
        })
        .collect();
    wat(&format!(
        r#"(module
             (memory 1)
             (type $f (func)) (type $shape (func (param i32)))
             (table {} funcref)
             (elem (i32.const 0) $nothing)
             (global $g (mut i32) (i32.const 0))
             (func $nothing)
             ;; 2^60 calls, no loop.
             (func $wide (param i32) (result i32)
               (if (result i32) (local.get 0)
                 (then (i32.add
                   (call $wide (i32.sub (local.get 0) (i32.const 1)))
                   (call $wide (i32.sub (local.get 0) (i32.const 1)))))
                 (else (i32.const 1))))
             (func $ping (param i32) (if (local.get 0) (then (call $pong (local.get 0)))))
             (func $pong (param i32) (call $ping (i32.sub (local.get 0) (i32.const 1))))
             {cases}
             (func (export "run") (param i32)
               (call_indirect (type $shape) (i32.const 0)
                 (i32.add (local.get 0) (i32.const 1)))))"#,
        SHAPES.len() + 1
    ))
}

#[test]
fn every_shape_of_loop_is_stopped() {
    isolated(LIMIT, || {
        let wasm = shapes();
        for max_fuel in [None, Some(u64::MAX >> 1)] {
            let config = RuntimeConfig { max_fuel, ..cpu(2) };
            let runtime = Runtime::new(config).unwrap();
            let plugin = runtime.load("shapes", &wasm).unwrap();
            for (which, shape) in SHAPES.iter().enumerate() {
                eprintln!("{which}: {shape}");
                for _ in 0..3 {
                    is_stopped(&plugin, which as i32);
                }
            }
        }
    });
}

/// 4,900 loops in one function, each entered by its number.
#[test]
fn every_loop_of_a_large_function_is_stopped() {
    isolated(LIMIT, || {
        let loops: String = (0..4_900)
            .map(|n| format!("(if (i32.eq (local.get 0) (i32.const {n})) (then (loop (br 0))))\n"))
            .collect();
        let wasm = wat(&format!(
            r#"(module (memory 1) (func (export "run") (param i32) {loops}))"#
        ));
        let runtime = Runtime::new(cpu(1)).unwrap();
        let plugin = runtime.load("loops", &wasm).unwrap();
        for which in (0..4_900)
            .step_by(13)
            .chain([255, 256, 257, 4_095, 4_096, 4_899])
        {
            is_stopped(&plugin, which);
        }
        // Past the last, it returns.
        plugin
            .instance()
            .unwrap()
            .call::<_, ()>("run", (4_900,))
            .unwrap();
    });
}

/// 5,000 functions with a loop each, through a table.
#[test]
fn every_loop_of_many_functions_is_stopped() {
    isolated(LIMIT, || {
        let functions: String = (0..5_000)
            .map(|n| {
                format!(
                    "(func $f{n} (local i32) (loop
                       (local.set 0 (i32.add (local.get 0) (i32.const {n}))) (br 0)))\n"
                )
            })
            .collect();
        let names: String = (0..5_000).map(|n| format!(" $f{n}")).collect();
        let wasm = wat(&format!(
            r#"(module (memory 1) (type $f (func)) (table 5000 funcref)
                 (elem (i32.const 0){names})
                 {functions}
                 (func (export "run") (param i32) (call_indirect (type $f) (local.get 0))))"#
        ));
        let runtime = Runtime::new(cpu(1)).unwrap();
        let plugin = runtime.load("functions", &wasm).unwrap();
        for which in (0..5_000).step_by(17) {
            is_stopped(&plugin, which);
        }
    });
}
