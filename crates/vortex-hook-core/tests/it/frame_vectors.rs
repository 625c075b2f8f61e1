//! The test vectors of the frame ABI: `tests/vectors/frame.json` of the workspace.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;
use vortex_hook_core::{
    FrameOutput, HeaderChanges, HookInput, HookOutput, HookType, LogLevel, LogLine,
};

fn vectors(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/frame.json");
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(cases) = all[kind].take() else {
        panic!("no vectors of kind {kind}");
    };
    assert!(!cases.is_empty(), "no vectors of kind {kind}");
    cases
}

fn text<'v>(case: &'v Value, field: &str) -> &'v str {
    case[field].as_str().unwrap()
}

fn base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn frame(case: &Value) -> Vec<u8> {
    let digits = text(case, "frame").as_bytes();
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn inputs_are_written_byte_for_byte() {
    for case in vectors("inputs") {
        let name = text(&case, "name");
        let phase: HookType = text(&case, "phase").parse().unwrap();
        let method = Method::from_bytes(text(&case, "method").as_bytes());
        let mut headers = HeaderMap::new();
        for pair in case["headers"].as_array().into_iter().flatten() {
            let name = HeaderName::try_from(pair[0].as_str().unwrap()).unwrap();
            headers.append(name, HeaderValue::from_bytes(&base64(&pair[1])).unwrap());
        }
        let body = (!case["body"].is_null()).then(|| base64(&case["body"]));
        let mut input = HookInput::new(phase)
            .with_path(text(&case, "path"))
            .with_query(text(&case, "query"))
            .with_scheme(text(&case, "scheme"))
            .with_authority(text(&case, "authority"))
            .with_remote(text(&case, "remote"))
            .with_route(text(&case, "route"));
        if let Ok(method) = &method {
            input = input.with_method(method);
        }
        if !case["headers"].is_null() {
            input = input.with_headers(&headers);
        }
        if let Some(body) = &body {
            input = input.with_body(body);
        }
        input = input.with_body_len(case["body_len"].as_u64().unwrap());
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        if status != 0 {
            input = input.with_status(StatusCode::from_u16(status).unwrap());
        }
        let mut out = vec![0xAA; 1 << 20];
        let (config, context) = (base64(&case["config"]), base64(&case["context"]));
        let len = input.write_frame(&mut out, &config, &context).unwrap();
        let expected = frame(&case);
        let differs = out[..len].iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((len, differs), (expected.len(), None), "{name}");
    }
}

#[test]
fn outputs_are_read() {
    for case in vectors("outputs") {
        let name = text(&case, "name");
        let mut headers = HeaderChanges::new();
        for operation in case["ops"].as_array().unwrap() {
            let header = HeaderName::try_from(operation[1].as_str().unwrap()).unwrap();
            let value = || HeaderValue::from_bytes(&base64(&operation[2])).unwrap();
            assert!(match operation[0].as_str().unwrap() {
                "set" => headers.insert(header, value()),
                "append" => headers.append(header, value()),
                "remove" => headers.set(header, vec![]),
                other => panic!("{name}: no operation is called {other}"),
            });
        }
        let logs = case["logs"].as_array().unwrap().iter().map(|line| LogLine {
            level: match line[0].as_str().unwrap() {
                "error" => LogLevel::Error,
                "warn" | "warning" => LogLevel::Warning,
                "info" | "information" => LogLevel::Information,
                "debug" => LogLevel::Debug,
                "trace" => LogLevel::Trace,
                other => panic!("{name}: no level is called {other}"),
            },
            text: line[1].as_str().unwrap().to_owned(),
        });
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let bytes = |field: &str| (!case[field].is_null()).then(|| base64(&case[field]));
        let expected = FrameOutput {
            output: HookOutput {
                allow: case["allow"].as_bool().unwrap(),
                modified: !headers.is_empty(),
                headers,
                status: (status != 0).then(|| StatusCode::from_u16(status).unwrap()),
                body: bytes("body").map(Into::into),
            },
            context: bytes("context"),
            logs: logs.collect(),
        };
        assert_eq!(
            FrameOutput::read(&frame(&case)).unwrap(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    for case in vectors("refused") {
        let (name, rule) = (text(&case, "name"), text(&case, "rule"));
        let answer = FrameOutput::read(&frame(&case));
        assert!(answer.is_err(), "{name}: {rule}: {answer:?}");
    }
}
