//! Break 4: tables are small and stay as they are.

use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, cpu, fixture, runtime, wat};

/// A module whose function `run` has this body, with a table and what it may refer to.
fn with_table(body: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
             (memory 1)
             (table 4 funcref)
             (elem $segment (i32.const 0) func $f)
             (func $f)
             (func (export "run") {body}))"#
    ))
}

/// Every operator that touches a table, but for the call through it.
#[test]
fn table_operators_are_refused() {
    let runtime = runtime();
    for (operator, body) in [
        (
            "table.grow",
            "(drop (table.grow 0 (table.get 0 (i32.const 0)) (i32.const 1)))",
        ),
        ("table.size", "(drop (table.size 0))"),
        ("table.get", "(drop (table.get 0 (i32.const 0)))"),
        (
            "table.set",
            "(table.set 0 (i32.const 0) (table.get 0 (i32.const 0)))",
        ),
        (
            "table.fill",
            "(table.fill 0 (i32.const 0) (table.get 0 (i32.const 0)) (i32.const 1))",
        ),
        (
            "table.copy",
            "(table.copy 0 0 (i32.const 0) (i32.const 1) (i32.const 1))",
        ),
        (
            "table.init",
            "(table.init 0 $segment (i32.const 0) (i32.const 0) (i32.const 1))",
        ),
        ("elem.drop", "(elem.drop $segment)"),
        ("ref.func", "(drop (ref.func $f))"),
    ] {
        // Some take what only another of them makes: the first one is named.
        let first = if body.contains("(table.get") {
            "table.get"
        } else {
            operator
        };
        assert_fails!(
            runtime.load("table", &with_table(body)),
            SandboxError::RefusedOperator { operator, offset, .. }
                if *operator == first && *offset > 8
        );
    }
}

/// The fixture that once aborted the process never gets so far.
#[test]
fn four_billion_elements_are_refused() {
    let loaded = runtime().load("table-grow", &fixture("table-grow"));
    assert_fails!(loaded, SandboxError::InvalidModule { reason } if reason.contains("reference types"));
}

#[test]
fn tables_are_capped() {
    assert_fails!(
        runtime().load("table-huge", &fixture("table-huge")),
        SandboxError::ModuleLimit {
            limit: "table_elements",
            value: 10_000_000,
            max: 100_000
        }
    );
    let load =
        |tables: &str| runtime().load("table", &wat(&format!("(module (memory 1) {tables})")));
    assert!(load("(table 100000 100000 funcref)").is_ok());
    assert_fails!(
        load("(table 100001 funcref)"),
        SandboxError::ModuleLimit {
            limit: "table_elements",
            value: 100_001,
            max: 100_000
        }
    );
    assert_fails!(
        load("(table 1 100001 funcref)"),
        SandboxError::ModuleLimit {
            limit: "table_elements",
            value: 100_001,
            max: 100_000
        }
    );
    assert_fails!(
        load("(table 1 funcref) (table 1 funcref)"),
        SandboxError::ModuleLimit {
            limit: "tables",
            value: 2,
            max: 1
        }
    );
}

/// A table of the largest size works, in many instances one after the other, and
/// calls through it are checked.
#[test]
fn the_largest_table_works() {
    let module = |maximum: &str| {
        wat(&format!(
            r#"(module
                 (memory 1)
                 (table 100000 {maximum} funcref)
                 (type $number (func (result i32)))
                 (elem (i32.const 99998) $seven $nothing)
                 (func $seven (result i32) (i32.const 7))
                 (func $nothing)
                 (func (export "run") (param i32) (result i32)
                   (call_indirect (type $number) (local.get 0))))"#
        ))
    };
    let config = RuntimeConfig {
        max_instances: 2,
        ..cpu(5_000)
    };
    let runtime = Runtime::new(config).unwrap();
    for maximum in ["", "100000"] {
        let plugin = runtime.load("largest", &module(maximum)).unwrap();
        for _ in 0..20 {
            let call = |index: i32| plugin.instance().unwrap().call::<_, i32>("run", (index,));
            assert_eq!(call(99_998).unwrap(), 7);
            for (index, told) in [
                (99_999, "indirect call type mismatch"),
                (99_997, "uninitialized element"),
                (100_000, "undefined element: out of bounds table access"),
                (-1, "undefined element: out of bounds table access"),
            ] {
                assert_fails!(call(index), SandboxError::Trap { reason } if reason == told);
            }
        }
    }
}

/// Elements past the end of the table, as of data past the end of the memory: no
/// instance, and a clear reason.
#[test]
fn segments_must_fit() {
    for segment in [
        r#"(elem (i32.const 3) $f $f)"#,
        r#"(elem (i32.const -1) $f)"#,
        r#"(data (i32.const 65535) "ab")"#,
        r#"(data (i32.const -1) "a")"#,
    ] {
        let wasm = wat(&format!(
            "(module (memory 1) (table 4 4 funcref) (func $f) {segment})"
        ));
        let runtime = runtime();
        let plugin = runtime.load("segment", &wasm).unwrap();
        for _ in 0..3 {
            assert_fails!(
                plugin.instance(),
                SandboxError::Instantiate { reason } if reason.contains("out of bounds")
            );
        }
        assert_eq!(plugin.stats().instances_created, 0);
    }
}
