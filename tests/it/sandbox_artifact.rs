//! Break 10: to deserialize an artifact is to run its code, flipped bits and all.
//! The only way in is behind a MAC; see `sandbox_artifact_cache` for what that keeps out.

use wasmer::{Engine, Module};

use vortex_sandbox::SandboxError;

use crate::util::{assert_fails, fixture, runtime};

/// An artifact that somebody slips in as a module is no module.
#[test]
fn an_artifact_is_not_loaded() {
    let artifact = Module::new(&Engine::default(), fixture("allow"))
        .unwrap()
        .serialize()
        .unwrap();
    let mut flipped = artifact.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bytes in [&*artifact, &flipped] {
        assert_fails!(
            runtime().load("artifact", bytes),
            SandboxError::InvalidModule { .. }
        );
    }
}

/// One file of the sandbox deserializes, behind a MAC, and in one place; the linter
/// bans the functions everywhere else besides.
#[test]
fn one_place_deserializes() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/vortex-sandbox/src");
    let mut folders = vec![std::path::PathBuf::from(sources)];
    let (mut read, mut places) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let times = text.matches("deserialize").count();
            places.extend((0..times).map(|_| path.clone()));
            read += 1;
        }
    }
    assert!(read > 20, "only {read} files found");
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(places[0].ends_with("module/artifact.rs"), "{places:?}");
}
