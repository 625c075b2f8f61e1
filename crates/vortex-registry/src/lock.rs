//! The lock that writers hold.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::RegistryError;
use crate::layout;

/// The exclusive right to write to a store, across threads and processes.
///
/// The operating system gives it back when the holder ends, in whatever way.
/// The file stays: were it removed, two writers could each hold a lock of their
/// own, one on the old file and one on the new.
///
/// Where the file system knows no locks there is no writing: it would mean that
/// two writers could undo each other's work.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: OwnedFd,
}

impl StoreLock {
    /// Waits until nobody else writes.
    pub(crate) fn acquire(store: &Dir) -> Result<Self, RegistryError> {
        let file = store.open_lock(layout::LOCK)?;
        let locked = store.io().lock(file.as_fd(), FlockOperation::LockExclusive);
        match locked {
            Ok(()) => Ok(Self { _file: file }),
            Err(errno @ (Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
                Err(RegistryError::NoLocks {
                    path: store.path().to_owned(),
                    source: errno.into(),
                })
            }
            Err(errno) => Err(store.write_error("lock", layout::LOCK, errno)),
        }
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_acquire(store: &Dir) -> Option<Self> {
        let file = store.open_lock(layout::LOCK).ok()?;
        let operation = FlockOperation::NonBlockingLockExclusive;
        store.io().lock(file.as_fd(), operation).ok()?;
        Some(Self { _file: file })
    }
}
