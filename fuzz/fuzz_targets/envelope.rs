//! An envelope of arbitrary bytes, or a well-signed one around them: what
//! begins with `S` is signed as it is, and so reaches the parser of statements.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_fuzz::{MANIFEST, REGISTRY, WASM, encode, envelope, is_genuine, payload_of};
use vortex_registry::{Refusal, RegistryError};

const PAYLOAD_TYPE: &str = "application/vnd.vortex.plugin.v1+json";

fuzz_target!(|data: &[u8]| {
    let good = &*MANIFEST;
    let bytes = match data.strip_prefix(b"S") {
        Some(payload) => envelope(PAYLOAD_TYPE, payload),
        None => data.to_vec(),
    };
    let mut given = good.clone();
    given.signature = encode(&bytes);
    match REGISTRY.install(&given, WASM) {
        Err(RegistryError::Refused { refusal, .. })
            if matches!(*refusal, Refusal::Threshold { have: 1, .. }) =>
        {
            assert!(is_genuine(PAYLOAD_TYPE, &bytes), "a forgery");
            // Another statement, but one that says the same of the plugin.
            let said = payload_of(&bytes).expect("it has just been read");
            let said: serde_json::Value = serde_json::from_slice(&said).expect("a statement");
            assert_eq!(said["schema"], 1);
            assert_eq!(said["size"], WASM.len());
            let outer = serde_json::to_value(good).expect("a manifest");
            for field in ["name", "version", "description", "hook_types", "checksum"] {
                assert_eq!(said[field], outer[field], "{field}");
            }
        }
        Err(RegistryError::Corrupt { .. } | RegistryError::UntrustedKey { .. }) => {}
        // The signature that is empty is none.
        Err(RegistryError::Unsigned { .. }) => assert!(bytes.is_empty()),
        other => panic!("{other:?}"),
    }
});
