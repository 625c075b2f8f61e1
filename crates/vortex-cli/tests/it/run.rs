//! `run`: one call, its answer, and what it used.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::util::{PROGRAM, Place, guest, guest_with};

const ALLOW: &str = r#"{"allow":true}"#;

#[test]
fn the_exit_code_is_the_verdict() {
    let place = Place::new();
    let allowed = place.run("run ./allow.wasm request.http");
    assert_eq!(allowed.code, 0);
    assert!(allowed.err.contains("unverified"), "{allowed:?}");
    let denied = place.run("run ./deny.wasm request.http");
    assert_eq!(denied.code, 7);
    assert!(denied.out.contains("denied with status 429"), "{denied:?}");
}

#[test]
fn each_limit_has_its_error_and_says_how_to_raise_it() {
    let place = Place::new();
    let spin = "(loop (br 0))";
    let recurse = "(drop (call 1 (i32.const 0) (i32.const 0)))";
    let grow = "(if (i32.eq (memory.grow (i32.const 900)) (i32.const -1)) (then unreachable))";
    for (code, options, says, hint) in [
        (
            spin,
            "--cpu-time 5ms --wall-time 1m",
            "CPU budget of 5ms",
            "--cpu-time",
        ),
        (
            spin,
            "--cpu-time 1m --wall-time 20ms",
            "wall limit of 20ms",
            "--wall-time",
        ),
        (spin, "--fuel 1000", "fuel of 1000 operators", "--fuel"),
        (recurse, "--stack 64KiB", "stack of 65536 bytes", "--stack"),
        (
            grow,
            "--memory 1MiB",
            "memory limit of 1048576 bytes",
            "--memory",
        ),
        ("", "--output 4", "answer is 14 bytes", "--output"),
    ] {
        place.write("guest.wasm", guest_with(ALLOW, code));
        let done = place.run(&format!("run ./guest.wasm request.http {options}"));
        done.fails(6, says);
        assert!(done.err.contains(hint), "{done:?}");
        assert!(
            done.out.contains("failed") && done.out.contains("CPU time"),
            "{done:?}"
        );
    }
    place.write("guest.wasm", guest_with(ALLOW, "unreachable"));
    place
        .run("run ./guest.wasm request.http")
        .fails(6, "aborted");
    place.write("guest.wasm", guest("no JSON"));
    place
        .run("run ./guest.wasm request.http")
        .fails(6, "no hook output");
}

#[test]
fn limits_out_of_range_are_the_callers_mistake() {
    let place = Place::new();
    for (options, says) in [
        ("--memory 2GiB", "memory_bytes is 2147483648"),
        ("--stack 1KiB", "stack_bytes is 1024"),
        ("--cpu-time 1ns", "cpu_time"),
        ("--memory lots", "invalid value"),
        ("--cpu-time soon", "invalid value"),
    ] {
        place
            .run(&format!("run ./allow.wasm request.http {options}"))
            .fails(2, says);
    }
}

/// A guest that allows if the input has the text, which must not be longer than a digit or so.
fn wants(place: &Place, needle: u8) {
    let code = format!(
        "(local i32) (local.set 2 (local.get 0))
         (block (loop
           (br_if 1 (i32.eq (i32.load8_u (local.get 2)) (i32.const {needle})))
           (local.set 2 (i32.add (local.get 2) (i32.const 1)))
           (br_if 0 (i32.lt_u (local.get 2) (i32.add (local.get 0) (local.get 1))))
           unreachable))"
    );
    place.write("wants.wasm", guest_with(ALLOW, &code));
}

#[test]
fn options_and_requests_reach_the_plugin() {
    let place = Place::new();
    wants(&place, b'~');
    let run = |options: &str| place.run(&format!("run ./wants.wasm {options}")).code;
    assert_eq!(run("request.http"), 6);
    assert_eq!(run("request.http --route a~b"), 0);
    assert_eq!(run("request.http --remote ~"), 0);
    place.write("tilde.http", "GET /%7e HTTP/1.1\n\n");
    assert_eq!(run("tilde.http"), 0);
    place.write("header.http", "GET / HTTP/1.1\nX: ~\n\n");
    assert_eq!(run("header.http"), 0);
    // The body travels in base64: `>>>` is `Pj4+`, and `>>` is `Pj4=`.
    wants(&place, b'+');
    place.write("body.http", "POST / HTTP/1.1\n\n>>>");
    assert_eq!(run("body.http"), 0);
    place.write("body.http", "POST / HTTP/1.1\nContent-Length: 2\n\n>>>");
    assert_eq!(run("body.http"), 6);
    place.write("input.json", r#"{"type":"on_connect","remote":"+"}"#);
    assert_eq!(run("input.json"), 0);
}

#[test]
fn the_input_may_come_from_standard_input() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["run", "./deny.wasm", "-", "--json"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(br#"{"type":"pre_request","method":"GET","path":"/"}"#)
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&run["output"]["status"], &run["verified"]),
        (&429.into(), &false.into())
    );
}

#[test]
fn inputs_that_are_none_are_refused_with_the_reason() {
    let place = Place::new();
    for (input, options, says) in [
        ("{", "", "invalid hook input"),
        (r#"{"method":"GET"}"#, "", "no `type`"),
        (r#"{"type":"sometimes"}"#, "", "hook type"),
        (
            r#"{"type":"on_close"}"#,
            "--type pre_request",
            "leave --type out",
        ),
        ("GET / HTTP/1.1\nHost: x\n", "", "empty line"),
        ("hello", "", "no HTTP/1.1 request"),
        ("", "", "no HTTP/1.1 request"),
    ] {
        place.write("input", input);
        place
            .run(&format!("run ./allow.wasm input {options}"))
            .fails(2, says);
    }
    place.write("input", vec![b' '; (1 << 20) + 1]);
    place
        .run("run ./allow.wasm input")
        .fails(2, "larger than the limit");
    place
        .run("run ./allow.wasm nowhere")
        .fails(1, "cannot read nowhere");
}

#[test]
fn a_plugin_is_told_apart_from_a_hook_type_it_does_not_serve() {
    let place = Place::with_installed();
    let done = place.run("run gate request.http --type on_close --trust alice.pub");
    assert_eq!(done.code, 0);
    assert!(
        done.err.contains("no gateway asks this plugin at on_close"),
        "{done:?}"
    );
    let done = place.run("run gate request.http --trust alice.pub");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

/// Where the compiler's program stands beside the command, it compiles, also what
/// nobody vouches for; where it does not, the command does.
#[test]
fn a_file_is_compiled_in_a_process_of_its_own() {
    let place = Place::new();
    let command = place.path("bin/vortex-plugin");
    place.write("bin/vortex-compile", "#!/bin/sh\nexit 3\n");
    std::fs::copy(PROGRAM, &command).unwrap();
    let compiler = place.path("bin/vortex-compile");
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = || {
        let done = Command::new(&command)
            .args(["run", "./allow.wasm", "request.http"])
            .current_dir(place.path("."))
            .output()
            .unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        (done.status.code(), err)
    };
    let (code, err) = run();
    assert_eq!(code, Some(6), "{err}");
    assert!(err.contains("compiler"), "{err}");
    std::fs::remove_file(compiler).unwrap();
    let (code, err) = run();
    assert_eq!(code, Some(0), "{err}");
}
