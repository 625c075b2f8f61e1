//! `HookInput`: what it holds and how it is written and read.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use serde_json::{Value, json};
use vortex_hook_core::{HookInput, HookType};

fn parsed(input: &HookInput<'_>) -> Value {
    serde_json::from_slice(input.to_json()).unwrap()
}

#[test]
fn the_default_is_the_zero_value() {
    let zero = HookInput::default();
    assert_eq!(zero.hook_type(), None);
    assert_eq!(zero.method(), None);
    assert!(zero.headers().is_none());
    assert_eq!(zero.body(), None);
    assert_eq!((zero.path(), zero.remote(), zero.route()), ("", "", ""));
}

#[test]
fn the_body_is_cut_to_64_kib() {
    let body: Vec<u8> = (0..=u8::MAX)
        .cycle()
        .take(HookInput::MAX_BODY + 1)
        .collect();
    let cut = &body[..65_536];
    let input = HookInput::new(HookType::PreRequest).with_body(&body);
    assert_eq!(input.body(), Some(cut));
    let whole = HookInput::new(HookType::PreRequest).with_body(cut);
    assert_eq!(whole.body(), Some(cut));
    assert_eq!(input.to_json(), whole.to_json());

    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&body);
    let json = json!({"type": "pre_request", "body": base64}).to_string();
    let read = HookInput::from_json(json.as_bytes()).unwrap();
    assert_eq!(read.body(), Some(cut));
}

#[test]
fn bodies_of_every_length_around_a_base64_group_are_written() {
    for len in 0..8 {
        let body = &b"\xff\x00abcdef"[..len];
        let input = HookInput::new(HookType::PreRequest).with_body(body);
        let read = HookInput::from_json(input.to_json()).unwrap();
        assert_eq!(read.body(), Some(body));
    }
}

#[test]
fn json_is_written_once_and_forgotten_at_a_change() {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-a"),
        HeaderValue::from_static("1"),
    )]);
    let input = HookInput::new(HookType::OnConnect);
    let first = input.to_json().as_ptr();
    assert_eq!(first, input.to_json().as_ptr());

    // Each setter is called on an input that is written already.
    type Change<'a> = fn(HookInput<'a>, &'a HeaderMap) -> HookInput<'a>;
    let changes: [(&str, Value, Change<'_>); 6] = [
        ("method", json!("GET"), |i, _| i.with_method(&Method::GET)),
        ("path", json!("/p"), |i, _| i.with_path("/p")),
        ("headers", json!({"X-A": ["1"]}), |i, h| i.with_headers(h)),
        ("body", json!("YQ=="), |i, _| i.with_body(b"a")),
        ("remote", json!("r"), |i, _| i.with_remote("r")),
        ("route", json!("api"), |i, _| i.with_route("api")),
    ];
    let mut input = input;
    for (field, value, change) in changes {
        assert_ne!(parsed(&input)[field], value, "{field}");
        input = change(input, &headers);
        assert_eq!(parsed(&input)[field], value, "{field}");
    }
    let copy = input.clone();
    assert_eq!(copy.to_json(), input.to_json());
}

#[test]
fn a_request_gives_its_decoded_path_without_the_query() {
    for (uri, path) in [
        ("/%61dmin?x=%20", "/admin"),
        ("/a%20b%2Fc", "/a b/c"),
        ("/a+b", "/a+b"),
        ("/%2561", "/%61"),
        ("/%e6%97%a5", "/日"),
        ("/%zz%4", "/%zz%4"),
        ("/%00", "/\0"),
        ("http://a.example/x?y", "/x"),
        ("*", "*"),
        // As in Go, each byte that fits nowhere is one U+FFFD.
        ("/%e6%97/%ff", "/\u{fffd}\u{fffd}/\u{fffd}"),
    ] {
        let request = Request::put(uri).header("x-a", "1").body(()).unwrap();
        let input = HookInput::from_request(HookType::PreRequest, &request);
        assert_eq!(input.path(), path, "{uri}");
        assert_eq!(parsed(&input)["path"], path, "{uri}");
        assert_eq!(input.hook_type(), Some(HookType::PreRequest));
        assert_eq!(input.method(), Some(&Method::PUT));
        assert_eq!(input.headers(), Some(request.headers()));
        assert_eq!(input.body(), None);
    }
}

#[test]
fn header_values_with_every_byte_they_can_hold_are_written() {
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_static("x-bin");
    let bytes: Vec<u8> = (0x20..=0xff)
        .filter(|b| *b != 0x7f)
        .chain([b'\t'])
        .collect();
    for &b in &bytes {
        headers.append(&name, HeaderValue::from_bytes(&[b'<', b, b'>']).unwrap());
    }
    let all = HeaderValue::from_bytes(&bytes).unwrap();
    headers.append(&name, all);
    let input = HookInput::new(HookType::PreRequest).with_headers(&headers);

    let shown = |b: u8| if b < 0x80 { char::from(b) } else { '\u{fffd}' };
    let mut expected: Vec<String> = bytes.iter().map(|&b| format!("<{}>", shown(b))).collect();
    // No two of the bytes from 0x80 on make a character in this order.
    expected.push(bytes.iter().map(|&b| shown(b)).collect());
    assert_eq!(parsed(&input)["headers"], json!({"X-Bin": expected}));
}

#[test]
fn broken_utf_8_is_replaced_byte_by_byte_as_in_go() {
    for (bytes, text) in [
        (&b"\xe6\x97"[..], "\u{fffd}\u{fffd}"),
        (b"\xe6\x97A", "\u{fffd}\u{fffd}A"),
        (b"\xf0\x9f\xa6\xe6\x97\xa5", "\u{fffd}\u{fffd}\u{fffd}日"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
    ] {
        let value = HeaderValue::from_bytes(bytes).unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x"), value)]);
        let input = HookInput::new(HookType::PreRequest).with_headers(&headers);
        assert_eq!(parsed(&input)["headers"]["X"], json!([text]), "{bytes:?}");
    }
}

#[test]
fn every_control_character_is_escaped() {
    let path: String = (0..=0x7f_u8).map(char::from).collect();
    let input = HookInput::new(HookType::PreRequest).with_path(&*path);
    assert_eq!(parsed(&input)["path"], path);
    assert!(input.to_json().iter().all(|b| *b >= 0x20));
}

#[test]
fn header_names_are_canonical() {
    for (name, canonical) in [
        ("www-authenticate", "Www-Authenticate"),
        ("ETAG", "Etag"),
        ("x-1a-b", "X-1a-B"),
        ("-x--y-", "-X--Y-"),
        ("x_y.z", "X_y.z"),
        ("dnt", "Dnt"),
    ] {
        let headers = HeaderMap::from_iter([(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_static("v"),
        )]);
        let input = HookInput::new(HookType::PreRequest).with_headers(&headers);
        assert_eq!(parsed(&input)["headers"], json!({canonical: ["v"]}));
    }
}

#[test]
fn values_of_one_header_keep_their_order() {
    let mut headers = HeaderMap::new();
    for (name, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("a", "5")] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let input = HookInput::new(HookType::PostResponse).with_headers(&headers);
    assert_eq!(
        parsed(&input)["headers"],
        json!({"A": ["1", "3", "5"], "B": ["2", "4"]})
    );
}

#[test]
fn what_is_no_input_is_refused() {
    for json in [
        "",
        "null",
        "7",
        "{",
        r#"{"type":"pre_request"}x"#,
        r#"{"type":"Pre_Request"}"#,
        r#"{"type":"before_lunch"}"#,
        r#"{"method":"G T"}"#,
        r#"{"headers":{"a b":["v"]}}"#,
        r#"{"headers":{"":["v"]}}"#,
        r#"{"headers":{"a":["x\ny"]}}"#,
        r#"{"headers":{"a":"v"}}"#,
        r#"{"body":"!"}"#,
        r#"{"body":"YQ"}"#,
        "{\"path\":\"a\nb\"}",
    ] {
        let read = HookInput::from_json(json.as_bytes());
        let error = read.expect_err(json).to_string();
        assert!(error.starts_with("invalid hook input: "), "{error}");
    }
}

#[test]
fn an_input_is_read_with_what_may_be_left_out_or_unknown() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let json = format!(
        r#"{{"new":{deep},"type":"on\u005fclose","method":"PURGE","headers":{{"a":["1"],"A":["2"],"b":null}}}}"#
    );
    let input = HookInput::from_json(json.as_bytes()).unwrap();
    assert_eq!(input.hook_type(), Some(HookType::OnClose));
    assert_eq!(input.method().unwrap(), "PURGE");
    assert_eq!(input.headers().unwrap().get_all("a").iter().count(), 2);

    let input = HookInput::from_json(b"{\"path\":\"\xff\"}").unwrap();
    assert_eq!((input.hook_type(), input.path()), (None, "\u{fffd}"));
}

#[test]
fn hook_types_have_one_name_everywhere() {
    for (hook_type, name) in
        HookType::ALL
            .into_iter()
            .zip(["pre_request", "post_response", "on_connect", "on_close"])
    {
        assert_eq!(hook_type.as_str(), name);
        assert_eq!(hook_type.to_string(), name);
        assert_eq!(name.parse(), Ok(hook_type));
        assert_eq!(serde_json::to_value(hook_type).unwrap(), name);
        assert_eq!(
            serde_json::from_value::<HookType>(json!(name)).unwrap(),
            hook_type
        );
        let input = HookInput::new(hook_type);
        assert_eq!(parsed(&input)["type"], name);
    }
    for name in ["", "PreRequest", "PRE_REQUEST", "pre_request "] {
        assert!(name.parse::<HookType>().is_err(), "{name:?}");
    }
}
