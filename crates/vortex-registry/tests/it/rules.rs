//! Each rule of the policy, by itself and against the others.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;
use vortex_registry::{
    Defect, HookType, KeyId, Policy, PrivateKey, Refusal, Registry, RegistryError, Release,
    Revocations, Rule, Status, Trust, Validity, Version,
};

use crate::support::{WASM, assert_corrupt, assert_error, name, select, unsigned};

const RELEASED: u64 = 1_750_000_000;

fn keys<const N: usize>() -> [PrivateKey; N] {
    [(); N].map(|()| PrivateKey::generate().unwrap())
}

fn id(key: &PrivateKey) -> KeyId {
    key.public_key().key_id()
}

fn rule(pattern: &str, keys: &[&PrivateKey]) -> Rule {
    Rule::new(
        pattern.parse().unwrap(),
        keys.iter().map(|key| key.public_key()),
    )
}

fn strict(rules: impl IntoIterator<Item = Rule>) -> Policy {
    Policy::strict([]).with_rules(rules)
}

fn signed_at(
    version: &str,
    released_at: u64,
    keys: &[&PrivateKey],
) -> vortex_registry::PluginManifest {
    let release = Release {
        abi: 1,
        seq: 1,
        released_at,
    };
    unsigned("redirect", version)
        .sign(WASM, release, keys)
        .unwrap()
}

/// A store in which `redirect` 1.0.0 by these keys lies, put there under a
/// policy that has nothing against it.
fn store(keys: &[&PrivateKey]) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let open = Policy::strict(keys.iter().map(|key| key.public_key()));
    let manifest = signed_at("1.0.0", RELEASED, keys);
    let registry = Registry::open(temp.path(), open).unwrap();
    registry.install(&manifest, WASM).unwrap();
    temp
}

/// What install, get, latest, a requirement and list say, if they agree.
fn verdict(store: &TempDir, policy: &Policy, now: u64, keys: &[&PrivateKey]) -> Result<(), String> {
    let clock = move || UNIX_EPOCH + Duration::from_secs(now);
    let open = |path| {
        Registry::open(path, policy.clone())
            .unwrap()
            .with_clock(clock)
    };
    let registry = open(store.path().to_owned());
    let redirect = name("redirect");
    let said = |result: Result<(), RegistryError>| {
        result.map_err(|error| match error {
            RegistryError::Refused { refusal, .. } => format!("{refusal:?}"),
            RegistryError::UntrustedKey { .. } => "UntrustedKey".to_owned(),
            other => panic!("{other:?}"),
        })
    };
    let mut said_all = BTreeSet::new();
    for selector in ["1.0.0", "latest", "^1"] {
        let got = registry.get(&redirect, &select(selector));
        said_all.insert(said(got.map(drop)));
    }
    let entries = registry.list().unwrap();
    let Status::Intact { trust, .. } = &entries[0].status else {
        panic!("{entries:?}");
    };
    said_all.insert(match trust {
        Trust::Signed { .. } => Ok(()),
        Trust::UntrustedKey { .. } => Err("UntrustedKey".to_owned()),
        Trust::Refused { refusal } => Err(format!("{refusal:?}")),
        other => panic!("{other:?}"),
    });
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path().join("store"));
    let installed = other.install(&signed_at("1.0.0", RELEASED, keys), WASM);
    assert_eq!(elsewhere.path().join("store").exists(), installed.is_ok());
    said_all.insert(said(installed.map(drop)));
    assert_eq!(said_all.len(), 1, "the operations disagree: {said_all:?}");
    said_all.pop_first().unwrap()
}

/// A plugin by alice and bob, and what each policy says of it.
#[test]
fn each_rule_refuses_by_itself_and_names_itself() {
    let [alice, bob, carol] = &keys();
    let both = [alice, bob];
    let store = store(&both);
    let all = || rule("*", &[alice, bob]);
    let revoked = |edit: fn(&mut Revocations)| {
        let mut revocations = Revocations::default();
        edit(&mut revocations);
        strict([all()]).with_revocations(revocations)
    };
    let revoking = |keys: &[&PrivateKey], rule| {
        let revocations = Revocations {
            keys: keys.iter().map(|key| id(key)).collect(),
            ..Revocations::default()
        };
        strict([rule]).with_revocations(revocations)
    };
    let minimum = |version: &str| {
        let minimum_versions = [(name("redirect"), version.parse().unwrap())].into();
        strict([all()]).with_revocations(Revocations {
            minimum_versions,
            ..Revocations::default()
        })
    };
    let cells: Vec<(&str, Policy, Result<(), &str>)> = vec![
        ("nobody", Policy::default(), Err("UntrustedKey")),
        (
            "stranger",
            Policy::strict([carol.public_key()]),
            Err("UntrustedKey"),
        ),
        ("one of two", Policy::strict([alice.public_key()]), Ok(())),
        ("no rule", strict([]), Err("NoRule")),
        (
            "other names",
            strict([rule("rewrite", &both), rule("re*e", &both)]),
            Err("NoRule"),
        ),
        ("exact name", strict([rule("redirect", &both)]), Ok(())),
        ("glob", strict([rule("*dir*", &both)]), Ok(())),
        (
            "first rule alone",
            strict([rule("re*", &[carol]), all()]),
            Err("UntrustedKey"),
        ),
        ("passed over", strict([rule("x*", &[carol]), all()]), Ok(())),
        ("threshold met", strict([all().with_threshold(2)]), Ok(())),
        ("threshold 0", strict([all().with_threshold(0)]), Ok(())),
        (
            "threshold missed",
            strict([rule("*", &[alice, carol]).with_threshold(2)]),
            Err("Threshold { rule: \"*\", have: 1, need: 2 }"),
        ),
        (
            "more than keys",
            strict([all().with_threshold(3)]),
            Err("Threshold { rule: \"*\", have: 2, need: 3 }"),
        ),
        (
            "hook allowed",
            strict([all().with_hook_types([HookType::PreRequest])]),
            Ok(()),
        ),
        (
            "hook refused",
            strict([all().with_hook_types([HookType::OnClose])]),
            Err("HookTypeNotAllowed { rule: \"*\", hook_type: PreRequest }"),
        ),
        ("fits", strict([all().with_max_bytes(8)]), Ok(())),
        (
            "too large",
            strict([all().with_max_bytes(7)]),
            Err("TooLarge { rule: \"*\", size: 8, limit: 7 }"),
        ),
        ("spare key revoked", revoking(&[bob], all()), Ok(())),
        (
            "stranger revoked",
            revoking(&[carol], all().with_threshold(2)),
            Ok(()),
        ),
        ("all revoked", revoking(&both, all()), Err("RevokedKey")),
        (
            "needed key revoked",
            revoking(&[bob], all().with_threshold(2)),
            Err("RevokedKey"),
        ),
        (
            "denied",
            revoked(|r| _ = r.digests.insert(Registry::checksum(WASM))),
            Err("DeniedDigest"),
        ),
        (
            "other denied",
            revoked(|r| _ = r.digests.insert(Registry::checksum(b""))),
            Ok(()),
        ),
        (
            "version revoked",
            revoked(|r| _ = r.versions.insert("redirect@1.0.0".parse().unwrap())),
            Err("RevokedVersion"),
        ),
        (
            "others revoked",
            revoked(|r| {
                for other in ["redirect@1.0.1", "redirect@1.0.0+b", "rewrite@1.0.0"] {
                    r.versions.insert(other.parse().unwrap());
                }
            }),
            Ok(()),
        ),
        ("minimum met", minimum("1.0.0"), Ok(())),
        ("minimum without build", minimum("1.0.0+z"), Ok(())),
        ("minimum prerelease", minimum("1.0.0-rc.1"), Ok(())),
        ("below", minimum("1.0.1-rc.1"), Err("BelowMinimumVersion")),
    ];
    let (mut allowed, mut refused) = (0, 0);
    for (cell, policy, expected) in &cells {
        let said = verdict(&store, policy, RELEASED, &both);
        match (&said, expected) {
            (Ok(()), Ok(())) => allowed += 1,
            (Err(said), Err(expected)) if said.starts_with(expected) => refused += 1,
            _ => panic!("{cell}: {said:?} instead of {expected:?}"),
        }
    }
    assert_eq!((allowed, refused), (15, 14));
}

/// Alice is valid from 1000 before the release to 1000 after it.
#[test]
fn a_key_counts_from_its_first_second_to_its_last() {
    let [alice, bob] = &keys();
    let store = store(&[alice]);
    let window = |not_before, not_after| {
        let validity = Validity {
            not_before,
            not_after,
        };
        Policy::strict([alice.public_key()]).with_validity(id(alice), validity)
    };
    let (first, last) = (RELEASED - 1000, RELEASED + 1000);
    for (not_before, not_after, now, expected) in [
        (Some(first), Some(last), first, "Ok"),
        (Some(first), Some(last), first - 1, "KeyNotYetValid"),
        (Some(first), Some(last), last, "Ok"),
        (Some(first), Some(last), last + 1, "KeyExpired"),
        (None, Some(last), 0, "Ok"),
        (Some(first), None, u64::MAX >> 2, "Ok"),
        // The release itself, whatever the time is now.
        (Some(RELEASED), Some(RELEASED), RELEASED, "Ok"),
        (Some(RELEASED + 1), None, last, "KeyNotYetValid"),
        (None, Some(RELEASED - 1), first, "KeyExpired"),
    ] {
        let policy = window(not_before, not_after);
        let said = verdict(&store, &policy, now, &[alice]);
        let said = said.map_or_else(|said| said, |()| "Ok".to_owned());
        assert!(
            said.starts_with(expected),
            "{not_before:?} {not_after:?} {now}: {said}"
        );
    }
    // The window of one key says nothing about another.
    let policy = Policy::strict([alice.public_key()]).with_validity(
        id(bob),
        Validity {
            not_before: None,
            not_after: Some(0),
        },
    );
    assert_eq!(verdict(&store, &policy, RELEASED, &[alice]), Ok(()));
}

#[test]
fn an_expired_key_does_not_fill_a_threshold() {
    let [alice, bob, carol] = &keys();
    let all = [alice, bob, carol];
    let store = store(&all);
    let expired = Validity {
        not_before: None,
        not_after: Some(RELEASED),
    };
    let policy =
        |need| strict([rule("*", &all).with_threshold(need)]).with_validity(id(carol), expired);
    assert_eq!(verdict(&store, &policy(3), RELEASED, &all), Ok(()));
    assert_eq!(verdict(&store, &policy(2), RELEASED + 1, &all), Ok(()));
    let said = verdict(&store, &policy(3), RELEASED + 1, &all).unwrap_err();
    assert!(said.starts_with("KeyExpired"), "{said}");
}

/// Rewrites the envelope of a manifest.
fn edit_envelope(
    manifest: &mut vortex_registry::PluginManifest,
    edit: impl FnOnce(&mut Vec<serde_json::Value>),
) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut envelope: serde_json::Value =
        serde_json::from_slice(&STANDARD.decode(&manifest.signature).unwrap()).unwrap();
    edit(envelope["signatures"].as_array_mut().unwrap());
    manifest.signature = STANDARD.encode(envelope.to_string());
}

/// One key cannot be two, however its signatures are written down.
#[test]
fn a_key_counts_once_towards_a_threshold() {
    let [alice, bob] = &keys();
    let temp = tempfile::tempdir().unwrap();
    let policy = strict([rule("*", &[alice, bob, alice]).with_threshold(2)]);
    assert_eq!(policy.keyring().len(), 2);
    let registry = Registry::open(temp.path().join("store"), policy).unwrap();
    let install = |manifest| registry.install(&manifest, WASM);
    let too_few = |result: Result<_, RegistryError>| {
        assert_error!(
            result,
            RegistryError::Refused { refusal, .. }
                if matches!(*refusal, Refusal::Threshold { have: 1, need: 2, .. })
        );
    };
    // Signed sixteen times by the same key.
    too_few(install(signed_at("1.0.0", RELEASED, &[alice; 16])));
    // Its one signature written down twice.
    let mut copied = signed_at("1.0.0", RELEASED, &[alice]);
    edit_envelope(&mut copied, |signatures| {
        signatures.push(signatures[0].clone())
    });
    too_few(install(copied.clone()));
    // The copy under the id of nobody, and under that of bob.
    let [nobody] = &keys();
    let mut renamed = copied.clone();
    edit_envelope(&mut renamed, |signatures| {
        signatures[1]["keyid"] = id(nobody).to_string().into();
    });
    too_few(install(renamed));
    edit_envelope(&mut copied, |signatures| {
        signatures[1]["keyid"] = id(bob).to_string().into();
    });
    assert_corrupt!(install(copied), Defect::Signature { .. });
    assert!(!registry.path().exists(), "something was created");
    install(signed_at("1.0.0", RELEASED, &[bob, alice])).unwrap();
    assert_eq!(
        registry
            .get_latest(&name("redirect"))
            .unwrap()
            .signers()
            .len(),
        2
    );
}

/// Every plugin of name × version × hooks × key under rules that allow each
/// key some names and hooks only, with each other's signature.
#[test]
fn what_one_may_sign_another_may_not() {
    let [alice, bob] = &keys();
    let temp = tempfile::tempdir().unwrap();
    let policy = strict([
        rule("auth-*", &[alice]).with_hook_types([HookType::PreRequest]),
        rule("*", &[bob]).with_hook_types([HookType::OnClose]),
    ]);
    let hooks = [HookType::PreRequest, HookType::OnClose];
    let mut manifests = Vec::new();
    for plugin in ["auth-jwt", "redirect"] {
        for version in [Version::new(1, 0, 0), Version::new(2, 0, 0)] {
            for hook in hooks {
                for key in [alice, bob] {
                    let mut manifest = unsigned(plugin, &version.to_string());
                    manifest.hook_types = vec![hook];
                    let release = Release {
                        abi: 1,
                        seq: 1,
                        released_at: RELEASED,
                    };
                    let manifest = manifest.sign(WASM, release, &[key]).unwrap();
                    let own = plugin == "auth-jwt";
                    let fine = own == (id(key) == id(alice)) && own == (hook == hooks[0]);
                    manifests.push((manifest, fine));
                }
            }
        }
    }
    let mut installed = 0;
    for (i, (manifest, fine)) in manifests.iter().enumerate() {
        for (j, (donor, _)) in manifests.iter().enumerate() {
            let store = temp.path().join(format!("{i}-{j}"));
            let registry = Registry::open(store, policy.clone()).unwrap();
            let mut swapped = manifest.clone();
            swapped.signature.clone_from(&donor.signature);
            let result = registry.install(&swapped, WASM);
            // The same statement signed by the other key is as good as its own.
            let expected = if i == j {
                *fine
            } else {
                i / 2 == j / 2 && manifests[j].1
            };
            assert_eq!(result.is_ok(), expected, "{i} {j} {result:?}");
            installed += usize::from(result.is_ok());
        }
    }
    // Two names with two versions each, each by its own signature or put upon its twin.
    assert_eq!((manifests.len(), installed), (16, 4 * 2));
}

#[test]
fn latest_does_not_fall_back_from_what_is_refused() {
    let [alice] = &keys();
    let store = store(&[alice]);
    let newest = signed_at("2.0.0", RELEASED, &[alice]);
    let open = Policy::strict([alice.public_key()]);
    let registry = Registry::open(store.path(), open.clone()).unwrap();
    registry.install(&newest, WASM).unwrap();
    let mut revocations = Revocations::default();
    revocations
        .versions
        .insert("redirect@2.0.0".parse().unwrap());
    let registry = Registry::open(store.path(), open.with_revocations(revocations)).unwrap();
    for selector in ["latest", ">=1", "2.0.0"] {
        assert_error!(
            registry.get(&name("redirect"), &select(selector)),
            RegistryError::Refused { refusal, .. } if *refusal == Refusal::RevokedVersion
        );
    }
    assert!(registry.get(&name("redirect"), &select("1.0.0")).is_ok());
}

/// Permissive mode relaxes who must have signed, and nothing else.
#[test]
fn permissive_overlooks_signers_alone() {
    let [alice, bob] = &keys();
    let store = store(&[alice]);
    let permissive = |rules: Vec<Rule>| Policy::permissive([]).with_rules(rules);
    let all = || rule("*", &[alice, bob]);
    let mut denying = Revocations::default();
    denying.digests.insert(Registry::checksum(WASM));
    let mut distrusting = Revocations::default();
    distrusting.keys.insert(id(alice));
    for (policy, handed_out) in [
        (permissive(vec![]), true),
        (permissive(vec![all().with_threshold(2)]), true),
        (permissive(vec![all()]).with_revocations(distrusting), true),
        (permissive(vec![all()]).with_revocations(denying), false),
        (permissive(vec![all().with_max_bytes(7)]), false),
        (permissive(vec![all().with_hook_types([])]), false),
    ] {
        let registry = Registry::open(store.path(), policy.clone()).unwrap();
        let got = registry.get_permissive(&name("redirect"), &select("latest"));
        assert_eq!(got.is_ok(), handed_out, "{policy:?} {got:?}");
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Registry::open(elsewhere.path(), policy).unwrap();
        for manifest in [
            unsigned("redirect", "1.0.0"),
            signed_at("1.1.0", RELEASED, &[alice]),
        ] {
            assert_eq!(other.install(&manifest, WASM).is_ok(), handed_out);
        }
        assert_error!(
            registry.get_latest(&name("redirect")),
            RegistryError::Refused { .. }
        );
    }
}
