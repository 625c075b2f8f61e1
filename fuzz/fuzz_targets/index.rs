//! A fleet index of arbitrary bytes, or a well-signed one around them: what
//! begins with `S` is signed as it is, and so reaches the parser of indexes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_fuzz::{REGISTRY, envelope, is_genuine, payload_of};
use vortex_registry::{IndexDefect, RegistryError};

const PAYLOAD_TYPE: &str = "application/vnd.vortex.index.v1+json";

const FIELDS: [&str; 8] = [
    "schema",
    "seq",
    "issued_at",
    "expires",
    "revoked_keys",
    "denied_digests",
    "minimum_versions",
    "revoked_versions",
];

fuzz_target!(|data: &[u8]| {
    let (bytes, signed) = match data.strip_prefix(b"S") {
        Some(payload) => (envelope(PAYLOAD_TYPE, payload), true),
        None => (data.to_vec(), false),
    };
    let Err(RegistryError::Index { defect }) = REGISTRY.update_index(&bytes) else {
        panic!("an index with one signature of two, or an error of another kind");
    };
    match *defect {
        IndexDefect::Threshold { have: 0, .. } => assert!(!signed),
        IndexDefect::Threshold { have: 1, .. } => {
            assert!(is_genuine(PAYLOAD_TYPE, &bytes), "a forgery");
            let payload = payload_of(&bytes).expect("it has just been read");
            let index: serde_json::Value = serde_json::from_slice(&payload).expect("an index");
            let index = index.as_object().expect("an object");
            assert!(FIELDS.iter().all(|field| index.contains_key(*field)));
            assert_eq!(index.len(), FIELDS.len());
            assert_eq!(index["schema"], 1);
        }
        IndexDefect::Unreadable { .. } | IndexDefect::Signature { .. } => {}
        other => panic!("{other:?}"),
    }
});
