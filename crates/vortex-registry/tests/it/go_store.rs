//! A store written by the Go system.

use std::path::Path;

use vortex_registry::{HookType, Policy, Registry, RegistryError, Status, Trust};

use crate::support::{assert_error, name, select};

fn open(policy: Policy) -> Registry {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/go-store");
    Registry::open(path, policy).unwrap()
}

#[test]
fn everything_is_listed_and_unsigned() {
    let entries = open(Policy::default()).list().unwrap();
    let paths: Vec<_> = entries.iter().map(|e| e.path.to_str().unwrap()).collect();
    let expected = [
        "no-hooks/0.1.0",
        "redirect/1.0.0",
        "redirect/1.2.0",
        "redirect/1.10.0",
    ];
    assert_eq!(paths, expected);
    for entry in &entries {
        let Status::Intact { manifest, trust } = &entry.status else {
            panic!("{entry:?}");
        };
        assert_eq!(*trust, Trust::Unsigned);
        assert_eq!(entry.name.as_ref(), Some(&manifest.name));
        assert_eq!(entry.version.as_ref(), Some(&manifest.version));
    }
}

#[test]
fn strict_refuses_and_permissive_returns() {
    let strict = open(Policy::default());
    assert_error!(
        strict.get_latest(&name("redirect")),
        RegistryError::Unsigned { .. }
    );
    assert_error!(
        strict.get_permissive(&name("redirect"), &select("latest")),
        RegistryError::PolicyForbids { .. }
    );

    let permissive = open(Policy::permissive([]));
    assert_error!(
        permissive.get_latest(&name("redirect")),
        RegistryError::Unsigned { .. }
    );
    let plugin = permissive
        .get_permissive(&name("redirect"), &select("latest"))
        .unwrap();
    assert_eq!(plugin.wasm(), b"\0asm\x01\0\0\0");
    assert_eq!(plugin.digest(), Registry::checksum(plugin.wasm()));
    assert_eq!(
        plugin.manifest().hook_types,
        [HookType::PreRequest, HookType::OnClose]
    );
    assert_eq!(
        plugin.manifest().description,
        "installed by the Go implementation"
    );
}

#[test]
fn versions_are_chosen_by_number() {
    let registry = open(Policy::permissive([]));
    for (selector, version) in [
        ("latest", "1.10.0"),
        ("^1.2", "1.10.0"),
        ("~1.2", "1.2.0"),
        ("1.0.0", "1.0.0"),
    ] {
        let plugin = registry
            .get_permissive(&name("redirect"), &select(selector))
            .unwrap();
        assert_eq!(plugin.manifest().version.to_string(), version, "{selector}");
    }
}

#[test]
fn null_is_an_empty_list() {
    let registry = open(Policy::permissive([]));
    let plugin = registry
        .get_permissive(&name("no-hooks"), &select("0.1.0"))
        .unwrap();
    assert!(plugin.manifest().hook_types.is_empty());
}

#[test]
fn looking_creates_nothing() {
    let registry = open(Policy::permissive([]));
    registry.list().unwrap();
    assert!(!registry.path().join(".lock").exists());
    assert!(!registry.path().join(".staging").exists());
}
