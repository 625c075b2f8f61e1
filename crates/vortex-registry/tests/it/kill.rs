//! A writer that is killed (`kill -9`) at any moment, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vortex_registry::{
    FleetIndex, InstallOutcome, PluginManifest, Policy, PrivateKey, Registry, RegistryError,
    Status, Trust,
};

use crate::support::{Random, as_child, child_dir, memory_dir, name, rounds, select, variant};

/// Says how many writers are killed, when it should not be 2,000.
const ROUNDS: &str = "REGISTRY_KILL_ROUNDS";

/// Tells a child what to choose at random.
const SEED: &str = "REGISTRY_TEST_SEED";

const SIGKILL: i32 = 9;

const PLUGINS: [&str; 2] = ["redirect", "rewrite"];
const VERSIONS: [&str; 2] = ["1.0.0", "2.0.0"];

/// How many stores are written to at the same time.
const WORKERS: u64 = 2;

/// What may be in the store: each module that a version may have, or none.
#[derive(Default)]
struct Possible {
    versions: BTreeMap<String, BTreeSet<Option<u8>>>,
    index: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: usize,
    killed_within: usize,
    litter: usize,
}

#[test]
fn what_a_killed_writer_acknowledged_is_there() {
    const TEST: &str = "kill::what_a_killed_writer_acknowledged_is_there";
    if let Some(dir) = child_dir(TEST) {
        return write_until_killed(&dir);
    }
    let rounds = rounds(ROUNDS, 2_000);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let worker = |i| scope.spawn(move || kill_writers(TEST, rounds / WORKERS, i));
        let workers: Vec<_> = (0..WORKERS).map(worker).collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let sum = |count: fn(&Seen) -> usize| seen.iter().map(count).sum::<usize>();
    let (acknowledged, within) = (sum(|s| s.acknowledged), sum(|s| s.killed_within));
    let litter = sum(|s| s.litter);
    println!(
        "{rounds} writers killed, {within} of them within an operation, {litter} with something \
         in staging; {acknowledged} operations acknowledged"
    );
    assert!(within > 0 && litter > 0 && acknowledged > 0);
}

fn kill_writers(test: &str, rounds: u64, worker: u64) -> Seen {
    let temp = memory_dir();
    let dir = temp.path();
    let key = PrivateKey::generate().unwrap();
    key.write_pem_file(dir.join("key.pem")).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut random = Random(worker + 1);
    let mut possible = Possible::default();
    let mut seen = Seen::default();
    for _ in 0..rounds {
        let stderr = File::create(dir.join("stderr")).unwrap();
        let mut child = as_child(&mut Command::new(&program), test, dir)
            .env(SEED, random.next().to_string())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        // Killed after so many words and so much time, whatever it does then.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let words = 1 + random.below(40) as usize;
        let pause = Duration::from_micros(random.below(1_000));
        while said.len() < words {
            let Some(line) = lines.next() else { break };
            said.extend(word(&line.unwrap()));
        }
        let start = Instant::now();
        while start.elapsed() < pause {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        said.extend(lines.filter_map(|line| word(&line.unwrap())));
        let status = child.wait().unwrap();
        let stderr = fs::read_to_string(dir.join("stderr")).unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "{said:?}\n{stderr}");

        seen.acknowledged += said.iter().filter(|word| word.starts_with("end")).count();
        seen.killed_within += usize::from(said.last().is_some_and(|w| w.starts_with("begin")));
        let staging = fs::read_dir(dir.join("store/.staging"));
        seen.litter += usize::from(staging.is_ok_and(|mut litter| litter.next().is_some()));
        for word in said {
            possible.hear(&word);
        }
        possible.compare(&dir.join("store"), &key);
    }
    seen
}

/// What the child wanted to be heard, without what the test harness prints.
fn word(line: &str) -> Option<String> {
    let (_, word) = line.split_once("writer: ")?;
    Some(word.to_owned())
}

impl Possible {
    /// Learns that an operation has begun or ended.
    fn hear(&mut self, word: &str) {
        let words: Vec<_> = word.split(' ').collect();
        match *words {
            ["begin", "update", seq] => _ = self.index.insert(seq.parse().unwrap()),
            ["end", "update", seq] => self.index = BTreeSet::from([seq.parse().unwrap()]),
            [when, what, version] => {
                let after = what.parse().ok();
                let set = self.versions.entry(version.to_owned());
                let set = set.or_insert_with(|| BTreeSet::from([None]));
                match when {
                    "begin" => _ = set.insert(after),
                    "end" => *set = BTreeSet::from([after]),
                    // A conflict: it was there with the other module all along.
                    _ => set.retain(|module| *module != after && module.is_some()),
                }
            }
            _ => panic!("{word:?}"),
        }
    }

    /// Opens the store, looks at everything in it, and knows better afterwards.
    fn compare(&mut self, store: &Path, key: &PrivateKey) {
        let registry = Registry::open(store, policy(key)).unwrap();
        if let Ok(mut litter) = fs::read_dir(store.join(".staging")) {
            assert!(litter.next().is_none(), "litter survived");
        }
        let index = registry.index().unwrap().map_or(0, |index| index.seq);
        let known = self.index.is_empty() && index == 0 || self.index.contains(&index);
        // Until the first update is acknowledged there may be no index.
        assert!(known || index == 0 && self.index == BTreeSet::from([1]));
        self.index = BTreeSet::from([index]);

        let mut found = BTreeMap::new();
        for entry in registry.list().unwrap() {
            let Status::Intact { manifest, trust } = entry.status else {
                panic!("{entry:?}");
            };
            assert!(matches!(trust, Trust::Signed { .. }));
            let version = manifest.version.to_string();
            let got = registry.get(&manifest.name, &select(&version)).unwrap();
            let module = manifest.description.parse().unwrap();
            assert!(
                got.wasm() == variant(module),
                "the bytes are not what was signed"
            );
            found.insert(entry.path.to_str().unwrap().to_owned(), module);
        }
        for (version, set) in &mut self.versions {
            let module = found.remove(version);
            assert!(
                set.contains(&module),
                "{version}: {module:?}, not of {set:?}"
            );
            *set = BTreeSet::from([module]);
        }
        assert!(found.is_empty(), "nobody has installed {found:?}");
    }
}

fn policy(key: &PrivateKey) -> Policy {
    Policy::strict([key.public_key()]).with_index_keys([key.public_key()], 1)
}

/// What the child does: it installs, removes, replaces and updates, and says so.
fn write_until_killed(dir: &Path) {
    let key = PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
    let registry = Registry::open(dir.join("store"), policy(&key)).unwrap();
    let mut random = Random(std::env::var(SEED).unwrap().parse().unwrap());
    let mut signed: BTreeMap<(&str, &str, u8), PluginManifest> = BTreeMap::new();
    loop {
        let plugin = PLUGINS[random.below(2) as usize];
        let version = VERSIONS[random.below(2) as usize];
        let place = format!("{plugin}/{version}");
        let remove = || {
            say(&format!("begin no {place}"));
            match registry.remove(&name(plugin), &version.parse().unwrap()) {
                Ok(()) | Err(RegistryError::NotFound { .. }) => say(&format!("end no {place}")),
                Err(error) => panic!("{error:?}"),
            }
        };
        match random.below(8) {
            0 => {
                let seq = registry.index().unwrap().map_or(1, |index| index.seq + 1);
                let index = FleetIndex::new(seq, 1_750_000_000, 4_000_000_000);
                let index = index.sign(&[&key]).unwrap();
                say(&format!("begin update {seq}"));
                registry.update_index(&index).unwrap();
                say(&format!("end update {seq}"));
                continue;
            }
            1 | 2 => {
                remove();
                continue;
            }
            // A replacement.
            3 | 4 => remove(),
            _ => {}
        }
        let module = random.below(2) as u8;
        let manifest = signed
            .entry((plugin, version, module))
            .or_insert_with(|| crate::support::variant_manifest(plugin, version, module, &key));
        say(&format!("begin {module} {place}"));
        match registry.install(manifest, &variant(module)) {
            Ok(InstallOutcome::Installed | InstallOutcome::AlreadyInstalled) => {
                say(&format!("end {module} {place}"));
            }
            Err(RegistryError::Conflict { .. }) => say(&format!("conflict {module} {place}")),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn say(word: &str) {
    let line = format!("writer: {word}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}
