//! Properties of reading and writing, over generated values.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use vortex_hook_core::{HeaderChanges, HookInput, HookOutput, HookType};

/// Text that stays close to what the readers know.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\ud83e",
        "\\udd80",
        "\\u",
        "\\\\",
        " ",
        "null",
        "true",
        "false",
        "0",
        "403",
        "-",
        "1e9",
        "\"allow\"",
        "\"modified\"",
        "\"headers\"",
        "\"status\"",
        "\"type\"",
        "\"body\"",
        "\"path\"",
        "\"x-a\"",
        "{\"allow\":",
        "\u{17f}",
        "é",
    ]);
    let piece = prop_oneof![
        8 => token.prop_map(|t| t.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A header value in UTF-8; other bytes are read back as U+FFFD.
fn header_value() -> impl Strategy<Value = HeaderValue> {
    any::<String>().prop_map(|text| {
        let text: String = text
            .chars()
            .filter(|c| *c == '\t' || !c.is_ascii_control())
            .collect();
        HeaderValue::from_bytes(text.as_bytes()).unwrap()
    })
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}".prop_map(|name| HeaderName::try_from(name).unwrap())
}

fn header_list() -> impl Strategy<Value = Vec<(HeaderName, Vec<HeaderValue>)>> {
    let by_name = btree_map(
        header_name().prop_map(|n| n.to_string()),
        vec(header_value(), 0..4),
        0..8,
    );
    by_name.prop_map(|map| {
        map.into_iter()
            .map(|(n, v)| (n.parse().unwrap(), v))
            .collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(json in prop_oneof![nearly_json(), vec(any::<u8>(), 0..64)]) {
        let _ = HookInput::from_json(&json);
        let _ = HookOutput::from_json(&json);
    }

    /// What is accepted is accepted again, with the same meaning, once it is written.
    #[test]
    fn an_accepted_output_is_written_to_the_same(json in nearly_json()) {
        if let Ok(output) = HookOutput::from_json(&json) {
            prop_assert_eq!(HookOutput::from_json(&output.to_json()).unwrap(), output);
        }
    }

    #[test]
    fn an_output_is_read_back(
        allow: bool,
        modified: bool,
        status in prop::option::of(100_u16..1000),
        list in header_list(),
    ) {
        let mut headers = HeaderChanges::new();
        for (name, values) in list {
            prop_assert!(headers.set(name, values));
        }
        let status = status.map(|s| StatusCode::from_u16(s).unwrap());
        let output = HookOutput { allow, modified, headers, status, body: None };
        prop_assert_eq!(HookOutput::from_json(&output.to_json()).unwrap(), output);
    }

    #[test]
    fn a_string_of_any_escapes_means_what_go_says(units in vec(any_unit(), 0..12)) {
        let escaped: String = units.iter().map(|u| format!("\\u{u:04x}")).collect();
        let text = String::from_utf16_lossy(&units);
        let json = format!(r#"{{"allow":true,"headers":{{"x":["{escaped}"]}}}}"#);
        let read = HookOutput::from_json(json.as_bytes()).unwrap();
        let x = HeaderName::from_static("x");
        prop_assert_eq!(read.headers.get(&x).unwrap()[0].as_bytes(), text.as_bytes());
    }

    #[test]
    fn an_input_is_read_back(
        hook_type in prop::sample::select(HookType::ALL.to_vec()),
        path: String,
        remote: String,
        body in prop::option::of(vec(any::<u8>(), 0..100)),
        list in prop::option::of(header_list()),
    ) {
        let headers = list.map(|list| {
            let mut headers = HeaderMap::new();
            for (name, values) in list {
                for value in values {
                    headers.append(name.clone(), value);
                }
            }
            headers
        });
        let mut input = HookInput::new(hook_type).with_path(&path).with_remote(&remote);
        if let Some(headers) = &headers {
            input = input.with_headers(headers);
        }
        if let Some(body) = &body {
            input = input.with_body(body);
        }
        let read = HookInput::from_json(input.to_json()).unwrap();
        prop_assert_eq!(read.hook_type(), Some(hook_type));
        prop_assert_eq!(read.path(), path);
        prop_assert_eq!(read.remote(), remote);
        prop_assert_eq!(read.body(), body.as_deref());
        prop_assert_eq!(read.headers(), headers.as_ref());
    }
}

/// UTF-16 units, half of them surrogates, none a control character.
fn any_unit() -> impl Strategy<Value = u16> {
    prop_oneof![0xd800_u16..0xe000, 0x20_u16..0x7f, 0x80_u16..]
}
