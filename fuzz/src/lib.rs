//! What the fuzz targets share: two keys that are the same in every run, and
//! registries that look at everything they are given and can accept none of it.
//!
//! Their policies ask for signatures by two keys, and here is only one of them
//! to sign with. Whatever gets as far as counting signatures has passed every
//! check before, and yet nothing is ever written to a disk.
#![allow(
    clippy::expect_used,
    reason = "a broken harness must not look like a clean run"
)]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use vortex_registry::{
    HookType, PluginManifest, Policy, PrivateKey, Registry, Release, Rule, Version,
};

/// The smallest module there is.
pub const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// PKCS#8 of an Ed25519 key, up to the seed (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const SEEDS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// The two keys that the policies know. What is fuzzed is signed by the first alone.
#[must_use]
pub fn keys() -> [PrivateKey; 2] {
    SEEDS.map(|seed| {
        let der = STANDARD.encode([&PKCS8_PREFIX[..], &seed].concat());
        let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} PRIVATE KEY-----"));
        PrivateKey::from_pem(&format!("{begin}\n{der}\n{end}\n")).expect("a fixed key is valid")
    })
}

/// A DSSE envelope around any payload, signed by the first key.
#[must_use]
pub fn envelope(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    let message = [head.as_bytes(), payload].concat();
    let signature = SigningKey::from_bytes(&SEEDS[0]).sign(&message).to_bytes();
    static KEY_ID: LazyLock<String> = LazyLock::new(|| keys()[0].public_key().key_id().to_string());
    let keyid = KEY_ID.as_str();
    let payload = STANDARD.encode(payload);
    let sig = STANDARD.encode(signature);
    format!(
        r#"{{"payload":"{payload}","payloadType":"{payload_type}","signatures":[{{"keyid":"{keyid}","sig":"{sig}"}}]}}"#
    )
    .into_bytes()
}

/// A registry whose one rule, and whose index, ask for both keys.
pub static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let public = || keys().map(|key| key.public_key());
    let rule = Rule::new("*".parse().expect("a pattern"), public()).with_threshold(2);
    let policy = Policy::default()
        .with_rules([rule])
        .with_index_keys(public(), 2);
    Registry::open("/nonexistent/vortex-fuzz", policy).expect("no store is an empty store")
});

/// A manifest that is right in all but the number of its signatures.
pub static MANIFEST: LazyLock<PluginManifest> = LazyLock::new(|| {
    let name = "redirect".parse().expect("a name");
    let mut manifest =
        PluginManifest::new(name, Version::new(1, 2, 3), [HookType::PreRequest], WASM);
    manifest.description = "sends old addresses on".to_owned();
    let release = Release {
        abi: 1,
        seq: 7,
        released_at: 1_750_000_000,
    };
    manifest
        .sign(WASM, release, &[&keys()[0]])
        .expect("one key signs")
});

/// The bytes that the manifest's envelope carries.
#[must_use]
pub fn payload_of(envelope: &[u8]) -> Option<Vec<u8>> {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).ok()?;
    STANDARD.decode(envelope["payload"].as_str()?).ok()
}

/// Whether an envelope that has been accepted carries the one signature that
/// the first key makes of its payload. Any other would be a forgery.
#[must_use]
pub fn is_genuine(payload_type: &str, accepted: &[u8]) -> bool {
    let signatures = |envelope: &[u8]| -> Option<Vec<String>> {
        let envelope: serde_json::Value = serde_json::from_slice(envelope).ok()?;
        let signatures = envelope["signatures"].as_array()?.iter();
        // The members of a signature may stand in an array.
        let sig = |s: &serde_json::Value| Some(s.get("sig").or(s.get(1))?.as_str()?.to_owned());
        signatures.map(sig).collect()
    };
    let payload = payload_of(accepted).expect("it has just been read");
    let ours = signatures(&envelope(payload_type, &payload)).expect("our own");
    signatures(accepted).is_some_and(|theirs| theirs.contains(&ours[0]))
}

/// Encodes standard base64.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
