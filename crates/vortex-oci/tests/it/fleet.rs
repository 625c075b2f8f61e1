//! Many gateways on one machine.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use vortex_registry::{InstallOutcome, Policy, PrivateKey, Registry};

use crate::support::{Author, DockerRegistry, anonymous, as_child, child_dir, module, on, passed};

const PROCESSES: usize = 100;

#[tokio::test]
async fn of_a_hundred_gateways_one_downloads() {
    const TEST: &str = "fleet::of_a_hundred_gateways_one_downloads";
    if let Some(dir) = child_dir(TEST) {
        return pull_when_told(&dir).await;
    }
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let wasm = module(5_000_000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let client = anonymous().build().unwrap();
    let reference = on(&registry.host, "1.0.0");
    client.push(&reference, &manifest, &wasm).await.unwrap();

    let dir = author.temp.path();
    author.key.write_pem_file(dir.join("key.pem")).unwrap();
    fs::write(dir.join("host"), &registry.host).unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| as_child(TEST, dir).spawn().unwrap())
        .collect();
    fs::write(dir.join("go"), "").unwrap();
    let mut outcomes = Vec::new();
    for child in children {
        let stdout = passed(child.wait_with_output().unwrap());
        let outcome = stdout.split("outcome=").nth(1).unwrap();
        outcomes.push(outcome.split_whitespace().next().unwrap().to_owned());
    }
    let count = |outcome| outcomes.iter().filter(|o| *o == outcome).count();
    assert_eq!(
        (count("new"), count("there")),
        (1, PROCESSES - 1),
        "{outcomes:?}"
    );
    let blob = format!("/blobs/sha256:{}", manifest.checksum);
    assert_eq!(registry.answered("GET", &blob), 1);
    assert_eq!(
        author
            .store("store")
            .get_latest(&manifest.name)
            .unwrap()
            .wasm(),
        wasm
    );
    let left = fs::read_dir(dir.join("store/.downloads")).unwrap();
    assert_eq!(left.count(), 0);
}

/// What each child does once all of them are there.
async fn pull_when_told(dir: &Path) {
    let host = fs::read_to_string(dir.join("host")).unwrap();
    let key = PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
    let policy = Policy::strict([key.public_key()]);
    let store = Registry::open(dir.join("store"), policy).unwrap();
    let client = anonymous().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !dir.join("go").exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let installed = client.pull_into(&store, &on(&host, "1.0.0")).await.unwrap();
    let outcome = match installed.outcome {
        InstallOutcome::Installed => "new",
        InstallOutcome::AlreadyInstalled => "there",
    };
    println!("outcome={outcome} ");
}
