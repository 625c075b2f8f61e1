//! Every case of the vectors that were made with the Go system.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_executor::block_on;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;
use vortex_hook_core::{
    ChainError, ChainOrder, HeaderChanges, HookChain, HookContext, HookError, HookInput,
    HookOutput, HookType, Registration, hook_fn,
};

const INPUTS: &str = include_str!("../vectors/hook_input.json");
const OUTPUTS: &str = include_str!("../vectors/hook_output.json");
const CHAINS: &str = include_str!("../vectors/hook_chain.json");

fn cases(text: &str, count: usize) -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    assert_eq!(cases.len(), count, "a case has come or gone");
    cases
}

fn text<'v>(case: &'v Value, field: &str) -> &'v str {
    case[field].as_str().expect(field)
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0);
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn every_input_is_written_as_the_go_system_writes_it() {
    for case in cases(INPUTS, 12) {
        let what = text(&case, "case");
        let method = case["method"].as_str().filter(|m| !m.is_empty());
        let method: Option<Method> = method.map(|m| m.parse().unwrap());
        let body = case["body_hex"].as_str().map(unhex);
        let mut headers = HeaderMap::new();
        for header in list(&case["headers"]) {
            let name = HeaderName::try_from(text(header, "name")).unwrap();
            for value in list(&header["values"]) {
                let value = value.as_str().unwrap();
                let bytes = match value.strip_prefix("hex:") {
                    Some(hex) => unhex(hex),
                    None => value.as_bytes().to_vec(),
                };
                headers.append(&name, HeaderValue::from_bytes(&bytes).unwrap());
            }
        }

        let mut input = match text(&case, "type") {
            "" => HookInput::default(),
            hook_type => HookInput::new(hook_type.parse().unwrap()),
        };
        input = input
            .with_path(text(&case, "path"))
            .with_remote(text(&case, "remote"))
            .with_route(text(&case, "route"));
        if let Some(method) = &method {
            input = input.with_method(method);
        }
        if case["headers_nil"] == false {
            input = input.with_headers(&headers);
        }
        if let Some(body) = &body {
            input = input.with_body(body);
        }

        let wire = text(&case, "wire");
        assert_eq!(parsed(input.to_json()), parsed(wire.as_bytes()), "{what}");

        let read = HookInput::from_json(wire.as_bytes()).unwrap();
        assert_eq!(parsed(read.to_json()), parsed(wire.as_bytes()), "{what}");
        assert_eq!(read.hook_type(), input.hook_type(), "{what}");
        assert_eq!(read.body(), body.as_deref(), "{what}");
    }
}

#[test]
fn every_output_is_read_as_the_go_system_reads_it() {
    let mut differences = Vec::new();
    for case in cases(OUTPUTS, 31) {
        let what = text(&case, "case");
        let read = HookOutput::from_json(text(&case, "wire").as_bytes());
        let status = case["status"].as_i64().unwrap();
        let differs = what.starts_with("duplicate key") || !(0..=999).contains(&status);
        if differs {
            assert_eq!(case["ok"], true, "{what}: no difference");
            assert!(read.is_err(), "{what}: {read:?}");
            differences.push(what.to_owned());
            continue;
        }
        assert_eq!(case["ok"], read.is_ok(), "{what}: {read:?}");
        let Ok(output) = read else { continue };
        assert_eq!(output, output_of(&case), "{what}");
        assert_eq!(
            HookOutput::from_json(&output.to_json()).unwrap(),
            output,
            "{what}"
        );
    }
    assert_eq!(
        differences,
        [
            "duplicate key, last wins",
            "status negative",
            "status above 999"
        ]
    );
}

#[test]
fn a_null_list_of_header_values_is_an_empty_one() {
    let cases = cases(OUTPUTS, 31);
    let case = cases.iter().find(|c| c["case"] == "header value null");
    let output = HookOutput::from_json(text(case.unwrap(), "wire").as_bytes()).unwrap();
    let x = HeaderName::from_static("x");
    assert_eq!(output.headers.get(&x), Some(&[][..]));
}

#[test]
fn every_chain_runs_as_the_go_system_runs_it() {
    for case in cases(CHAINS, 8) {
        let what = text(&case, "case");
        let called = Arc::new(Mutex::new(Vec::new()));
        let chain = HookChain::new(match case["prioritised"].as_bool().unwrap() {
            true => ChainOrder::Priority,
            false => ChainOrder::Registration,
        });
        for hook in list(&case["registered"]) {
            let name = text(hook, "hook").to_owned();
            let output = output_of(&hook["out"]);
            let error = hook["err"].as_str().map(str::to_owned);
            let priority = i32::try_from(hook["priority"].as_i64().unwrap()).unwrap();
            let called = Arc::clone(&called);
            let registered = name.clone();
            let hook = hook_fn(move |_, _| {
                called.lock().unwrap().push(name.clone());
                match &error {
                    Some(error) => Err(HookError::new(error.as_str())),
                    None => Ok(output.clone()),
                }
            });
            chain.register(
                Registration::new(registered, HookType::ALL, hook).with_priority(priority),
            );
        }

        let input = HookInput::new(HookType::PreRequest);
        let result = block_on(chain.execute(&HookContext::new(), &input));
        assert_eq!(
            case["called"],
            Value::from(called.lock().unwrap().clone()),
            "{what}"
        );
        match (case["err"].as_str(), result) {
            (None, Ok(output)) => assert_eq!(output, output_of(&case["final"]), "{what}"),
            // An error has no output: nothing of earlier changes is left.
            (Some(error), Err(ChainError::Hook { hook, source })) => {
                assert_eq!(
                    (hook.as_str(), source.to_string().as_str()),
                    ("b", error),
                    "{what}"
                );
            }
            (_, result) => panic!("{what}: {result:?}"),
        }
    }
}

/// The output that the fields of a case describe.
fn output_of(case: &Value) -> HookOutput {
    let headers: Option<BTreeMap<String, Option<Vec<String>>>> =
        serde_json::from_value(case["headers"].clone()).unwrap();
    let mut changes = HeaderChanges::new();
    for (name, values) in headers.unwrap_or_default() {
        let values = values.unwrap_or_default();
        let values = values.iter().map(|v| v.parse().unwrap());
        assert!(changes.set(name.parse().unwrap(), values.collect()));
    }
    let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
    HookOutput {
        allow: case["allow"].as_bool().unwrap(),
        modified: case["modified"].as_bool().unwrap(),
        headers: changes,
        status: (status != 0).then(|| StatusCode::from_u16(status).unwrap()),
        body: None,
    }
}
