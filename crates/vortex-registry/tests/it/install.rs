//! How versions get in and out.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use vortex_registry::{Defect, InstallOutcome, Limits, Policy, Registry, RegistryError};

use crate::support::{Fixture, WASM, assert_corrupt, assert_error, name, select, unsigned};

#[test]
fn a_version_is_installed_where_the_go_system_looks() {
    let fixture = Fixture::with(&["1.0.0"]);
    let tree: Vec<_> = fixture
        .tree()
        .iter()
        .map(|p| p.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        tree,
        [
            "redirect",
            "redirect/1.0.0",
            "redirect/1.0.0/manifest.json",
            "redirect/1.0.0/plugin.wasm"
        ]
    );
    assert_eq!(
        fs::read(fixture.path("redirect/1.0.0/plugin.wasm")).unwrap(),
        WASM
    );
    let mode = |path| {
        fs::metadata(fixture.path(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("redirect"), 0o755);
    assert_eq!(mode("redirect/1.0.0"), 0o755);
    assert_eq!(mode("redirect/1.0.0/manifest.json"), 0o644);
    assert_eq!(mode("redirect/1.0.0/plugin.wasm"), 0o644);
    let json = fs::read_to_string(fixture.path("redirect/1.0.0/manifest.json")).unwrap();
    assert!(json.starts_with("{\n  \"name\": \"redirect\",\n  \"version\": \"1.0.0\","));
}

#[test]
fn the_same_bytes_again_are_fine_and_others_conflict() {
    let fixture = Fixture::new();
    let manifest = fixture.manifest("redirect", "1.0.0");
    let install = |manifest| fixture.registry.install(manifest, WASM);
    assert_eq!(install(&manifest).unwrap(), InstallOutcome::Installed);
    assert_eq!(
        install(&manifest).unwrap(),
        InstallOutcome::AlreadyInstalled
    );

    let mut other = unsigned("redirect", "1.0.0");
    other.description = "other".to_owned();
    let other = crate::support::signed(other, &fixture.key);
    assert_error!(install(&other), RegistryError::Conflict { .. });
    let plugin = fixture.registry.get_latest(&name("redirect")).unwrap();
    assert_eq!(*plugin.manifest(), manifest);

    fs::write(fixture.path("redirect/1.0.0/plugin.wasm"), b"damaged").unwrap();
    assert_error!(install(&manifest), RegistryError::Conflict { .. });
    fixture
        .registry
        .remove(&name("redirect"), &manifest.version)
        .unwrap();
    assert_eq!(install(&manifest).unwrap(), InstallOutcome::Installed);
}

#[test]
fn removal_is_complete_and_says_when_there_was_nothing() {
    let fixture = Fixture::with(&["1.0.0", "2.0.0"]);
    let remove = |plugin, version: &str| {
        fixture
            .registry
            .remove(&name(plugin), &version.parse().unwrap())
    };
    assert_error!(remove("redirect", "3.0.0"), RegistryError::NotFound { .. });
    assert_error!(remove("other", "1.0.0"), RegistryError::NotFound { .. });
    remove("redirect", "2.0.0").unwrap();
    assert!(
        fixture
            .registry
            .get(&name("redirect"), &select("2.0.0"))
            .is_err()
    );
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
    remove("redirect", "1.0.0").unwrap();
    assert_eq!(fixture.tree(), Vec::<std::path::PathBuf>::new());
    assert_error!(remove("redirect", "1.0.0"), RegistryError::NotFound { .. });
}

#[test]
fn litter_in_staging_is_invisible_and_swept() {
    let fixture = Fixture::with(&["1.0.0"]);
    let litter = |versions| {
        fs::create_dir_all(fixture.path(".staging/0123/deep")).unwrap();
        fs::write(fixture.path(".staging/0123/plugin.wasm"), b"half").unwrap();
        fs::write(fixture.path(".staging/stray"), b"").unwrap();
        assert_eq!(fixture.registry.list().unwrap().len(), versions);
    };
    let is_empty = || {
        fs::read_dir(fixture.path(".staging"))
            .unwrap()
            .next()
            .is_none()
    };
    litter(1);
    fixture.install("redirect", "2.0.0");
    assert!(is_empty());
    litter(2);
    fixture
        .registry
        .remove(&name("redirect"), &"2.0.0".parse().unwrap())
        .unwrap();
    assert!(is_empty());

    litter(1);
    for i in 0..2_500 {
        fs::write(fixture.path(&format!(".staging/{i}")), b"").unwrap();
    }
    // While somebody writes it may be his, and opening does not wait for him.
    let lock = fs::File::open(fixture.path(".lock")).unwrap();
    lock.lock().unwrap();
    fixture.under(fixture.registry.policy().clone());
    assert!(!is_empty());
    drop(lock);
    fixture.under(fixture.registry.policy().clone());
    assert!(is_empty());
}

#[test]
fn a_huge_manifest_is_not_read() {
    let fixture = Fixture::with(&["1.0.0"]);
    let file = fs::File::options()
        .write(true)
        .open(fixture.path("redirect/1.0.0/manifest.json"))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("redirect")),
        Defect::TooLarge { limit: 65_536, .. }
    );
    let mut manifest = unsigned("redirect", "2.0.0");
    manifest.description = "x".repeat(65_536);
    let manifest = crate::support::signed(manifest, &fixture.key);
    assert_corrupt!(
        fixture.registry.install(&manifest, WASM),
        Defect::TooLarge {
            file: "manifest.json",
            ..
        }
    );
}

#[test]
fn a_huge_module_is_not_read() {
    let fixture = Fixture::with(&["1.0.0"]);
    let limited = |wasm_bytes| {
        let mut limits = Limits::default();
        limits.wasm_bytes = wasm_bytes;
        fixture
            .under(Policy::strict([fixture.key.public_key()]))
            .with_limits(limits)
    };
    assert!(limited(8).get_latest(&name("redirect")).is_ok());
    assert_corrupt!(
        limited(7).get_latest(&name("redirect")),
        Defect::TooLarge {
            file: "plugin.wasm",
            limit: 7
        }
    );
    let manifest = fixture.manifest("redirect", "2.0.0");
    assert_corrupt!(
        limited(7).install(&manifest, WASM),
        Defect::TooLarge {
            file: "plugin.wasm",
            limit: 7
        }
    );
    limited(8).install(&manifest, WASM).unwrap();

    let wasm = fs::File::options()
        .write(true)
        .open(fixture.path("redirect/2.0.0/plugin.wasm"))
        .unwrap();
    wasm.set_len(1 << 40).unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("redirect")),
        Defect::TooLarge {
            limit: 67_108_864,
            ..
        }
    );
}

#[test]
fn a_full_directory_takes_no_more() {
    let fixture = Fixture::with(&["1.0.0", "2.0.0"]);
    let mut limits = Limits::default();
    limits.directory_entries = 2;
    let policy = Policy::strict([fixture.key.public_key()]);
    let registry = Registry::open(fixture.registry.path(), policy)
        .unwrap()
        .with_limits(limits);
    let result = registry.install(&fixture.manifest("redirect", "3.0.0"), WASM);
    assert_error!(result, RegistryError::TooManyEntries { limit: 2, .. });
    assert!(registry.get_latest(&name("redirect")).is_ok());
    fixture.install("redirect", "3.0.0");
    let result = registry.get_latest(&name("redirect"));
    assert_error!(result, RegistryError::TooManyEntries { limit: 2, .. });
    assert!(registry.get(&name("redirect"), &select("1.0.0")).is_ok());
}
