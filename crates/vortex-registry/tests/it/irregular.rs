//! Symlinks, fifos, devices and the like where files and directories belong.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use vortex_registry::{Defect, RegistryError, Status};

use crate::support::{Fixture, WASM, assert_corrupt, assert_error, name, select};

fn put_fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

/// Puts each kind of thing that is no regular file in the place of one.
fn for_each_irregular(fixture: &Fixture, file: &str, check: impl Fn(&str)) {
    let path = fixture.path("redirect/1.0.0").join(file);
    let aside = fixture.temp.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    symlink(&aside, &path).unwrap();
    check("symlink to the right file");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    check("symlink to a device");
    fs::remove_file(&path).unwrap();
    put_fifo(&path);
    check("fifo");
    fs::remove_file(&path).unwrap();
    let socket = UnixListener::bind(&path).unwrap();
    check("socket");
    drop(socket);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check("directory");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
}

#[test]
fn what_is_no_regular_file_is_rejected_without_hanging() {
    let fixture = Fixture::with(&["1.0.0"]);
    for file in ["plugin.wasm", "manifest.json"] {
        for_each_irregular(&fixture, file, |kind| {
            let result = fixture.registry.get_latest(&name("redirect"));
            assert!(
                matches!(&result, Err(RegistryError::Corrupt { defect, .. })
                    if **defect == Defect::NotAFile { file: file.to_owned() }),
                "{kind}: {result:?}"
            );
            let entries = fixture.registry.list().unwrap();
            assert!(
                matches!(entries[0].status, Status::Corrupt { .. }),
                "{kind}"
            );
        });
    }
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
}

#[test]
fn a_symlink_in_place_of_a_version_is_rejected_and_unlinked() {
    let fixture = Fixture::with(&["1.0.0"]);
    let aside = fixture.temp.path().join("aside");
    fs::rename(fixture.path("redirect/1.0.0"), &aside).unwrap();
    symlink(&aside, fixture.path("redirect/1.0.0")).unwrap();
    let redirect = name("redirect");
    assert_corrupt!(
        fixture.registry.get_latest(&redirect),
        Defect::NotADirectory { .. }
    );
    assert_corrupt!(
        fixture.registry.get(&redirect, &select("1.0.0")),
        Defect::NotADirectory { .. }
    );
    let manifest = fixture.manifest("redirect", "1.0.0");
    assert_error!(
        fixture.registry.install(&manifest, WASM),
        RegistryError::Conflict { .. }
    );
    fixture
        .registry
        .remove(&redirect, &manifest.version)
        .unwrap();
    assert!(fixture.tree().is_empty());
    assert!(
        aside.join("plugin.wasm").exists(),
        "the symlink was followed"
    );
}

#[test]
fn a_symlink_in_place_of_a_plugin_is_rejected_and_unlinked() {
    let fixture = Fixture::with(&["1.0.0"]);
    let aside = fixture.temp.path().join("aside");
    fs::rename(fixture.path("redirect"), &aside).unwrap();
    symlink(&aside, fixture.path("redirect")).unwrap();
    let redirect = name("redirect");
    assert_corrupt!(
        fixture.registry.get_latest(&redirect),
        Defect::NotADirectory { .. }
    );
    let manifest = fixture.manifest("redirect", "2.0.0");
    assert_error!(
        fixture.registry.install(&manifest, WASM),
        RegistryError::Conflict { .. }
    );
    let entries = fixture.registry.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert!(matches!(entries[0].status, Status::Corrupt { .. }));
    assert_eq!(entries[0].version, None);
    fixture
        .registry
        .remove(&redirect, &"1.0.0".parse().unwrap())
        .unwrap();
    assert!(fixture.tree().is_empty());
    assert!(
        aside.join("1.0.0/plugin.wasm").exists(),
        "the symlink was followed"
    );
}

#[test]
fn removing_a_version_follows_no_symlink_inside() {
    let fixture = Fixture::with(&["1.0.0"]);
    let outside = fixture.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"").unwrap();
    symlink(&outside, fixture.path("redirect/1.0.0/link")).unwrap();
    fixture
        .registry
        .remove(&name("redirect"), &"1.0.0".parse().unwrap())
        .unwrap();
    assert!(fixture.tree().is_empty());
    assert!(outside.join("precious").exists());
}

#[test]
fn symlinks_in_place_of_the_own_files_are_refused() {
    let fixture = Fixture::new();
    let outside = fixture.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"").unwrap();
    fs::create_dir(fixture.registry.path()).unwrap();
    let manifest = fixture.manifest("redirect", "1.0.0");

    symlink(&outside, fixture.path(".staging")).unwrap();
    let error = fixture.registry.install(&manifest, WASM).unwrap_err();
    assert!(error.to_string().contains(".staging"), "{error}");
    assert!(
        outside.join("precious").exists(),
        "the symlink was followed"
    );
    fs::remove_file(fixture.path(".staging")).unwrap();

    fs::remove_file(fixture.path(".lock")).unwrap();
    symlink(outside.join("created"), fixture.path(".lock")).unwrap();
    let error = fixture.registry.install(&manifest, WASM).unwrap_err();
    assert!(error.to_string().contains(".lock"), "{error}");
    assert!(
        !outside.join("created").exists(),
        "the symlink was followed"
    );
}

#[test]
fn the_store_itself_may_be_a_symlink() {
    let fixture = Fixture::with(&["1.0.0"]);
    let link = fixture.temp.path().join("link");
    symlink(fixture.registry.path(), &link).unwrap();
    let registry =
        vortex_registry::Registry::open(link, fixture.registry.policy().clone()).unwrap();
    assert!(registry.get_latest(&name("redirect")).is_ok());
}
