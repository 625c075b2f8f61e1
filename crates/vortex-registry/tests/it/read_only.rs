//! A store that may be read and not written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use vortex_registry::{PluginManifest, Policy, PublicKey, Registry, RegistryError};

use crate::support::{Fixture, WASM, as_child, assert_error, child_dir, name, passed};

const NOBODY: u32 = 65_534;

/// A store with a version, what a child needs to read and write it, and litter
/// that nobody can sweep.
fn prepare() -> Fixture {
    let fixture = Fixture::with(&["1.0.0"]);
    let temp = fixture.temp.path();
    fs::write(
        temp.join("key.pub"),
        fixture.key.public_key().to_pem().unwrap(),
    )
    .unwrap();
    let manifest = serde_json::to_vec(&fixture.manifest("redirect", "2.0.0")).unwrap();
    fs::write(temp.join("manifest.json"), manifest).unwrap();
    fs::write(fixture.path(".staging/litter"), b"").unwrap();
    fixture
}

#[test]
fn reading_works_and_writing_says_read_only() {
    const TEST: &str = "read_only::reading_works_and_writing_says_read_only";
    if let Some(dir) = child_dir(TEST) {
        return read_and_try_to_write(&dir);
    }
    let fixture = prepare();
    // The lock and the staging area go, to see that reading does not make them.
    fs::remove_file(fixture.path(".lock")).unwrap();
    fs::remove_dir_all(fixture.path(".staging")).unwrap();
    without_permission(&fixture, TEST);
    assert_eq!(fs::read_dir(fixture.registry.path()).unwrap().count(), 1);
}

#[test]
fn a_read_only_mount_is_read_and_not_written() {
    const TEST: &str = "read_only::a_read_only_mount_is_read_and_not_written";
    if let Some(dir) = child_dir(TEST) {
        return read_and_try_to_write(&dir);
    }
    let fixture = prepare();
    let before = fixture.tree();
    let script = "mount --bind \"$STORE\" \"$STORE\" \
        && mount -o remount,bind,ro \"$STORE\" && exec \"$0\" \"$@\"";
    let mounting = |flag| {
        let mut command = Command::new("unshare");
        command
            .args([flag, "sh", "-c", script])
            .env("STORE", fixture.registry.path());
        command
    };
    // As root, or as one who is root among his own mounts.
    let works = |flag: &&'static str| {
        let probe = mounting(flag)
            .args(["sh", "-c", "! touch \"$STORE\"/probe"])
            .output();
        probe.is_ok_and(|probe| probe.status.success())
    };
    if let Some(flag) = ["-m", "-rm"].into_iter().find(works) {
        let mut command = mounting(flag);
        command.arg(std::env::current_exe().unwrap());
        let output = as_child(&mut command, TEST, fixture.temp.path()).output();
        let stdout = passed(output.unwrap());
        let erofs = format!(
            "read and refused: {}",
            rustix::io::Errno::ROFS.raw_os_error()
        );
        assert!(stdout.contains(&erofs), "{stdout}");
    } else {
        println!("this machine allows no mounts: the store is made unwritable by its permissions");
        without_permission(&fixture, TEST);
    }
    assert_eq!(fixture.tree(), before);
    assert!(fixture.path(".staging/litter").exists());
}

/// Lets a child read and try to write, who has no permission to write.
fn without_permission(fixture: &Fixture, test: &str) {
    let temp = fixture.temp.path();
    // The binary may lie where nobody else may look.
    let program = temp.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(temp, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    as_child(&mut command, test, temp).current_dir("/");
    let dirs = ["", "redirect", "redirect/1.0.0"].map(|dir| fixture.path(dir));
    let set_mode = |mode| {
        for dir in &dirs {
            fs::set_permissions(dir, Permissions::from_mode(mode)).unwrap();
        }
    };
    // Root may write anywhere, so it must become somebody else.
    if fs::metadata(temp).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    set_mode(0o555);
    let output = command.output().unwrap();
    set_mode(0o755);
    let stdout = passed(output);
    assert!(stdout.contains("read and refused"), "{stdout}");
}

/// What the child does, which may not write to the store.
fn read_and_try_to_write(dir: &Path) {
    let store = dir.join("store");
    assert!(
        fs::write(store.join("probe"), b"").is_err(),
        "the store is not read-only"
    );
    let key = PublicKey::read_pem_file(dir.join("key.pub")).unwrap();
    let registry = Registry::open(&store, Policy::strict([key.clone()])).unwrap();
    let redirect = name("redirect");
    assert_eq!(registry.get_latest(&redirect).unwrap().wasm(), WASM);
    assert_eq!(registry.list().unwrap().len(), 1);

    let json = fs::read(dir.join("manifest.json")).unwrap();
    let manifest: PluginManifest = serde_json::from_slice(&json).unwrap();
    let Err(RegistryError::ReadOnly { source, .. }) = registry.install(&manifest, WASM) else {
        panic!("installed in a store that is read-only");
    };
    let errno = source.raw_os_error().unwrap();
    assert_error!(
        registry.remove(&redirect, &"1.0.0".parse().unwrap()),
        RegistryError::ReadOnly { .. }
    );
    let nowhere = Registry::open(store.join("new"), Policy::strict([key])).unwrap();
    assert_error!(
        nowhere.install(&manifest, WASM),
        RegistryError::ReadOnly { .. }
    );
    assert!(nowhere.list().unwrap().is_empty());
    println!("read and refused: {errno}");
}
