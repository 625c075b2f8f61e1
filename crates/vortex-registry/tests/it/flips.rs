//! Every bit of a plugin, one at a time.

use std::fs;

use vortex_registry::{PluginManifest, Policy, Registry, RegistryError};

use crate::support::{Fixture, name, select, unsigned};

/// A module with a custom section.
fn module() -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0\0\x40\x04name".to_vec();
    wasm.resize(8 + 2 + 0x40, 0x5a);
    wasm
}

fn contents(manifest: &PluginManifest) -> PluginManifest {
    let mut manifest = manifest.clone();
    manifest.signature.clear();
    manifest
}

#[test]
fn a_flipped_bit_never_gives_other_contents() {
    let fixture = Fixture::new();
    let wasm = module();
    let mut manifest = PluginManifest::new(
        name("redirect"),
        "1.2.3".parse().unwrap(),
        unsigned("a", "1.0.0").hook_types,
        &wasm,
    );
    manifest.description = "0123456789abcdef ".repeat(24);
    let release = vortex_registry::Release {
        abi: 1,
        seq: 1,
        released_at: 1_750_000_000,
    };
    let manifest = manifest.sign(&wasm, release, &[&fixture.key]).unwrap();
    fixture.registry.install(&manifest, &wasm).unwrap();
    let permissive = fixture.under(Policy::permissive([fixture.key.public_key()]));
    let mut flipped = 0;
    let mut strangers = 0;
    for file in ["manifest.json", "plugin.wasm"] {
        let path = fixture.path("redirect/1.2.3").join(file);
        let good = fs::read(&path).unwrap();
        println!("{file} has {} bytes", good.len());
        assert!(good.len() >= if file == "manifest.json" { 2048 } else { 64 });
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let strict = fixture.registry.get(&name("redirect"), &select("1.2.3"));
            assert!(
                matches!(
                    strict,
                    Err(RegistryError::Corrupt { .. } | RegistryError::UntrustedKey { .. })
                ),
                "bit {bit} of {file}: {strict:?}"
            );
            // Whose signature it is may be in doubt, never what was hashed.
            if let Ok(plugin) = permissive.get_permissive(&name("redirect"), &select("1.2.3")) {
                assert_eq!(
                    contents(plugin.manifest()),
                    contents(&manifest),
                    "bit {bit} of {file}"
                );
                assert_eq!(plugin.wasm(), wasm);
                strangers += 1;
            }
            flipped += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
    assert!(flipped > 8 * 2048, "{flipped}");
    // Hexadecimal digits of the key id, each with a few bits that make another digit.
    assert!((1..400).contains(&strangers), "{strangers}");
    println!("{flipped} bits flipped, {strangers} of them made the signer unknown");
}

/// The same through `install`, which never looks at a disk.
#[test]
fn a_flipped_bit_is_not_installed() {
    let fixture = Fixture::new();
    let good = serde_json::to_vec(&fixture.manifest("redirect", "1.0.0")).unwrap();
    let mut tried = 0;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(manifest) = serde_json::from_slice::<PluginManifest>(&bad) {
            let registry: &Registry = &fixture.registry;
            assert!(
                registry.install(&manifest, crate::support::WASM).is_err(),
                "bit {bit}"
            );
            tried += 1;
        }
    }
    assert!(tried > 1000, "{tried}");
    assert!(!fixture.registry.path().exists());
}
