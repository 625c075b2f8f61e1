//! Input and output that fail in the middle.

use std::fs;
use std::path::Path;
use std::process::Command;

use vortex_registry::{PluginManifest, Policy, PrivateKey, Registry, RegistryError, Release};

use crate::support::{Fixture, as_child, child_dir, name, passed};

/// Larger than the child may write to a file.
static WASM: [u8; 1 << 20] = [0; 1 << 20];

#[test]
fn a_failed_write_leaves_the_store_as_it_was() {
    const TEST: &str = "failure::a_failed_write_leaves_the_store_as_it_was";
    if let Some(dir) = child_dir(TEST) {
        return fail_to_install(&dir);
    }
    let fixture = Fixture::with(&["1.0.0"]);
    let temp = fixture.temp.path();
    fixture.key.write_pem_file(temp.join("key.pem")).unwrap();
    let before = fixture.tree();

    // Files of the child may have 64 blocks, and exceeding that is an error, not a signal.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let stdout = passed(as_child(&mut shell, TEST, temp).output().unwrap());
    assert!(stdout.contains("refused=redirect refused=new "), "{stdout}");

    assert_eq!(fixture.tree(), before);
    assert!(
        fs::read_dir(fixture.path(".staging"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
}

/// What the child does, which may write no file as large as its module.
fn fail_to_install(dir: &Path) {
    let key = PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
    let registry = Registry::open(dir.join("store"), Policy::strict([key.public_key()])).unwrap();
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 0,
    };
    for plugin in ["redirect", "new"] {
        let manifest = PluginManifest::new(name(plugin), "2.0.0".parse().unwrap(), [], &WASM)
            .sign(&WASM, release, &[&key])
            .unwrap();
        match registry.install(&manifest, &WASM) {
            Err(RegistryError::Io { path, .. }) => assert!(path.ends_with("plugin.wasm")),
            other => panic!("{other:?}"),
        }
        print!("refused={plugin} ");
    }
}

#[test]
fn a_store_that_is_no_directory_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    fs::write(&path, b"").unwrap();
    let error = Registry::open(&path, Policy::default()).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
