//! Break 5: modules that would keep the compiler busy are refused before it
//! sees them, each with the name of what is too much.

use std::time::Duration;

use vortex_sandbox::{ModuleLimits, ModuleReport, Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, runtime, wat, within};

/// A cap with modules that reach just so far.
struct Cap {
    name: &'static str,
    field: fn(&mut ModuleLimits) -> &mut u64,
    /// What the cap is set to.
    max: usize,
    /// The text of a module whose value is the argument.
    module: fn(usize) -> String,
}

fn function(body: &str) -> String {
    format!("(module (memory 1) (func (param i32) {body}))")
}

#[rustfmt::skip]
const CAPS: &[Cap] = &[
    Cap { name: "types", field: |l| &mut l.types, max: 3,
          module: |n| format!("(module {})", "(type (func))".repeat(n)) },
    Cap { name: "signature", field: |l| &mut l.signature, max: 3,
          module: |n| format!("(module (type (func (param{}) (result i64))))", " i32".repeat(n - 1)) },
    Cap { name: "signatures", field: |l| &mut l.signatures, max: 5,
          module: |n| format!("(module (type (func (param i32 i32))) (type (func (param{}))))", " i32".repeat(n - 2)) },
    Cap { name: "functions", field: |l| &mut l.functions, max: 3,
          module: |n| format!("(module (memory 1) {})", "(func)".repeat(n)) },
    // The count of locals and the end are a byte each.
    Cap { name: "function_bytes", field: |l| &mut l.function_bytes, max: 20,
          module: |n| function(&"nop ".repeat(n - 2)) },
    Cap { name: "locals", field: |l| &mut l.locals, max: 3,
          module: |n| function(&format!("(local f64 {})", "i32 ".repeat(n - 1))) },
    Cap { name: "blocks", field: |l| &mut l.blocks, max: 4,
          module: |n| function(&format!("(block) (loop) (if (local.get 0) (then)) {}", "(br_if 0 (local.get 0))".repeat(n - 3))) },
    // The function itself is the first level.
    Cap { name: "nesting", field: |l| &mut l.nesting, max: 5,
          module: |n| function(&format!("{}{}", "(block ".repeat(n - 1), ")".repeat(n - 1))) },
    Cap { name: "loop_nesting", field: |l| &mut l.loop_nesting, max: 3,
          module: |n| function(&format!("(loop) (block {}{})", "(block (loop ".repeat(n), "))".repeat(n))) },
    Cap { name: "operand_stack", field: |l| &mut l.operand_stack, max: 5,
          module: |n| function(&format!("{} {}", "local.get 0 ".repeat(n), "drop ".repeat(n))) },
    // Of all tables together; the default target is one of a table's own.
    Cap { name: "branch_targets", field: |l| &mut l.branch_targets, max: 7,
          module: |n| function(&format!("(block (br_table 0 0 0 0 (local.get 0))) (block (br_table{} 0 (local.get 0)))", " 0".repeat(n - 3))) },
    Cap { name: "globals", field: |l| &mut l.globals, max: 3,
          module: |n| format!("(module {})", "(global i32 (i32.const 1))".repeat(n)) },
    Cap { name: "exports", field: |l| &mut l.exports, max: 3,
          module: |n| format!("(module (memory 1) {})", (0..n).map(|k| format!(r#"(export "{k}" (memory 0))"#)).collect::<String>()) },
    Cap { name: "tables", field: |l| &mut l.tables, max: 1,
          module: |n| format!("(module {})", "(table 1 funcref)".repeat(n)) },
    Cap { name: "table_elements", field: |l| &mut l.table_elements, max: 3,
          module: |n| format!("(module (table {n} funcref))") },
    Cap { name: "table_elements", field: |l| &mut l.table_elements, max: 3,
          module: |n| format!("(module (table 1 {n} funcref))") },
    // Those of all segments together, also where they overlap.
    Cap { name: "table_elements", field: |l| &mut l.table_elements, max: 3,
          module: |n| format!("(module (memory 1) (table 3 funcref) (func $f) (elem (i32.const 0) $f $f) (elem (i32.const 0){}))", " $f".repeat(n - 2)) },
    Cap { name: "data_segments", field: |l| &mut l.data_segments, max: 3,
          module: |n| format!("(module (memory 1) {})", r#"(data (i32.const 0) "a")"#.repeat(n)) },
    Cap { name: "element_segments", field: |l| &mut l.element_segments, max: 3,
          module: |n| format!("(module (table 9 funcref) {})", "(elem (i32.const 0) func)".repeat(n)) },
    Cap { name: "memories", field: |l| &mut l.memories, max: 1,
          module: |n| format!("(module {})", "(memory 1)".repeat(n)) },
];

/// At each cap a module passes, and one past it is refused by the name of the
/// field, with both numbers.
#[test]
fn caps_are_exact() {
    let runtime = runtime();
    for cap in CAPS {
        let mut config = crate::util::cpu(1_000);
        *(cap.field)(&mut config.module) = cap.max as u64;
        let load = |n| {
            let text = (cap.module)(n);
            let plugin = runtime.load_with("cap", &wat(&text), &config)?;
            plugin.instance().map(|_| ())
        };
        load(cap.max).unwrap_or_else(|error| panic!("{}: {error}", cap.name));
        match load(cap.max + 1) {
            Err(SandboxError::ModuleLimit { limit, value, max }) => {
                assert_eq!(limit, cap.name);
                assert_eq!(max, cap.max as u64, "{}", cap.name);
                assert_eq!(value, max + 1, "{}", cap.name);
            }
            other => panic!("{}: {other:?}", cap.name),
        }
    }
}

#[test]
fn bytes_and_memory_are_capped() {
    let runtime = runtime();
    let wasm = wat("(module (memory 3))");
    let load = |module_bytes, memory_bytes| {
        let config = RuntimeConfig {
            memory_bytes,
            module: ModuleLimits {
                module_bytes,
                ..ModuleLimits::default()
            },
            ..crate::util::cpu(100)
        };
        runtime.load_with("cap", &wasm, &config).map(|_| ())
    };
    let len = wasm.len() as u64;
    load(len, 3 << 16).unwrap();
    assert_fails!(
        load(len - 1, 3 << 16),
        SandboxError::ModuleLimit { limit: "module_bytes", value, max }
            if *value == len && *max == len - 1
    );
    // Memory comes in whole pages.
    assert_fails!(
        load(len, (3 << 16) - 1),
        SandboxError::ModuleLimit {
            limit: "memory_bytes",
            value: 0x3_0000,
            max: 0x2_0000
        }
    );
}

/// What instrumentation makes of few bytes counts as what it becomes.
#[test]
fn instrumentation_counts_as_blocks() {
    let runtime = runtime();
    let operators = |n: usize, operator: &str| wat(&function(&operator.repeat(n)));
    let copy = "(memory.copy (local.get 0) (local.get 0) (local.get 0))";
    let fill = "(memory.fill (local.get 0) (local.get 0) (local.get 0))";
    for operator in [copy, fill] {
        assert_fails!(
            runtime.load("bulk", &operators(9_000, operator)),
            SandboxError::ModuleLimit {
                limit: "blocks",
                max: 10_000,
                ..
            }
        );
    }
    // Metering splits the code at each call.
    let calls = operators(10_001, "(call 0 (i32.const 0))");
    runtime.load("calls", &calls).unwrap();
    let metered = RuntimeConfig {
        max_fuel: Some(1_000),
        ..crate::util::cpu(100)
    };
    assert_fails!(
        runtime.load_with("calls", &calls, &metered),
        SandboxError::ModuleLimit {
            limit: "blocks",
            value: 10_001,
            max: 10_000
        }
    );
}

/// Modules that took the compiler half a minute or the machine's memory, under
/// the default caps.
#[test]
fn bombs_are_refused_by_default() {
    within(Duration::from_secs(120), || {
        let live = format!(
            "{}{}",
            "i32.const 1 ".repeat(20_000),
            "drop ".repeat(20_000)
        );
        let sequence = |n: usize, part: &str| function(&part.repeat(n));
        let bombs: &[(&str, String)] = &[
            ("operand_stack", function(&live)),
            ("blocks", sequence(60_000, "(block) ")),
            ("blocks", sequence(60_000, "(loop) ")),
            ("blocks", sequence(60_000, "(br_if 0 (local.get 0)) ")),
            (
                "nesting",
                function(&format!("{}{}", "(block ".repeat(5_000), ")".repeat(5_000))),
            ),
            (
                "loop_nesting",
                function(&format!("{}{}", "(loop ".repeat(513), ")".repeat(513))),
            ),
            (
                "locals",
                function(&format!("(local {})", "i64 ".repeat(49_000))),
            ),
            ("function_bytes", sequence(600_000, "nop ")),
            (
                "branch_targets",
                function(&format!(
                    "(br_table {} (local.get 0))",
                    "0 ".repeat(100_000)
                )),
            ),
            (
                "branch_targets",
                sequence(
                    50,
                    &format!("(block (br_table {} (local.get 0)))", "0 ".repeat(500)),
                ),
            ),
            (
                "functions",
                format!("(module (memory 1) {})", "(func)".repeat(100_001)),
            ),
            (
                "types",
                format!("(module {})", "(type (func))".repeat(100_001)),
            ),
            (
                "signature",
                format!(
                    "(module (type (func (param{}) (result{}))))",
                    " i64".repeat(900),
                    " i64".repeat(900)
                ),
            ),
            (
                "globals",
                format!("(module {})", "(global i32 (i32.const 1))".repeat(50_000)),
            ),
            (
                "exports",
                format!(
                    "(module (memory 1) {})",
                    (0..20_000)
                        .map(|k| format!(r#"(export "{k}" (memory 0))"#))
                        .collect::<String>()
                ),
            ),
            (
                "element_segments",
                format!(
                    "(module (table 1 funcref) {})",
                    "(elem (i32.const 0) func)".repeat(20_000)
                ),
            ),
            (
                "data_segments",
                format!(
                    "(module (memory 1) {})",
                    r#"(data (i32.const 0) "")"#.repeat(100_001)
                ),
            ),
        ];
        let runtime = runtime();
        for (name, text) in bombs {
            let loaded = runtime.load("bomb", &wat(text));
            assert_fails!(loaded, SandboxError::ModuleLimit { limit, value, max } if limit == name && value > max);
        }
        let zeros = vec![0; (16 << 20) + 1];
        assert_fails!(
            runtime.load("bomb", &zeros),
            SandboxError::ModuleLimit {
                limit: "module_bytes",
                value: 0x100_0001,
                max: 0x100_0000
            }
        );
    });
}

/// Large modules that the default caps are meant to pass, and that run.
#[test]
fn the_defaults_pass_large_modules() {
    let run = |text: &str, param: i32| -> i32 {
        let runtime = Runtime::new(crate::util::cpu(10_000)).unwrap();
        let plugin = runtime.load("large", &wat(text)).unwrap();
        plugin.instance().unwrap().call("run", (param,)).unwrap()
    };
    let function = |body: &str| {
        format!(r#"(module (memory 1) (func (export "run") (param i32) (result i32) {body}))"#)
    };
    let nested = format!(
        "{} (local.get 0) {}",
        "(block (result i32) ".repeat(2_047),
        ")".repeat(2_047)
    );
    assert_eq!(run(&function(&nested), 7), 7);
    let targets = format!(
        "(block $a (block $b (br_table {} $b (local.get 0))) (return (i32.const 1))) (i32.const 2)",
        "$a $b ".repeat(4_999)
    );
    assert_eq!(
        (
            run(&function(&targets), 4_000),
            run(&function(&targets), 4_001)
        ),
        (2, 1)
    );
    let live = format!(
        "{} {}",
        "(local.get 0) ".repeat(1_024),
        "i32.add ".repeat(1_023)
    );
    assert_eq!(run(&function(&live), 3), 3_072);
    let locals = format!(
        "(local {}) (local.set 4096 (local.get 0)) (local.get 4096)",
        "i32 ".repeat(4_096)
    );
    assert_eq!(run(&function(&locals), 9), 9);
    let globals = format!(
        r#"(module (memory 1) {} (func (export "run") (param i32) (result i32)
             (global.set 9999 (local.get 0)) (i32.add (global.get 9999) (global.get 0))))"#,
        "(global (mut i32) (i32.const 5))".repeat(10_000)
    );
    assert_eq!(run(&globals, 1), 6);
    let data = format!(
        r#"(module (memory 1) {} (func (export "run") (param i32) (result i32)
             (i32.load8_u (local.get 0))))"#,
        (0..100_000)
            .map(|k| format!(r#"(data (i32.const {}) "\{:02x}")"#, k % 65_536, k / 65_536))
            .collect::<String>()
    );
    assert_eq!((run(&data, 0), run(&data, 65_535)), (1, 0));
}

/// What Go makes of a function: a loop around a block for each place where it may
/// be left, and a table that goes back to any of them.
#[test]
fn the_defaults_pass_a_function_of_go() {
    const PLACES: usize = 1_000;
    let targets: String = (0..PLACES).map(|place| format!("{place} ")).collect();
    let steps: String = (0..PLACES)
        .map(|place| {
            let next = place + 1;
            format!(
                ") (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                   (local.set 0 (i32.const {next}))
                   (br_if {} (i32.eq (local.get 1) (i32.const {next})))",
                PLACES - 1 - place
            )
        })
        .collect();
    let text = format!(
        r#"(module (memory 1) (func (export "run") (param i32) (result i32) (local i32)
             (block (loop {} (br_table {targets} {} (local.get 0)) {steps}))
             (local.get 1)))"#,
        "(block ".repeat(PLACES),
        // Past the loop.
        PLACES + 1
    );
    let runtime = Runtime::new(crate::util::cpu(10_000)).unwrap();
    let plugin = runtime.load("go", &wat(&text)).unwrap();
    let run = |place: i32| -> i32 { plugin.instance().unwrap().call("run", (place,)).unwrap() };
    assert_eq!((run(0), run(999), run(1_000)), (1_000, 1, 0));
}

/// A local that is read where it was set costs the compiler nothing, however many
/// loops are around it; one that is read later does.
#[test]
fn only_locals_that_outlive_their_block_are_merged() {
    let runtime = runtime();
    let module = |part: &dyn Fn(usize) -> String| {
        let parts: String = (0..1_000).map(part).collect();
        wat(&function(&format!(
            "(local {}) {} {parts} {}",
            "i32 ".repeat(1_000),
            "(loop ".repeat(40),
            "(br_if 0 (local.get 0)))".repeat(40)
        )))
    };
    let load = |part: &dyn Fn(usize) -> String| runtime.load("merged", &module(part));
    load(&|k| format!("(local.set {k} (i32.const 1)) (drop (local.get {k}))")).unwrap();
    for split in [
        "(block)",
        "(br_if 0 (local.get 0))",
        "(memory.fill (local.get 0) (local.get 0) (i32.const 1))",
    ] {
        // All are set on one side of the split and read on the other.
        let all = |k: usize| match k {
            ..500 => format!("(local.set {k} (i32.const 1))"),
            500 => split.to_owned(),
            _ => format!("(drop (local.get {}))", k - 501),
        };
        assert_fails!(
            load(&all),
            SandboxError::ModuleLimit {
                limit: "merged_locals",
                ..
            }
        );
    }
}

/// A report says all that loading would have said one after the other.
#[test]
fn a_report_has_every_objection() {
    let text = format!(
        r#"(module (import "env" "f" (func)) (memory 2000) (table 1 funcref)
             (func (drop (table.size 0)) (drop (table.size 0)) {}))"#,
        "(block)".repeat(10_001)
    );
    let report = ModuleReport::of(&wat(&text), &RuntimeConfig::default()).unwrap();
    assert_eq!(report.used.blocks, 10_001);
    assert!(
        matches!(
            &report.objections[..],
            [
                SandboxError::Imports { .. },
                SandboxError::ModuleLimit {
                    limit: "memory_bytes",
                    ..
                },
                SandboxError::RefusedOperator {
                    operator: "table.size",
                    ..
                },
                SandboxError::InvalidModule { .. },
                SandboxError::ModuleLimit {
                    limit: "blocks",
                    value: 10_001,
                    max: 10_000
                },
            ]
        ),
        "{:?}",
        report.objections
    );
    assert_eq!(report.closest(&ModuleLimits::default()), ("blocks", 1.0001));
}

/// A report ends at sixteen times a cap, and has nothing to say of what is no module.
#[test]
fn a_report_is_bounded() {
    let of = |blocks: usize| {
        let config = RuntimeConfig {
            module: ModuleLimits {
                blocks: 10,
                ..ModuleLimits::default()
            },
            ..RuntimeConfig::default()
        };
        ModuleReport::of(&wat(&function(&"(block)".repeat(blocks))), &config)
    };
    assert_eq!(of(160).unwrap().used.blocks, 160);
    assert_fails!(
        of(161),
        SandboxError::ModuleLimit {
            limit: "blocks",
            value: 161,
            max: 160
        }
    );
    assert_fails!(
        ModuleReport::of(b"\0asm\x01\0\0", &RuntimeConfig::default()),
        SandboxError::InvalidModule { .. }
    );
}
