//! What others have written does nothing to the terminal of whoever looks at it.

use crate::util::{Place, guest};

/// What no output may have, however it got there.
fn assert_harmless(text: &str) {
    let harmful = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    let found: Vec<_> = text.char_indices().filter(|(_, c)| harmful(*c)).collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

const EVIL: &str = "\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}evil\u{7f}";

fn custom(name: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name);
    body.extend_from_slice(contents);
    let mut section = vec![0, u8::try_from(body.len()).unwrap()];
    section.extend(body);
    section
}

#[test]
fn names_in_a_module_are_escaped() {
    let place = Place::new();
    let quoted = EVIL.escape_default().to_string();
    let text = format!(
        r#"(module $n (import "{quoted}" "{quoted}" (func)) (memory (export "{quoted}") 1))"#,
    );
    // WAT spells escapes of characters as Rust does.
    let mut wasm = wat::parse_str(text.replace("\\r", "\\u{d}")).unwrap();
    wasm.extend(custom(EVIL.as_bytes(), b""));
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let producer = [
        &[1],
        &string("language")[..],
        &[1],
        &string(EVIL),
        &string(EVIL),
    ]
    .concat();
    wasm.extend(custom(b"producers", &producer));
    place.write("evil.wasm", wasm);
    for options in ["", "--json", "--color always"] {
        let done = place.run(&format!("inspect ./evil.wasm {options}"));
        assert_eq!(done.code, 6, "{done:?}");
        let out = done.out.replace("\u{1b}[", "");
        assert!(options == "--color always" || out == done.out, "{done:?}");
        assert_harmless(&out);
        assert!(out.matches("owned").count() >= 5, "{out}");
    }
    place.ok("keygen alice");
    let done = place.run("run ./evil.wasm request.http");
    assert_eq!(done.code, 6);
    assert_harmless(&done.err);
    let done =
        place.run("sign evil.wasm --name a --version 1.0.0 --hooks on_close --key alice.key");
    assert_eq!(done.code, 0, "{done:?}");
    assert_harmless(&done.err);
}

#[test]
fn names_in_a_manifest_and_in_a_store_are_escaped() {
    let place = Place::new();
    place.ok("keygen alice");
    let mut sign = place.command();
    sign.args([
        "sign",
        "allow.wasm",
        "--name",
        "gate",
        "--version",
        "1.0.0",
        "--hooks",
    ]);
    sign.args(["pre_request", "--key", "alice.key", "--description", EVIL]);
    assert!(sign.status().unwrap().success());
    place.ok("install allow.wasm --trust alice.pub");
    std::fs::create_dir_all(place.path("store").join(EVIL)).unwrap();
    std::fs::create_dir_all(place.path("store/gate").join(EVIL)).unwrap();
    place.write(
        "store/broken/1.0.0/manifest.json",
        format!("{{\"name\":{}}}", serde_json::json!(EVIL)),
    );
    for line in [
        "list",
        "list --json",
        "info gate",
        "info gate --json",
        "verify --all",
    ] {
        let done = place.run(&format!("{line} --trust alice.pub"));
        assert_harmless(&done.out);
        assert!(done.out.contains("owned"), "{done:?}");
    }
    place.write(
        "evil.json",
        format!("{{\"name\":{}}}", serde_json::json!(EVIL)),
    );
    for json in ["", "--json"] {
        let done = place.run(&format!("verify ./allow.wasm --manifest evil.json {json}"));
        done.fails(2, "owned");
        assert_harmless(&done.err);
    }
}

#[test]
fn answers_of_a_plugin_are_escaped() {
    let place = Place::new();
    // A value of HTTP may have bytes past ASCII, and C1 controls among them.
    let answer = "{\\\"allow\\\":true,\\\"modified\\\":true,\\\"headers\\\":{\\\"X-A\\\":[\\\"\u{9b}2Jowned\\\"]}}";
    place.write("evil.wasm", guest(&answer.replace("\\\"", "\"")));
    let done = place.run("run ./evil.wasm request.http");
    assert_harmless(&done.out);
    assert_harmless(&done.err);
    let done = place.run("run ./evil.wasm request.http --json");
    assert_harmless(&done.out);
    assert_harmless(&done.err);
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let place = Place::new();
    place
        .run("inspect /dev/zero")
        .fails(2, "larger than the limit of 67108864 bytes");
    place
        .run("run ./allow.wasm /dev/zero")
        .fails(2, "larger than the limit of 1048576 bytes");
    place
        .run("verify ./allow.wasm --manifest /dev/zero")
        .fails(2, "larger than the limit of 65536");
    place
        .run("list --trust /dev/zero")
        .fails(2, "no regular file");
    place
        .run("policy check /dev/zero")
        .fails(1, "no regular file");
}
