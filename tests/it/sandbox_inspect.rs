//! Inspections: every rule that a module breaks, of any bytes.

use vortex_sandbox::{Inspection, Runtime, RuntimeConfig, SandboxError};

use crate::util::{cpu, fixture, wat};

fn findings(wasm: &[u8]) -> Vec<SandboxError> {
    Inspection::of(wasm, &RuntimeConfig::default()).findings
}

/// The caps among findings, in order.
fn caps(wasm: &[u8]) -> Vec<(&'static str, u64)> {
    let findings = findings(wasm);
    let caps = findings.iter().filter_map(|finding| match finding {
        SandboxError::ModuleLimit { limit, value, .. } => Some((*limit, *value)),
        _ => None,
    });
    caps.collect()
}

#[test]
fn what_loads_has_no_findings_and_what_does_not_has_that_one_first() {
    let directory = crate::util::fixtures();
    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let (mut loaded, mut refused) = (0, 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let wasm = std::fs::read(&path).unwrap();
        let findings = findings(&wasm);
        let name = path.display().to_string();
        match runtime.load(&name, &wasm) {
            Ok(_) => {
                loaded += 1;
                assert!(findings.is_empty(), "{name}: {findings:?}");
                runtime.unload(&name);
            }
            Err(error) => {
                refused += 1;
                let first = findings.first().map(ToString::to_string);
                assert_eq!(first, Some(error.to_string()), "{name}");
            }
        }
    }
    assert!(
        loaded > 10 && refused > 2,
        "{loaded} loaded, {refused} refused"
    );
}

#[test]
fn one_broken_cap_hides_no_other() {
    let wasm = wat(&format!(
        r#"(module {} (memory 2000) (func {} {} {}))"#,
        "(type (func (param i64 i32 i64 i64 f32 f64 i64 i32 i32)))".repeat(5_001),
        "(local i64)".repeat(4_097),
        "(block)".repeat(10_001),
        "(i32.const 0)".repeat(1_025) + &"(drop)".repeat(1_025),
    ));
    let mut found = caps(&wasm);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("block_locals", 10_001 * 4_097),
            ("blocks", 10_001),
            ("locals", 4_097),
            ("memory_bytes", 2000 << 16),
            ("operand_stack", 1_025),
            ("signatures", 5_001 * 9),
            ("types", 5_002),
        ]
    );
}

#[test]
fn a_cap_that_two_functions_break_is_named_once_with_the_higher_value() {
    let function = |locals| format!("(func {})", "(local i32)".repeat(locals));
    // Locals are counted in groups, and each of these is one.
    let wasm = wat(&format!(
        "(module (memory 1) (func (local {}))(func))",
        "i32 ".repeat(5_000)
    ));
    assert_eq!(caps(&wasm), [("locals", 5_000)]);
    let wasm = wat(&format!(
        "(module (memory 1) {} {})",
        function(5_000),
        function(6_000)
    ));
    assert_eq!(caps(&wasm), [("locals", 6_000)]);
}

#[test]
fn other_limits_are_other_findings() {
    let wasm = wat("(module (memory 100))");
    assert!(findings(&wasm).is_empty());
    let config = RuntimeConfig {
        memory_bytes: 1 << 20,
        ..cpu(100)
    };
    let found = Inspection::of(&wasm, &config).findings;
    assert!(
        matches!(
            found[..],
            [SandboxError::ModuleLimit {
                limit: "memory_bytes",
                max: 1_048_576,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[test]
fn code_without_memory_imports_and_reserved_names_are_all_named() {
    let wasm = wat(r#"(module (import "a" "b" (func)) (func) (func)
             (global (export "wasmer_metering_remaining_points") i32 (i32.const 0))
             (func (export "vortex:x")))"#);
    let found: Vec<_> = findings(&wasm).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    for (text, part) in found.iter().zip(["a.b", "`memory`", "wasmer_metering"]) {
        assert!(text.contains(part), "{found:?}");
    }
}

#[test]
fn any_bytes_can_be_inspected() {
    let wasm = wat(r#"(module $name (@producers (language "Rust" "1"))
             (memory (export "memory") 1 2) (table 1 funcref) (global i32 (i32.const 1))
             (func $f (export "f") (param i32) (result i32)
               (if (result i32) (local.get 0) (then (i32.const 1)) (else (i32.const 2))))
             (elem (i32.const 0) $f) (data (i32.const 8) "abc"))"#);
    assert!(findings(&wasm).is_empty());
    let mut broken = 0;
    for end in 0..wasm.len() {
        broken += usize::from(!findings(&wasm[..end]).is_empty());
    }
    assert!(broken > wasm.len() / 2);
    for at in 0..wasm.len() {
        for bit in 0..8 {
            let mut flipped = wasm.clone();
            flipped[at] ^= 1 << bit;
            for finding in findings(&flipped) {
                assert!(
                    !matches!(finding, SandboxError::Panic { .. }),
                    "{at}.{bit}: {finding}"
                );
            }
        }
    }
}

#[test]
fn lists_and_names_are_bounded() {
    let imports: String = (0..1_500)
        .map(|i| format!("(import \"{}\" \"{i}\" (func))", "m".repeat(500)))
        .collect();
    let inspection = Inspection::of(&wat(&format!("(module {imports})")), &cpu(100));
    assert_eq!(inspection.imports.len(), 1_000);
    assert_eq!(inspection.imports[0].module.len(), 256);
    let exports: String = (0..1_500)
        .map(|i| format!("(export \"vortex:{i}\" (memory 0))"))
        .collect();
    let inspection = Inspection::of(&wat(&format!("(module (memory 1) {exports})")), &cpu(100));
    assert_eq!(inspection.exports.len(), 1_000);
    assert!(
        inspection.findings.len() <= 101,
        "{}",
        inspection.findings.len()
    );
}

#[test]
fn a_real_plugin_is_described() {
    let inspection = Inspection::of(&fixture("api-key"), &cpu(100));
    assert!(
        inspection
            .exports
            .iter()
            .any(|export| export.name == "handle")
    );
    assert!(inspection.functions > 10 && inspection.imports.is_empty());
    assert_eq!(inspection.memories.len(), 1);
}
