//! The JSON ABI: against the host's own writer and reader.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use vortex_hook_core::{HookInput, HookOutput, HookType};
use vortex_plugin_sdk::{Error, Input, Level, Output, call_json};

use crate::vectors::{InputVector, vectors};

type Hook = fn(&Input<'_>, &mut Output<'_>) -> Result<(), Error>;

/// Calls with a JSON text as the exports do.
fn answer(
    text: &[u8],
    hook: impl FnOnce(&Input<'_>, &mut Output<'_>) -> Result<(), Error>,
) -> Result<HookOutput, Error> {
    let (mut json, mut input, mut output) = (
        vec![0; 256 * 1024],
        vec![0xEE; 192 * 1024],
        vec![0xEE; 64 * 1024],
    );
    json[..text.len()].copy_from_slice(text);
    let length = call_json(&mut json, text.len(), &mut input, &mut output, hook)?;
    Ok(HookOutput::from_json(&json[..length]).unwrap())
}

/// The JSON that the host writes for a vector.
fn json_of(vector: &InputVector) -> Vec<u8> {
    let method = Method::from_bytes(vector.method.as_bytes());
    let mut input = HookInput::new(vector.phase.parse::<HookType>().unwrap())
        .with_path(&vector.path)
        .with_remote(&vector.remote)
        .with_route(&vector.route);
    if let Ok(method) = &method {
        input = input.with_method(method);
    }
    let headers = vector.headers().map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    });
    if let Some(headers) = &headers {
        input = input.with_headers(headers);
    }
    if let Some(body) = &vector.body {
        input = input.with_body(&body.0);
    }
    input.to_json().to_vec()
}

/// What is in a frame is found in the JSON of the same input, as far as JSON
/// can say it.
#[test]
fn a_hook_finds_the_same_in_json() {
    for vector in vectors().inputs {
        let name = &vector.name;
        let mut called = false;
        let found = answer(&json_of(&vector), |input, _| {
            called = true;
            assert_eq!(input.phase(), vector.phase(), "{name}");
            assert_eq!(input.method(), vector.method, "{name}");
            assert_eq!(input.path(), vector.path, "{name}");
            assert_eq!(input.remote(), vector.remote, "{name}");
            assert_eq!(input.route(), vector.route, "{name}");
            assert_eq!(input.has_headers(), vector.headers.is_some(), "{name}");
            let lossy = |value: &[u8]| HookText::lossy(value);
            let expected: Vec<_> = vector.headers().unwrap_or_default();
            let expected = expected.iter().map(|(name, value)| (*name, lossy(value)));
            let found: Vec<_> = input.headers().collect();
            let found = found.iter().map(|(name, value)| (*name, lossy(value)));
            assert!(found.eq(expected), "{name}");
            let body = vector.body.as_ref().map(|body| &body.0[..]);
            assert!(input.body() == body, "{name}");
            assert_eq!(
                input.body_len(),
                body.map_or(0, <[u8]>::len) as u64,
                "{name}"
            );
            let nothing = [input.query(), input.scheme(), input.authority()];
            assert_eq!(nothing, [""; 3], "{name}");
            assert!(
                input.config().is_empty() && input.context().is_empty(),
                "{name}"
            );
            Ok(())
        });
        assert!(called && found.unwrap().allow, "{name}");
    }
}

/// Bytes as the host's JSON shows them: one U+FFFD for each that fits nowhere.
struct HookText;

impl HookText {
    fn lossy(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        text
    }
}

const PLAIN: &str = r#"{"type":"pre_request","method":"GET","path":"/","headers":
    {"Via":["1","2"],"Cookie":["a=1"]},"body":null,"remote":"","route":""}"#;

/// The values that an answer sets a header to.
fn values(output: &HookOutput, name: &'static str) -> Option<Vec<String>> {
    let values = output.headers.get(&HeaderName::from_static(name))?;
    Some(
        values
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect(),
    )
}

fn list(values: &[&str]) -> Option<Vec<String>> {
    Some(values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn operations_are_carried_out() {
    let hook: Hook = |_, output| {
        output.append_header("via", "3")?;
        output.set_header("X-A", "gone")?;
        output.remove_header("cookie")?;
        output.append_header("VIA", "4")?;
        output.set_header("x-a", "\" \\ \t ä")?;
        output.append_header("x-A", "2")?;
        output.append_header("x-b", "")?;
        output.remove_header("x-c")?;
        output.append_header("x-c", "5")?;
        output.set_body(b"dropped")?;
        output.set_context(b"dropped")?;
        output.log(Level::Info, "dropped")
    };
    let allowed = answer(PLAIN.as_bytes(), hook).unwrap();
    assert!(allowed.allow && allowed.modified && allowed.status.is_none());
    assert_eq!(values(&allowed, "via"), list(&["1", "2", "3", "4"]));
    assert_eq!(values(&allowed, "cookie"), list(&[]));
    assert_eq!(values(&allowed, "x-a"), list(&["\" \\ \t ä", "2"]));
    assert_eq!(values(&allowed, "x-b"), list(&[""]));
    assert_eq!(values(&allowed, "x-c"), list(&["5"]));
    assert_eq!(allowed.headers.len(), 5);

    let denied = answer(PLAIN.as_bytes(), |input, output| {
        output.deny(429);
        hook(input, output)
    });
    let denied = denied.unwrap();
    assert!(!denied.allow && denied.modified);
    assert_eq!(denied.deny_status(), 429);
    // The headers of a denial are those of a reply, which begins without any.
    assert_eq!(values(&denied, "via"), list(&["3", "4"]));
}

#[test]
fn a_status_is_a_number() {
    for status in [0, 100, 301, 999] {
        let output = answer(PLAIN.as_bytes(), |_, output| {
            output.deny(status);
            Ok(())
        });
        let output = output.unwrap();
        assert_eq!(output.status.map_or(0, |status| status.as_u16()), status);
        assert!(!output.modified);
    }
}

#[test]
fn escapes_are_undone() {
    let text = r#" { "type" : "on_close", "x" : [ {"a":[1.5e3,true,null]}, "]}\"" ], "method" : null,
        "path":"\"\\\/\b\f\n\r\t\u0041\u00e4\ud83e\uddc0\ud83e\udc","headers":{"X-\u0041":["\u0000",
        null],"Y":null,"Z":[]},"body":"" } "#;
    let lone = text.replace(r"\ud83e\udc", r"\ud83e-\udc00\ud83eA");
    let found = answer(lone.as_bytes(), |input, _| {
        assert_eq!(input.method(), "");
        assert_eq!(
            input.path(),
            "\"\\/\u{8}\u{C}\n\r\tAä🧀\u{FFFD}-\u{FFFD}\u{FFFD}A"
        );
        assert!(input.headers().eq([("x-a", &b"\0"[..]), ("x-a", b"")]));
        assert_eq!(input.body(), Some(&b""[..]));
        Ok(())
    });
    assert!(found.unwrap().allow);
    // The escape that was replaced is cut short.
    assert_eq!(
        answer(text.as_bytes(), |_, _| Ok(())),
        Err(Error::Malformed)
    );
}

#[test]
fn what_is_no_input_is_refused() {
    let deep = |depth| {
        format!(
            r#"{{"type":"on_close","x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(answer(deep(64).as_bytes(), |_, _| Ok(())).is_ok());
    let bad_bodies = [
        "A", "AA", "AAA", "A===", "AA=A", "====", "AB==", "AAB=", "AA-_", "AAAA=",
    ];
    let bad_bodies = bad_bodies.map(|body| format!(r#"{{"type":"on_close","body":"{body}"}}"#));
    let texts = [
        "",
        "null",
        "[]",
        "{",
        "{}",
        r#"{"type":""}"#,
        r#"{"type":"other"}"#,
        r#"{"type":1}"#,
        r#"{"type":"on_close""#,
        r#"{"type":"on_close"}}"#,
        r#"{"type":"on_close"} x"#,
        r#"{"type":"on_close",}"#,
        r#"{,"type":"on_close"}"#,
        r#"{"type":"on_close","type":"on_close"}"#,
        r#"{"type":"on_close","headers":{},"headers":null}"#,
        r#"{"type":"on_close","headers":[]}"#,
        r#"{"type":"on_close","headers":{"A":"b"}}"#,
        r#"{"type":"on_close","headers":{"A":["b"}}"#,
        r#"{"type":"on_close","headers":{"A":[["b"]]}}"#,
        r#"{"type":"on_close","headers":{"A":[,]}}"#,
        r#"{"type":"on_close","path":"\x"}"#,
        r#"{"type":"on_close","path":"\u12g4"}"#,
        "{\"type\":\"on_close\",\"path\":\"a\nb\"}",
        r#"{"type":"on_close","x":[}]}"#,
        r#"{"type":"on_close","x":]}"#,
        r#"{"type":"on_close","x":}"#,
        r#"{"type":"on_close","x":,"y":1}"#,
    ];
    let texts = texts
        .iter()
        .map(|text| (*text).to_owned())
        .chain([deep(65)])
        .chain(bad_bodies);
    for text in texts {
        let refused = answer(text.as_bytes(), |_, _| Ok(()));
        assert_eq!(refused, Err(Error::Malformed), "{text}");
    }
}

/// Cut anywhere and with any byte replaced by some, a text is understood or
/// refused.
#[test]
fn no_text_is_too_broken() {
    let text = PLAIN
        .replace("null", r#""QUJD""#)
        .replace("\"/\"", r#""/\ud83e\uddc0\n""#);
    let mut understood = 0;
    let mut buffers = (vec![0; 4096], vec![0; 4096], vec![0; 4096]);
    let mut ask = |text: &[u8]| {
        let (json, input, output) = &mut buffers;
        json[..text.len()].copy_from_slice(text);
        understood += usize::from(
            call_json(json, text.len(), input, output, |input, output| {
                output.append_header("via", input.path())
            })
            .is_ok(),
        );
    };
    for at in 0..text.len() {
        ask(&text.as_bytes()[..at]);
        for byte in [
            b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'u', b'0', 0, 0xFF,
        ] {
            let mut text = text.clone().into_bytes();
            text[at] = byte;
            ask(&text);
        }
    }
    assert!(understood > 100, "{understood}");
}

/// Buffers of any size hold a whole answer, or there is none.
#[test]
fn no_buffer_is_too_small() {
    let hook: Hook = |_, output| output.append_header("via", "3");
    let mut whole = 0;
    for size in 0..400 {
        let big = || (vec![0; 400], vec![0; 400], vec![0; 400]);
        for small in 0..3 {
            let (mut json, mut input, mut output) = big();
            json[..PLAIN.len()].copy_from_slice(PLAIN.as_bytes());
            match small {
                0 => json.truncate(size),
                1 => input.truncate(size),
                _ => output.truncate(size),
            }
            match call_json(&mut json, PLAIN.len(), &mut input, &mut output, hook) {
                Ok(length) => {
                    let output = HookOutput::from_json(&json[..length]).unwrap();
                    assert_eq!(values(&output, "via"), list(&["1", "2", "3"]));
                    whole += 1;
                }
                Err(Error::Malformed) => assert!(small == 0 && size < PLAIN.len()),
                Err(error) => assert_eq!(error, Error::Full),
            }
        }
    }
    assert!(whole > 100, "{whole}");
}
