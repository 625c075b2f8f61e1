//! An envelope of arbitrary bytes, or a well-signed one around them: what
//! begins with `S` is signed as it is, and so reaches the parser of statements.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_fuzz::{MANIFEST, REGISTRY, WASM, decode, encode, envelope, payload_of};
use vortex_registry::{Refusal, RegistryError};

const PAYLOAD_TYPE: &str = "application/vnd.vortex.plugin.v1+json";

fuzz_target!(|data: &[u8]| {
    let good = &*MANIFEST;
    let (bytes, signed) = match data.strip_prefix(b"S") {
        Some(payload) => (envelope(PAYLOAD_TYPE, payload), true),
        None => (data.to_vec(), false),
    };
    let mut given = good.clone();
    given.signature = encode(&bytes);
    match REGISTRY.install(&given, WASM) {
        Err(RegistryError::Refused { refusal, .. })
            if matches!(*refusal, Refusal::Threshold { have: 1, .. }) =>
        {
            let payload = payload_of(&bytes).expect("it has just been read");
            let original = decode(&good.signature).and_then(|bytes| payload_of(&bytes));
            let original = original.expect("the manifest is signed");
            if signed {
                // Another statement, but one that says the same of the plugin.
                let [ours, theirs] = [&original, &payload].map(|json| {
                    serde_json::from_slice::<serde_json::Value>(json).expect("a statement")
                });
                for field in ["schema", "name", "version", "description", "hook_types", "checksum", "size"] {
                    assert_eq!(ours[field], theirs[field], "{field}");
                }
            } else {
                assert_eq!(payload, original, "a forgery");
            }
        }
        Err(RegistryError::Corrupt { .. } | RegistryError::UntrustedKey { .. }) => {}
        // The signature that is empty is none.
        Err(RegistryError::Unsigned { .. }) => assert!(bytes.is_empty()),
        other => panic!("{other:?}"),
    }
});
