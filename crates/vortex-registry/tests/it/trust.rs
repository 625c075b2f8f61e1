//! Whose plugins are installed and returned.

use vortex_registry::{Defect, Policy, PrivateKey, RegistryError, Release, Status, Trust};

use crate::support::{Fixture, WASM, assert_corrupt, assert_error, name, select, signed, unsigned};

#[test]
fn strict_installs_nothing_unsigned_or_unknown() {
    let fixture = Fixture::new();
    let result = fixture
        .registry
        .install(&unsigned("redirect", "1.0.0"), WASM);
    assert_error!(result, RegistryError::Unsigned { .. });

    let stranger = PrivateKey::generate().unwrap();
    let manifest = signed(unsigned("redirect", "1.0.0"), &stranger);
    let stranger_id = stranger.public_key().key_id();
    assert_error!(
        fixture.registry.install(&manifest, WASM),
        RegistryError::UntrustedKey { key_ids, .. } if key_ids == [stranger_id].into()
    );
    assert!(!fixture.registry.path().exists(), "something was created");
}

#[test]
fn the_policy_of_the_moment_counts() {
    let fixture = Fixture::with(&["1.0.0"]);
    let distrustful = fixture.under(Policy::default());
    assert_error!(
        distrustful.get_latest(&name("redirect")),
        RegistryError::UntrustedKey { .. }
    );
    let entries = distrustful.list().unwrap();
    assert!(matches!(
        entries[0].status,
        Status::Intact {
            trust: Trust::UntrustedKey { .. },
            ..
        }
    ));
}

#[test]
fn permissive_installs_but_get_stays_strict() {
    let fixture = Fixture::new();
    let permissive = fixture.under(Policy::permissive([fixture.key.public_key()]));
    permissive
        .install(&unsigned("redirect", "1.0.0"), WASM)
        .unwrap();
    let stranger = PrivateKey::generate().unwrap();
    permissive
        .install(&signed(unsigned("redirect", "2.0.0"), &stranger), WASM)
        .unwrap();
    permissive
        .install(&fixture.manifest("redirect", "3.0.0"), WASM)
        .unwrap();

    let redirect = name("redirect");
    let trust = |version| {
        let plugin = permissive
            .get_permissive(&redirect, &select(version))
            .unwrap();
        plugin.trust().clone()
    };
    assert_eq!(trust("1.0.0"), Trust::Unsigned);
    assert!(matches!(trust("2.0.0"), Trust::UntrustedKey { .. }));
    assert!(matches!(trust("3.0.0"), Trust::Signed { .. }));
    for registry in [&permissive, &fixture.registry] {
        let get = |version| registry.get(&redirect, &select(version));
        assert_error!(get("1.0.0"), RegistryError::Unsigned { .. });
        assert_error!(get("2.0.0"), RegistryError::UntrustedKey { .. });
        assert!(get("3.0.0").is_ok());
    }
    let result = fixture.registry.get_permissive(&redirect, &select("3.0.0"));
    assert_error!(result, RegistryError::PolicyForbids { .. });
}

#[test]
fn permissive_refuses_damage_all_the_same() {
    let fixture = Fixture::with(&["1.0.0"]);
    let permissive = fixture.under(Policy::permissive([fixture.key.public_key()]));
    let mut manifest = fixture.manifest("redirect", "2.0.0");
    manifest.description = "changed".to_owned();
    assert_corrupt!(
        permissive.install(&manifest, WASM),
        Defect::StatementMismatch {
            field: "description"
        }
    );
    std::fs::write(fixture.path("redirect/1.0.0/plugin.wasm"), b"").unwrap();
    assert_corrupt!(
        permissive.get_permissive(&name("redirect"), &select("1.0.0")),
        Defect::Checksum { .. }
    );
}

#[test]
fn several_keys_sign_at_once() {
    let fixture = Fixture::new();
    let second = PrivateKey::generate().unwrap();
    let release = Release {
        abi: 2,
        seq: 9,
        released_at: 5,
    };
    let manifest = unsigned("redirect", "1.0.0")
        .sign(WASM, release, &[&second, &fixture.key])
        .unwrap();
    fixture.registry.install(&manifest, WASM).unwrap();
    let plugin = fixture.registry.get_latest(&name("redirect")).unwrap();
    let own = fixture.key.public_key().key_id();
    assert_eq!(
        *plugin.signers(),
        [own].into(),
        "only trusted keys are named"
    );
    assert_eq!(plugin.statement().release(), release);
    assert_eq!(plugin.statement().size(), 8);

    let both = fixture.under(Policy::strict([
        second.public_key(),
        fixture.key.public_key(),
    ]));
    assert_eq!(
        both.get_latest(&name("redirect")).unwrap().signers().len(),
        2
    );
}

#[test]
fn signing_another_module_is_refused() {
    let key = PrivateKey::generate().unwrap();
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 0,
    };
    let result = unsigned("redirect", "1.0.0").sign(b"other", release, &[&key]);
    assert_corrupt!(result, Defect::StatementMismatch { field: "checksum" });
}
