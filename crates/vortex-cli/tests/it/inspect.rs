//! `inspect`: what a module says about itself and every limit that it would break.

use crate::util::{Place, fixture};

#[test]
fn a_module_that_runs() {
    let place = Place::new();
    place.write("api-key.wasm", fixture("api-key"));
    let text = place.ok("inspect ./api-key.wasm");
    for part in [
        "1 (JSON)",
        "EXPORT",
        "alloc",
        "a function (i32, i32) -> (i64)",
        "breaks no limit",
    ] {
        assert!(text.contains(part), "not {part:?} in {text}");
    }
    let json = place.json("inspect ./api-key.wasm");
    assert_eq!(
        (&json["abi"], &json["findings"]),
        (&1.into(), &serde_json::json!([]))
    );
    assert_eq!(json["size"], fixture("api-key").len());
}

#[test]
fn every_limit_that_a_module_breaks_is_named() {
    let place = Place::new();
    let types = "(type (func (param i32)))".repeat(5_001);
    let locals = "(local i64)".repeat(4_097);
    let nested = format!("{}{}", "(block ".repeat(2_100), ")".repeat(2_100));
    let globals = "(global i32 (i32.const 0))".repeat(10_001);
    let text = format!(
        r#"(module $many {types} (import "wasi" "now" (func)) (memory 2000) (table 200000 funcref) {globals}
             (func {locals}) (func {nested}) (func (drop (table.size 0))) (export "vortex:x" (func 1)))"#
    );
    place.write("many.wasm", wat::parse_str(text).unwrap());
    let done = place.run("inspect ./many.wasm --json");
    assert_eq!(done.code, 6);
    let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let mut limits: Vec<_> = findings
        .iter()
        .filter_map(|f| f["limit"].as_str())
        .collect();
    limits.sort_unstable();
    assert_eq!(
        limits,
        [
            "globals",
            "locals",
            "memory_bytes",
            "nesting",
            "table_elements",
            "types"
        ]
    );
    let value = |limit: &str| {
        let finding = findings.iter().find(|f| f["limit"] == limit).unwrap();
        (finding["value"].clone(), finding["max"].clone())
    };
    assert_eq!(value("globals"), (10_001.into(), 10_000.into()));
    assert_eq!(
        value("memory_bytes"),
        ((2000 * 65_536).into(), (64 << 20).into())
    );
    for said in ["imports wasi.now (function)", "`table.size`", "`vortex:x`"] {
        assert!(
            findings
                .iter()
                .any(|f| f["message"].as_str().unwrap().contains(said)),
            "{findings:?}"
        );
    }
    assert_eq!(
        (&json["name"], &json["abi"]),
        (&"many".into(), &serde_json::Value::Null)
    );

    let text = place.run("inspect ./many.wasm").out;
    assert!(text.contains("the sandbox would refuse it:"), "{text}");
    assert!(
        text.contains("the module's types is 5002, the limit is 5000"),
        "{text}"
    );
}

#[test]
fn the_memory_limit_can_be_another() {
    let place = Place::new();
    assert_eq!(place.run("inspect ./allow.wasm").code, 0);
    place.write(
        "big.wasm",
        wat::parse_str(
            r#"(module (memory (export "memory") 32)
             (func (export "alloc") (param i32) (result i32) unreachable)
             (func (export "handle") (param i32 i32) (result i64) unreachable))"#,
        )
        .unwrap(),
    );
    assert_eq!(place.run("inspect ./big.wasm").code, 0);
    let done = place.run("inspect ./big.wasm --memory 1MiB");
    assert_eq!(done.code, 6);
    assert!(
        done.out
            .contains("memory_bytes is 2097152, the limit is 1048576"),
        "{done:?}"
    );
}

#[test]
fn producers_and_name_are_shown() {
    let place = Place::new();
    let text = r#"(module $the-name
        (@producers (language "Rust" "2024") (processed-by "rustc" "1.95.0") (sdk "wasm" ""))
        (@custom "build-id" "12345"))"#;
    place.write("made.wasm", wat::parse_str(text).unwrap());
    let done = place.run("inspect ./made.wasm");
    for part in [
        "the-name",
        "Rust 2024",
        "rustc 1.95.0",
        "build-id (5 bytes)",
        "none: it does not export `memory`",
    ] {
        assert!(done.out.contains(part), "not {part:?} in {}", done.out);
    }
    let json: serde_json::Value =
        serde_json::from_str(&place.run("inspect ./made.wasm --json").out).unwrap();
    assert_eq!(
        json["producers"][2],
        serde_json::json!(
        {"field": "processed-by", "name": "rustc", "version": "1.95.0"})
    );
}

#[test]
fn the_abi_is_known_by_the_types_of_the_exports() {
    let place = Place::new();
    let abi = |exports: &str| {
        let text = format!(r#"(module (memory (export "memory") 1) {exports})"#);
        place.write("m.wasm", wat::parse_str(text).unwrap());
        let done = place.run("inspect ./m.wasm --json");
        let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        (json["abi"].as_u64(), done.code)
    };
    let alloc = r#"(func (export "alloc") (param i32) (result i32) unreachable)"#;
    let handle = r#"(func (export "handle") (param i32 i32) (result i64) unreachable)"#;
    let frames = r#"(func (export "vortex_abi_v2") (result i32) unreachable)
        (func (export "vortex_handle") (param i32) (result i32) unreachable)"#;
    assert_eq!(abi(&format!("{alloc}{handle}")), (Some(1), 0));
    assert_eq!(abi(frames), (Some(2), 0));
    assert_eq!(abi(&format!("{alloc}{handle}{frames}")), (Some(2), 0));
    assert_eq!(abi(alloc), (None, 6));
    assert_eq!(
        abi(r#"(func (export "alloc") (param i64) (result i32) unreachable)"#),
        (None, 6)
    );
}
