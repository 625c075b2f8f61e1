//! Bugs that others have published, of systems that sign what is distributed,
//! replayed here: each test says what went wrong where, and tries the same.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};
use vortex_registry::{
    Defect, FleetIndex, IndexDefect, KeyId, PluginManifest, Policy, PrivateKey, Refusal, Registry,
    RegistryError, Release, Rule,
};

use crate::fleet_index::{EXPIRES, Fleet, ISSUED, assert_index, get};
use crate::support::{Fixture, WASM, assert_corrupt, assert_error, name, unsigned};

const RELEASE: Release = Release {
    abi: 1,
    seq: 1,
    released_at: ISSUED,
};

fn keys<const N: usize>() -> [PrivateKey; N] {
    [(); N].map(|()| PrivateKey::generate().unwrap())
}

fn id(key: &PrivateKey) -> KeyId {
    key.public_key().key_id()
}

fn signed_by(keys: &[&PrivateKey]) -> PluginManifest {
    let manifest = unsigned("redirect", "1.0.0");
    manifest.sign(WASM, RELEASE, keys).unwrap()
}

fn edited(manifest: &PluginManifest, edit: impl FnOnce(&mut Value)) -> PluginManifest {
    let mut manifest = manifest.clone();
    let envelope = STANDARD.decode(&manifest.signature).unwrap();
    let mut envelope: Value = serde_json::from_slice(&envelope).unwrap();
    edit(&mut envelope);
    manifest.signature = STANDARD.encode(envelope.to_string());
    manifest
}

/// A registry in which two of these keys must sign, on a store that is not there.
fn two_of(keys: &[&PrivateKey]) -> (tempfile::TempDir, Registry) {
    let temp = tempfile::tempdir().unwrap();
    let public = keys.iter().map(|key| key.public_key());
    let rule = Rule::new("*".parse().unwrap(), public).with_threshold(2);
    let policy = Policy::default().with_rules([rule]);
    let registry = Registry::open(temp.path().join("store"), policy).unwrap();
    (temp, registry)
}

fn one_of_two<T: std::fmt::Debug>(result: Result<T, RegistryError>) {
    assert_error!(result, RegistryError::Refused { refusal, .. }
        if matches!(*refusal, Refusal::Threshold { have: 1, need: 2, .. }));
}

/// tough before 0.22 (CVE-2026-6966) counted one valid signature as often as it
/// stood in the metadata of a delegated role. So did tough before 0.7.1
/// (CVE-2020-15093), the reference implementation of TUF (GHSA-pwqf-9h7j-7mv8)
/// and rust-tuf (pull request 283).
#[test]
fn a_signature_written_down_again_counts_once() {
    let [alice, bob] = &keys();
    let (_temp, registry) = two_of(&[alice, bob]);
    for copies in 1..16 {
        let manifest = edited(&signed_by(&[alice]), |envelope| {
            let signatures = envelope["signatures"].as_array_mut().unwrap();
            let copy = signatures[0].clone();
            signatures.extend(vec![copy; copies]);
        });
        one_of_two(registry.install(&manifest, WASM));
    }
    assert!(!registry.path().exists());
}

/// aktualizr (pull request 902) told signatures apart by their value, so that
/// one spelled in two ways was two. The spellings: padding, the other alphabet,
/// white space, bits after the last digit, and S + L for S (RFC 8032 §5.1.7).
#[test]
fn a_signature_has_one_spelling() {
    let [alice, bob] = &keys();
    let (_temp, registry) = two_of(&[alice, bob]);
    // Both alphabets agree on a signature without their last two digits.
    let (manifest, sig) = (0..)
        .map(|seq| {
            let release = Release { seq, ..RELEASE };
            let manifest = unsigned("redirect", "1.0.0");
            let manifest = manifest.sign(WASM, release, &[alice]).unwrap();
            let envelope = STANDARD.decode(&manifest.signature).unwrap();
            let envelope: Value = serde_json::from_slice(&envelope).unwrap();
            let sig = envelope["signatures"][0]["sig"].as_str().unwrap();
            (manifest, sig.to_owned())
        })
        .find(|(_, sig)| sig.contains(['+', '/']))
        .unwrap();
    let bytes = STANDARD.decode(&sig).unwrap();
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = bytes.clone();
    let mut carry = 0;
    for (digit, order) in malleable[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*digit) + u16::from(order) + carry;
        *digit = sum as u8;
        carry = sum >> 8;
    }
    let loose_bits = {
        let digits = sig.trim_end_matches('=');
        let last = digits.chars().last().unwrap();
        let next = char::from(last as u8 + 1);
        format!("{}{next}==", &digits[..digits.len() - 1])
    };
    let spellings = [
        sig.trim_end_matches('=').to_owned(),
        format!("{sig}="),
        URL_SAFE.encode(&bytes),
        format!("{sig}\n"),
        loose_bits,
        STANDARD.encode(&malleable),
    ];
    for spelling in spellings {
        assert_ne!(spelling, sig);
        for alone in [true, false] {
            let manifest = edited(&manifest, |envelope| {
                let signatures = envelope["signatures"].as_array_mut().unwrap();
                let mut other = signatures[0].clone();
                other["sig"] = spelling.as_str().into();
                match alone {
                    true => signatures[0] = other,
                    false => signatures.push(other),
                }
            });
            let result = registry.install(&manifest, WASM);
            assert_corrupt!(result, Defect::Envelope { .. } | Defect::Signature { .. });
        }
    }
}

/// go-tuf before 0.3.2 (GHSA-3633-5h82-39pq) took one public key under two key
/// ids for two keys.
#[test]
fn a_key_under_two_names_is_one_key() {
    let [alice, bob] = &keys();
    let pem = alice.public_key().to_pem().unwrap();
    let text = format!(
        "[[keys]]\nname = \"alice\"\npem = \"\"\"{pem}\"\"\"\n\
         [[keys]]\nname = \"also-alice\"\npem = \"\"\"{pem}\"\"\"\n\
         [[rules]]\nname = \"*\"\nkeys = [\"alice\", \"also-alice\"]\nthreshold = 2\n"
    );
    let error = Policy::from_toml(&text, "").unwrap_err().to_string();
    assert!(error.contains("another name"), "{error}");
    // Built from parts, such a rule has one key and can never be met.
    let (_temp, registry) = two_of(&[alice, alice]);
    one_of_two(registry.install(&signed_by(&[alice, alice]), WASM));

    // The signature under an id of its own making, and under that of bob.
    let (_temp, registry) = two_of(&[alice, bob]);
    let copied = |key_id: String| {
        edited(&signed_by(&[alice]), |envelope| {
            let signatures = envelope["signatures"].as_array_mut().unwrap();
            let mut copy = signatures[0].clone();
            copy["keyid"] = key_id.into();
            signatures.push(copy);
        })
    };
    one_of_two(registry.install(&copied("0".repeat(64)), WASM));
    assert_corrupt!(
        registry.install(&copied(id(bob).to_string()), WASM),
        Defect::Signature { .. }
    );
    assert_corrupt!(
        registry.install(&copied(id(alice).to_string().to_uppercase()), WASM),
        Defect::Envelope { .. }
    );
}

/// go-tuf before 2.3.1 (CVE-2026-23992) verified nothing when a threshold was 0.
#[test]
fn no_threshold_switches_verification_off() {
    let [alice, stranger] = &keys();
    let pem = alice.public_key().to_pem().unwrap();
    for threshold in ["0", "-1", "2", "18446744073709551616"] {
        let text = |table: &str| {
            format!(
                "[[keys]]\nname = \"a\"\npem = \"\"\"{pem}\"\"\"\n\
                 {table}\nkeys = [\"a\"]\nthreshold = {threshold}\n"
            )
        };
        for table in ["[[rules]]\nname = \"*\"", "[index]"] {
            assert_error!(
                Policy::from_toml(&text(table), ""),
                RegistryError::InvalidPolicy { .. }
            );
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let rule = Rule::new("*".parse().unwrap(), [alice.public_key()]).with_threshold(0);
    let policy = Policy::default()
        .with_rules([rule])
        .with_index_keys([alice.public_key()], 0);
    let registry = Registry::open(temp.path().join("store"), policy).unwrap();
    let unsigned = unsigned("redirect", "1.0.0");
    assert_error!(
        registry.install(&unsigned, WASM),
        RegistryError::Unsigned { .. }
    );
    assert_error!(
        registry.install(&signed_by(&[stranger]), WASM),
        RegistryError::UntrustedKey { .. }
    );
    let none = edited(&signed_by(&[alice]), |e| e["signatures"] = json!([]));
    assert_corrupt!(registry.install(&none, WASM), Defect::Envelope { .. });
    let index = FleetIndex::new(1, ISSUED, u64::MAX)
        .sign(&[stranger])
        .unwrap();
    assert_index!(
        registry.update_index(&index),
        IndexDefect::Threshold { have: 0, need: 1 }
    );
    assert!(!registry.path().exists());
}

/// go-tuf before 0.3.0 (CVE-2022-29173) compared the number of new metadata
/// with 0 instead of the number it had accepted before.
#[test]
fn what_was_accepted_before_is_compared_with() {
    let fleet = Fleet::new();
    let registry = fleet.open(fleet.policy());
    registry.update_index(&fleet.revoking(5)).unwrap();
    for seq in 0..5 {
        // In the process that has accepted the newer one, and in one that has not.
        for registry in [&registry, &fleet.open(fleet.policy())] {
            assert_index!(
                registry.update_index(&fleet.index(seq, |_| {})),
                IndexDefect::Rollback { seen: 5, .. }
            );
            assert_error!(get(registry), RegistryError::Refused { .. });
        }
    }
    assert_index!(
        registry.update_index(&fleet.index(5, |_| {})),
        IndexDefect::Equivocation { seq: 5 }
    );
}

/// The reference implementation of TUF before 0.12 (CVE-2020-15163) trusted
/// what it had downloaded once although it had refused it, and tough kept
/// timestamp metadata that had failed the rollback check.
#[test]
fn what_was_refused_leaves_no_trace() {
    let fleet = Fleet::new();
    let registry = fleet.open(fleet.policy());
    let good = fleet.index(5, |_| {});
    registry.update_index(&good).unwrap();
    let state = || [".index.json", ".index.seen"].map(|f| fs::read(fleet.store.path(f)).unwrap());
    let before = state();
    let [stranger] = &keys();
    let revoke_all = |seq, expires, key| {
        let mut index = FleetIndex::new(seq, ISSUED, expires);
        let versions = &mut index.revocations.versions;
        versions.insert("redirect@1.0.0".parse().unwrap());
        index.sign(&[key]).unwrap()
    };
    let own = &fleet.operator;
    let mut broken = revoke_all(9, EXPIRES, own);
    let at = broken.len() / 2;
    broken[at] ^= 1;
    let refused = [
        revoke_all(9, EXPIRES, stranger),
        revoke_all(9, ISSUED, own),
        revoke_all(4, EXPIRES, own),
        revoke_all(5, EXPIRES, own),
        broken,
        b"{}".to_vec(),
    ];
    for bytes in &refused {
        assert_error!(registry.update_index(bytes), RegistryError::Index { .. });
        assert_eq!(state(), before);
        for registry in [&registry, &fleet.open(fleet.policy())] {
            assert!(get(registry).is_ok());
            assert_eq!(registry.index().unwrap().unwrap().seq, 5);
        }
    }
    // Number 9 has been seen by nobody: 6 is the next.
    registry.update_index(&fleet.index(6, |_| {})).unwrap();
}

/// cosign (CVE-2026-39395) called a payload verified that could
/// not be parsed or was of another type than asked for, since its signature was
/// right; clients of OCI registries read one document as a manifest or as an
/// index (CVE-2021-41190).
#[test]
fn a_right_signature_on_the_wrong_thing_is_wrong() {
    let fixture = Fixture::new();
    let key = &fixture.key;
    let policy = Policy::strict([key.public_key()]).with_index_keys([key.public_key()], 1);
    let registry = fixture.under(policy);
    let index = FleetIndex::new(1, ISSUED, u64::MAX).sign(&[key]).unwrap();
    let statement = STANDARD.decode(signed_by(&[key]).signature).unwrap();
    let mut manifest = unsigned("redirect", "1.0.0");
    manifest.signature = STANDARD.encode(&index);
    assert_corrupt!(registry.install(&manifest, WASM), Defect::Envelope { .. });
    assert_index!(
        registry.update_index(&statement),
        IndexDefect::Unreadable { .. }
    );
    for payload_type in [
        "",
        "application/vnd.vortex.index.v1+json",
        "application/vnd.vortex.plugin.v1+json ",
        "application/vnd.vortex.plugin.v1+JSON",
        "application/vnd.in-toto+json",
    ] {
        let relabelled = edited(&signed_by(&[key]), |e| {
            e["payloadType"] = payload_type.into()
        });
        assert_corrupt!(registry.install(&relabelled, WASM), Defect::Envelope { .. });
    }
    assert!(!registry.path().exists());
}

/// sigstore-go (issue 225) looked at the first signature alone, so that a wrong
/// one put before it hid the right one; cosign (CVE-2023-46737) could be kept
/// busy by any number of attestations.
#[test]
fn signatures_of_strangers_neither_help_nor_hinder_nor_cost_without_end() {
    let fixture = Fixture::new();
    let key = &fixture.key;
    let stranger =
        |n: usize| json!({"keyid": format!("{n:064x}"), "sig": STANDARD.encode([n as u8; 64])});
    let among = |strangers: usize, at: usize| {
        edited(&signed_by(&[key]), |envelope| {
            let signatures = envelope["signatures"].as_array_mut().unwrap();
            let own = signatures.remove(0);
            signatures.extend((0..strangers).map(stranger));
            signatures.insert(at, own);
        })
    };
    for at in 0..=15 {
        let store = fixture.temp.path().join(format!("{at}"));
        let registry = Registry::open(store, fixture.registry.policy().clone()).unwrap();
        registry.install(&among(15, at), WASM).unwrap();
        let plugin = registry.get_latest(&name("redirect")).unwrap();
        assert_eq!(*plugin.signers(), [id(key)].into());
    }
    for strangers in [16, 100, 200] {
        let result = fixture.registry.install(&among(strangers, 0), WASM);
        assert_corrupt!(result, Defect::Envelope { .. });
    }
    let result = fixture.registry.install(&among(1000, 0), WASM);
    assert_corrupt!(result, Defect::TooLarge { .. });
}

/// go-tuf before 2.0.1 (CVE-2024-47534) went on to later delegations after a
/// terminating one, and so accepted targets from whom they had not been delegated to.
#[test]
fn no_later_rule_stands_in_for_the_first_that_matches() {
    let [alice, bob] = &keys();
    let temp = tempfile::tempdir().unwrap();
    let rule =
        |pattern: &str, key: &PrivateKey| Rule::new(pattern.parse().unwrap(), [key.public_key()]);
    let rules = [rule("redirect", alice), rule("re*", bob), rule("*", bob)];
    let policy = Policy::default().with_rules(rules);
    let registry = Registry::open(temp.path().join("store"), policy).unwrap();
    assert_error!(
        registry.install(&signed_by(&[bob]), WASM),
        RegistryError::UntrustedKey { .. }
    );
    registry.install(&signed_by(&[alice]), WASM).unwrap();
}

/// CouchDB (CVE-2017-12635) had two parsers of JSON that disagreed on which of
/// two members of one name counts. Here neither does, at any level.
#[test]
fn a_member_that_stands_twice_is_refused() {
    let fixture = Fixture::with(&["1.0.0"]);
    let path = fixture.path("redirect/1.0.0/manifest.json");
    let good = fs::read_to_string(&path).unwrap();
    let members: Vec<&str> = good
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once('"'))
        .map(|(member, _)| member)
        .collect();
    assert_eq!(members.len(), 6, "{members:?}");
    let value: Value = serde_json::from_str(&good).unwrap();
    for member in members {
        let again = format!("{{\"{member}\": {},", value[member]);
        fs::write(&path, good.replacen('{', &again, 1)).unwrap();
        assert_corrupt!(
            fixture.registry.get_latest(&name("redirect")),
            Defect::Manifest { .. }
        );
    }
    fs::write(&path, &good).unwrap();
    let envelope = STANDARD
        .decode(value["signature"].as_str().unwrap())
        .unwrap();
    let envelope = String::from_utf8(envelope).unwrap();
    let parsed: Value = serde_json::from_str(&envelope).unwrap();
    let signature = &parsed["signatures"][0];
    for (before, member, copy) in [
        ("{", "payload", &parsed["payload"]),
        ("{", "payloadType", &parsed["payloadType"]),
        ("{", "signatures", &parsed["signatures"]),
        ("[{", "keyid", &signature["keyid"]),
        ("[{", "sig", &signature["sig"]),
    ] {
        let again = format!("{before}\"{member}\":{copy},");
        let mut manifest = fixture.manifest("redirect", "1.0.0");
        manifest.signature = STANDARD.encode(envelope.replacen(before, &again, 1));
        let result = fixture.registry.install(&manifest, WASM);
        assert_corrupt!(result, Defect::Envelope { .. });
    }
}
