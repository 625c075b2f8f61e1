//! What is handed out with a decision, and which of several reasons is given.

use std::time::{Duration, UNIX_EPOCH};

use vortex_registry::{
    Policy, PrivateKey, Refusal, Registry, RegistryError, Release, Revocations, Rule, Validity,
};

use crate::support::{Fixture, WASM, name, select, unsigned};

const RELEASE: Release = Release {
    abi: 1,
    seq: 1,
    released_at: 1000,
};

/// A key that is revoked matters more than one that has expired, whichever
/// comes first by its id.
#[test]
fn of_two_reasons_the_revoked_key_is_named() {
    let mut seen = [false; 2];
    while seen.contains(&false) {
        let fixture = Fixture::new();
        let [expired, revoked] = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let [expired_id, revoked_id] = [&expired, &revoked].map(|key| key.public_key().key_id());
        let keys = [&expired, &revoked].map(PrivateKey::public_key);
        let mut revocations = Revocations::default();
        revocations.keys.insert(revoked_id);
        let validity = Validity {
            not_before: None,
            not_after: Some(RELEASE.released_at),
        };
        let policy = Policy::strict(keys)
            .with_revocations(revocations)
            .with_validity(expired_id, validity);
        let registry = fixture
            .under(policy)
            .with_clock(|| UNIX_EPOCH + Duration::from_secs(RELEASE.released_at + 1));
        let manifest = unsigned("redirect", "1.0.0")
            .sign(WASM, RELEASE, &[&expired, &revoked])
            .unwrap();
        match registry.install(&manifest, WASM) {
            Err(RegistryError::Refused { refusal, .. }) => {
                let key_id = revoked_id;
                assert_eq!(*refusal, Refusal::RevokedKey { key_id });
            }
            other => panic!("{other:?}"),
        }
        seen[usize::from(expired_id < revoked_id)] = true;
    }
}

#[test]
fn a_verified_plugin_is_what_was_installed() {
    let fixture = Fixture::with(&["1.0.0"]);
    let get = || fixture.registry.get_latest(&name("redirect")).unwrap();
    let (plugin, manifest) = (get(), fixture.manifest("redirect", "1.0.0"));
    // Ed25519 is deterministic, so that the signatures agree too.
    assert_eq!(*plugin.manifest(), manifest);
    assert_eq!(plugin.wasm(), WASM);
    assert_eq!(plugin.digest(), manifest.checksum);
    assert_eq!(get().into_wasm(), WASM);
    let key_id = fixture.key.public_key().key_id();
    assert_eq!(*plugin.signers(), [key_id].into());
    let loaded = plugin.loaded();
    assert_eq!(*loaded.name(), manifest.name);
    assert_eq!(*loaded.version(), manifest.version);
    assert_eq!(loaded.digest(), manifest.checksum);
    let shown = format!("{plugin:?}");
    for part in [
        "redirect",
        &manifest.checksum.to_string(),
        &key_id.to_string(),
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn an_unverified_plugin_is_what_was_installed() {
    let fixture = Fixture::new();
    let registry = fixture.under(Policy::permissive([]));
    let manifest = unsigned("redirect", "1.0.0");
    registry.install(&manifest, WASM).unwrap();
    let get = || {
        let found = registry.get_permissive(&name("redirect"), &select("latest"));
        found.unwrap()
    };
    let plugin = get();
    assert_eq!(*plugin.manifest(), manifest);
    assert_eq!(plugin.wasm(), WASM);
    assert_eq!(plugin.digest(), manifest.checksum);
    assert_eq!(get().into_wasm(), WASM);
    let shown = format!("{plugin:?}");
    for part in ["redirect", &manifest.checksum.to_string(), "Unsigned"] {
        assert!(shown.contains(part), "{shown}");
    }
}

/// Who has signed is remembered of a plugin that runs without being asked for
/// as a verified one, and counts when the rules change.
#[test]
fn an_unverified_plugin_with_good_signatures_keeps_its_signers() {
    let fixture = Fixture::with(&["1.0.0"]);
    let public = || fixture.key.public_key();
    let permissive = fixture.under(Policy::permissive([public()]));
    let plugin = permissive.get_permissive(&name("redirect"), &select("latest"));
    let loaded = plugin.unwrap().loaded();
    let stops = fixture.registry.must_stop([loaded.clone()]).unwrap();
    assert!(stops.is_empty(), "{stops:?}");
    let both = Rule::new("*".parse().unwrap(), [public()]).with_threshold(2);
    let stricter = fixture.under(Policy::default().with_rules([both]));
    let stops = stricter.must_stop([loaded]).unwrap();
    assert!(matches!(
        stops[0].refusal,
        Refusal::Threshold {
            have: 1,
            need: 2,
            ..
        }
    ));
}

/// Both ends of a validity belong to it, so that they may be the same.
#[test]
fn a_key_may_be_valid_for_one_second() {
    let fixture = Fixture::new();
    let public = fixture.key.public_key();
    let text = format!(
        "[[keys]]\nname = \"a\"\npem = \"\"\"{}\"\"\"\n\
         not_before = 1970-01-01T00:16:40Z\nnot_after = 1970-01-01T00:16:40Z\n\
         [[rules]]\nname = \"*\"\nkeys = [\"a\"]\n",
        public.to_pem().unwrap()
    );
    let policy = Policy::from_toml(&text, "").unwrap();
    let only = Some(RELEASE.released_at);
    let expected = Validity {
        not_before: only,
        not_after: only,
    };
    assert_eq!(policy.validity(&public.key_id()), expected);
    let manifest = unsigned("redirect", "1.0.0")
        .sign(WASM, RELEASE, &[&fixture.key])
        .unwrap();
    for (now, fine) in [(999, false), (1000, true), (1001, false)] {
        let registry = fixture
            .under(policy.clone())
            .with_clock(move || UNIX_EPOCH + Duration::from_secs(now));
        assert_eq!(registry.install(&manifest, WASM).is_ok(), fine, "{now}");
    }
}

/// Permissive mode overlooks who has signed, and nothing else, for what runs as
/// for what is loaded.
#[test]
fn what_is_revoked_stops_in_permissive_mode_unless_it_is_the_key() {
    type Edit = fn(&mut Revocations, &Fixture);
    let fixture = Fixture::with(&["1.0.0"]);
    let public = || fixture.key.public_key();
    let permissive = fixture.under(Policy::permissive([public()]));
    let plugin = permissive.get_permissive(&name("redirect"), &select("1.0.0"));
    let loaded = plugin.unwrap().loaded();
    let cases: [(Edit, Option<&str>); 5] = [
        (|_, _| (), None),
        (
            |r, fixture| _ = r.keys.insert(fixture.key.public_key().key_id()),
            None,
        ),
        (
            |r, _| _ = r.versions.insert("redirect@1.0.0".parse().unwrap()),
            Some("RevokedVersion"),
        ),
        (
            |r, _| _ = r.digests.insert(Registry::checksum(WASM)),
            Some("DeniedDigest"),
        ),
        (
            |r, _| {
                let minimum = "1.0.1".parse().unwrap();
                _ = r.minimum_versions.insert(name("redirect"), minimum);
            },
            Some("BelowMinimumVersion"),
        ),
    ];
    for (edit, expected) in cases {
        let mut revocations = Revocations::default();
        edit(&mut revocations, &fixture);
        let policy = Policy::permissive([public()]).with_revocations(revocations);
        let stops = fixture.under(policy).must_stop([loaded.clone()]).unwrap();
        let said = stops.first().map(|stop| format!("{:?}", stop.refusal));
        match (&said, expected) {
            (None, None) => {}
            (Some(said), Some(expected)) if said.starts_with(expected) => {}
            _ => panic!("{said:?} instead of {expected:?}"),
        }
    }
}
