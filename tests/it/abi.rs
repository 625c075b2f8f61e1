//! The JSON ABI: what good guests answer, and what is made of each bad answer.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use vortex_hook_core::{Hook, HookContext, HookInput, HookType};
use vortex_sandbox::{ExportType, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, cpu, fixture, header, hook, hook_with, isolated, runtime, wat,
};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

/// The memory of the fixtures, in bytes.
const MEMORY: usize = 2 * 65536;

#[test]
fn guests_decide() {
    let runtime = runtime();
    let answers = |name| call(&hook(&runtime, name), "/").unwrap();
    for name in ["allow", "answer-in-place", "answer-overlap", "simd"] {
        assert!(answers(name).allow, "{name}");
    }
    // The documented exception to the isolation of memory: zero, no trap.
    assert!(answers("safepoint-read").allow);
    let denied = answers("deny");
    assert!(!denied.allow);
    assert_eq!(denied.status.map(|s| s.as_u16()), Some(403));
    assert_eq!(answers("deny-429").deny_status(), 429);
    let silent = answers("empty-object");
    assert!(!silent.allow && silent.status.is_none());
}

/// A guest reads the headers of its request, whatever their case, and sets one.
#[test]
fn a_guest_reads_headers() {
    let runtime = runtime();
    let hook = hook(&runtime, "api-key");
    let ask = |key| {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static(key));
        let input = HookInput::new(HookType::PreRequest)
            .with_method(&Method::GET)
            .with_headers(&headers);
        futures_executor::block_on(hook.call(&HookContext::new(), &input)).unwrap()
    };
    assert_eq!(header(&ask("k-demo-123"), "x-consumer"), "demo");
    let unknown = ask("k-demo-124");
    assert!(!unknown.allow);
    assert_eq!(unknown.deny_status(), 401);
}

/// One guest decides by hook type and path.
#[test]
fn a_guest_sees_type_and_path() {
    let runtime = runtime();
    let hook = hook(&runtime, "header-rewrite");
    let ask = |hook_type, path: &'static str| {
        let input = HookInput::new(hook_type).with_path(path);
        futures_executor::block_on(hook.call(&HookContext::new(), &input)).unwrap()
    };
    let api = ask(HookType::PreRequest, "/api/v1");
    assert_eq!(header(&api, "x-request-class"), "api");
    assert_eq!(header(&api, "user-agent"), "vortex-guest/1.0");
    let fixed = ask(HookType::PreRequest, "/static/logo");
    assert_eq!(header(&fixed, "x-request-class"), "static");
    let response = ask(HookType::PostResponse, "/api/v1");
    assert_eq!(response.headers.len(), 1);
    assert_eq!(header(&response, "x-plugin"), "header-rewrite");
    assert!(!ask(HookType::OnConnect, "").modified);
}

/// Asserts what a fixture's call fails with, twice: the second on a fresh instance.
macro_rules! call_fails {
    ($name:literal, $pattern:pat $(if $guard:expr)?) => {
        let hook = hook_with($name, cpu(20));
        for _ in 0..2 {
            assert_fails!(call(&hook, "/"), $pattern $(if $guard)?);
        }
        let stats = hook.plugin().stats();
        assert_eq!((stats.calls, stats.failures), (2, 2), $name);
        assert_eq!(stats.instances_discarded, 2, $name);
    };
}

#[test]
fn bad_answers_are_named() {
    call_fails!("answer-bad-json", SandboxError::BadAnswer(_));
    call_fails!(
        "answer-empty",
        SandboxError::BadPointer {
            export: "handle",
            ptr: 16,
            len: 0,
            memory: MEMORY,
            why: "empty"
        }
    );
    call_fails!(
        "answer-null-ptr",
        SandboxError::BadPointer {
            export: "handle",
            ptr: 0,
            len: 14,
            memory: MEMORY,
            why: "the null pointer"
        }
    );
    call_fails!(
        "answer-past-end",
        SandboxError::BadPointer {
            export: "handle",
            ptr: 131_068,
            len: 14,
            memory: MEMORY,
            why: "past the end of its memory",
        }
    );
    call_fails!(
        "answer-huge",
        SandboxError::OutputTooLarge {
            len: 0x80_0000,
            max: 0x10_0000
        }
    );
    call_fails!(
        "answer-overflow",
        SandboxError::OutputTooLarge {
            len: 0xffff_ffff,
            max: 0x10_0000
        }
    );
}

/// Pointer and length whose sum wraps around to a small number, with a length
/// that the output limit lets pass.
#[test]
fn the_end_of_an_answer_does_not_wrap() {
    let answer = r#"(module (memory (export "memory") 2)
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "handle") (param i32 i32) (result i64) (i64.const 0xFFFFFFF0_00000020)))"#;
    let runtime = runtime();
    let hook = WasmHook::new(runtime.load("wrap", &wat(answer)).unwrap()).unwrap();
    assert_fails!(
        call(&hook, "/"),
        SandboxError::BadPointer {
            ptr: 0xffff_fff0,
            len: 32,
            why: "past the end of its memory",
            ..
        }
    );
}

/// The largest answer that is allowed passes; one byte more does not.
#[test]
fn an_answer_may_be_as_long_as_the_limit() {
    for (max, passes) in [(14, true), (13, false)] {
        let config = vortex_sandbox::RuntimeConfig {
            output_bytes: max,
            ..cpu(1_000)
        };
        let hook = hook_with("allow", config);
        if passes {
            assert!(call(&hook, "/").unwrap().allow);
        } else {
            assert_fails!(
                call(&hook, "/"),
                SandboxError::OutputTooLarge { len: 14, max: 13 }
            );
        }
    }
}

#[test]
fn bad_allocations_are_named() {
    isolated(LIMIT, || {
        call_fails!(
            "alloc-null",
            SandboxError::BadPointer {
                export: "alloc",
                ptr: 0,
                why: "the null pointer",
                ..
            }
        );
        call_fails!(
            "alloc-negative",
            SandboxError::BadPointer {
                export: "alloc",
                ptr: 0xffff_fff8,
                why: "past the end of its memory",
                ..
            }
        );
        call_fails!(
            "alloc-past-end",
            SandboxError::BadPointer {
                export: "alloc",
                ptr: 131_068,
                memory: MEMORY,
                why: "past the end of its memory",
                ..
            }
        );
        call_fails!(
            "alloc-loop",
            SandboxError::CpuBudget { limit, used } if *limit == Duration::from_millis(20) && used >= limit
        );
    });
}

#[test]
fn traps_are_told_apart() {
    call_fails!("unreachable", SandboxError::Aborted);
    call_fails!(
        "div-zero",
        SandboxError::Trap { reason } if reason == "integer divide by zero"
    );
    call_fails!(
        "oob-load",
        SandboxError::Trap { reason } if reason == "out of bounds memory access"
    );
    call_fails!(
        "safepoint-write",
        SandboxError::Trap { reason } if reason == "out of bounds memory access"
    );
}

/// A hook is refused when it is made, not at its first call.
#[test]
fn hooks_need_the_abi() {
    let runtime = runtime();
    let new = |name| WasmHook::new(runtime.load(name, &fixture(name)).unwrap());
    for (name, missing) in [
        ("no-memory", "memory"),
        ("no-alloc", "alloc"),
        ("no-handle", "handle"),
    ] {
        assert_fails!(
            new(name),
            SandboxError::MissingExport { export, .. } if export == missing
        );
    }
    for (name, mistyped, is, should) in [
        (
            "memory-not-memory",
            "memory",
            "a function () -> ()",
            "a memory",
        ),
        (
            "mistyped-alloc",
            "alloc",
            "a function (i64) -> (i32)",
            "a function (i32) -> (i32)",
        ),
        (
            "mistyped-handle",
            "handle",
            "a function (i32, i32) -> (i32)",
            "a function (i32, i32) -> (i64)",
        ),
    ] {
        assert_fails!(
            new(name),
            SandboxError::MistypedExport { export, found, expected }
                if export == mistyped && found == is && expected == should
        );
    }
}

/// A module without the ABI is a plugin all the same, and tells its exports.
#[test]
fn exports_are_listed() {
    let runtime = runtime();
    let plugin = runtime.load("bulk-ok", &fixture("bulk-ok")).unwrap();
    let exports: Vec<(&str, &ExportType)> = plugin.exports().collect();
    let names: Vec<&str> = exports.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["memory", "run", "alloc", "handle"]);
    assert_eq!(exports[0].1, &ExportType::Memory);
    assert_eq!(exports[1].1.to_string(), "a function () -> (i32)");
}

/// An input of the largest size arrives whole: 64 KiB of body, and no more.
#[test]
fn a_large_input_arrives() {
    let runtime = runtime();
    let hook = hook(&runtime, "checksum");
    let body = vec![0xa5; HookInput::MAX_BODY + 100];
    let path = "/".repeat(20_000);
    let input = HookInput::new(HookType::PreRequest)
        .with_path(path.as_str())
        .with_body(&body);
    let output = futures_executor::block_on(hook.call(&HookContext::new(), &input)).unwrap();
    let echo = header(&output, "x-echo");
    let (echoed, rest) = echo.split_once(' ').unwrap();
    assert_eq!(echoed, path);
    let len = rest.rsplit(' ').next().unwrap();
    assert_eq!(len.parse::<usize>().unwrap(), input.to_json().len());
    assert_eq!(input.body().map(<[u8]>::len), Some(HookInput::MAX_BODY));
}

/// `alloc` may grow the memory and name the room that it has won; the input lies there
/// when `handle` looks, and an answer at the very end of it is read.
#[test]
fn room_may_be_where_alloc_has_just_grown_the_memory() {
    let wasm = wat(r#"(module (memory (export "memory") 1)
             (data (i32.const 8) "{\"allow\":true}{\"allow\":no}")
             (func (export "alloc") (param i32) (result i32)
               (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
             (func (export "handle") (param $at i32) (param $len i32) (result i64)
               (local $end i64) (local $source i32)
               (local.set $end (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
               ;; Denied by what is no JSON unless the input begins and ends as one.
               (local.set $source (select (i32.const 8) (i32.const 22)
                 (i32.and
                   (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x7b))
                   (i32.eq
                     (i32.load8_u (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 1)))
                     (i32.const 0x7d)))))
               (memory.copy
                 (i32.sub (i32.wrap_i64 (local.get $end)) (i32.const 14))
                 (local.get $source) (i32.const 14))
               (i64.or (i64.shl (i64.sub (local.get $end) (i64.const 14)) (i64.const 32)) (i64.const 14))))"#);
    let plugin = runtime().load("grows", &wasm).unwrap();
    let hook = WasmHook::new(plugin).unwrap();
    for _ in 0..5 {
        assert!(call(&hook, "/").unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
}
