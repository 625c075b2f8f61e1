//! What is shown of a store in any state.

use std::fs;

use vortex_registry::{Limits, Policy, RegistryError, Status, Trust};

use crate::support::{Fixture, WASM, assert_error, unsigned};

fn describe(status: &Status) -> &'static str {
    match status {
        Status::Intact {
            trust: Trust::Signed { .. },
            ..
        } => "signed",
        Status::Intact {
            trust: Trust::Unsigned,
            ..
        } => "unsigned",
        Status::Intact {
            trust: Trust::UntrustedKey { .. },
            ..
        } => "untrusted",
        Status::Corrupt { .. } => "corrupt",
        Status::Foreign => "foreign",
        _ => "unknown",
    }
}

#[test]
fn one_bad_entry_does_not_hide_the_others() {
    let fixture = Fixture::with(&["1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"]);
    let permissive = fixture.under(Policy::permissive([]));
    permissive
        .install(&unsigned("draft", "0.1.0"), WASM)
        .unwrap();
    let stranger = vortex_registry::PrivateKey::generate().unwrap();
    let manifest = crate::support::signed(unsigned("draft", "0.2.0"), &stranger);
    permissive.install(&manifest, WASM).unwrap();

    fs::write(fixture.path("redirect/1.9.0/manifest.json"), b"{").unwrap();
    fs::create_dir(fixture.path("redirect/garbage")).unwrap();
    fs::create_dir(fixture.path("lost+found")).unwrap();
    fs::create_dir(fixture.path("empty")).unwrap();
    fs::write(fixture.path("file"), b"").unwrap();

    let entries = fixture.registry.list().unwrap();
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.path.to_str().unwrap(), describe(&entry.status)))
        .collect();
    assert_eq!(
        shown,
        [
            ("draft/0.1.0", "unsigned"),
            ("draft/0.2.0", "untrusted"),
            ("file", "corrupt"),
            ("lost+found", "foreign"),
            ("redirect/garbage", "foreign"),
            ("redirect/1.0.0", "signed"),
            ("redirect/1.9.0", "corrupt"),
            ("redirect/1.10.0", "signed"),
            ("redirect/2.0.0-rc.1", "signed"),
        ]
    );
}

#[test]
fn an_overfull_plugin_does_not_hide_the_others() {
    let fixture = Fixture::with(&["1.0.0", "2.0.0", "3.0.0", "4.0.0"]);
    fixture.install("rewrite", "1.0.0");
    // The store itself holds four entries: two plugins, the lock and the staging area.
    let mut limits = Limits::default();
    limits.directory_entries = 3;
    let registry = fixture.registry.clone().with_limits(limits.clone());
    assert_error!(registry.list(), RegistryError::TooManyEntries { .. });

    fs::create_dir(fixture.path("redirect/x")).unwrap();
    limits.directory_entries = 4;
    let entries = registry.with_limits(limits).list().unwrap();
    let shown: Vec<_> = entries.iter().map(|e| describe(&e.status)).collect();
    assert_eq!(shown, ["corrupt", "signed"]);
}
