//! A `manifest.json` of arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_fuzz::{MANIFEST, REGISTRY, WASM};
use vortex_registry::{PluginManifest, Refusal, RegistryError};

fuzz_target!(|json: &[u8]| {
    let Ok(read) = serde_json::from_slice::<PluginManifest>(json) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: PluginManifest = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(again, read);
    match REGISTRY.install(&read, WASM) {
        // Every check but the number of signatures has passed, which only the
        // one manifest can that has been signed.
        Err(RegistryError::Refused { refusal, .. })
            if matches!(*refusal, Refusal::Threshold { have: 1, .. }) =>
        {
            let (mut read, mut signed) = (read, MANIFEST.clone());
            // Its envelope may be spelled otherwise: white space, order.
            read.signature.clear();
            signed.signature.clear();
            assert_eq!(read, signed);
        }
        Err(
            RegistryError::Corrupt { .. }
            | RegistryError::Unsigned { .. }
            | RegistryError::UntrustedKey { .. }
            | RegistryError::InvalidVersion { .. },
        ) => {}
        other => panic!("{other:?}"),
    }
});
