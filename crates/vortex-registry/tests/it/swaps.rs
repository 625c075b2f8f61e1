//! The files of plugins put in each other's places, on the disk.

use std::fs;

use vortex_registry::{
    HookType, PluginManifest, Policy, PrivateKey, Registry, RegistryError, Release, Rule,
};

use crate::support::{name, select};

const RELEASE: Release = Release {
    abi: 1,
    seq: 1,
    released_at: 1_750_000_000,
};

/// Manifest, module and place: name × version × hooks × key each, as whoever
/// can write to the store can combine them. Modules differ in all but the key.
#[test]
fn what_is_combined_on_the_disk_is_what_one_key_has_signed() {
    let temp = tempfile::tempdir().unwrap();
    let [alice, bob, stranger] = &[(); 3].map(|()| PrivateKey::generate().unwrap());
    let rule =
        |pattern: &str, key: &PrivateKey| Rule::new(pattern.parse().unwrap(), [key.public_key()]);
    let policy = Policy::default().with_rules([rule("redirect", alice), rule("rewrite", bob)]);
    let registry = Registry::open(temp.path(), policy).unwrap();
    let mut plugins = Vec::new();
    for plugin in ["redirect", "rewrite"] {
        for version in ["1.0.0", "9.9.9"] {
            for hook in [HookType::PreRequest, HookType::OnClose] {
                let mut wasm = b"\0asm\x01\0\0\0".to_vec();
                wasm.extend_from_slice(format!("\0\x10{plugin}{version}{hook}").as_bytes());
                for key in [alice, bob, stranger] {
                    let manifest =
                        PluginManifest::new(name(plugin), version.parse().unwrap(), [hook], &wasm)
                            .sign(&wasm, RELEASE, &[key])
                            .unwrap();
                    let owner = if plugin == "redirect" { alice } else { bob };
                    let trusted = key.public_key() == owner.public_key();
                    let json = serde_json::to_vec(&manifest).unwrap();
                    plugins.push((manifest, json, wasm.clone(), trusted));
                }
            }
        }
    }
    let (mut good, mut corrupt, mut untrusted) = (0, 0, 0);
    for (at, ..) in &plugins {
        let place = temp
            .path()
            .join(at.name.as_str())
            .join(at.version.to_string());
        fs::create_dir_all(&place).unwrap();
        for (manifest, json, _, trusted) in &plugins {
            fs::write(place.join("manifest.json"), json).unwrap();
            for (_, _, wasm, _) in plugins.iter().step_by(3) {
                fs::write(place.join("plugin.wasm"), wasm).unwrap();
                let belongs = (&at.name, &at.version) == (&manifest.name, &manifest.version)
                    && manifest.checksum == Registry::checksum(wasm);
                match registry.get(&at.name, &select(&at.version.to_string())) {
                    Ok(plugin) => {
                        assert!(belongs && *trusted);
                        assert_eq!((plugin.manifest(), plugin.wasm()), (manifest, &**wasm));
                        good += 1;
                    }
                    Err(RegistryError::UntrustedKey { .. }) => {
                        assert!(belongs && !trusted);
                        untrusted += 1;
                    }
                    Err(RegistryError::Corrupt { .. }) => {
                        assert!(!belongs);
                        corrupt += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    // In each of 24 places the two manifests of its name and version by the one
    // trusted key, with their own modules; twice as many by the others.
    assert_eq!((good, untrusted), (24 * 2, 24 * 4));
    assert_eq!(good + untrusted + corrupt, 24 * 24 * 8);
}
