//! A store made to cost its reader time, memory or disk.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use vortex_registry::{Defect, Limits, RegistryError, Status};

use crate::support::{Fixture, WASM, assert_corrupt, assert_error, name, select};

/// A terabyte that takes no room on the disk.
#[test]
fn a_sparse_terabyte_is_not_read() {
    let fixture = Fixture::with(&["1.0.0"]);
    for file in ["plugin.wasm", "manifest.json"] {
        let path = fixture.path("redirect/1.0.0").join(file);
        let good = fs::read(&path).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let before = peak_memory();
        assert_corrupt!(
            fixture.registry.get_latest(&name("redirect")),
            Defect::TooLarge { .. }
        );
        let entries = fixture.registry.list().unwrap();
        assert!(matches!(entries[0].status, Status::Corrupt { .. }));
        let grown = peak_memory() - before;
        // The limit on a module, twice, and what the other tests take meanwhile.
        assert!(grown < 1 << 30, "{grown} bytes more");
        fs::write(&path, good).unwrap();
    }
    for file in [".index.json", ".index.seen"] {
        let path = fixture.path(file);
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let key = fixture.key.public_key();
        let policy = fixture.registry.policy().clone();
        let registry = fixture.under(policy.with_index_keys([key], 1));
        assert_error!(
            registry.get_latest(&name("redirect")),
            RegistryError::Index { .. }
        );
        fs::remove_file(&path).unwrap();
    }
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// Makes directories in each other, deeper than a path can say.
fn dig(root: &Path, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&dir, "deeper", Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, "deeper", flags, Mode::empty()).unwrap();
    }
}

/// Ten thousand directories in each other, where one could follow them.
#[test]
fn deep_directories_are_not_descended_into() {
    let fixture = Fixture::with(&["1.0.0", "2.0.0"]);
    const DEPTH: usize = 10_000;
    dig(fixture.registry.path(), DEPTH);
    dig(&fixture.path("redirect"), DEPTH);
    dig(&fixture.path("redirect/2.0.0"), DEPTH);
    let redirect = name("redirect");
    assert!(fixture.registry.get_latest(&redirect).is_ok());
    let shown: Vec<_> = fixture
        .registry
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.path.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        shown,
        [
            "deeper/deeper",
            "redirect/deeper",
            "redirect/1.0.0",
            "redirect/2.0.0"
        ]
    );
    // `deeper` in the store is a plugin's name, and such a plugin without a version.
    assert_error!(
        fixture.registry.get_latest(&name("deeper")),
        RegistryError::NotFound { .. }
    );
    // What is too deep to be deleted is taken out of the way, and stands in nobody's.
    fixture
        .registry
        .remove(&redirect, &"2.0.0".parse().unwrap())
        .unwrap();
    assert_error!(
        fixture.registry.get(&redirect, &select("2.0.0")),
        RegistryError::NotFound { .. }
    );
    let plugin = fixture.registry.get_latest(&redirect).unwrap();
    assert_eq!(plugin.manifest().version.to_string(), "1.0.0");
    fixture.install("redirect", "2.0.0");
    assert!(fixture.registry.get(&redirect, &select("2.0.0")).is_ok());
    fill_in(fixture.registry.path());
}

/// Removes what the fixture's own clean-up would need deep recursion for.
fn fill_in(root: &Path) {
    let status = std::process::Command::new("rm")
        .args(["-rf", "--"])
        .arg(root)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A hundred thousand versions of one plugin.
#[test]
fn a_hundred_thousand_versions_bury_none_and_are_not_all_read() {
    let fixture = Fixture::with(&["1.0.0", "200000.0.0"]);
    fixture.install("rewrite", "1.0.0");
    for n in 1..100_000 {
        fs::create_dir(fixture.path(&format!("redirect/1.0.{n}"))).unwrap();
    }
    let redirect = name("redirect");
    // By its version each is found, among however many.
    for version in ["1.0.0", "200000.0.0"] {
        let plugin = fixture.registry.get(&redirect, &select(version));
        assert!(plugin.is_ok(), "{plugin:?}");
    }
    for result in [
        fixture.registry.get_latest(&redirect).map(drop),
        fixture.registry.get(&redirect, &select("^1")).map(drop),
        fixture
            .registry
            .install(&fixture.manifest("redirect", "2.0.0"), WASM)
            .map(drop),
    ] {
        assert_error!(result, RegistryError::TooManyEntries { limit: 10_000, .. });
    }
    let entries = fixture.registry.list().unwrap();
    let shown: Vec<_> = entries.iter().map(|e| e.path.to_str().unwrap()).collect();
    assert_eq!(shown, ["redirect", "rewrite/1.0.0"]);
    assert!(matches!(&entries[0].status, Status::Corrupt { reason }
        if matches!(**reason, RegistryError::TooManyEntries { .. })));
    assert!(fixture.registry.get_latest(&name("rewrite")).is_ok());
    fixture
        .registry
        .remove(&redirect, &"1.0.99999".parse().unwrap())
        .unwrap();

    let mut limits = Limits::default();
    limits.directory_entries = 200_000;
    let registry = fixture.registry.clone().with_limits(limits);
    let plugin = registry.get_latest(&redirect).unwrap();
    assert_eq!(plugin.manifest().version.to_string(), "200000.0.0");
    // The newest that fits is an empty directory: no older one stands in for it.
    assert_corrupt!(
        registry.get(&redirect, &select("<2")),
        Defect::MissingFile { .. }
    );
}

/// What is no file in the places of all four files, at every level.
#[test]
fn no_fifo_in_any_place_makes_a_reader_wait() {
    let fixture = Fixture::with(&["1.0.0"]);
    let key = fixture.key.public_key();
    let policy = fixture
        .registry
        .policy()
        .clone()
        .with_index_keys([key.clone()], 1);
    let registry = fixture.under(policy);
    let redirect = name("redirect");
    for place in [
        "redirect",
        "redirect/1.0.0",
        "redirect/1.0.0/plugin.wasm",
        "redirect/1.0.0/manifest.json",
        ".index.json",
        ".index.seen",
    ] {
        let (path, aside) = (fixture.path(place), fixture.temp.path().join("aside"));
        let was_there = fs::rename(&path, &aside).is_ok();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let result = registry.get_latest(&redirect);
        assert!(
            matches!(
                result,
                Err(RegistryError::Corrupt { .. } | RegistryError::Index { .. })
            ),
            "{place}: {result:?}"
        );
        fs::remove_file(&path).unwrap();
        // A directory of the kernel's, full of files that say they are empty and are not.
        symlink("/proc/self/fd", &path).unwrap();
        let result = registry.get_latest(&redirect);
        assert!(
            matches!(
                result,
                Err(RegistryError::Corrupt { .. } | RegistryError::Index { .. })
            ),
            "{place}: {result:?}"
        );
        fs::remove_file(&path).unwrap();
        if was_there {
            fs::rename(&aside, &path).unwrap();
        }
    }
    assert!(registry.get_latest(&redirect).is_ok());
}
