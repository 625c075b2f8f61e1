//! The lock that writers hold.

use std::fs::File;

use crate::dir::Dir;
use crate::error::RegistryError;
use crate::layout;

/// The exclusive right to write to a store, across threads and processes.
///
/// The operating system gives it back when the holder ends, in whatever way.
/// The file stays: were it removed, two writers could each hold a lock of their
/// own, one on the old file and one on the new.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits until nobody else writes.
    pub(crate) fn acquire(store: &Dir) -> Result<Self, RegistryError> {
        let file = store.open_lock(layout::LOCK)?;
        file.lock()
            .map_err(|e| store.write_error("lock", layout::LOCK, e))?;
        Ok(Self { _file: file })
    }
}
