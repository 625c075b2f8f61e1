//! What verification costs: `get` of a module of 1 MiB beside SHA-256 of the
//! same bytes alone, and `list` of 1000 versions.
//!
//! ```text
//! cargo run --release -p vortex-registry --example registry_figures
//! ```
//!
//! Each round measures both sides of a ratio one after the other, so that what
//! else the machine does meets both.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use vortex_registry::{
    Digest, HookType, PluginManifest, Policy, PrivateKey, Registry, Release, Version,
};

const MODULE_BYTES: usize = 1 << 20;
const ROUNDS: usize = 400;
const VERSIONS: u64 = 1000;
const LISTS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let key = PrivateKey::generate()?;
    let registry = Registry::open(temp.path(), Policy::strict([key.public_key()]))?;
    let install = |name: &str, version: Version, wasm: &[u8]| -> Result<(), Box<dyn Error>> {
        let release = Release {
            abi: 1,
            seq: 1,
            released_at: 1_750_000_000,
        };
        let manifest = PluginManifest::new(name.parse()?, version, [HookType::PreRequest], wasm);
        registry.install(&manifest.sign(wasm, release, &[&key])?, wasm)?;
        Ok(())
    };

    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.extend((wasm.len()..MODULE_BYTES).map(|i| (i % 251) as u8));
    install("large", Version::new(1, 0, 0), &wasm)?;
    let (name, version) = ("large".parse()?, Version::new(1, 0, 0).into());
    let (mut gets, mut hashes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    let file = temp.path().join("large/1.0.0/plugin.wasm");
    for _ in 0..ROUNDS {
        gets.push(time(|| registry.get(&name, &version).map(drop))?);
        hashes.push(time(|| {
            Ok::<_, std::io::Error>(black_box(Digest::of(&wasm)))
        })?);
        reads.push(time(|| std::fs::read(&file).map(|b| drop(black_box(b))))?);
    }
    let ratio = median(
        gets.iter()
            .zip(&hashes)
            .map(|(get, hash)| ratio(*get, *hash)),
    );
    let micros = |times: &[Duration]| median(times.iter().map(|t| t.as_secs_f64() * 1e6));
    println!("get of 1 MiB, verified   {:>8.0} us", micros(&gets));
    println!("SHA-256 of 1 MiB alone   {:>8.0} us", micros(&hashes));
    println!("reading 1 MiB alone      {:>8.0} us", micros(&reads));
    println!("get / SHA-256            {ratio:>8.2}");

    for patch in 0..VERSIONS {
        install("small", Version::new(1, 0, patch), b"\0asm\x01\0\0\0")?;
    }
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        let mut listed = 0;
        lists.push(time(|| {
            registry.list().map(|entries| listed = entries.len())
        })?);
        assert_eq!(listed as u64, VERSIONS + 1);
    }
    println!(
        "list of {VERSIONS} versions    {:>8.1} ms",
        micros(&lists) / 1e3
    );
    let latest = (0..ROUNDS)
        .map(|_| time(|| registry.get_latest(&"small".parse()?).map(drop)))
        .collect::<Result<Vec<_>, vortex_registry::RegistryError>>()?;
    println!("latest of {VERSIONS} versions  {:>8.0} us", micros(&latest));
    Ok(())
}

fn time<T, E>(act: impl FnOnce() -> Result<T, E>) -> Result<Duration, E> {
    let begun = Instant::now();
    black_box(act()?);
    Ok(begun.elapsed())
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
