//! The frame ABI between host and guest: `docs/abi-frame.md`.

use std::sync::{Arc, Mutex};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use vortex_hook_core::{
    Exchange, HeaderChange, Hook, HookChain, HookContext, HookError, HookInput, HookOutput,
    HookType, Registration,
};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{assert_fails, cpu, fixture, hook, runtime, wat};

fn ask(hook: &WasmHook, cx: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError> {
    futures_executor::block_on(hook.call(cx, input))
}

/// A module that speaks frames: its descriptor at 16, an answer at 4096, and code.
fn frames(code: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
          (memory (export "memory") 2)
          ;; Input: 8192, 32 KiB. Output: 4096, 1 KiB.
          (data (i32.const 16) "\00\20\00\00\00\80\00\00\00\10\00\00\00\04\00\00")
          ;; Allows: length 40, version 2.
          (data (i32.const 4096) "\28\00\00\00\02\00")
          {code})"#
    ))
}

const DESCRIBED: &str = r#"(func (export "vortex_abi_v2") (result i32) (i32.const 16))"#;

fn described(handle: &str) -> Vec<u8> {
    frames(&format!(
        r#"{DESCRIBED} (func (export "vortex_handle") (param $len i32) (result i32) {handle})"#
    ))
}

fn load(wasm: &[u8]) -> Result<WasmHook, SandboxError> {
    WasmHook::new(runtime().load("frames", wasm)?)
}

fn call(wasm: &[u8]) -> Result<HookOutput, HookError> {
    let hook = load(wasm).unwrap();
    ask(
        &hook,
        &HookContext::new(),
        &HookInput::new(HookType::OnConnect),
    )
}

#[test]
fn a_guest_sees_every_field_and_says_everything() {
    let runtime = runtime();
    let hook = hook(&runtime, "frame-echo").with_config(*b"limit = 3");
    let request = Request::post("https://api.example/v1/a%20b?q=%20")
        .header("X-Deny", "429")
        .header("accept", "a")
        .header("accept", "b")
        .body(())
        .unwrap();
    let body = vec![b'z'; 1_000];
    let input = HookInput::from_request(HookType::PreRequest, &request)
        .with_status(StatusCode::CREATED)
        .with_body(&body)
        .with_body_len(5_000)
        .with_remote("203.0.113.7:51514")
        .with_route("orders");
    let exchange = Arc::new(Exchange::new());
    let cx = HookContext::new().with_exchange(Arc::clone(&exchange));
    let output = ask(&hook, &cx, &input).unwrap();

    for (name, expected) in [
        ("x-phase", "pre_request"),
        ("x-status", "201"),
        ("x-method", "POST"),
        ("x-path", "/v1/a b"),
        ("x-query", "q=%20"),
        ("x-scheme", "https"),
        ("x-authority", "api.example"),
        ("x-remote", "203.0.113.7:51514"),
        ("x-route", "orders"),
        ("x-headers", "3"),
        ("x-body", "1000"),
        ("x-body-len", "5000"),
        ("x-config", "limit = 3"),
        ("x-context", ""),
    ] {
        let values = output.headers.get(&HeaderName::from_static(name));
        assert_eq!(values.unwrap(), [expected], "{name}");
    }
    let changes: Vec<_> = output.headers.iter().skip(14).collect();
    let (deny, a_and_b) = (
        [HeaderValue::from_static("429")],
        ["a", "b"].map(HeaderValue::from_static),
    );
    assert_eq!(
        changes,
        [
            (
                &HeaderName::from_static("echo-x-deny"),
                HeaderChange::Append(&deny)
            ),
            (
                &HeaderName::from_static("echo-accept"),
                HeaderChange::Append(&a_and_b)
            ),
            (
                &HeaderName::from_static("x-remove"),
                HeaderChange::Replace(&[])
            ),
        ]
    );
    assert_eq!((output.allow, output.deny_status().as_u16()), (false, 429));
    assert_eq!(output.body.unwrap(), body);

    // What it kept, it finds in the next phase of the same request alone.
    assert_eq!(exchange.kept("frame-echo"), Some(b"+".to_vec()));
    let after = HookInput::new(HookType::PostResponse);
    let context = |cx: &HookContext| {
        let output = ask(&hook, cx, &after).unwrap();
        let values = output.headers.get(&HeaderName::from_static("x-context"));
        values.unwrap()[0].to_str().unwrap().to_owned()
    };
    assert_eq!(context(&cx), "+");
    assert_eq!(context(&cx), "++");
    assert_eq!(context(&HookContext::new()), "", "no exchange");
    let another = HookContext::new().with_exchange(Arc::default());
    assert_eq!(context(&another), "", "another request");
}

#[test]
fn one_source_answers_alike_in_both_abis() {
    let runtime = runtime();
    let frames = hook(&runtime, "frame-api-key");
    let json = hook(&runtime, "api-key");
    assert_eq!(
        (frames.plugin().abi(), json.plugin().abi()),
        (Some(2), Some(1))
    );
    for key in [
        None,
        Some("k-demo-123"),
        Some("k-mobile-456"),
        Some("k-demo-12"),
        Some(""),
    ] {
        let mut headers = HeaderMap::new();
        headers.extend(key.map(|key| (HeaderName::from_static("x-api-key"), key.parse().unwrap())));
        let input = HookInput::new(HookType::PreRequest)
            .with_method(&Method::GET)
            .with_path("/")
            .with_headers(&headers);
        let cx = HookContext::new();
        let outputs = [&frames, &json].map(|hook| ask(hook, &cx, &input).unwrap());
        assert_eq!(outputs[0].allow, outputs[1].allow, "{key:?}");
        assert_eq!(outputs[0].headers, outputs[1].headers, "{key:?}");
        assert_eq!(
            outputs[0].deny_status(),
            outputs[1].deny_status(),
            "{key:?}"
        );
    }
}

#[test]
fn frames_and_json_share_a_chain() {
    let runtime = runtime();
    let chain = HookChain::default();
    for name in ["frame-api-key", "api-key", "frame-body"] {
        chain.register(Registration::new(
            name,
            [HookType::PreRequest],
            hook(&runtime, name),
        ));
    }
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-api-key"),
        HeaderValue::from_static("k-demo-123"),
    )]);
    let input = HookInput::new(HookType::PreRequest)
        .with_headers(&headers)
        .with_body(b"abc");
    let output = futures_executor::block_on(chain.execute(&HookContext::new(), &input)).unwrap();
    let consumer = output.headers.get(&HeaderName::from_static("x-consumer"));
    assert!(output.allow && consumer.unwrap() == ["demo"]);
}

#[test]
fn failures_fail_the_call_and_the_next_one_works() {
    let runtime = runtime();
    let hook = hook(&runtime, "frame-echo");
    let with = |name: &'static str, value: &'static str| {
        let name = HeaderName::from_static(name);
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let input = HookInput::new(HookType::PreRequest).with_headers(&headers);
        ask(&hook, &HookContext::new(), &input)
    };
    for _ in 0..3 {
        assert_fails!(with("x-fail", "failed"), SandboxError::PluginFailed { code } if *code < 0);
        assert_fails!(with("x-fail", "full"), SandboxError::PluginFailed { .. });
        assert_fails!(with("x-fail", "trap"), SandboxError::Aborted);
        assert!(with("x-other", "1").unwrap().allow);
    }
}

#[test]
fn the_largest_inputs_fit_or_fail() {
    let runtime = runtime();
    let hook = hook(&runtime, "frame-body");
    let body = vec![7; HookInput::MAX_BODY];
    let value = HeaderValue::from_bytes(&vec![b'v'; 64 << 10]).unwrap();
    for values in [1, 2] {
        let mut headers = HeaderMap::new();
        for _ in 0..values {
            headers.append("x-long", value.clone());
        }
        let input = HookInput::new(HookType::PreRequest)
            .with_headers(&headers)
            .with_body(&body);
        let result = ask(&hook, &HookContext::new(), &input);
        if values == 1 {
            assert!(result.unwrap().allow);
        } else {
            assert_fails!(result, SandboxError::Input(_));
        }
    }
    // What a client sends costs no instance.
    assert_eq!(hook.plugin().stats().instances_discarded, 0);
}

#[test]
fn answers_are_checked() {
    assert!(call(&described("(i32.const 40)")).unwrap().allow);
    // The length that is returned, and the one in the frame.
    for len in ["0", "39", "41", "1024"] {
        let result = call(&described(&format!("(i32.const {len})")));
        assert!(result.is_err(), "{len}: {result:?}");
    }
    assert_fails!(
        call(&described("(i32.const 1025)")),
        SandboxError::OutputTooLarge {
            len: 1025,
            max: 1024
        }
    );
    assert_fails!(
        call(&described("(i32.const -7)")),
        SandboxError::PluginFailed { code: -7 }
    );
    assert_fails!(
        call(&described(
            "(i32.store8 (i32.const 4100) (i32.const 3)) (i32.const 40)"
        )),
        SandboxError::BadAnswer(_)
    );
    let small = RuntimeConfig {
        output_bytes: 39,
        ..cpu(2_000)
    };
    let runtime = Runtime::new(small).unwrap();
    let plugin = runtime.load("small", &described("(i32.const 40)")).unwrap();
    let input = HookInput::new(HookType::OnClose);
    assert_fails!(
        ask(&WasmHook::new(plugin).unwrap(), &HookContext::new(), &input),
        SandboxError::OutputTooLarge { len: 40, max: 39 }
    );
}

#[test]
fn an_input_has_a_type() {
    let hook = load(&described("(i32.const 40)")).unwrap();
    let result = ask(&hook, &HookContext::new(), &HookInput::default());
    assert_fails!(result, SandboxError::Input(_));
}

#[test]
fn descriptors_are_checked() {
    let handle = r#"(func (export "vortex_handle") (param i32) (result i32) (i32.const 40))"#;
    let described_by = |address: &str, stores: &str| {
        load(&frames(&format!(
            r#"(func (export "vortex_abi_v2") (result i32) {stores} (i32.const {address})) {handle}"#
        )))
    };
    assert!(described_by("16", "").is_ok());
    for address in ["0", "-1", "131057", "131072", "0x7fff0000"] {
        let refused = described_by(address, "");
        assert!(
            matches!(
                &refused,
                Err(SandboxError::BadPointer {
                    export: "vortex_abi_v2",
                    ..
                })
            ),
            "{address}: {refused:?}"
        );
    }
    // Each of: an address of zero, a capacity of zero, one past the end, one that wraps.
    for (field, value) in [
        (16, 0_i32),
        (20, 0),
        (20, 131_072 - 8192 + 1),
        (20, -1),
        (24, 0),
        (28, 0),
        (28, 131_072 - 4096 + 1),
        (24, -16),
    ] {
        let store = format!("(i32.store (i32.const {field}) (i32.const {value}))");
        let refused = described_by("16", &store);
        assert!(
            matches!(&refused, Err(SandboxError::BadPointer { .. })),
            "{value} at {field}: {refused:?}"
        );
    }
    // Up to the very end is fine.
    let store = "(i32.store (i32.const 20) (i32.const 122880))";
    assert!(described_by("16", store).is_ok());
    assert!(matches!(
        described_by("16", "(unreachable)"),
        Err(SandboxError::Aborted)
    ));
}

#[test]
fn exports_are_checked() {
    let missing = load(&frames(DESCRIBED));
    assert!(
        matches!(&missing, Err(SandboxError::MissingExport { export, .. }) if export == "vortex_handle"),
        "{missing:?}"
    );
    let mistyped = load(&frames(&format!(
        r#"{DESCRIBED} (func (export "vortex_handle") (param i64) (result i32) (i32.const 40))"#
    )));
    assert!(matches!(mistyped, Err(SandboxError::MistypedExport { .. })));
    // A module that says it speaks frames is not asked in JSON.
    let both = frames(
        r#"(func (export "vortex_abi_v2") (result i64) (i64.const 16))
           (func (export "alloc") (param i32) (result i32) (i32.const 1024))
           (func (export "handle") (param i32 i32) (result i64) (i64.const 0))"#,
    );
    assert!(matches!(
        load(&both),
        Err(SandboxError::MistypedExport { .. })
    ));
}

/// A descriptor that changes after it was read changes nothing.
#[test]
fn the_descriptor_is_read_once() {
    let wasm = described(
        "(i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 24) (i32.const 0))
         (i32.const 40)",
    );
    let hook = load(&wasm).unwrap();
    for _ in 0..3 {
        let input = HookInput::new(HookType::OnConnect);
        assert!(ask(&hook, &HookContext::new(), &input).unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
}

/// The lines that plugins log, as a subscriber sees them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn log_lines_are_logged_escaped() {
    let runtime = runtime();
    let hook = hook(&runtime, "frame-echo");
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let input = HookInput::new(HookType::PreRequest).with_path("/\u{1b}[31m\nforged");
        ask(&hook, &HookContext::new(), &input).unwrap();
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for level in ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"] {
        let found = text
            .lines()
            .any(|line| line.contains(level) && line.contains("plugin=frame-echo"));
        assert!(found, "{level}: {text}");
    }
    assert!(text.contains(r"/\u{1b}[31m\nforged"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn fixtures_are_frames() {
    for name in ["frame-api-key", "frame-body", "frame-echo"] {
        let plugin = runtime().load(name, &fixture(name)).unwrap();
        let exports: Vec<_> = plugin.exports().map(|(name, _)| name.to_owned()).collect();
        for export in [
            "memory",
            "vortex_abi_v2",
            "vortex_handle",
            "alloc",
            "handle",
        ] {
            assert!(exports.iter().any(|e| e == export), "{name} lacks {export}");
        }
    }
}
