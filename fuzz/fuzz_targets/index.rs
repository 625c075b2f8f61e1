//! A fleet index of arbitrary bytes, or a well-signed one around them: what
//! begins with `S` is signed as it is, and so reaches the parser of indexes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_fuzz::{REGISTRY, envelope};
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
    let (bytes, payload) = match data.strip_prefix(b"S") {
        Some(payload) => (envelope(PAYLOAD_TYPE, payload), Some(payload)),
        None => (data.to_vec(), None),
    };
    let Err(RegistryError::Index { defect }) = REGISTRY.update_index(&bytes) else {
        panic!("an index with one signature of two, or an error of another kind");
    };
    match *defect {
        IndexDefect::Threshold { have: 0, .. } => assert!(payload.is_none()),
        IndexDefect::Threshold { have: 1, .. } => {
            // An index that the first key has signed: here alone that happens.
            let payload = payload.expect("a forgery");
            let index: serde_json::Value = serde_json::from_slice(payload).expect("an index");
            let index = index.as_object().expect("an object");
            assert!(FIELDS.iter().all(|field| index.contains_key(*field)));
            assert_eq!(index.len(), FIELDS.len());
            assert_eq!(index["schema"], 1);
        }
        IndexDefect::Unreadable { .. } | IndexDefect::Signature { .. } => {}
        other => panic!("{other:?}"),
    }
});
