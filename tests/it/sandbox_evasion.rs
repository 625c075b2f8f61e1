//! Guests that were made to get around a limit.

use std::fmt::Write as _;
use std::time::Duration;

use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, cpu, isolated, runtime, wat};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the export `run` of a module.
fn run(config: RuntimeConfig, wasm: &[u8]) -> Result<(), SandboxError> {
    let runtime = Runtime::new(config)?;
    runtime.load("guest", wasm)?.instance()?.call("run", ())
}

/// A guest that has read a safepoint's address itself, so that the compiler
/// could take the safepoint's read for a second one of the same.
#[test]
fn a_guest_cannot_read_its_safepoints_away() {
    isolated(LIMIT, || {
        let every_address: String = (0..256)
            .map(|k| {
                format!(
                    "(drop (i32.load8_u offset={} (i32.const 0)))",
                    0x7FFF_0000u32 + k
                )
            })
            .collect();
        for reads in [
            "(drop (i32.load8_u offset=2147418113 (i32.const 0)))",
            "(drop (i32.load8_u (i32.const 2147418113)))",
            "(drop (i32.load8_s (i32.const 2147418112)))",
            &every_address,
        ] {
            let spin = wat(&format!(
                r#"(module (memory 1) (func (export "run") {reads} (loop {reads} (br 0))))"#
            ));
            assert_fails!(run(cpu(5), &spin), SandboxError::CpuBudget { .. });
        }
    });
}

/// Bulk operations in a straight line pass no loop header and no function entry,
/// and each of these is one chunk. Unstopped, 200 MiB take some milliseconds and
/// then succeed; a watchdog that comes late on a busy machine comes again.
#[test]
fn bulk_operations_in_a_straight_line_are_stopped() {
    isolated(LIMIT, || {
        for operation in ["memory.fill", "memory.copy"] {
            let line = format!("({operation} (i32.const 0) (i32.const 1) (i32.const 262144))");
            let wasm = wat(&format!(
                r#"(module (memory 8) (func (export "run") {}))"#,
                line.repeat(800)
            ));
            let runtime = Runtime::new(cpu(1)).unwrap();
            let plugin = runtime.load("guest", &wasm).unwrap();
            let stopped = (0..100).any(|_| {
                let result = plugin.instance().unwrap().call::<(), ()>("run", ());
                matches!(result, Err(SandboxError::CpuBudget { .. }))
            });
            assert!(stopped, "{operation}");
        }
    });
}

/// wasmer would copy the name of each frame's function for each trap: 5,000
/// frames of names of 100 KB are half a gigabyte.
#[test]
fn long_names_cost_nothing_at_a_trap() {
    isolated(LIMIT, || {
        let name = "x".repeat(99_000);
        let wasm = wat(&format!(
            r#"(module ${name} (memory 1) (func ${name} (export "run") (param i32)
                 (if (i32.eqz (local.get 0)) (then (drop (i32.div_u (i32.const 1) (i32.const 0)))))
                 (call ${name} (i32.sub (local.get 0) (i32.const 1)))))"#
        ));
        let runtime = Runtime::new(cpu(10_000)).unwrap();
        let plugin = runtime.load("guest", &wasm).unwrap();
        let result = plugin.instance().unwrap().call::<i32, ()>("run", 5_000);
        assert_fails!(result, SandboxError::Trap { reason } if reason == "integer divide by zero");
        let peak = peak_kib();
        assert!(peak < 300 * 1024, "{peak} KiB at the most");
    });
}

/// The most memory that this process has had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A start function fails as any other function does.
#[test]
fn a_start_function_fails_with_its_own_error() {
    isolated(LIMIT, || {
        let start = |body: &str| {
            wat(&format!(
                r#"(module (memory 1) (start 0) (func {body}) (func (export "run")))"#
            ))
        };
        assert_fails!(
            run(cpu(5), &start("(loop (br 0))")),
            SandboxError::CpuBudget { .. }
        );
        assert_fails!(run(cpu(100), &start("unreachable")), SandboxError::Aborted);
        let stray = start("(drop (i32.load (i32.const 65536)))");
        assert_fails!(run(cpu(100), &stray), SandboxError::Trap { .. });
        let fuel = RuntimeConfig {
            max_fuel: Some(1_000),
            ..cpu(1_000)
        };
        assert_fails!(
            run(fuel, &start("(loop (br 0))")),
            SandboxError::FuelExhausted { limit: 1_000 }
        );
        run(cpu(100), &start("")).unwrap();
    });
}

/// A segment that does not fit is an error of the module, not of its code.
#[test]
fn a_segment_past_the_end_is_no_trap() {
    let wasm = wat(r#"(module (memory 1) (data (i32.const 65535) "ab") (func (export "run")))"#);
    assert_fails!(run(cpu(100), &wasm), SandboxError::Instantiate { .. });
}

/// What only a table or memory operator could use is refused with them: it would
/// be copied for each instance, outside of its memory limit.
#[test]
fn passive_segments_are_refused() {
    for segment in [r#"(data "abc")"#, "(elem func 0)", "(elem declare func 0)"] {
        let wasm = wat(&format!("(module (memory 1) {segment} (func))"));
        assert_fails!(
            runtime().load("guest", &wasm),
            SandboxError::RefusedOperator { .. }
        );
    }
}

/// Segments that would be written again and again for each instance.
#[test]
fn segments_are_bounded_in_all() {
    let elements = format!(
        "(module (memory 1) (table 60000 funcref) {} (func))",
        format!("(elem (i32.const 0) func{})", " 0".repeat(60_000)).repeat(2)
    );
    assert_fails!(
        runtime().load("guest", &wat(&elements)),
        SandboxError::ModuleLimit {
            limit: "table_elements",
            value: 120_000,
            max: 100_000
        }
    );
    let data = format!(
        "(module (memory 1) {} (func))",
        format!("(data (i32.const 0) \"{}\")", "x".repeat(40_000)).repeat(2)
    );
    let config = RuntimeConfig {
        memory_bytes: 1 << 16,
        ..cpu(100)
    };
    assert_fails!(
        run(config, &wat(&data)),
        SandboxError::ModuleLimit {
            limit: "memory_bytes",
            value: 80_000,
            ..
        }
    );
}

/// An instance that has failed says so, and does not run again.
#[test]
fn a_failed_instance_is_not_called_again() {
    isolated(LIMIT, || {
        let wasm =
            wat(r#"(module (memory 1) (func (export "run") (loop (br 0))) (func (export "ok")))"#);
        let runtime = Runtime::new(cpu(5)).unwrap();
        let plugin = runtime.load("guest", &wasm).unwrap();
        let mut instance = plugin.instance().unwrap();
        assert_fails!(
            instance.call::<(), ()>("run", ()),
            SandboxError::CpuBudget { .. }
        );
        assert_fails!(instance.call::<(), ()>("ok", ()), SandboxError::Spoiled);
        drop(instance);
        plugin.instance().unwrap().call::<(), ()>("ok", ()).unwrap();
    });
}

/// A module can want very many things; an error names some.
#[test]
fn a_list_of_imports_is_bounded() {
    let mut text = String::from("(module");
    for i in 0..5_000 {
        write!(text, r#" (import "env" "{i}{}" (func))"#, "x".repeat(200)).unwrap();
    }
    let error = runtime().load("guest", &wat(&(text + ")"))).unwrap_err();
    assert!(error.to_string().len() < 4_000 && error.to_string().contains("5000 in all"));
    assert_fails!(Err::<(), _>(error), SandboxError::Imports { wanted } if wanted.len() == 17);
}

/// Small modules that keep the compiler busy for half a minute.
#[test]
fn compile_bombs_of_loops_and_signatures_are_refused() {
    let sets: String = (0..1_000)
        .map(|i| format!("(local.set {i} (i32.add (local.get {i}) (i32.const 1)))"))
        .collect();
    let loops = format!(
        "(module (memory 1) (func (local{}) {} {sets} {}))",
        " i32".repeat(1_000),
        "(loop ".repeat(100),
        "(br_if 0 (local.get 0))) ".repeat(100)
    );
    let blocks = format!(
        "(module (memory 1) (func (local{}) {} {} {sets} {}))",
        " i32".repeat(1_000),
        "(block ".repeat(100),
        (0..100)
            .map(|k| format!("(br_if {k} (local.get 0))"))
            .collect::<String>(),
        ")".repeat(100)
    );
    let branches = format!(
        "(module (memory 1) (func (local{}) {}))",
        " i32".repeat(4_000),
        "(br_if 0 (local.get 0))".repeat(1_001)
    );
    let values = " i64".repeat(64);
    let calls = format!(
        "(module (memory 1) (func (param{values}) (result{values}) unreachable) (func {} {} {}))",
        "(i64.const 0)".repeat(64),
        "(call 0)".repeat(1_563),
        "drop ".repeat(64)
    );
    let signatures: String = (0..1_000)
        .map(|i| {
            format!(
                "(type (func (param{}) (result i64)))",
                [" i32", " i64"][i % 2].repeat(100 + i / 40)
            )
        })
        .collect();
    for (text, name) in [
        (loops, "merged_locals"),
        (blocks, "merged_locals"),
        (branches, "block_locals"),
        (calls, "call_values"),
        (format!("(module {signatures})"), "signatures"),
        (
            format!("(module (type (func (param{}))))", " i32".repeat(129)),
            "signature",
        ),
        (
            format!(
                "(module (memory 1) (func {}))",
                "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0))".repeat(900)
            ),
            "blocks",
        ),
        (
            format!(
                "(module (memory 1) (func {}))",
                "(br_if 0 (i32.const 0))".repeat(10_001)
            ),
            "blocks",
        ),
    ] {
        assert_fails!(
            runtime().load("guest", &wat(&text)),
            SandboxError::ModuleLimit { limit, .. } if *limit == name
        );
    }
}
