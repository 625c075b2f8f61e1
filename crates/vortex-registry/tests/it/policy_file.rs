//! The policy as a file.

use std::fs;
use std::path::Path;

use vortex_registry::{
    HookType, Mode, Policy, PrivateKey, RegistryError, Revocations, Rule, Validity, Version,
};

use crate::support::{assert_error, name};

struct Author {
    key: PrivateKey,
    pem: String,
}

fn author() -> Author {
    let key = PrivateKey::generate().unwrap();
    let pem = key.public_key().to_pem().unwrap();
    Author { key, pem }
}

fn entry(name: &str, author: &Author) -> String {
    format!("[[keys]]\nname = {name:?}\npem = '''{}'''\n", author.pem)
}

#[test]
fn a_file_says_what_the_builder_says() {
    let [alice, bob] = [author(), author()];
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("keys")).unwrap();
    let key_file = temp.path().join("keys/bob.pem");
    bob.key.public_key().write_pem_file(&key_file).unwrap();
    let bob_id = bob.key.public_key().key_id();
    let alice_id = alice.key.public_key().key_id();
    let digest = vortex_registry::Registry::checksum(b"");
    let text = format!(
        r#"
mode = "permissive"
index_required = true
{}
not_before = 2000-02-29T12:00:00Z
not_after = 2001-09-09T03:46:40+02:00
[[keys]]
name = "bob"
file = "keys/bob.pem"
[[rules]]
name = "auth-*"
keys = ["alice", "bob"]
threshold = 2
hook_types = ["pre_request", "on_close"]
max_bytes = 4096
[[rules]]
name = "*"
keys = ["bob", "bob"]
[revoked]
keys = ["{bob_id}"]
digests = ["{digest}"]
versions = ["auth-jwt@1.2.3+x"]
[minimum_versions]
auth-jwt = "1.2.0"
[index]
keys = ["alice"]
"#,
        entry("alice", &alice)
    );
    let path = temp.path().join("policy.toml");
    fs::write(&path, &text).unwrap();
    let [alice, bob] = [&alice, &bob].map(|author| author.key.public_key());
    let expected = Policy::permissive([])
        .with_rules([
            Rule::new("auth-*".parse().unwrap(), [alice.clone(), bob.clone()])
                .with_threshold(2)
                .with_hook_types([HookType::PreRequest, HookType::OnClose])
                .with_max_bytes(4096),
            Rule::new("*".parse().unwrap(), [bob]),
        ])
        .with_validity(
            alice_id,
            Validity {
                not_before: Some(951_825_600),
                not_after: Some(1_000_000_000),
            },
        )
        .with_validity(bob_id, Validity::default())
        .with_revocations(Revocations {
            keys: [bob_id].into(),
            digests: [digest].into(),
            versions: ["auth-jwt@1.2.3+x".parse().unwrap()].into(),
            minimum_versions: [(name("auth-jwt"), Version::new(1, 2, 0))].into(),
        })
        .with_index_keys([alice], 1)
        .requiring_index();
    assert_eq!(Policy::read_toml_file(&path).unwrap(), expected);
    assert_eq!(Policy::from_toml(&text, temp.path()).unwrap(), expected);
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(Policy::from_toml(&text, elsewhere.path()).is_err());
}

#[test]
fn the_default_is_strict_and_trusts_nobody() {
    let policy = Policy::from_toml("", Path::new("")).unwrap();
    assert_eq!(policy.mode(), Mode::Strict);
    assert!(policy.rules().is_empty() && policy.keyring().is_empty());
    assert!(!policy.index_required());
}

/// Each mistake, and what the message must mention.
#[test]
fn mistakes_are_named() {
    let [alice, bob] = [author(), author()];
    let good = format!(
        "{}{}[[rules]]\nname = \"auth-*\"\nkeys = [\"alice\", \"bob\"]\n",
        entry("alice", &alice),
        entry("bob", &bob)
    );
    let parse = |text: &str| Policy::from_toml(text, Path::new("/nowhere"));
    assert!(parse(&good).is_ok());
    let appended = |more: &str| format!("{good}{more}");
    let replaced = |from: &str, to: &str| {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        bad
    };
    let id = bob.key.public_key().key_id().to_string();
    for (bad, mentions) in [
        (replaced("name = \"auth-*\"", "name = "), "line 1"),
        (format!("extra = 1\n{good}"), "extra"),
        (format!("mode = \"lax\"\n{good}"), "lax"),
        (
            format!("mode = \"strict\"\nmode = \"strict\"\n{good}"),
            "line 2",
        ),
        (format!("index_required = true\n{good}"), "index_required"),
        (appended("treshold = 1\n"), "treshold"),
        (
            appended("threshold = 0\n"),
            "rule 1 (\"auth-*\"): threshold is 0",
        ),
        (
            appended("threshold = 3\n"),
            "rule 1 (\"auth-*\"): threshold is 3",
        ),
        (appended("threshold = -1\n"), "line"),
        (appended("hook_types = [\"whenever\"]\n"), "whenever"),
        (appended("max_bytes = -1\n"), "line"),
        (
            replaced(
                "[\"alice\", \"bob\"]",
                "[\"alice\", \"alice\"]\nthreshold = 2",
            ),
            "there are 1 distinct keys",
        ),
        (
            replaced("[\"alice\", \"bob\"]", "[]"),
            "rule 1 (\"auth-*\")",
        ),
        (replaced("\"bob\"]", "\"carol\"]"), "\"carol\""),
        (replaced("auth-*", "auth?"), "rule 1 (\"auth?\")"),
        (replaced("auth-*", "../*"), "rule 1"),
        (replaced("auth-*", "con"), "rule 1"),
        (
            appended("[[rules]]\nname = \"auth-x*\"\nkeys = [\"bob\"]\n"),
            "rule 2 (\"auth-x*\"): it can never apply",
        ),
        (
            appended("[[rules]]\nname = \"auth-*\"\nkeys = [\"bob\"]\n"),
            "rule 2",
        ),
        (
            replaced("name = \"bob\"", "name = \"alice\""),
            "two keys of that name",
        ),
        (appended(&entry("bob2", &bob)), "key \"bob2\": the same key"),
        (
            replaced("pem = ", "file = 'x'\npem = "),
            "key \"alice\": give either",
        ),
        (
            appended("[[keys]]\nname = \"x\"\n"),
            "key \"x\": give either",
        ),
        (
            appended("[[keys]]\nname = \"x\"\nfile = \"x.pem\"\n"),
            "/nowhere/x.pem",
        ),
        (
            appended("[[keys]]\nname = \"x\"\npem = \"x\"\n"),
            "key \"x\"",
        ),
        (
            replaced("pem = ", "not_before = 2026-01-01\npem = "),
            "key \"alice\": not_before",
        ),
        (
            replaced("pem = ", "not_after = 2026-01-01T00:00:00\npem = "),
            "key \"alice\": not_after",
        ),
        (
            replaced(
                "pem = ",
                "not_before = 2026-01-02T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z\npem = ",
            ),
            "key \"alice\": not_after is earlier",
        ),
        (
            replaced("pem = ", "not_after = 2026-02-30T00:00:00Z\npem = "),
            "line",
        ),
        (appended("[revoked]\nkeys = [\"alice\"]\n"), "alice"),
        (
            appended(&format!("[revoked]\nkeys = [\"{}\"]\n", id.to_uppercase())),
            "digest",
        ),
        (
            appended("[revoked]\nversions = [\"redirect\"]\n"),
            "version",
        ),
        (appended("[revoked]\nversion = []\n"), "version"),
        (
            appended("[minimum_versions]\nredirect = \"1.2\"\n"),
            "minimum_versions.redirect",
        ),
        (
            appended("[minimum_versions]\n\"../x\" = \"1.2.3\"\n"),
            "../x",
        ),
        (appended("[index]\nkeys = []\n"), "index: threshold"),
        (appended("[index]\nkeys = [\"carol\"]\n"), "index: no key"),
    ] {
        match parse(&bad) {
            Err(error @ RegistryError::InvalidPolicy { .. }) => {
                let text = error.to_string();
                assert!(text.contains(mentions), "{mentions:?} is not in {text:?}");
                assert!(!text.contains('\n'), "{text:?}");
            }
            other => panic!("{other:?} of {bad}"),
        }
    }
}

#[test]
fn files_are_bounded_and_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("policy.toml");
    let size = 256 * 1024;
    fs::write(&path, "#".repeat(size)).unwrap();
    assert!(Policy::read_toml_file(&path).is_ok());
    fs::write(&path, "#".repeat(size + 1)).unwrap();
    assert_error!(
        Policy::read_toml_file(&path),
        RegistryError::InvalidPolicy { origin, reason }
            if origin.ends_with("policy.toml") && reason.contains("262144")
    );
    assert!(Policy::from_toml(&"#".repeat(size + 1), "").is_err());
    fs::write(&path, b"\xff").unwrap();
    assert_error!(
        Policy::read_toml_file(&path),
        RegistryError::InvalidPolicy { .. }
    );
    assert_error!(
        Policy::read_toml_file(temp.path()),
        RegistryError::Io { .. }
    );
    let fifo = temp.path().join("fifo");
    let status = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(status.unwrap().success());
    assert_error!(Policy::read_toml_file(&fifo), RegistryError::Io { .. });
    assert_error!(
        Policy::read_toml_file("/dev/zero"),
        RegistryError::Io { .. }
    );
}
