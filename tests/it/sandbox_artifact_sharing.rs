//! The directory of an artifact cache: who may have it, how much is in it, and
//! many who use it at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use vortex_sandbox::{ArtifactCache, SandboxError};

use crate::sandbox_artifact_cache::{Cache, answer, put, with};
use crate::util::{assert_fails, cpu, fixture};

#[test]
fn a_directory_of_others_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| ArtifactCache::open(path);
    for mode in [0o755, 0o770, 0o777, 0o1777] {
        let path = dir.path().join(format!("{mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_fails!(
            open(&path),
            SandboxError::ArtifactCache { reason, .. } if reason.contains("700")
        );
        assert_eq!(
            fs::read_dir(&path).unwrap().count(),
            0,
            "a key was put there"
        );
    }
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    assert_fails!(open(&path), SandboxError::ArtifactCache { .. });
    let path = dir.path().join("theirs");
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    if fs::metadata(&path).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_fails!(
            open(&path),
            SandboxError::ArtifactCache { reason, .. } if reason.contains("65534")
        );
    }
}

/// A key that somebody else may have read, or put there, seals nothing any more.
#[test]
fn a_key_that_may_be_known_is_replaced() {
    let wasm = answer(0);
    let (cache, _) = Cache::with_entry(&wasm);
    let key = cache.path.join("key");
    let outside = cache.path.join("../outside");
    put(&outside, &[7; 32]);
    let spoil: [(&str, &dyn Fn()); 6] = [
        ("mode", &|| {
            fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap()
        }),
        ("short", &|| put(&key, &[7; 31])),
        ("long", &|| put(&key, &[7; 33])),
        ("empty", &|| put(&key, b"")),
        ("symlink", &|| {
            fs::remove_file(&key).unwrap();
            symlink(&outside, &key).unwrap();
        }),
        ("missing", &|| fs::remove_file(&key).unwrap()),
    ];
    for (what, spoil) in spoil {
        let before = fs::read(&key).unwrap();
        spoil();
        let (compiled, _) = cache.load(&wasm);
        assert!(compiled, "{what}");
        let metadata = fs::symlink_metadata(&key).unwrap();
        assert_eq!((metadata.mode(), metadata.len()), (0o100_600, 32), "{what}");
        assert_ne!(fs::read(&key).unwrap(), before, "{what}");
        let (compiled, _) = cache.load(&wasm);
        assert!(!compiled, "{what}");
    }
    assert_eq!(
        fs::read(&outside).unwrap(),
        [7; 32],
        "written through the link"
    );
}

#[test]
fn the_oldest_entries_make_room() {
    let (cache, first) = Cache::with_entry(&answer(0));
    let size = fs::metadata(&first).unwrap().len();
    let opened = cache.open().with_max_bytes(3 * size + size / 2);
    let abandoned = cache.path.join("new-of-a-process-that-was-killed");
    put(&abandoned, b"x");
    for (age, file) in [(3, &abandoned), (2, &first)] {
        let file = fs::File::options().write(true).open(file).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(age * 1000);
        file.set_modified(then).unwrap();
    }
    let runtime = with(&opened, cpu(2_000));
    for n in 1..6 {
        runtime.load("plugin", &answer(n)).unwrap();
        let entries = cache.entries();
        assert!(entries.len() <= 4, "{entries:?}");
        assert_eq!(entries.contains(&first), n < 3, "{n}: {entries:?}");
    }
    assert!(!abandoned.exists());
    assert!(cache.path.join("key").exists());
    // What is larger than all that may be kept is not kept at all.
    let runtime = with(&cache.open().with_max_bytes(size / 2), cpu(2_000));
    runtime.load("plugin", &answer(9)).unwrap();
    assert_eq!(cache.entries().len(), 3);
}

#[test]
fn what_is_refused_is_not_kept() {
    let cache = Cache::new();
    let runtime = cache.runtime(cpu(2_000));
    for _ in 0..2 {
        let refused = runtime.load("wasi", &fixture("imports-wasi"));
        assert_fails!(refused, SandboxError::Imports { .. });
    }
    assert!(cache.entries().is_empty());
}

#[test]
fn threads_share_a_cache() {
    let cache = Cache::new();
    let opened = cache.open();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| share(&opened, &barrier));
        }
    });
    assert_eq!(cache.entries().len(), MODULES);
    let (compiled, _) = cache.load(&answer(0));
    assert!(!compiled);
}

const MODULES: usize = 5;

fn share(cache: &ArtifactCache, barrier: &Barrier) {
    let runtime = with(cache, cpu(2_000));
    barrier.wait();
    for round in 0..4 {
        for n in 0..MODULES {
            let plugin = runtime.load("plugin", &answer(n)).unwrap();
            let answer: i32 = plugin.instance().unwrap().call("answer", ()).unwrap();
            assert_eq!(answer, 42);
        }
        if round == 0 {
            assert!(runtime.compilations() <= MODULES as u64);
        }
    }
    assert_eq!(cache.stats().rejected, 0, "somebody read half a file");
}

const SHARED: &str = "VORTEX_TEST_SHARED_CACHE";

/// Processes that start at once, in a directory that does not exist yet.
#[test]
fn processes_share_a_cache() {
    if let Some(path) = std::env::var_os(SHARED) {
        let cache = ArtifactCache::open(path).unwrap();
        share(&cache, &Barrier::new(1));
        return;
    }
    let cache = Cache::new();
    let children: Vec<_> = (0..6)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "sandbox_artifact_sharing::processes_share_a_cache",
                ])
                .env(SHARED, &cache.path)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && out.contains("1 passed"), "{out}");
    }
    // All of them had the same key, or else there would be more.
    assert_eq!(cache.entries().len(), MODULES);
    for n in 0..MODULES {
        let (compiled, stats) = cache.load(&answer(n));
        assert!(!compiled && stats.hits == 1);
    }
}
