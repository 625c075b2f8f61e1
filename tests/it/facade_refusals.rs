//! What the facade does not load, and what it leaves as it was then.

use std::path::Path;

use vortex_plugins::registry::{Defect, PrivateKey, Registry, RegistryError};
use vortex_plugins::{
    ChainOrder, HookType, HostError, PluginHost, Policy, RuntimeConfig, SandboxError,
};

use crate::facade::{REQUEST, Store, manifest, reference, run, sign, spec, summary};
use crate::util::{cpu, fixture};

/// Fails unless a result is an error of this shape.
macro_rules! assert_refused {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err(error) => assert!(
                matches!(&error, $pattern $(if $guard)?),
                "expected {}, got {error:?}",
                stringify!($pattern $(if $guard)?)
            ),
            Ok(_) => panic!("expected {}, got a plugin", stringify!($pattern)),
        }
    };
}

/// Absence is told from all else: no store, no plugin, no such version.
#[test]
fn a_missing_plugin_may_be_left_out() {
    let store = Store::new();
    let host = store.host();
    for put in [false, true] {
        if put {
            store.put("allow", "1.0.0", "allow");
        }
        for text in ["nowhere", "nowhere@1.0.0", "allow@^2", "allow@1.0.1"] {
            let error = host.load(&reference(text)).unwrap_err();
            assert!(error.is_missing(), "{text}: {error:?}");
            assert!(error.to_string().contains(text), "{error}");
            let chain = host.chain(ChainOrder::default(), [spec(text).skip_if_missing()]);
            let chain = chain.unwrap();
            assert!(chain.is_empty());
            assert!(matches!(
                host.add(&chain, spec(text).skip_if_missing()),
                Ok(None)
            ));
            let error = host.add(&chain, spec(text)).unwrap_err();
            assert!(error.is_missing(), "{text}: {error:?}");
            assert!(chain.is_empty());
        }
    }
    // The others of the chain are there.
    store.put("deny", "1.0.0", "deny");
    let specs = ["nowhere", "allow", "no-where", "deny"].map(|name| spec(name).skip_if_missing());
    let chain = host.chain(ChainOrder::default(), specs.clone()).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(
        summary(&run(&chain, "/").unwrap()),
        "allow=false status=403"
    );
    // One that must be there and is not is an error, whatever the others may do.
    let [.., deny] = specs;
    let error = host.chain(ChainOrder::default(), [deny, spec("nowhere")]);
    assert!(error.unwrap_err().is_missing());
}

/// A plugin that is there and may not run is an error, even where a missing one
/// is none; the chain stays as it was, and so does what the host knows of it.
#[test]
fn a_broken_plugin_is_never_left_out() {
    type Case = (&'static str, fn(&Store), fn(&HostError) -> bool);
    let cases: [Case; 10] = [
        (
            "a flipped byte of the wasm",
            |store| {
                store.put("bad", "1.0.0", "allow");
                store.flip("bad", "1.0.0");
            },
            |error| is_corrupt(error, |d| matches!(d, Defect::Checksum { .. })),
        ),
        (
            "an edited manifest",
            |store| {
                store.put("bad", "1.0.0", "allow");
                store.edit(("bad", "1.0.0"), "manifest.json", |json| {
                    let text = String::from_utf8_lossy(json);
                    *json = text.replacen("pre_request", "on_connect", 1).into_bytes();
                });
            },
            |error| {
                is_corrupt(error, |d| {
                    matches!(
                        d,
                        Defect::StatementMismatch {
                            field: "hook_types"
                        }
                    )
                })
            },
        ),
        (
            "no wasm",
            |store| {
                store.put("bad", "1.0.0", "allow");
                std::fs::remove_file(store.file("bad", "1.0.0", "plugin.wasm")).unwrap();
            },
            |error| is_corrupt(error, |d| matches!(d, Defect::MissingFile { .. })),
        ),
        (
            "no signature",
            |store| {
                let wasm = fixture("allow");
                let manifest = manifest("bad", "1.0.0", &REQUEST, &wasm);
                let registry = store.registry(Policy::permissive([]));
                registry.install(&manifest, &wasm).unwrap();
            },
            |error| is_registry(error, |e| matches!(e, RegistryError::Unsigned { .. })),
        ),
        (
            "a stranger's signature",
            |store| {
                let (wasm, stranger) = (fixture("allow"), PrivateKey::generate().unwrap());
                let manifest = manifest("bad", "1.0.0", &REQUEST, &wasm);
                let manifest = sign(manifest, &wasm, 1, &stranger);
                let registry = store.registry(Policy::strict([stranger.public_key()]));
                registry.install(&manifest, &wasm).unwrap();
            },
            |error| is_registry(error, |e| matches!(e, RegistryError::UntrustedKey { .. })),
        ),
        (
            "imports",
            |store| store.put("bad", "1.0.0", "imports-wasi"),
            |error| {
                is_sandbox(error, |e| {
                    matches!(e, SandboxError::Imports { wanted } if wanted.len() == 2
                        && wanted[0].starts_with("wasi_snapshot_preview1.fd_write"))
                })
            },
        ),
        (
            "no ABI",
            |store| store.put("bad", "1.0.0", "no-alloc"),
            |error| {
                is_sandbox(
                    error,
                    |e| matches!(e, SandboxError::MissingExport { export, .. } if export == "alloc"),
                )
            },
        ),
        (
            "no module",
            |store| store.put_wasm("bad", "1.0.0", &REQUEST, b"#!/bin/sh\n"),
            |error| is_sandbox(error, |e| matches!(e, SandboxError::InvalidModule { .. })),
        ),
        (
            "a start function that traps",
            |store| store.put("bad", "1.0.0", "start-trap"),
            |error| is_sandbox(error, |_| true),
        ),
        (
            "a damaged newest version above an intact one",
            |store| {
                store.put("bad", "1.0.0", "allow");
                store.put("bad", "1.1.0", "allow");
                store.flip("bad", "1.1.0");
            },
            |error| is_corrupt(error, |d| matches!(d, Defect::Checksum { .. })),
        ),
    ];
    for (what, make, check) in cases {
        let store = Store::with(&["counter"]);
        make(&store);
        let host = store.host();
        let error = host.load(&reference("bad")).unwrap_err();
        assert!(check(&error), "{what}: {error:?}");
        assert!(!error.is_missing(), "{what}: {error:?}");

        let bad = || spec("bad").skip_if_missing();
        let chain = host
            .chain(ChainOrder::default(), [spec("counter")])
            .unwrap();
        assert!(run(&chain, "/").unwrap().modified);
        let error = host.add(&chain, bad()).unwrap_err();
        assert!(check(&error), "{what}: {error:?}");
        assert_eq!(chain.len(), 1, "{what}");
        assert_eq!(
            summary(&run(&chain, "/").unwrap()),
            "allow=true status=0 x-count=2"
        );

        let error = host.chain(ChainOrder::default(), [spec("counter"), bad()]);
        let error = error.unwrap_err();
        assert!(check(&error), "{what}: {error:?}");
        // Neither the plugin that was refused nor the chain that failed is known.
        assert_eq!(host.replace(&reference("counter")).unwrap(), 1, "{what}");
        assert_eq!(host.replace(&reference("bad")).unwrap(), 0, "{what}");
    }
}

fn is_registry(error: &HostError, check: fn(&RegistryError) -> bool) -> bool {
    matches!(error, HostError::Registry { reference, source }
        if reference.name().as_str() == "bad" && check(source))
}

fn is_corrupt(error: &HostError, check: fn(&Defect) -> bool) -> bool {
    matches!(error, HostError::Registry { source: RegistryError::Corrupt { defect, .. }, .. }
        if check(defect))
}

fn is_sandbox(error: &HostError, check: fn(&SandboxError) -> bool) -> bool {
    matches!(error, HostError::Sandbox { name, version, source }
        if name.as_str() == "bad" && version.to_string() == "1.0.0" && check(source))
}

/// A permissive host runs what is unsigned or a stranger's, and nothing damaged.
#[test]
fn permissive_trusts_strangers_but_no_damage() {
    let store = Store::with(&["deny"]);
    let (wasm, stranger) = (fixture("deny-429"), PrivateKey::generate().unwrap());
    let registry = store.registry(Policy::permissive([]));
    let unsigned = manifest("unsigned", "1.0.0", &REQUEST, &wasm);
    registry.install(&unsigned, &wasm).unwrap();
    let strange = manifest("strange", "1.0.0", &REQUEST, &wasm);
    let strange = sign(strange, &wasm, 1, &stranger);
    registry.install(&strange, &wasm).unwrap();

    let host = store.permissive_host();
    for (name, status) in [("unsigned", 429), ("strange", 429), ("deny", 403)] {
        let chain = host.chain(ChainOrder::default(), [spec(name)]).unwrap();
        let output = run(&chain, "/").unwrap();
        assert_eq!(summary(&output), format!("allow=false status={status}"));
        store.flip(name, "1.0.0");
        assert_refused!(
            host.load(&reference(name)),
            HostError::Registry {
                source: RegistryError::Corrupt { .. },
                ..
            }
        );
        assert!(
            host.chain(ChainOrder::default(), [spec(name).skip_if_missing()])
                .is_err()
        );
    }
}

/// The store that the Go system has written can be opened: its modules are empty.
#[test]
fn the_go_store_opens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/vortex-registry/tests/vectors/go-store");
    let host = PluginHost::open(&path, Policy::permissive([])).unwrap();
    assert_eq!(host.registry().list().unwrap().len(), 4);
    for (text, expected) in [
        ("redirect@latest", "1.10.0"),
        ("redirect@~1.2", "1.2.0"),
        ("redirect@1.0.0", "1.0.0"),
    ] {
        assert_refused!(
            host.load(&reference(text)),
            HostError::Sandbox { name, version, source: SandboxError::MissingExport { export, .. } }
                if name.as_str() == "redirect" && version.to_string() == expected && export == "memory"
        );
    }
    let missing = host.load(&reference("redirect@^2")).unwrap_err();
    assert!(missing.is_missing());
    assert_refused!(
        host.load(&reference("no-hooks")),
        HostError::NoHookTypes { name, version }
            if name.as_str() == "no-hooks" && version.to_string() == "0.1.0"
    );
    let strict = PluginHost::open(&path, Policy::default()).unwrap();
    assert_refused!(
        strict.load(&reference("redirect")),
        HostError::Registry {
            source: RegistryError::Unsigned { .. },
            ..
        }
    );
    assert!(!path.join(".lock").exists(), "reading has written");
}

/// The signed ABI counts, in either mode, before the module is looked at.
#[test]
fn another_abi_is_refused() {
    let store = Store::new();
    let registry = store.registry(store.policy());
    for (version, abi) in [("0.0.0", 0), ("3.0.0", 3), ("4.0.0", u32::MAX)] {
        for wasm in [fixture("allow"), b"no module".to_vec()] {
            let name = if wasm.starts_with(b"no") {
                "odd"
            } else {
                "other"
            };
            let manifest = manifest(name, version, &REQUEST, &wasm);
            let manifest = sign(manifest, &wasm, abi, &store.key);
            registry.install(&manifest, &wasm).unwrap();
            for host in [store.host(), store.permissive_host()] {
                let text = format!("{name}@{version}");
                assert_refused!(
                    host.load(&reference(&text)),
                    HostError::Abi { abi: found, name: n, .. } if *found == abi && n.as_str() == name
                );
                let optional = spec(&text).skip_if_missing();
                assert!(host.chain(ChainOrder::default(), [optional]).is_err());
            }
        }
    }
}

/// A plugin without hook types would never run; that is no way to install a
/// guard that guards nothing.
#[test]
fn no_hook_types_are_refused() {
    let store = Store::new();
    store.put_wasm("idle", "1.0.0", &[], &fixture("deny"));
    for host in [store.host(), store.permissive_host()] {
        assert_refused!(
            host.load(&reference("idle")),
            HostError::NoHookTypes { name, .. } if name.as_str() == "idle"
        );
    }
    store.put_wasm("idle", "1.0.1", &[HookType::OnClose], &fixture("deny"));
    assert!(store.host().load(&reference("idle")).is_ok());
}

#[test]
fn limits_out_of_range_are_refused() {
    let store = Store::with(&["allow"]);
    let bad = RuntimeConfig {
        memory_bytes: 1,
        ..cpu(100)
    };
    assert_refused!(
        PluginHost::new(store.registry(store.policy()), bad.clone()),
        HostError::Runtime {
            source: SandboxError::Config {
                setting: "memory_bytes",
                ..
            }
        }
    );
    let host = store.host();
    let chain = host.chain(ChainOrder::default(), []).unwrap();
    let broken = spec("allow").with_config(bad).skip_if_missing();
    assert_refused!(
        host.add(&chain, broken),
        HostError::Sandbox {
            source: SandboxError::Config {
                setting: "memory_bytes",
                ..
            },
            ..
        }
    );
    assert!(chain.is_empty());
}

#[test]
fn a_store_that_cannot_be_opened_is_told_apart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_refused!(
        PluginHost::open(file.path(), Policy::default()),
        HostError::Store {
            source: RegistryError::Io { .. }
        }
    );
}

/// Loading again verifies again, though nothing is compiled again.
#[test]
fn every_load_verifies() {
    let store = Store::with(&["counter", "deny"]);
    let host = store.host();
    let first = host.load(&reference("counter")).unwrap();
    let second = host.load(&reference("counter@^1")).unwrap();
    let (first, second) = (first.hook().plugin(), second.hook().plugin());
    assert!(std::sync::Arc::ptr_eq(first, second), "compiled again");
    let other = host.load(&reference("deny")).unwrap();
    assert!(!std::sync::Arc::ptr_eq(first, other.hook().plugin()));
    let chain = host
        .chain(ChainOrder::default(), [spec("counter")])
        .unwrap();
    assert!(run(&chain, "/").unwrap().modified);
    assert_eq!(first.stats().calls, 1, "compiled again");

    let good = std::fs::read(store.file("counter", "1.0.0", "plugin.wasm")).unwrap();
    store.flip("counter", "1.0.0");
    for _ in 0..2 {
        assert_refused!(
            host.load(&reference("counter")),
            HostError::Registry {
                source: RegistryError::Corrupt { .. },
                ..
            }
        );
    }
    assert!(host.add(&chain, spec("counter")).is_err());
    assert!(host.replace(&reference("counter")).is_err());
    // What runs is what was verified: it goes on.
    assert_eq!(
        summary(&run(&chain, "/").unwrap()),
        "allow=true status=0 x-count=2"
    );

    std::fs::write(store.file("counter", "1.0.0", "plugin.wasm"), good).unwrap();
    store.edit(("counter", "1.0.0"), "manifest.json", |json| {
        let text = String::from_utf8_lossy(json);
        *json = text.replacen("1.0.0", "1.0.1", 1).into_bytes();
    });
    assert_refused!(
        host.load(&reference("counter")),
        HostError::Registry {
            source: RegistryError::Corrupt { .. },
            ..
        }
    );
}

/// The same module under another name is another plugin, with instances of its own.
#[test]
fn names_do_not_share_instances() {
    let store = Store::new();
    for name in ["first", "second"] {
        store.put(name, "1.0.0", "counter");
    }
    let host = store.host();
    let chains =
        ["first", "second"].map(|name| host.chain(ChainOrder::default(), [spec(name)]).unwrap());
    for n in 1..=2 {
        for chain in &chains {
            let output = run(chain, "/").unwrap();
            assert_eq!(summary(&output), format!("allow=true status=0 x-count={n}"));
        }
    }
    let digests = ["first", "second"].map(|name| host.load(&reference(name)).unwrap().digest());
    assert_eq!(digests, [Registry::checksum(&fixture("counter")); 2]);
}
