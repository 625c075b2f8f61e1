//! The fleet index: what it revokes, and that nobody can bring back an old one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use vortex_registry::{
    FleetIndex, IndexDefect, Policy, PrivateKey, PublicKey, Refusal, Registry, RegistryError,
    Revocations, Status, Trust,
};

use crate::support::{Fixture, WASM, as_child, assert_error, child_dir, name, passed, unsigned};

pub(crate) const ISSUED: u64 = 1_750_000_000;
pub(crate) const EXPIRES: u64 = ISSUED + 1000;

/// A store with an author and an index key, and a clock of its own.
pub(crate) struct Fleet {
    pub(crate) store: Fixture,
    pub(crate) operator: PrivateKey,
    now: Arc<AtomicU64>,
}

impl Fleet {
    /// A fleet in which `redirect` 1.0.0 is installed.
    pub(crate) fn new() -> Self {
        Self {
            store: Fixture::with(&["1.0.0"]),
            operator: PrivateKey::generate().unwrap(),
            now: Arc::new(AtomicU64::new(ISSUED)),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::strict([self.store.key.public_key()])
            .with_index_keys([self.operator.public_key()], 1)
    }

    /// A registry as another process would open it.
    pub(crate) fn open(&self, policy: Policy) -> Registry {
        let now = Arc::clone(&self.now);
        let clock = move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed));
        self.store.under(policy).with_clock(clock)
    }

    fn set_time(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// Signs an index of this number.
    pub(crate) fn index(&self, seq: u64, edit: impl FnOnce(&mut Revocations)) -> Vec<u8> {
        let mut index = FleetIndex::new(seq, ISSUED, EXPIRES);
        edit(&mut index.revocations);
        index.sign(&[&self.operator]).unwrap()
    }

    pub(crate) fn revoking(&self, seq: u64) -> Vec<u8> {
        self.index(seq, |r| {
            _ = r.versions.insert("redirect@1.0.0".parse().unwrap())
        })
    }
}

/// Fails unless the value is an error about the index of this shape.
macro_rules! assert_index {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err(vortex_registry::RegistryError::Index { defect })
                if matches!(*defect, $pattern) => {}
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}

pub(crate) use assert_index;

pub(crate) fn get(registry: &Registry) -> Result<(), RegistryError> {
    registry.get_latest(&name("redirect")).map(drop)
}

#[test]
fn each_revocation_is_applied_at_the_next_get_and_stops_what_runs() {
    type Edit = fn(&mut Revocations, &Fleet);
    let nothing: Edit = |_, _| {};
    let edits: [(Edit, Option<&str>); 9] = [
        (nothing, None),
        (
            |r, _| _ = r.versions.insert("redirect@1.0.0".parse().unwrap()),
            Some("RevokedVersion"),
        ),
        (
            |r, _| _ = r.versions.insert("redirect@1.0.1".parse().unwrap()),
            None,
        ),
        (
            |r, _| _ = r.digests.insert(Registry::checksum(WASM)),
            Some("DeniedDigest"),
        ),
        (|r, _| _ = r.digests.insert(Registry::checksum(b"")), None),
        (
            |r, f| _ = r.keys.insert(f.store.key.public_key().key_id()),
            Some("RevokedKey"),
        ),
        (
            |r, f| _ = r.keys.insert(f.operator.public_key().key_id()),
            None,
        ),
        (
            |r, _| {
                _ = r
                    .minimum_versions
                    .insert(name("redirect"), "1.0.1".parse().unwrap())
            },
            Some("BelowMinimumVersion"),
        ),
        (
            |r, _| {
                _ = r
                    .minimum_versions
                    .insert(name("redirect"), "1.0.0".parse().unwrap())
            },
            None,
        ),
    ];
    for (i, (edit, expected)) in edits.into_iter().enumerate() {
        let fleet = Fleet::new();
        let [here, elsewhere] = [(); 2].map(|()| fleet.open(fleet.policy()));
        let loaded = here.get_latest(&name("redirect")).unwrap().loaded();
        let bytes = fleet.index(1, |r| edit(r, &fleet));
        elsewhere.update_index(&bytes).unwrap();
        // Even if it is gone from the store by then.
        for gone in [false, true] {
            if gone {
                here.remove(loaded.name(), loaded.version()).unwrap();
            } else {
                let said = get(&here).err().map(|error| match error {
                    RegistryError::Refused { refusal, .. } => format!("{refusal:?}"),
                    other => panic!("{other:?}"),
                });
                let started = said.as_deref().map(|said| said.split(' ').next().unwrap());
                assert_eq!(started, expected, "{i}");
            }
            let stops = here.must_stop([loaded.clone()]).unwrap();
            let said = stops.first().map(|stop| format!("{:?}", stop.refusal));
            let started = said.as_deref().map(|said| said.split(' ').next().unwrap());
            assert_eq!(started, expected, "{i}");
            assert!(stops.iter().all(|stop| stop.plugin == loaded));
        }
        let install = here.install(&fleet.store.manifest("redirect", "1.0.0"), WASM);
        assert_eq!(install.is_ok(), expected.is_none(), "{i} {install:?}");
    }
}

#[test]
fn only_what_is_revoked_must_stop_and_time_stops_nothing() {
    let fleet = Fleet::new();
    fleet.store.install("rewrite", "1.0.0");
    let validity = vortex_registry::Validity {
        not_before: None,
        not_after: Some(EXPIRES),
    };
    let policy = fleet
        .policy()
        .with_validity(fleet.store.key.public_key().key_id(), validity)
        .requiring_index();
    let registry = fleet.open(policy.clone());
    registry.update_index(&fleet.index(1, |_| {})).unwrap();
    let loaded =
        ["redirect", "rewrite"].map(|plugin| registry.get_latest(&name(plugin)).unwrap().loaded());
    // Index and key have expired: nothing is loaded, and nothing stops.
    fleet.set_time(EXPIRES + 1);
    assert_index!(get(&registry), IndexDefect::Freeze { .. });
    assert_eq!(registry.must_stop(loaded.clone()).unwrap(), []);
    fleet.set_time(ISSUED);
    registry.update_index(&fleet.revoking(2)).unwrap();
    fleet.set_time(EXPIRES + 1);
    let stops = registry.must_stop(loaded.clone()).unwrap();
    assert_eq!(stops.len(), 1);
    assert_eq!(*stops[0].plugin.name(), name("redirect"));
    // Under a policy that has become stricter all must stop.
    let stricter = fleet.open(policy.with_rules([]));
    let stops = stricter.must_stop(loaded).unwrap();
    assert!(
        stops.len() == 2 && stops[1].refusal == Refusal::NoRule,
        "{stops:?}"
    );
}

#[test]
fn list_shows_what_is_revoked_and_remove_removes_it() {
    let fleet = Fleet::new();
    let registry = fleet.open(fleet.policy());
    registry.update_index(&fleet.revoking(1)).unwrap();
    let entries = registry.list().unwrap();
    assert_eq!(entries.len(), 1, "the index is no plugin");
    assert!(matches!(
        &entries[0].status,
        Status::Intact {
            trust: Trust::Refused {
                refusal: Refusal::RevokedVersion
            },
            ..
        }
    ));
    registry
        .remove(&name("redirect"), &"1.0.0".parse().unwrap())
        .unwrap();
    let permissive =
        fleet.open(Policy::permissive([]).with_index_keys([fleet.operator.public_key()], 1));
    assert_error!(
        permissive.install(&unsigned("redirect", "1.0.0"), WASM),
        RegistryError::Refused { .. }
    );
}

#[test]
fn an_older_index_never_comes_back() {
    let fleet = Fleet::new();
    let registry = fleet.open(fleet.policy());
    let old = fleet.index(7, |_| {});
    let new = fleet.revoking(8);
    registry.update_index(&old).unwrap();
    let old_files = [".index.json", ".index.seen"].map(|f| fs::read(fleet.store.path(f)).unwrap());
    registry.update_index(&new).unwrap();
    registry.update_index(&new).unwrap();
    // Neither here nor in a process that starts now.
    for registry in [&registry, &fleet.open(fleet.policy())] {
        assert_index!(
            registry.update_index(&old),
            IndexDefect::Rollback { seen: 8, given: 7 }
        );
        assert_index!(
            registry.update_index(&fleet.index(8, |_| {})),
            IndexDefect::Equivocation { seq: 8 }
        );
        assert_error!(get(registry), RegistryError::Refused { .. });
        assert_eq!(registry.index().unwrap().unwrap().seq, 8);
    }
    // Put back past the registry: the highest number is kept apart from the index.
    fs::write(fleet.store.path(".index.json"), &old).unwrap();
    for registry in [&registry, &fleet.open(fleet.policy())] {
        assert_index!(get(registry), IndexDefect::Rollback { seen: 8, given: 7 });
        assert_index!(registry.list(), IndexDefect::Rollback { .. });
        assert_index!(registry.must_stop([]), IndexDefect::Rollback { .. });
    }
    fs::write(fleet.store.path(".index.json"), fleet.index(8, |_| {})).unwrap();
    let restarted = fleet.open(fleet.policy());
    assert_index!(get(&restarted), IndexDefect::Equivocation { seq: 8 });
    fs::remove_file(fleet.store.path(".index.json")).unwrap();
    assert_index!(get(&restarted), IndexDefect::Missing);
    assert_index!(restarted.update_index(&old), IndexDefect::Rollback { .. });
    // Both put back: a process that has seen the newer one still knows.
    fs::write(fleet.store.path(".index.json"), &old_files[0]).unwrap();
    fs::write(fleet.store.path(".index.seen"), &old_files[1]).unwrap();
    assert_index!(get(&registry), IndexDefect::Rollback { seen: 8, given: 7 });
    for file in [".index.json", ".index.seen"] {
        fs::remove_file(fleet.store.path(file)).unwrap();
    }
    assert_index!(get(&registry), IndexDefect::Missing);
    // The right one heals it.
    registry.update_index(&new).unwrap();
    assert_error!(get(&registry), RegistryError::Refused { .. });
}

/// The index is replaced before its number is: whatever a crash leaves behind
/// is in force, and what it has replaced stays out.
#[test]
fn a_crash_in_the_middle_of_an_update_loses_nothing() {
    let fleet = Fleet::new();
    let old = fleet.index(7, |_| {});
    let new = fleet.revoking(8);
    fleet.open(fleet.policy()).update_index(&old).unwrap();
    // Not yet replaced: litter in the staging area.
    let litter = fleet.store.path(".staging/00");
    fs::write(&litter, &new[..10]).unwrap();
    assert!(get(&fleet.open(fleet.policy())).is_ok());
    // The index replaced, its number not.
    fs::write(fleet.store.path(".index.json"), &new).unwrap();
    let restarted = fleet.open(fleet.policy());
    assert_error!(get(&restarted), RegistryError::Refused { .. });
    let restarted = fleet.open(fleet.policy());
    assert_index!(
        restarted.update_index(&old),
        IndexDefect::Rollback { seen: 8, given: 7 }
    );
    restarted.update_index(&new).unwrap();
    assert!(
        fs::read_to_string(fleet.store.path(".index.seen"))
            .unwrap()
            .starts_with("8 ")
    );
    assert!(!litter.exists());
}

#[test]
fn an_index_that_is_out_of_date_or_missing_bars_everything_if_required() {
    let fleet = Fleet::new();
    let lenient = fleet.open(fleet.policy());
    let required = fleet.open(fleet.policy().requiring_index());
    assert!(get(&lenient).is_ok() && lenient.index().unwrap().is_none());
    let manifest = fleet.store.manifest("redirect", "1.0.0");
    assert_index!(get(&required), IndexDefect::Missing);
    assert_index!(required.install(&manifest, WASM), IndexDefect::Missing);
    assert_index!(required.list(), IndexDefect::Missing);
    let bytes = fleet.index(1, |_| {});
    required.update_index(&bytes).unwrap();
    for (now, fresh) in [(EXPIRES - 1, true), (EXPIRES, false)] {
        fleet.set_time(now);
        assert_eq!(get(&required).is_ok(), fresh, "{now}");
        assert_eq!(required.update_index(&bytes).is_ok(), fresh, "{now}");
        assert!(get(&lenient).is_ok());
    }
    assert_index!(
        get(&required),
        IndexDefect::Freeze {
            expires: EXPIRES,
            now: EXPIRES
        }
    );
    assert_index!(
        required.install(&manifest, WASM),
        IndexDefect::Freeze { .. }
    );
    assert_index!(required.update_index(&bytes), IndexDefect::Freeze { .. });
    // Revocations hold for ever, also in an index that is out of date.
    fleet.set_time(ISSUED);
    lenient.update_index(&fleet.revoking(2)).unwrap();
    fleet.set_time(EXPIRES);
    assert_error!(get(&lenient), RegistryError::Refused { .. });
}

/// Readers take no lock: whenever they look, they see an old index or a new one.
#[test]
fn readers_and_updates_do_not_disturb_each_other() {
    let fleet = Fleet::new();
    let writer = fleet.open(fleet.policy().requiring_index());
    let indexes: Vec<_> = (1..=200).map(|seq| fleet.index(seq, |_| {})).collect();
    writer.update_index(&indexes[0]).unwrap();
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let reader = fleet.open(fleet.policy().requiring_index());
                let (mut last, mut reads) = (0, 0);
                while last < 200 {
                    let seq = reader.index().unwrap().unwrap().seq;
                    assert!(seq >= last, "{seq} after {last}");
                    get(&reader).unwrap();
                    last = seq;
                    reads += 1;
                }
                reads
            })
        });
        for bytes in &indexes {
            writer.update_index(bytes).unwrap();
        }
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn an_index_is_applied_and_not_updated_in_a_read_only_store() {
    const TEST: &str = "fleet_index::an_index_is_applied_and_not_updated_in_a_read_only_store";
    const NOBODY: u32 = 65_534;
    if let Some(dir) = child_dir(TEST) {
        let key = |file| PublicKey::read_pem_file(dir.join(file)).unwrap();
        let policy = Policy::strict([key("author")])
            .with_index_keys([key("operator")], 1)
            .requiring_index();
        let registry = Registry::open(dir.join("store"), policy)
            .unwrap()
            .with_clock(|| UNIX_EPOCH + Duration::from_secs(ISSUED));
        get(&registry).unwrap();
        let newer = fs::read(dir.join("newer")).unwrap();
        let result = registry.update_index(&newer);
        assert_error!(result, RegistryError::ReadOnly { .. });
        assert_eq!(registry.index().unwrap().unwrap().seq, 1);
        return;
    }
    let fleet = Fleet::new();
    let temp = fleet.store.temp.path();
    for (file, key) in [("author", &fleet.store.key), ("operator", &fleet.operator)] {
        key.public_key().write_pem_file(temp.join(file)).unwrap();
    }
    fs::write(temp.join("newer"), fleet.revoking(2)).unwrap();
    let registry = fleet.open(fleet.policy());
    registry.update_index(&fleet.index(1, |_| {})).unwrap();
    // The binary may lie where nobody else may look.
    let program = temp.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    as_child(&mut command, TEST, temp).current_dir("/");
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    set_mode(temp, 0o755);
    // Root may write anywhere, so it must become somebody else.
    if fs::metadata(temp).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    set_mode(registry.path(), 0o555);
    let output = command.output().unwrap();
    set_mode(registry.path(), 0o755);
    passed(output);
}
