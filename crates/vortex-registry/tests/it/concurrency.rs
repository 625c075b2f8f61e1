//! Many at once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vortex_registry::{InstallOutcome, Policy, PrivateKey, Registry, RegistryError};

use crate::support::{Fixture, WASM, as_child, child_dir, name, passed, select, signed, unsigned};

const PROCESSES: usize = 8;

/// Tells a child which of two manifests of the same version is its own.
const VARIANT: &str = "REGISTRY_TEST_VARIANT";

#[test]
fn of_many_processes_one_installs() {
    const TEST: &str = "concurrency::of_many_processes_one_installs";
    if let Some(dir) = child_dir(TEST) {
        return install_when_told(&dir);
    }
    let fixture = Fixture::new();
    let temp = fixture.temp.path();
    fixture.key.write_pem_file(temp.join("key.pem")).unwrap();
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|i| {
            as_child(&mut Command::new(&program), TEST, temp)
                .env(VARIANT, (i % 2).to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    fs::write(temp.join("go"), b"").unwrap();
    let mut outcomes = Vec::new();
    for child in children {
        let stdout = passed(child.wait_with_output().unwrap());
        let outcome = stdout.split("outcome=").nth(1).unwrap();
        outcomes.push(outcome.split_whitespace().next().unwrap().to_owned());
    }
    let count = |outcome| outcomes.iter().filter(|o| *o == outcome).count();
    assert_eq!(count("installed"), 1, "{outcomes:?}");
    assert_eq!(count("already"), PROCESSES / 2 - 1, "{outcomes:?}");
    assert_eq!(count("conflict"), PROCESSES / 2, "{outcomes:?}");
    assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
    assert!(
        fs::read_dir(fixture.path(".staging"))
            .unwrap()
            .next()
            .is_none()
    );
}

/// What each child does once all of them are there.
fn install_when_told(dir: &Path) {
    let key = PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
    let registry = Registry::open(dir.join("store"), Policy::strict([key.public_key()])).unwrap();
    let mut manifest = unsigned("redirect", "1.0.0");
    manifest.description = std::env::var(VARIANT).unwrap();
    let manifest = signed(manifest, &key);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("go").exists() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let outcome = match registry.install(&manifest, WASM) {
        Ok(InstallOutcome::Installed) => "installed",
        Ok(InstallOutcome::AlreadyInstalled) => "already",
        Err(RegistryError::Conflict { .. }) => "conflict",
        Err(error) => panic!("{error:?}"),
    };
    println!("outcome={outcome} ");
}

#[test]
fn the_lock_is_waited_for() {
    let fixture = Fixture::with(&["1.0.0"]);
    let lock = fs::File::open(fixture.path(".lock")).unwrap();
    lock.lock().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fixture.install("redirect", "2.0.0");
            done.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!done.load(Ordering::SeqCst), "installed without the lock");
        // Readers do not wait.
        assert!(fixture.registry.get_latest(&name("redirect")).is_ok());
        lock.unlock().unwrap();
    });
    assert!(done.load(Ordering::SeqCst));
}

#[test]
fn readers_see_a_version_whole_or_not_at_all() {
    let fixture = Fixture::with(&["1.0.0"]);
    let manifest = fixture.manifest("redirect", "2.0.0");
    let other = fixture.manifest("rewrite", "1.0.0");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    fixture.registry.get_latest(&name("redirect")).unwrap();
                    for (plugin, version) in [("redirect", "2.0.0"), ("rewrite", "1.0.0")] {
                        match fixture.registry.get(&name(plugin), &select(version)) {
                            Ok(_) | Err(RegistryError::NotFound { .. }) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    for entry in fixture.registry.list().unwrap() {
                        let intact = matches!(entry.status, vortex_registry::Status::Intact { .. });
                        assert!(intact, "{entry:?}");
                    }
                }
            });
        }
        for _ in 0..150 {
            for manifest in [&manifest, &other] {
                fixture.registry.install(manifest, WASM).unwrap();
                fixture
                    .registry
                    .remove(&manifest.name, &manifest.version)
                    .unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
