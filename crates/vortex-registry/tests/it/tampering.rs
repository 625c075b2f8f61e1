//! Bytes that are not those that were signed.

use std::fs;

use vortex_registry::{
    Defect, HookType, PluginManifest, Policy, PrivateKey, Registry, RegistryError, Release,
};

use crate::support::{Fixture, WASM, assert_corrupt, name, select, signed, unsigned};

#[test]
fn no_bit_of_a_version_may_change() {
    let fixture = Fixture::with(&["1.0.0"]);
    for file in ["manifest.json", "plugin.wasm"] {
        let path = fixture.path("redirect/1.0.0").join(file);
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let result = fixture.registry.get_latest(&name("redirect"));
            // A changed key id makes the signature a stranger's.
            assert!(
                matches!(
                    result,
                    Err(RegistryError::Corrupt { .. } | RegistryError::UntrustedKey { .. })
                ),
                "bit {bit} of {file}: {result:?}"
            );
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
}

#[test]
fn every_field_of_the_manifest_is_signed() {
    let fixture = Fixture::new();
    let good = fixture.manifest("redirect", "1.0.0");
    let edits: [fn(&mut PluginManifest); 7] = [
        |m| m.name = name("other"),
        |m| m.version = "9.9.9".parse().unwrap(),
        |m| m.description = "harmless".to_owned(),
        |m| m.hook_types = vec![],
        |m| m.hook_types.push(HookType::OnConnect),
        |m| m.checksum = Registry::checksum(b"other"),
        |m| m.signature.truncate(40),
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut bad = good.clone();
        edit(&mut bad);
        let result = fixture.registry.install(&bad, WASM);
        assert!(
            matches!(result, Err(RegistryError::Corrupt { .. })),
            "edit {index}: {result:?}"
        );
    }
    let result = fixture.registry.install(&good, b"other");
    assert_corrupt!(result, Defect::Checksum { .. });
    let mut other = good;
    other.checksum = Registry::checksum(b"other");
    assert_corrupt!(
        fixture.registry.install(&other, b"other"),
        Defect::StatementMismatch { field: "checksum" }
    );
    assert!(!fixture.registry.path().exists(), "something was created");
}

/// Every signature on every manifest: name × version × hooks × key.
#[test]
fn a_signature_fits_one_manifest_alone() {
    let temp = tempfile::tempdir().unwrap();
    let keys = [(); 2].map(|()| PrivateKey::generate().unwrap());
    let mut manifests = Vec::new();
    for plugin in ["redirect", "rewrite"] {
        for version in ["1.0.0", "9.9.9"] {
            for hooks in [vec![HookType::PreRequest], vec![HookType::OnClose]] {
                for key in &keys {
                    let mut manifest = unsigned(plugin, version);
                    manifest.hook_types = hooks.clone();
                    manifests.push(signed(manifest, key));
                }
            }
        }
    }
    let policy = || Policy::strict(keys.iter().map(PrivateKey::public_key));
    let mut refused = 0;
    for (i, manifest) in manifests.iter().enumerate() {
        for (j, donor) in manifests.iter().enumerate() {
            let store = temp.path().join(format!("{i}-{j}"));
            let registry = Registry::open(store, policy()).unwrap();
            let mut swapped = manifest.clone();
            swapped.signature.clone_from(&donor.signature);
            let result = registry.install(&swapped, WASM);
            // Both keys are trusted, so the same statement by the other one is fine.
            if i / 2 == j / 2 {
                assert!(result.is_ok(), "{i} {j} {result:?}");
            } else {
                assert_corrupt!(result, Defect::StatementMismatch { .. });
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 16 * 14);
}

#[test]
fn a_version_moved_elsewhere_is_corrupt() {
    let fixture = Fixture::with(&["1.0.0"]);
    fs::rename(
        fixture.path("redirect/1.0.0"),
        fixture.path("redirect/9.9.9"),
    )
    .unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("redirect")),
        Defect::Misplaced { .. }
    );
    fs::rename(fixture.path("redirect"), fixture.path("rewrite")).unwrap();
    fs::rename(fixture.path("rewrite/9.9.9"), fixture.path("rewrite/1.0.0")).unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("rewrite")),
        Defect::Misplaced { .. }
    );
}

#[test]
fn a_signature_by_another_key_under_a_trusted_id_is_wrong() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let fixture = Fixture::new();
    let forger = PrivateKey::generate().unwrap();
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 0,
    };
    let mut manifest = unsigned("redirect", "1.0.0")
        .sign(WASM, release, &[&forger])
        .unwrap();
    let json = String::from_utf8(STANDARD.decode(&manifest.signature).unwrap()).unwrap();
    let [from, to] = [&forger, &fixture.key].map(|key| key.public_key().key_id().to_string());
    manifest.signature = STANDARD.encode(json.replace(&from, &to));
    assert_corrupt!(
        fixture.registry.install(&manifest, WASM),
        Defect::Signature { .. }
    );
    let permissive = fixture.under(Policy::permissive([fixture.key.public_key()]));
    assert_corrupt!(
        permissive.install(&manifest, WASM),
        Defect::Signature { .. }
    );
}

#[test]
fn stripping_the_signature_makes_it_unsigned() {
    let fixture = Fixture::with(&["1.0.0"]);
    let path = fixture.path("redirect/1.0.0/manifest.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["signature"] = "".into();
    fs::write(&path, json.to_string()).unwrap();
    let result = fixture.registry.get(&name("redirect"), &select("1.0.0"));
    crate::support::assert_error!(result, RegistryError::Unsigned { .. });
}
