//! Faults, kills and power cuts at every single step of every operation.
//!
//! Each scenario runs on a directory whose every change is recorded, once
//! undisturbed, and then again and again with another step failing: that one
//! alone, it and the next one, or all from there on, which is a disk that stays full and a process
//! that has been killed. What failed is then done once more, by another
//! process as it were. After each change the power may be cut: every state that
//! the disk may then be in is laid out, opened, and looked at.

mod faults;
mod model;
mod recorder;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustix::io::Errno;
use tempfile::TempDir;

use crate::dir::Dir;
use crate::error::RegistryError;
use crate::index::FleetIndex;
use crate::install::InstallOutcome;
use crate::io::Io;
use crate::key::PrivateKey;
use crate::list::Status;
use crate::manifest::PluginManifest;
use crate::policy::Policy;
use crate::registry::Registry;
use crate::statement::Release;
use crate::verify::Trust;
use crate::version::VersionSelector;
use model::{Renames, Tree};
use recorder::{Fault, Recorder, read_tree};

/// Where the store lies below the root: somebody has to make that way, too.
const STORE: &str = "var/lib/store";

/// What is done to a store.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Installs a version of `redirect` with one of two modules.
    Install(&'static str, char),
    Remove(&'static str),
    Update(u64),
}
use Op::{Install, Remove, Update};

/// What a store holds: which module in which version, and which index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Contents {
    versions: BTreeMap<String, char>,
    index: Option<u64>,
}

/// In place of a module: the version is damaged.
const DAMAGED: char = '!';

impl Contents {
    fn after(&self, op: Op) -> Self {
        let mut contents = self.clone();
        match op {
            Install(version, module) => _ = contents.versions.insert(version.to_owned(), module),
            Remove(version) => _ = contents.versions.remove(version),
            Update(seq) => contents.index = Some(seq),
        }
        contents
    }
}

/// Those who sign, and what they have signed.
struct World {
    author: PrivateKey,
    operator: PrivateKey,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World {
    author: PrivateKey::generate().unwrap(),
    operator: PrivateKey::generate().unwrap(),
});

impl World {
    fn policy(&self) -> Policy {
        Policy::strict([self.author.public_key()]).with_index_keys([self.operator.public_key()], 1)
    }

    fn release(&self, name: &str, version: &str, module: char) -> (PluginManifest, Vec<u8>) {
        let wasm = [b"\0asm\x01\0\0\0", [module as u8; 8].as_slice()].concat();
        let manifest =
            PluginManifest::new(name.parse().unwrap(), version.parse().unwrap(), [], &wasm);
        let release = Release {
            abi: 1,
            seq: 1,
            released_at: 1_750_000_000,
        };
        let signed = manifest.sign(&wasm, release, &[&self.author]).unwrap();
        (signed, wasm)
    }

    fn act(&self, registry: &Registry, op: Op) -> Result<(), RegistryError> {
        match op {
            Install(version, module) => {
                let (manifest, wasm) = self.release("redirect", version, module);
                registry.install(&manifest, &wasm).map(drop)
            }
            Remove(version) => {
                registry.remove(&"redirect".parse().unwrap(), &version.parse().unwrap())
            }
            Update(seq) => {
                let index = FleetIndex::new(seq, 1_750_000_000, 4_000_000_000);
                registry.update_index(&index.sign(&[&self.operator]).unwrap())
            }
        }
    }
}

/// A directory in memory, where a sync costs nothing, if there is one.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    builder
        .tempdir_in(memory)
        .unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// What happened in a scenario.
struct Run {
    log: Vec<recorder::Change>,
    /// How much of the log was there, and on the disk, before the operations began.
    begin: usize,
    /// From which length of the log on the store holds which of these.
    expected: Vec<(usize, BTreeSet<Contents>)>,
    steps: usize,
}

/// A scenario, and what has been seen of it.
struct Scenario {
    before: &'static [Op],
    ops: &'static [Op],
    /// What the trees looked at so far hold.
    looked_at: HashMap<Tree, Contents>,
    runs: usize,
    states: usize,
}

impl Scenario {
    /// Runs it with every fault, and cuts the power after every change.
    fn exhaust(before: &'static [Op], ops: &'static [Op]) {
        let mut scenario = Self {
            before,
            ops,
            looked_at: HashMap::new(),
            runs: 0,
            states: 0,
        };
        let undisturbed = scenario.run(None);
        let steps = undisturbed.steps;
        scenario.cut_power(&undisturbed, None);
        let mut logs = HashSet::from([model::without_chance(&undisturbed.log)]);
        for step in 0..steps {
            for fault in [
                Fault::Once(step, Errno::IO),
                Fault::Once(step, Errno::NOSPC),
                Fault::Twice(step, Errno::IO),
                Fault::From(step, Errno::IO),
                Fault::From(step, Errno::NOSPC),
            ] {
                let run = scenario.run(Some(fault));
                if logs.insert(model::without_chance(&run.log)) {
                    scenario.cut_power(&run, Some(fault));
                }
            }
        }
        println!(
            "{ops:?} after {before:?}: {steps} steps, {} runs, {} states, {} of them distinct",
            scenario.runs,
            scenario.states,
            scenario.looked_at.len()
        );
        assert!(scenario.runs > steps && scenario.states > 0);
    }

    /// Runs it with one fault, and does again what fails.
    fn run(&mut self, fault: Option<Fault>) -> Run {
        self.runs += 1;
        let root = scratch();
        let recorder = Arc::new(Recorder::new(root.path()));
        let store = root.path().join(STORE);
        let act = |op| {
            let io: Arc<dyn Io> = Arc::<Recorder>::clone(&recorder);
            let registry = Registry::open_on(io, store.clone(), WORLD.policy())?;
            WORLD.act(&registry, op)
        };
        let mut contents = Contents::default();
        for op in self.before {
            act(*op).unwrap();
            contents = contents.after(*op);
        }
        let begin = recorder.len();
        let mut expected = vec![(begin, BTreeSet::from([contents.clone()]))];
        recorder.set_fault(fault);
        let mut steps = 0;
        for op in self.ops {
            let after = contents.after(*op);
            let either = BTreeSet::from([contents.clone(), after.clone()]);
            expected.push((recorder.len() + 1, either.clone()));
            if let Err(error) = act(*op) {
                let Some(fault) = fault else {
                    panic!("{op:?}: {error:?}");
                };
                // Where one thing has failed and no more, the old state is intact.
                let intact = BTreeSet::from([contents.clone()]);
                let allowed = match (fault, op) {
                    (Fault::Once(..), Install(..) | Remove(..)) => &intact,
                    _ => &either,
                };
                let tree = read_tree(root.path());
                let what = format!("{op:?} failed, {fault:?}: {error:?}");
                assert_eq!(tree, model::after_kill(&recorder.log()), "{what}");
                self.check(tree, allowed, Renames::Whole, &|| what.clone());
                recorder.set_fault(None);
                match act(*op) {
                    Ok(()) => {}
                    Err(RegistryError::NotFound { .. }) if matches!(op, Remove(_)) => {}
                    Err(error) => panic!("{op:?} again after {fault:?}: {error:?}"),
                }
            }
            contents = after;
            expected.push((recorder.len(), BTreeSet::from([contents.clone()])));
            steps = recorder.steps();
        }
        let tree = read_tree(root.path());
        let acknowledged = BTreeSet::from([contents]);
        self.check(tree, &acknowledged, Renames::Whole, &|| {
            format!("{fault:?}")
        });
        Run {
            log: recorder.log(),
            begin,
            expected,
            steps,
        }
    }

    /// Cuts the power after every change.
    fn cut_power(&mut self, run: &Run, fault: Option<Fault>) {
        for cut in run.begin..=run.log.len() {
            let (_, expected) = run.expected.iter().rfind(|(from, _)| *from <= cut).unwrap();
            let changes = &run.log[..cut];
            for renames in [Renames::Whole, Renames::InHalves] {
                let mut trees = HashSet::new();
                self.states += model::after_power_cut(changes, run.begin, renames, |tree| {
                    trees.insert(tree);
                });
                for tree in trees {
                    self.check(tree, expected, renames, &|| {
                        let changes: Vec<_> = changes[run.begin..]
                            .iter()
                            .map(|change| format!("\n  {change:?}"))
                            .collect();
                        let changes = changes.concat();
                        format!("{fault:?}, {renames:?}, power cut after{changes}")
                    });
                }
            }
        }
    }

    /// Opens a store that lies on the disk like this, and says what it holds.
    fn check(
        &mut self,
        tree: Tree,
        expected: &BTreeSet<Contents>,
        renames: Renames,
        what: &dyn Fn() -> String,
    ) {
        let tree = model::without_litter_names(tree);
        let contents = match self.looked_at.get(&tree) {
            Some(contents) => contents.clone(),
            None => {
                let contents = look_at(&tree);
                self.looked_at.insert(tree.clone(), contents.clone());
                contents
            }
        };
        if expected.contains(&contents) {
            return;
        }
        // Where a rename can be done by halves, a version that is just being
        // installed or removed may be damaged. It is never anything else.
        let torn = renames == Renames::InHalves
            && expected.iter().any(|allowed| {
                let mut seen = contents.versions.clone();
                seen.retain(|_, module| *module != DAMAGED);
                let mut allowed_versions = allowed.versions.clone();
                for (version, _) in contents.versions.iter().filter(|v| *v.1 == DAMAGED) {
                    let differs = expected
                        .iter()
                        .any(|o| o.versions.get(version) != allowed.versions.get(version));
                    if !differs {
                        return false;
                    }
                    allowed_versions.remove(version);
                }
                seen == allowed_versions && allowed.index == contents.index
            });
        assert!(
            torn,
            "{:?} after {:?}, {}\nfound {contents:?}\nnot one of {expected:?}\nin {:#?}",
            self.ops,
            self.before,
            what(),
            tree.keys().collect::<Vec<_>>()
        );
    }
}

/// Lays out a store and says what it holds, when it holds nothing that it must not.
fn look_at(tree: &Tree) -> Contents {
    let root = scratch();
    for (path, bytes) in tree {
        let path = root.path().join(path);
        match bytes {
            None => std::fs::create_dir(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
    let store = root.path().join(STORE);
    let assert_swept = || match std::fs::read_dir(store.join(".staging")) {
        Ok(mut litter) => assert!(litter.next().is_none(), "litter survived: {tree:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    };
    let registry = Registry::open(&store, WORLD.policy()).unwrap();
    assert_swept();

    let name = "redirect".parse().unwrap();
    let mut contents = Contents {
        index: registry.index().unwrap().map(|index| index.seq),
        ..Contents::default()
    };
    for entry in registry.list().unwrap() {
        let version = entry.version.unwrap();
        let got = registry.get(&name, &VersionSelector::Exact(version.clone()));
        let module = match (entry.status, got) {
            (Status::Intact { manifest, trust }, Ok(got)) => {
                assert!(matches!(trust, Trust::Signed { .. }));
                let module = char::from(*got.wasm().last().unwrap());
                let (signed, wasm) = WORLD.release("redirect", &version.to_string(), module);
                assert_eq!((&*manifest, got.wasm()), (&signed, &*wasm));
                module
            }
            (Status::Corrupt { .. }, Err(RegistryError::Corrupt { .. })) => DAMAGED,
            other => panic!("{other:?} in {tree:?}"),
        };
        contents.versions.insert(version.to_string(), module);
    }

    let (manifest, wasm) = WORLD.release("probe", "1.0.0", 'p');
    registry.install(&manifest, &wasm).unwrap();
    assert_eq!(registry.get_latest(&manifest.name).unwrap().wasm(), wasm);
    assert_swept();
    contents
}

#[test]
fn first_installation() {
    Scenario::exhaust(&[], &[Install("1.0.0", 'a')]);
}

#[test]
fn installation_beside_another() {
    Scenario::exhaust(&[Install("1.0.0", 'a')], &[Install("2.0.0", 'a')]);
}

#[test]
fn installation_of_what_is_there() {
    Scenario::exhaust(&[Install("1.0.0", 'a')], &[Install("1.0.0", 'a')]);
}

/// `cp` syncs nothing. Once an installation is acknowledged all of it is safe,
/// and where a step fails it is not acknowledged.
#[test]
fn installation_of_what_somebody_has_copied() {
    let acknowledged = Contents::default().after(Install("1.0.0", 'a'));
    let mut step = 0;
    let mut looked_at = HashSet::new();
    loop {
        let root = scratch();
        let recorder = Arc::new(Recorder::new(root.path()));
        let io: Arc<dyn Io> = Arc::<Recorder>::clone(&recorder);
        let (manifest, wasm) = WORLD.release("redirect", "1.0.0", 'a');
        let store = Dir::create_store(&io, &root.path().join(STORE)).unwrap();
        let (plugin, _) = store.create_subdir("redirect", 0o755).unwrap();
        let (version, _) = plugin.create_subdir("1.0.0", 0o755).unwrap();
        version.copy("plugin.wasm", &wasm);
        version.copy("manifest.json", &manifest.to_json().unwrap());

        let registry = Registry::open_on(io, root.path().join(STORE), WORLD.policy()).unwrap();
        recorder.set_fault(Some(Fault::Once(step, Errno::IO)));
        if let Ok(outcome) = registry.install(&manifest, &wasm) {
            assert_eq!(outcome, InstallOutcome::AlreadyInstalled);
            let changes = recorder.log();
            for renames in [Renames::Whole, Renames::InHalves] {
                model::after_power_cut(&changes, 0, renames, |tree| {
                    if looked_at.insert(tree.clone()) {
                        assert_eq!(look_at(&tree), acknowledged, "step {step} failed");
                    }
                });
            }
        }
        if step >= recorder.steps() {
            break;
        }
        step += 1;
    }
    assert!(step > 20 && !looked_at.is_empty());
}

#[test]
fn removal_of_one_of_two() {
    let before = &[Install("1.0.0", 'a'), Install("2.0.0", 'a')];
    Scenario::exhaust(before, &[Remove("2.0.0")]);
}

#[test]
fn removal_of_the_last() {
    Scenario::exhaust(&[Install("1.0.0", 'a')], &[Remove("1.0.0")]);
}

#[test]
fn replacement() {
    let ops = &[Remove("1.0.0"), Install("1.0.0", 'b')];
    Scenario::exhaust(&[Install("1.0.0", 'a')], ops);
}

#[test]
fn first_index() {
    Scenario::exhaust(&[], &[Update(1)]);
}

#[test]
fn next_index() {
    Scenario::exhaust(&[Install("1.0.0", 'a'), Update(1)], &[Update(2)]);
}
