//! `HookOutput`: how it is made, written and read.

use http::StatusCode;
use vortex_hook_core::{HeaderChanges, HookOutput, InvalidHeader};

use crate::util::{changes, many_headers, name, values};

fn read(json: &str) -> HookOutput {
    HookOutput::from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{json:.200}: {e}"))
}

fn refused(json: impl AsRef<[u8]>) -> String {
    let json = json.as_ref();
    match HookOutput::from_json(json) {
        Ok(output) => panic!("{:.200}: {output:?}", String::from_utf8_lossy(json)),
        Err(error) => error.to_string(),
    }
}

fn allowed_with(list: &[(&str, &[&str])]) -> HookOutput {
    HookOutput {
        headers: changes(list),
        ..HookOutput::allow()
    }
}

#[test]
fn the_default_denies_with_403() {
    let output = HookOutput::default();
    assert!(!output.allow && !output.modified);
    assert_eq!(output.status, None);
    assert_eq!(output.deny_status(), StatusCode::FORBIDDEN);
    assert_eq!(read("{}"), output);
    let deny = HookOutput::deny(StatusCode::IM_A_TEAPOT);
    assert!(!deny.allow);
    assert_eq!(deny.deny_status(), StatusCode::IM_A_TEAPOT);
    assert!(HookOutput::allow().allow);
}

#[test]
fn with_header_replaces_and_marks_as_modified() {
    let output = HookOutput::allow()
        .with_header("X-A", "1")
        .and_then(|o| o.with_header("x-a", "2"))
        .unwrap();
    assert!(output.modified);
    assert_eq!(output.headers, changes(&[("x-a", &["2"])]));
}

#[test]
fn with_header_refuses_what_cannot_stand_in_http() {
    let bad = |name, value| HookOutput::allow().with_header(name, value).unwrap_err();
    for header in ["", "a b", "a:", "ä", "a\n"] {
        assert_eq!(
            bad(header, "v"),
            InvalidHeader::Name {
                name: header.to_owned()
            }
        );
    }
    for value in ["a\nb", "a\rb", "\0", "\u{7f}"] {
        assert_eq!(
            bad("x-a", value),
            InvalidHeader::Value { name: name("x-a") },
            "{value:?}"
        );
    }
    let full = many_headers("x", HeaderChanges::MAX_NAMES);
    assert_eq!(
        full.clone().with_header("y", "v"),
        Err(InvalidHeader::TooMany)
    );
    assert!(full.with_header("X-7", "new").is_ok());
}

#[test]
fn fields_are_found_without_regard_to_case_as_in_go() {
    let expected = HookOutput {
        allow: true,
        modified: true,
        headers: changes(&[("a", &["1"])]),
        status: Some(StatusCode::CREATED),
        body: None,
    };
    for json in [
        r#"{"aLLow":true,"MODIFIED":true,"hEADERs":{"a":["1"]},"Status":201}"#,
        // U+017F, the long s, folds to s.
        r#"{"allow":true,"modified":true,"headerſ":{"a":["1"]},"ſtatuſ":201}"#,
        r#"{"all\u006fw":true,"modified":true,"header\u017f":{"a":["1"]},"\u017fTATUS":201}"#,
    ] {
        assert_eq!(read(json), expected, "{json}");
    }
    // No letter of a field folds to these.
    for json in [
        r#"{"allo":true}"#,
        r#"{"allow ":true}"#,
        r#"{"allоw":true}"#,
    ] {
        assert!(!read(json).allow, "{json}");
    }
}

#[test]
fn a_field_named_twice_is_refused_in_any_case_and_for_any_value() {
    for json in [
        r#"{"allow":true,"allow":true}"#,
        r#"{"allow":null,"ALLOW":true}"#,
        r#"{"modified":true,"Modified":false}"#,
        r#"{"headers":{},"headers":{}}"#,
        r#"{"headers":null,"headerſ":null}"#,
        r#"{"status":0,"status":403}"#,
        r#"{"status":0,"\u017ftatus":0}"#,
    ] {
        assert!(refused(json).contains("duplicate field"), "{json}");
    }
    assert_eq!(read(r#"{"x":1,"x":2,"allow":true}"#), HookOutput::allow());
}

#[test]
fn null_leaves_the_zero_value() {
    assert_eq!(
        read(r#"{"allow":null,"modified":null,"headers":null,"status":null}"#),
        HookOutput::default()
    );
    assert_eq!(
        read(r#"{"allow":true,"headers":{"a":[null,"b"]}}"#),
        allowed_with(&[("a", &["", "b"])])
    );
}

#[test]
fn lone_surrogates_become_u_fffd() {
    for (escaped, value) in [
        (r"\ud83e", "\u{fffd}"),
        (r"\uDD80", "\u{fffd}"),
        (r"\ud83ex", "\u{fffd}x"),
        (r"\ud83e\n", "\u{fffd}\n"),
        (r"\ud83eA", "\u{fffd}A"),
        (r"\ud83e\u0041", "\u{fffd}A"),
        (r"\ud83e\ud83e", "\u{fffd}\u{fffd}"),
        (r"\udd80\ud83e", "\u{fffd}\u{fffd}"),
        (r"\ud83e\ud83e\udd80", "\u{fffd}🦀"),
        (r"\ud83e\udd80\udd80", "🦀\u{fffd}"),
        (r"\uD83E\uDD80", "🦀"),
        (r"\\\ud83e", "\\\u{fffd}"),
        (r"é\ud83e日", "é\u{fffd}日"),
        // An escaped backslash, and no surrogate.
        (r"\\ud83e", r"\ud83e"),
        (r"\\ud83e\ud83e", "\\ud83e\u{fffd}"),
        (r"\\\\ud83e", r"\\ud83e"),
    ] {
        // `\n` may stand in no header value: it shows as a refusal of the value, not of the JSON.
        let json = format!(r#"{{"allow":true,"headers":{{"x":["{escaped}"]}}}}"#);
        if value.contains('\n') {
            assert!(refused(json).contains("control character"));
        } else {
            assert_eq!(read(&json), allowed_with(&[("x", &[value])]), "{json}");
        }
    }
}

#[test]
fn a_lone_surrogate_in_a_key_names_no_field() {
    assert_eq!(
        read(r#"{"allow\ud83e":true,"x":"\udd80","allow":true}"#),
        HookOutput::allow()
    );
    assert!(!read(r#"{"\ud83eallow":true}"#).allow);
    assert!(refused(r#"{"headers":{"x\ud83e":[]}}"#).contains("not a token"));
}

#[test]
fn what_is_no_escape_is_refused() {
    for json in [
        r#"{"x":"\u12"}"#,
        r#"{"x":"\u+123"}"#,
        r#"{"allow":true,"\u+83e":1}"#,
        r#"{"headers":{"x":["\ud83e\u+d80"]}}"#,
        r#"{"headers":{"x":["\ud83e\u12"]}}"#,
        r#"{"headers":{"x":["\ud83e\q"]}}"#,
        r#"{"x":"\é"}"#,
        r#"{"x":"\"#,
        r#"{"\ud83e":"\ud83"#,
        r#"{"allow":true}\ud83e"#,
    ] {
        refused(json);
    }
}

#[test]
fn broken_utf_8_becomes_u_fffd_in_strings_only() {
    let output =
        HookOutput::from_json(b"{\"allow\":true,\"headers\":{\"x\":[\"a\xff\xe6\x97b\"]}}");
    assert_eq!(
        output.unwrap(),
        allowed_with(&[("x", &["a\u{fffd}\u{fffd}\u{fffd}b"])])
    );
    let output = HookOutput::from_json(b"{\"\xff\":1,\"allow\":true}");
    assert_eq!(output.unwrap(), HookOutput::allow());
    refused(b"{\"allow\":true}\xff");
    refused(b"{\"headers\":{\"x\xff\":[]}}");
}

#[test]
fn raw_control_characters_in_strings_are_refused() {
    for b in (0..0x20_u8).map(char::from) {
        refused(format!(r#"{{"x{b}":1}}"#));
        refused(format!(r#"{{"x":"{b}"}}"#));
        refused(format!(r#"{{"headers":{{"x":["{b}"]}}}}"#));
    }
}

#[test]
fn headers_that_cannot_stand_in_http_are_refused() {
    for header in ["", " ", "a b", "a:b", "a\\n", "é", "\\u0000", "\\ud83e"] {
        let error = refused(format!(r#"{{"headers":{{"{header}":["v"]}}}}"#));
        assert!(error.contains("not a token"), "{header}: {error}");
    }
    for value in ["a\\nb", "\\r", "\\u0000", "\\u007f", "a\\r\\nx-evil: 1"] {
        let error = refused(format!(r#"{{"headers":{{"X-A":["{value}"]}}}}"#));
        assert!(error.contains("`x-a` holds a control"), "{value}: {error}");
    }
    assert_eq!(
        read(r#"{"allow":true,"headers":{"x":["a\tb","","é"," "]}}"#),
        allowed_with(&[("x", &["a\tb", "", "é", " "])])
    );
}

#[test]
fn a_header_named_in_two_cases_is_refused() {
    for json in [
        r#"{"headers":{"X-A":["1"],"x-a":["2"]}}"#,
        r#"{"headers":{"x-a":null,"X-a":[]}}"#,
        r#"{"headers":{"x-a":[],"x\u002da":[]}}"#,
    ] {
        assert!(refused(json).contains("`x-a` is named twice"), "{json}");
    }
}

#[test]
fn as_many_names_as_fit_and_no_more() {
    let json = |count| {
        let names: Vec<_> = (0..count).map(|i| format!(r#""x-{i}":[]"#)).collect();
        format!(r#"{{"headers":{{{}}}}}"#, names.join(","))
    };
    assert_eq!(read(&json(256)).headers.len(), 256);
    assert!(refused(json(257)).contains("more than 256 headers"));
}

#[test]
fn as_many_values_as_fit_and_no_more() {
    let json = |a, b| {
        let list = |count| vec![r#""""#; count].join(",");
        format!(r#"{{"headers":{{"a":[{}],"b":[{}]}}}}"#, list(a), list(b))
    };
    let output = read(&json(1000, 24));
    assert_eq!(output.headers.get(&name("a")).map(<[_]>::len), Some(1000));
    assert_eq!(output.headers.get(&name("b")).map(<[_]>::len), Some(24));
    for (a, b) in [(1000, 25), (1025, 0), (0, 1025)] {
        assert!(refused(json(a, b)).contains("more than 1024 header values"));
    }
}

#[test]
fn depth_in_an_unknown_field_does_not_overflow_the_stack() {
    const DEPTH: usize = 100_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}0{}", open.repeat(DEPTH), close.repeat(DEPTH));
        assert_eq!(
            read(&format!(r#"{{"deep":{deep},"allow":true}}"#)),
            HookOutput::allow()
        );
        // With a lone surrogate, so that it is read a second time.
        assert_eq!(
            read(&format!(r#"{{"deep":{deep},"\ud83e":0,"allow":true}}"#)),
            HookOutput::allow()
        );
        refused(format!("[{deep}]"));
        refused(open.repeat(DEPTH));
        for field in ["allow", "modified", "headers", "status"] {
            refused(format!(r#"{{"{field}":{deep}}}"#));
        }
        refused(format!(r#"{{"headers":{{"x":[{deep}]}}}}"#));
    }
}

#[test]
fn a_status_is_none_or_from_100_to_999() {
    let status = |n: &str| format!(r#"{{"status":{n}}}"#);
    assert_eq!(read(&status("0")).status, None);
    for n in [100, 599, 999] {
        let code = StatusCode::from_u16(n).unwrap();
        assert_eq!(read(&status(&n.to_string())).status, Some(code));
    }
    for n in [
        "1",
        "99",
        "1000",
        "-1",
        "-403",
        // What is left of these modulo 2^16, 2^32 and 2^64 would do.
        "65939",
        "4294967699",
        "18446744073709552019",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999",
        "1e400",
        "403.0",
        "4.03e2",
        "0.0",
        "true",
        "\"403\"",
        "[403]",
        "0403",
        "+403",
        "NaN",
    ] {
        refused(status(n));
    }
    // A number that nobody reads may be of any size.
    assert_eq!(read(r#"{"x":1e400,"allow":true}"#), HookOutput::allow());
}

#[test]
fn an_output_is_written_and_read_back() {
    let outputs = [
        HookOutput::default(),
        HookOutput::allow(),
        HookOutput::deny(StatusCode::from_u16(999).unwrap()),
        HookOutput {
            modified: true,
            headers: changes(&[("a", &["\"\\\té🦀", ""]), ("cookie", &[])]),
            ..HookOutput::deny(StatusCode::CONTINUE)
        },
        many_headers("x", HeaderChanges::MAX_NAMES),
    ];
    for output in outputs {
        assert_eq!(HookOutput::from_json(&output.to_json()).unwrap(), output);
    }
    let mut output = HookOutput::allow();
    assert!(output.headers.set(name("set-cookie"), values(&["a", "b"])));
    assert_eq!(
        String::from_utf8(output.to_json()).unwrap(),
        r#"{"allow":true,"modified":false,"headers":{"Set-Cookie":["a","b"]},"status":0}"#
    );
}
