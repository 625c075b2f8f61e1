//! Many processes that write to one store and read it, all at the same time.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vortex_registry::{InstallOutcome, Policy, PrivateKey, Registry, RegistryError, Status, Trust};

use crate::support::{
    as_child, child_dir, memory_dir, name, passed, rounds, variant, variant_manifest,
};

const PROCESSES: u8 = 32;

/// Says how many rounds each process makes, when it should not be 200.
const ROUNDS: &str = "REGISTRY_STORM_ROUNDS";

/// Tells a child which one it is.
const NUMBER: &str = "REGISTRY_TEST_NUMBER";

/// The plugin that all of them install and remove.
const SHARED: &str = "shared";

#[test]
fn many_processes_share_a_store() {
    const TEST: &str = "storm::many_processes_share_a_store";
    let rounds = rounds(ROUNDS, 200);
    if let Some(dir) = child_dir(TEST) {
        return take_part(&dir, rounds);
    }
    let temp = memory_dir();
    let dir = temp.path();
    let key = PrivateKey::generate().unwrap();
    key.write_pem_file(dir.join("key.pem")).unwrap();
    let program = std::env::current_exe().unwrap();
    let children = (0..PROCESSES).map(|i| {
        as_child(&mut Command::new(&program), TEST, dir)
            .env(NUMBER, i.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let mut children: Vec<Child> = children.collect();
    fs::write(dir.join("go"), b"").unwrap();
    // Nobody needs as long, unless each waits for another.
    let deadline = Instant::now() + Duration::from_secs(300 + 10 * rounds);
    while children.iter_mut().any(|c| c.try_wait().unwrap().is_none()) {
        if Instant::now() > deadline {
            for child in &mut children {
                child.kill().unwrap();
            }
            panic!("the processes block each other");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut contended, mut shared) = (0, 0);
    for child in children {
        let stdout = passed(child.wait_with_output().unwrap());
        let number = |key: &str| -> u64 {
            let (_, rest) = stdout.split_once(key).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        contended += number("contended=");
        shared += number("shared=");
    }
    println!(
        "{PROCESSES} processes, {rounds} rounds each: {contended} times somebody was in the way, \
         {shared} reads of what all of them install"
    );
    assert!(contended > 0 && shared > 0);

    // No installation is lost, and nothing else is left.
    let registry = Registry::open(dir.join("store"), Policy::strict([key.public_key()])).unwrap();
    for i in 0..PROCESSES {
        let got = registry.get_latest(&name(&own(i))).unwrap();
        assert_eq!(got.wasm(), variant(i));
    }
    let listed = registry.list().unwrap().len();
    let is_left = registry.get_latest(&name(SHARED)).is_ok();
    assert_eq!(listed, usize::from(PROCESSES) + usize::from(is_left));
    let mut litter = fs::read_dir(dir.join("store/.staging")).unwrap();
    assert!(litter.next().is_none());
}

fn own(number: u8) -> String {
    format!("own-{number}")
}

/// What each child does once all of them may begin.
fn take_part(dir: &Path, rounds: u64) {
    let number: u8 = std::env::var(NUMBER).unwrap().parse().unwrap();
    let key = PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
    let registry = Registry::open(dir.join("store"), Policy::strict([key.public_key()])).unwrap();
    let mine = variant_manifest(&own(number), "1.0.0", number, &key);
    let ours = variant_manifest(SHARED, "1.0.0", number % 4, &key);
    let (mut contended, mut shared) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("go").exists() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    for round in 1..=rounds {
        // Nobody else touches this one, so all that is done to it must show.
        let outcome = registry.install(&mine, &variant(number)).unwrap();
        assert_eq!(outcome, InstallOutcome::Installed);
        let got = registry.get_latest(&mine.name).unwrap();
        assert_eq!(got.wasm(), variant(number));

        // This one everybody does.
        match registry.install(&ours, &variant(number % 4)) {
            Ok(InstallOutcome::Installed) => {}
            Ok(InstallOutcome::AlreadyInstalled) | Err(RegistryError::Conflict { .. }) => {
                contended += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        match registry.get_latest(&ours.name) {
            Ok(got) => {
                let module = got.manifest().description.parse().unwrap();
                assert_eq!(got.wasm(), variant(module));
                shared += 1;
            }
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }

        let mut mine_is_listed = false;
        for entry in registry.list().unwrap() {
            let Status::Intact { trust, manifest } = entry.status else {
                panic!("{entry:?}");
            };
            assert!(matches!(trust, Trust::Signed { .. }));
            mine_is_listed |= *manifest == mine;
        }
        assert!(mine_is_listed);

        match registry.remove(&ours.name, &ours.version) {
            Ok(()) => {}
            Err(RegistryError::NotFound { .. }) => contended += 1,
            Err(error) => panic!("{error:?}"),
        }
        if round < rounds {
            registry.remove(&mine.name, &mine.version).unwrap();
            let got = registry.get_latest(&mine.name);
            assert!(
                matches!(got, Err(RegistryError::NotFound { .. })),
                "{got:?}"
            );
        }
    }
    println!("contended={contended} shared={shared} ");
}
