//! The facade, from a key to an answer: signed, installed, loaded, run in a chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderValue, StatusCode};
use vortex_hook_core::hook_fn;
use vortex_plugins::registry::Registry;
use vortex_plugins::{
    ChainOrder, Hook, HookContext, HookInput, HookOutput, HookType, PluginHost, Registration,
    SandboxError,
};

use crate::facade::{Store, reference, run, run_as, spec, stopped_by, summary};
use crate::util::{assert_fails, cpu, fixture};

fn with_key(key: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("x-api-key"),
        HeaderValue::from_static(key),
    )])
}

#[test]
fn api_key_lets_in_who_is_known() {
    let store = Store::with(&["api-key"]);
    let host = store.host();
    let chain = host
        .chain(ChainOrder::Registration, [spec("api-key@^1")])
        .unwrap();
    for (headers, expected) in [
        (
            with_key("k-demo-123"),
            "allow=true status=0 x-consumer=demo",
        ),
        (
            with_key("k-mobile-456"),
            "allow=true status=0 x-consumer=mobile",
        ),
        (with_key("k-demo-124"), "allow=false status=401"),
        (HeaderMap::new(), "allow=false status=401"),
    ] {
        let output = run_as(&chain, HookType::PreRequest, "/", &headers).unwrap();
        assert_eq!(summary(&output), expected, "{headers:?}");
    }
}

#[test]
fn header_rewrite_changes_requests_and_responses() {
    let store = Store::new();
    let hooks = [HookType::PreRequest, HookType::PostResponse];
    let wasm = fixture("header-rewrite");
    store.put_wasm("header-rewrite", "1.0.0", &hooks, &wasm);
    let host = store.host();
    let chain = host
        .chain(ChainOrder::Registration, [spec("header-rewrite")])
        .unwrap();
    let answer =
        |hook_type, path| summary(&run_as(&chain, hook_type, path, &HeaderMap::new()).unwrap());
    for (path, class) in [
        ("/api/1", "api"),
        ("/static/a.css", "static"),
        ("/", "page"),
    ] {
        assert_eq!(
            answer(HookType::PreRequest, path),
            format!(
                "allow=true status=0 user-agent=vortex-guest/1.0 x-plugin=header-rewrite x-request-class={class}"
            )
        );
    }
    assert_eq!(
        answer(HookType::PostResponse, "/api/1"),
        "allow=true status=0 x-plugin=header-rewrite"
    );
}

#[test]
fn counter_counts_and_deny_429_denies() {
    let store = Store::with(&["counter", "deny-429"]);
    let host = store.host();
    let counter = host
        .chain(ChainOrder::Registration, [spec("counter@1.0.0")])
        .unwrap();
    for n in 1..=3 {
        let output = run(&counter, "/").unwrap();
        assert_eq!(summary(&output), format!("allow=true status=0 x-count={n}"));
    }
    let deny = host
        .chain(ChainOrder::Registration, [spec("deny-429@~1.0")])
        .unwrap();
    let output = run(&deny, "/").unwrap();
    assert_eq!(summary(&output), "allow=false status=429");
    assert_eq!(output.deny_status(), StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn spin_is_stopped_and_the_next_request_served() {
    let store = Store::with(&["spin"]);
    let host = store.host_with(cpu(50));
    let chain = host
        .chain(ChainOrder::Registration, [spec("spin")])
        .unwrap();
    for _ in 0..3 {
        assert_eq!(summary(&run(&chain, "/").unwrap()), "allow=true status=0");
        let result = run(&chain, "/spin");
        let error = stopped_by(&result, "spin");
        assert!(
            matches!(error, SandboxError::CpuBudget { limit, used } if limit.as_millis() == 50 && used >= limit),
            "{error:?}"
        );
    }
}

/// All of them in one chain, with native hooks between them: changes add up, a
/// denial ends the run, and what stands behind it is not asked.
#[test]
fn plugins_and_native_hooks_share_a_chain() {
    let store = Store::with(&["api-key", "header-rewrite", "counter"]);
    let host = store.host();
    let chain = host
        .chain(ChainOrder::Registration, [spec("api-key")])
        .unwrap();
    let between = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&between);
    chain.register(Registration::new(
        "native",
        [HookType::PreRequest],
        hook_fn(move |_, input| {
            seen.fetch_add(1, Ordering::Relaxed);
            let output = HookOutput::allow();
            let output = output.with_header("x-path", input.path()).unwrap();
            Ok(output.with_header("x-plugin", "native").unwrap())
        }),
    ));
    let added = ["header-rewrite", "counter"].map(|name| host.add(&chain, spec(name)).unwrap());
    assert!(added.iter().all(Option::is_some));
    let denial = hook_fn(|_, input| {
        Ok(match input.path() {
            "/teapot" => HookOutput::deny(StatusCode::IM_A_TEAPOT),
            _ => HookOutput::allow(),
        })
    });
    chain.register(Registration::new("last", [HookType::PreRequest], denial));
    assert_eq!(chain.len(), 5);

    let known = with_key("k-partner-789");
    let request = |path, headers: &HeaderMap| {
        summary(&run_as(&chain, HookType::PreRequest, path, headers).unwrap())
    };
    // The later hook's x-plugin has replaced the native one's.
    let changes = |n, path, class| {
        format!(
            "user-agent=vortex-guest/1.0 x-consumer=partner x-count={n} x-path={path} x-plugin=header-rewrite x-request-class={class}"
        )
    };
    assert_eq!(
        request("/api/1", &known),
        format!("allow=true status=0 {}", changes(1, "/api/1", "api"))
    );
    assert_eq!(
        request("/api/1", &HeaderMap::new()),
        "allow=false status=401"
    );
    assert_eq!(between.load(Ordering::Relaxed), 1, "asked after a denial");
    // A denial by a native hook keeps what the plugins have changed; the count
    // shows that the denied request has not reached the counter.
    assert_eq!(
        request("/teapot", &known),
        format!("allow=false status=418 {}", changes(2, "/teapot", "page"))
    );
}

/// The signed hook types, and nothing else, decide when a plugin runs.
#[test]
fn the_manifest_says_when_it_runs() {
    let store = Store::new();
    let wasm = fixture("counter");
    let mut digests = Vec::new();
    for (n, hook_type) in HookType::ALL.into_iter().enumerate() {
        store.put_wasm("counter", &format!("{n}.0.0"), &[hook_type], &wasm);
    }
    store.put_wasm("counter", "9.0.0", &HookType::ALL, &wasm);
    let none = HeaderMap::new();
    for (n, own) in HookType::ALL.into_iter().enumerate() {
        let host = store.host();
        let name = format!("counter@{n}.0.0");
        let loaded = host.load(&reference(&name)).unwrap();
        assert_eq!(loaded.hook_types(), [own]);
        digests.push(loaded.digest());
        let chain = host.chain(ChainOrder::Priority, [spec(&name)]).unwrap();
        for other in HookType::ALL {
            assert_eq!(chain.has_hooks(other), other == own, "{own} {other}");
            let output = run_as(&chain, other, "/", &none).unwrap();
            assert!(output.allow);
            assert_eq!(output.modified, other == own, "{own} {other}");
        }
        assert_eq!(loaded.hook().plugin().stats().calls, 1, "{own}");
    }
    digests.dedup();
    assert_eq!(digests, [Registry::checksum(&wasm)]);

    let host = store.host();
    let chain = host.chain(ChainOrder::Priority, [spec("counter")]).unwrap();
    for (n, hook_type) in HookType::ALL.into_iter().enumerate() {
        let output = run_as(&chain, hook_type, "/", &none).unwrap();
        let expected = format!("allow=true status=0 x-count={}", n + 1);
        assert_eq!(summary(&output), expected, "{hook_type}");
    }
}

#[test]
fn the_reference_chooses_the_version() {
    let store = Store::new();
    for (version, fixture) in [
        ("1.2.0", "deny"),
        ("1.10.0", "allow"),
        ("2.0.0", "deny-429"),
        ("3.0.0-rc.1", "unreachable"),
    ] {
        store.put("gate", version, fixture);
    }
    let host = store.host();
    for (text, version, expected) in [
        ("gate", "2.0.0", "allow=false status=429"),
        ("gate@latest", "2.0.0", "allow=false status=429"),
        ("gate@^1", "1.10.0", "allow=true status=0"),
        ("gate@~1.2", "1.2.0", "allow=false status=403"),
        ("gate@1.2.0", "1.2.0", "allow=false status=403"),
    ] {
        let loaded = host.load(&reference(text)).unwrap();
        assert_eq!(loaded.name().as_str(), "gate");
        assert_eq!(loaded.version().to_string(), version, "{text}");
        let chain = host.chain(ChainOrder::default(), [spec(text)]).unwrap();
        assert_eq!(summary(&run(&chain, "/").unwrap()), expected, "{text}");
    }
    let prerelease = host.load(&reference("gate@3.0.0-rc.1")).unwrap();
    let input = HookInput::new(HookType::PreRequest);
    let cx = HookContext::new();
    let call = prerelease.hook().call(&cx, &input);
    assert_fails!(futures_executor::block_on(call), SandboxError::Aborted);
}

/// Priorities order the chain; the order of the specs decides among equals.
#[test]
fn specs_order_a_chain() {
    let store = Store::with(&["allow", "deny", "deny-429"]);
    let host = store.host();
    let specs = || {
        [
            spec("deny").with_priority(5),
            spec("deny-429").with_priority(-5),
            spec("allow").with_priority(-5),
        ]
    };
    for (order, expected) in [
        (ChainOrder::Registration, "allow=false status=403"),
        (ChainOrder::Priority, "allow=false status=429"),
    ] {
        let chain = host.chain(order, specs()).unwrap();
        assert_eq!(chain.len(), 3);
        assert_eq!(summary(&run(&chain, "/").unwrap()), expected);
    }
}

/// What a host opened by path does is what one put together does.
#[test]
fn opened_by_path() {
    let store = Store::with(&["allow"]);
    let path = store.registry(store.policy()).path().to_owned();
    let host = PluginHost::open(&path, store.policy()).unwrap();
    assert_eq!(host.registry().path(), path);
    assert_eq!(*host.runtime().config(), Default::default());
    let chain = host.chain(ChainOrder::default(), [spec("allow")]).unwrap();
    assert!(run(&chain, "/").unwrap().allow);
}
