//! Break 10: to deserialize an artifact is to run its code, flipped bits and all.
//! There is no way in for one yet.

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

/// Nothing in the sandbox deserializes; the linter bans the functions besides.
#[test]
fn nothing_deserializes() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/vortex-sandbox/src");
    let mut folders = vec![std::path::PathBuf::from(sources)];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("deserialize"), "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 20, "only {read} files found");
}
