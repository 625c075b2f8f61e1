//! Break 11: what compilers emit by default is enabled, and nothing else.

use vortex_sandbox::{Plugin, SandboxError};

use crate::util::{assert_fails, fixture, runtime, wat};

/// Modules that use one disabled feature each.
const DISABLED: &[(&str, &str)] = &[
    ("shared memory", "(module (memory 1 2 shared))"),
    (
        "atomics",
        "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
    ),
    (
        "atomic wait",
        "(module (memory 1) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))",
    ),
    ("atomic fence", "(module (memory 1) (func (atomic.fence)))"),
    ("memory64", "(module (memory i64 1))"),
    ("table64", "(module (table i64 1 funcref))"),
    ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
    (
        "exceptions",
        "(module (tag $e) (memory 1) (func (throw $e)))",
    ),
    ("try_table", "(module (memory 1) (func (try_table)))"),
    (
        "relaxed SIMD",
        "(module (memory 1) (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))",
    ),
    (
        "tail calls",
        "(module (memory 1) (func $f (return_call $f)))",
    ),
    (
        "indirect tail calls",
        "(module (memory 1) (table 1 funcref) (type $t (func)) (func (return_call_indirect (type $t) (i32.const 0))))",
    ),
    ("structs", "(module (type (struct)))"),
    ("arrays", "(module (type (array i8)))"),
    (
        "recursive types",
        "(module (rec (type (func)) (type (func))))",
    ),
    ("subtypes", "(module (type (sub (func))))"),
    (
        "i31",
        "(module (memory 1) (func (drop (ref.i31 (i32.const 1)))))",
    ),
    ("any", "(module (memory 1) (func (param anyref)))"),
    ("externref", "(module (memory 1) (func (param externref)))"),
    ("externref tables", "(module (table 1 externref))"),
    (
        "funcref parameters",
        "(module (memory 1) (func (param funcref)))",
    ),
    (
        "funcref globals",
        "(module (global funcref (ref.null func)))",
    ),
    (
        "typed function references",
        "(module (type $t (func)) (memory 1) (func (param (ref null $t))))",
    ),
    (
        "call_ref",
        "(module (type $t (func)) (memory 1) (func (call_ref $t (ref.null $t))))",
    ),
    (
        "ref.null",
        "(module (memory 1) (func (drop (ref.null func))))",
    ),
    (
        "typed select",
        "(module (memory 1) (func (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))))",
    ),
    (
        "extended constants",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    ),
    (
        "wide arithmetic",
        "(module (memory 1) (func (param i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 0))))",
    ),
    (
        "stack switching",
        "(module (type $f (func)) (type $c (cont $f)))",
    ),
    ("components", "(component)"),
];

#[test]
fn disabled_features_are_refused() {
    let runtime = runtime();
    for (feature, text) in DISABLED {
        match runtime.load("feature", &wat(text)) {
            Err(SandboxError::InvalidModule { reason }) => {
                assert!(reason.contains("offset 0x"), "{feature}: {reason}");
            }
            Err(error) => panic!("{feature}: {error:?}"),
            Ok(_) => panic!("{feature} is enabled"),
        }
    }
}

/// Operators that have no text any more: exceptions as they were, and an opcode
/// that is none.
#[test]
fn legacy_operators_are_refused() {
    for code in [
        [0x06, 0x40],
        [0x07, 0x00],
        [0x09, 0x00],
        [0x18, 0x00],
        [0xff, 0x00],
    ] {
        #[rustfmt::skip]
        let wasm = [
            0, b'a', b's', b'm', 1, 0, 0, 0,
            1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1,
            10, 7, 1, 5, 0, code[0], code[1], 0x0b, 0x0b,
        ];
        assert_fails!(
            runtime().load("legacy", &wasm),
            SandboxError::InvalidModule { .. }
        );
    }
}

/// What reads or drops a segment after the instance is made.
#[test]
fn passive_data_is_refused() {
    let runtime = runtime();
    for name in ["memory-init", "deep-init-oob"] {
        assert_fails!(
            runtime.load(name, &fixture(name)),
            SandboxError::RefusedOperator { operator: "memory.init", offset, .. } if *offset > 8
        );
    }
    let drop = r#"(module (memory 1) (data $d (i32.const 0) "a") (func (data.drop $d)))"#;
    assert_fails!(
        runtime.load("drop", &wat(drop)),
        SandboxError::RefusedOperator {
            operator: "data.drop",
            ..
        }
    );
}

#[test]
fn fixtures_of_disabled_features_are_refused() {
    let runtime = runtime();
    for (name, why) in [("memory64", "memory64"), ("threads-shared", "threads")] {
        assert_fails!(
            runtime.load(name, &fixture(name)),
            SandboxError::InvalidModule { reason } if reason.contains(why)
        );
    }
    assert_fails!(
        runtime.load("two-memories", &fixture("two-memories")),
        SandboxError::ModuleLimit {
            limit: "memories",
            value: 2,
            max: 1
        }
    );
    assert_fails!(
        runtime.load("memory-wants-2gib", &fixture("memory-wants-2gib")),
        SandboxError::ModuleLimit {
            limit: "memory_bytes",
            value: 0x8000_0000,
            max: 0x400_0000
        }
    );
}

/// A cap does not stand in for the feature switch: with two memories allowed by
/// the caps, the second is still refused.
#[test]
fn caps_do_not_enable_features() {
    let mut config = crate::util::cpu(100);
    config.module.memories = 10;
    config.module.tables = 10;
    let runtime = vortex_sandbox::Runtime::new(config).unwrap();
    for text in [
        "(module (memory 1) (memory 1))",
        "(module (table 1 funcref) (table 1 funcref))",
    ] {
        assert_fails!(
            runtime.load("two", &wat(text)),
            SandboxError::InvalidModule { .. }
        );
    }
}

fn plugin(text: &str) -> std::sync::Arc<Plugin> {
    runtime_and_plugin(text).1
}

fn runtime_and_plugin(text: &str) -> (vortex_sandbox::Runtime, std::sync::Arc<Plugin>) {
    let runtime = runtime();
    let plugin = runtime.load("feature", &wat(text)).unwrap();
    // Unloaded plugins take no calls, so that the runtime must live on.
    (runtime, plugin)
}

#[test]
fn enabled_features_work() {
    let run = |text: &str, param: i32| -> i32 {
        let (_runtime, plugin) = runtime_and_plugin(text);
        plugin.instance().unwrap().call("run", (param,)).unwrap()
    };
    let function = |body: &str| {
        format!(r#"(module (memory 1) (func (export "run") (param i32) (result i32) {body}))"#)
    };
    // Sign extension.
    assert_eq!(run(&function("(i32.extend8_s (local.get 0))"), 0x80), -128);
    assert_eq!(
        run(&function("(i32.extend16_s (local.get 0))"), 0x8000),
        -32768
    );
    // Saturating conversion.
    let saturate =
        "(i32.trunc_sat_f64_s (f64.mul (f64.convert_i32_s (local.get 0)) (f64.const 1e9)))";
    assert_eq!(run(&function(saturate), 5), i32::MAX);
    // Bulk memory.
    let fill = "(memory.fill (i32.const 8) (local.get 0) (i32.const 4)) \
                (memory.copy (i32.const 20) (i32.const 8) (i32.const 4)) (i32.load (i32.const 20))";
    assert_eq!(run(&function(fill), 1), 0x0101_0101);
    // SIMD.
    let simd =
        "(i32x4.extract_lane 2 (i32x4.mul (i32x4.splat (local.get 0)) (v128.const i32x4 1 2 3 4)))";
    assert_eq!(run(&function(simd), 7), 21);
    // Blocks with parameters, and several results.
    let multi = r#"(module (memory 1)
        (func $swap (param i32 i32) (result i32 i32) (local.get 1) (local.get 0))
        (func (export "run") (param i32) (result i32)
          (i32.const 100) (local.get 0) (call $swap)
          (block (param i32 i32) (result i32) (i32.sub))))"#;
    assert_eq!(run(multi, 1), -99);
    // Mutable globals, imported by nobody and exported.
    let global = r#"(module (memory 1) (global $g (export "g") (mut i32) (i32.const 2))
        (func (export "run") (param i32) (result i32)
          (global.set $g (i32.mul (global.get $g) (local.get 0))) (global.get $g)))"#;
    assert_eq!(run(global, 21), 42);
}

/// LLVM writes the table's index of `call_indirect` in five bytes.
#[test]
fn the_long_call_indirect_is_enabled() {
    #[rustfmt::skip]
    let wasm: &[u8] = &[
        0, b'a', b's', b'm', 1, 0, 0, 0,
        1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f,                    // type: (i32) -> i32
        3, 3, 2, 0, 0,                                      // two functions of it
        4, 4, 1, 0x70, 0, 1,                                // a table of one
        5, 3, 1, 0, 1,                                      // a memory of one page
        7, 7, 1, 3, b'r', b'u', b'n', 0, 1,                 // the second is `run`
        9, 7, 1, 0, 0x41, 0, 0x0b, 1, 0,                    // the first is in the table
        10, 21, 2,
        7, 0, 0x20, 0, 0x41, 1, 0x6a, 0x0b,                 // local.get 0; i32.const 1; i32.add
        11, 0, 0x20, 0, 0x41, 0, 0x11, 0, 0x80, 0x80, 0x00, 0x0b,
    ];
    let runtime = runtime();
    let plugin = runtime.load("long", wasm).unwrap();
    let next: i32 = plugin.instance().unwrap().call("run", (41,)).unwrap();
    assert_eq!(next, 42);
}

/// All that a module wants is told at once, before anything else about it.
#[test]
fn imports_are_listed() {
    let runtime = runtime();
    assert_fails!(
        runtime.load("imports-wasi", &fixture("imports-wasi")),
        SandboxError::Imports { wanted }
            if *wanted == ["wasi_snapshot_preview1.fd_write (function)", "env.foo (function)"]
    );
    let kinds = r#"(module (import "a" "m" (memory 1)) (import "a" "t" (table 1 funcref))
                           (import "a" "g" (global i32)))"#;
    assert_fails!(
        runtime.load("imports", &wat(kinds)),
        SandboxError::Imports { wanted }
            if *wanted == ["a.m (memory)", "a.t (table)", "a.g (global)"]
    );
}

#[test]
fn reserved_names_are_refused() {
    let runtime = runtime();
    assert_fails!(
        runtime.load("reserved-export", &fixture("reserved-export")),
        SandboxError::ReservedExport { name } if name == "vortex:abort"
    );
    for name in [
        "wasmer_metering_remaining_points",
        "wasmer_metering_points_exhausted",
        "vortex:",
    ] {
        let text = format!(r#"(module (memory (export "{name}") 1))"#);
        assert_fails!(
            runtime.load("reserved", &wat(&text)),
            SandboxError::ReservedExport { name: n } if n == name
        );
    }
    assert!(
        plugin(r#"(module (memory (export "vortex") 1))"#)
            .exports()
            .count()
            == 1
    );
}

/// Bytes that are no module at all.
#[test]
fn other_bytes_are_refused() {
    let runtime = runtime();
    let allow = fixture("allow");
    for bytes in [
        &b""[..],
        b"\0asm",
        b"\0asm\x02\0\0\0",
        b"\0asm\x0d\0\x01\0",
        b"(module)",
        &allow[..allow.len() - 1],
        &allow[1..],
    ] {
        assert_fails!(
            runtime.load("bytes", bytes),
            SandboxError::InvalidModule { .. }
        );
    }
    // Every single truncation: an error, never a panic.
    for len in 0..allow.len() {
        let _ = runtime.load("cut", &allow[..len]);
    }
}

/// A function without a memory could not be stopped.
#[test]
fn code_needs_a_memory() {
    assert_fails!(
        runtime().load("none", &wat("(module (func))")),
        SandboxError::MissingExport { export, .. } if export == "memory"
    );
}
