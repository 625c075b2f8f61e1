//! Bills of materials in statements, and rules that ask for one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vortex_registry::{
    PluginManifest, Policy, PrivateKey, Refusal, Registry, RegistryError, Release, Rule, Sbom,
    SbomFormat, Status, Trust,
};

use crate::support::{Fixture, WASM, assert_error, name, select, signed, unsigned};

const RELEASE: Release = Release {
    abi: 1,
    seq: 1,
    released_at: 1_750_000_000,
};

fn sbom() -> Sbom {
    Sbom::of_json(br#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#).unwrap()
}

fn with_sbom(version: &str, keys: &[&PrivateKey]) -> PluginManifest {
    unsigned("redirect", version)
        .sign_with_sbom(WASM, RELEASE, sbom(), keys)
        .unwrap()
}

fn payload(manifest: &PluginManifest) -> String {
    let envelope = STANDARD.decode(&manifest.signature).unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    String::from_utf8(payload).unwrap()
}

fn missing(result: Result<impl std::fmt::Debug, RegistryError>) {
    assert_error!(result, RegistryError::Refused { refusal, .. }
        if matches!(&*refusal, Refusal::MissingSbom { rule } if rule == "*"));
}

fn asking(key: &PrivateKey) -> Rule {
    Rule::new("*".parse().unwrap(), [key.public_key()]).requiring_sbom()
}

#[test]
fn a_statement_without_a_bill_is_what_it_always_was() {
    let fixture = Fixture::new();
    let plain = payload(&fixture.manifest("redirect", "1.0.0"));
    let checksum = Registry::checksum(WASM);
    assert_eq!(
        plain,
        format!(
            r#"{{"schema":1,"name":"redirect","version":"1.0.0","description":"","hook_types":["pre_request"],"checksum":"{checksum}","size":8,"abi":1,"seq":1,"released_at":1750000000}}"#
        )
    );
    let digest = sbom().digest();
    assert_eq!(
        payload(&with_sbom("1.0.0", &[&fixture.key])),
        format!(
            r#"{},"sbom":{{"format":"cyclonedx","digest":"{digest}"}}}}"#,
            plain.strip_suffix('}').unwrap()
        )
    );
}

#[test]
fn a_bill_can_be_read_from_what_is_verified() {
    let fixture = Fixture::with(&["1.0.0"]);
    fixture
        .registry
        .install(&with_sbom("1.1.0", &[&fixture.key]), WASM)
        .unwrap();
    let get = |version| {
        let plugin = fixture
            .registry
            .get(&name("redirect"), &select(version))
            .unwrap();
        plugin.statement().sbom()
    };
    assert_eq!(get("1.0.0"), None);
    assert_eq!(get("1.1.0"), Some(sbom()));
    assert_eq!(sbom().format(), SbomFormat::CycloneDx);
}

#[test]
fn a_rule_can_ask_for_a_bill() {
    let fixture = Fixture::with(&["1.0.0"]);
    let registry = fixture.under(Policy::default().with_rules([asking(&fixture.key)]));
    let redirect = name("redirect");
    missing(registry.get(&redirect, &select("1.0.0")));
    missing(registry.install(&fixture.manifest("redirect", "2.0.0"), WASM));
    let entries = registry.list().unwrap();
    assert!(
        matches!(&entries[0].status, Status::Intact { trust: Trust::Refused { refusal }, .. }
            if matches!(refusal, Refusal::MissingSbom { .. })),
        "{entries:?}"
    );

    let good = with_sbom("1.1.0", &[&fixture.key]);
    registry.install(&good, WASM).unwrap();
    let plugin = registry.get_latest(&redirect).unwrap();
    assert_eq!(plugin.statement().sbom(), Some(sbom()));

    // The bill of somebody who is not trusted is none, and who has signed comes first.
    let stranger = PrivateKey::generate().unwrap();
    assert_error!(
        registry.install(&with_sbom("3.0.0", &[&stranger]), WASM),
        RegistryError::UntrustedKey { .. }
    );
    assert_error!(
        registry.install(&unsigned("redirect", "3.0.0"), WASM),
        RegistryError::Unsigned { .. }
    );
    let both = asking(&fixture.key).with_threshold(2);
    let registry = fixture.under(Policy::default().with_rules([both]));
    assert_error!(
        registry.get(&redirect, &select("1.1.0")),
        RegistryError::Refused { refusal, .. } if matches!(*refusal, Refusal::Threshold { .. })
    );
}

#[test]
fn the_first_rule_that_matches_says_whether_a_bill_is_asked_for() {
    let fixture = Fixture::new();
    let pem = fixture.key.public_key().to_pem().unwrap();
    let policy = |asked: &str| {
        let text = format!(
            "[[keys]]\nname = \"a\"\npem = \"\"\"{pem}\"\"\"\n\
             [[rules]]\nname = \"redirect\"\nkeys = [\"a\"]\n{asked}\n\
             [[rules]]\nname = \"*\"\nkeys = [\"a\"]\nrequire_sbom = true\n"
        );
        Policy::from_toml(&text, "").unwrap()
    };
    for (asked, expected) in [
        ("require_sbom = true", true),
        ("require_sbom = false", false),
        ("", false),
    ] {
        let policy = policy(asked);
        let rules: Vec<_> = policy.rules().iter().map(Rule::sbom_required).collect();
        assert_eq!(rules, [expected, true]);
        let registry = fixture.under(policy);
        let installed = registry.install(&fixture.manifest("redirect", "1.0.0"), WASM);
        assert_eq!(installed.is_err(), expected, "{asked}");
        missing(registry.install(&fixture.manifest("rewrite", "1.0.0"), WASM));
    }
    let error = Policy::from_toml("[[rules]]\nname = \"*\"\nrequire_sbom = 1", "").unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}

/// Permissive mode lets through what nobody has signed, and a bill goes with the signature.
#[test]
fn permissive_mode_overlooks_a_missing_bill_and_get_does_not() {
    let fixture = Fixture::with(&["1.0.0"]);
    let policy = Policy::permissive([]).with_rules([asking(&fixture.key)]);
    let registry = fixture.under(policy);
    registry
        .install(&signed(unsigned("redirect", "2.0.0"), &fixture.key), WASM)
        .unwrap();
    for version in ["1.0.0", "2.0.0"] {
        let version = select(version);
        let plugin = registry
            .get_permissive(&name("redirect"), &version)
            .unwrap();
        assert!(matches!(plugin.trust(), Trust::Refused { .. }));
        assert!(registry.must_stop([plugin.loaded()]).unwrap().is_empty());
        missing(registry.get(&name("redirect"), &version));
    }
}

#[test]
fn what_runs_without_a_bill_must_stop_when_one_is_asked_for() {
    let fixture = Fixture::with(&["1.0.0"]);
    let good = with_sbom("1.1.0", &[&fixture.key]);
    fixture.registry.install(&good, WASM).unwrap();
    let loaded = ["1.0.0", "1.1.0"].map(|version| {
        let plugin = fixture.registry.get(&name("redirect"), &select(version));
        plugin.unwrap().loaded()
    });
    let registry = fixture.under(Policy::default().with_rules([asking(&fixture.key)]));
    let stops = registry.must_stop(loaded).unwrap();
    assert_eq!(stops.len(), 1);
    assert_eq!(stops[0].plugin.version().to_string(), "1.0.0");
    assert!(matches!(stops[0].refusal, Refusal::MissingSbom { .. }));
}
