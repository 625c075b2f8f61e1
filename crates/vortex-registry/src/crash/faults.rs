//! What fails while nothing is lost: reading, and locks that are not there.

use std::sync::Arc;

use rustix::io::Errno;

use super::recorder::{Fault, Recorder, read_tree};
use super::{Install, Remove, STORE, Update, WORLD, scratch};
use crate::error::RegistryError;
use crate::io::Io;
use crate::list::Status;
use crate::registry::Registry;
use crate::verify::Trust;

/// What cannot be read is an error: neither absent nor anything else than it is.
#[test]
fn reading() {
    let root = scratch();
    let recorder = Arc::new(Recorder::new(root.path()));
    let io: Arc<dyn Io> = Arc::<Recorder>::clone(&recorder);
    let registry = Registry::open_on(io, root.path().join(STORE), WORLD.policy()).unwrap();
    for op in [Install("1.0.0", 'a'), Install("2.0.0", 'b'), Update(1)] {
        WORLD.act(&registry, op).unwrap();
    }
    let name = "redirect".parse().unwrap();
    recorder.set_fault(None);
    let mut steps = usize::MAX;
    let mut step = 0;
    while step <= steps {
        for errno in [Errno::IO, Errno::ACCESS, Errno::MFILE] {
            for fault in [Fault::Once(step, errno), Fault::From(step, errno)] {
                recorder.set_fault((step < steps).then_some(fault));
                match registry.get_latest(&name) {
                    Ok(got) => assert_eq!(got.wasm().last(), Some(&b'b')),
                    Err(RegistryError::Io { .. }) => {}
                    Err(other) => panic!("{fault:?}: {other:?}"),
                }
                match registry.list() {
                    Ok(entries) => {
                        // Both versions, or the plugin that cannot be looked into.
                        let whole = entries.iter().all(|entry| entry.version.is_some());
                        assert_eq!(entries.len(), if whole { 2 } else { 1 }, "{fault:?}");
                        for entry in entries {
                            let judged = match entry.status {
                                Status::Intact { trust, .. } => {
                                    matches!(trust, Trust::Signed { .. })
                                }
                                Status::Corrupt { reason } => {
                                    matches!(*reason, RegistryError::Io { .. })
                                }
                                Status::Foreign => false,
                            };
                            assert!(judged, "{fault:?}");
                        }
                    }
                    Err(RegistryError::Io { .. }) => {}
                    Err(other) => panic!("{fault:?}: {other:?}"),
                }
            }
        }
        if step == 0 {
            recorder.set_fault(None);
            registry.get_latest(&name).unwrap();
            registry.list().unwrap();
            steps = recorder.steps();
        }
        step += 1;
    }
    println!("{steps} steps of reading");
    assert!(steps > 20);
}

#[test]
fn without_locks_nothing_is_written() {
    for errno in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS] {
        let root = scratch();
        let recorder = Arc::new(Recorder::new(root.path()));
        let io: Arc<dyn Io> = Arc::<Recorder>::clone(&recorder);
        let store = root.path().join(STORE);
        let registry = Registry::open_on(io, store.clone(), WORLD.policy()).unwrap();
        for op in [Install("1.0.0", 'a'), Update(1)] {
            WORLD.act(&registry, op).unwrap();
        }
        let litter = store.join(".staging/litter");
        std::fs::write(&litter, b"").unwrap();
        recorder.set_fault(Some(Fault::Locks(errno)));
        let before = read_tree(root.path());
        for op in [
            Install("1.0.0", 'a'),
            Install("2.0.0", 'a'),
            Remove("1.0.0"),
            Update(2),
        ] {
            let error = WORLD.act(&registry, op).unwrap_err();
            assert!(
                matches!(error, RegistryError::NoLocks { .. }),
                "{op:?}: {error:?}"
            );
            let text = error.to_string();
            assert!(
                text.contains("no file locks") && text.contains(STORE),
                "{text}"
            );
        }
        // Reading needs no lock, and opening leaves alone what it may not sweep.
        let io: Arc<dyn Io> = Arc::<Recorder>::clone(&recorder);
        let registry = Registry::open_on(io, store, WORLD.policy()).unwrap();
        assert_eq!(registry.list().unwrap().len(), 1);
        assert_eq!(registry.index().unwrap().unwrap().seq, 1);
        assert_eq!(read_tree(root.path()), before);
    }
}
