//! Where a version lies before it is published and after it is removed.

use std::cell::Cell;
use std::ffi::CString;

use rustix::io::Errno;

use crate::dir::{Dir, Fault};
use crate::error::RegistryError;
use crate::layout;
use crate::lock::StoreLock;

/// How many names are held at a time while the area is swept.
const SWEEP_CHUNK: usize = 1024;

/// The staging area, swept: what lies in it is by a writer that did not finish.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: Dir,
}

impl Staging {
    /// Opens and sweeps the area, which only the holder of the lock may do.
    pub(crate) fn open(store: &Dir, _lock: &StoreLock) -> Result<Self, RegistryError> {
        match store.subdir(layout::STAGING) {
            // Nobody has written here, or lived to make the area, so the store may be new.
            Ok(None) => store.sync_ancestors()?,
            Ok(Some(_)) | Err(Fault::Defect(_)) => {}
            Err(Fault::System(error)) => return Err(error),
        }
        let (dir, _) = store.create_subdir(layout::STAGING, 0o700)?;
        sweep(&dir)?;
        Ok(Self { dir })
    }

    /// Sweeps the area, if there is anything in it, nobody writes just now, and
    /// this process may. Makes no area, and needs none.
    pub(crate) fn sweep_if_idle(store: &Dir) {
        if let Ok(Some(dir)) = store.subdir(layout::STAGING)
            && let Ok((_, true)) = dir.names(0)
            && let Some(_lock) = StoreLock::try_acquire(store)
        {
            // What stays is swept by the next writer, who says what is wrong.
            let _ = sweep(&dir);
        }
    }

    /// Reserves a place, which is emptied when the guard goes out of scope.
    pub(crate) fn reserve(&self) -> Result<Staged<'_>, RegistryError> {
        Ok(Staged {
            staging: &self.dir,
            name: layout::staged_dir()?,
            may_return: Cell::new(false),
        })
    }

    /// Waits until what has been moved out of the area is out of it on the disk.
    pub(crate) fn sync(&self) -> Result<(), RegistryError> {
        self.dir.sync()
    }

    /// Writes a file down to the disk, then puts it in the place of an old one.
    ///
    /// After a crash there is the old file or the new one, whole.
    pub(crate) fn replace(&self, to: &Dir, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let staged = self.reserve()?;
        self.dir.write_new(&staged.name, bytes)?;
        self.dir
            .replace(&staged.name, to, name)
            .map_err(|errno| to.write_error("replace", name, errno))?;
        to.sync()
    }
}

/// Empties the area.
fn sweep(dir: &Dir) -> Result<(), RegistryError> {
    loop {
        let (litter, is_more) = dir.names(SWEEP_CHUNK)?;
        if litter.is_empty() {
            return Ok(());
        }
        // What was moved here, by somebody who was killed, must not come back
        // after a power cut without its files.
        dir.sync()?;
        let removed = litter.iter().filter(|name| dir.remove_tree(name).is_ok());
        // What cannot be removed is in nobody's way: readers do not look here.
        if removed.count() == 0 || !is_more {
            return Ok(());
        }
    }
}

/// A place in the staging area.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    staging: &'a Dir,
    name: String,
    /// Whether a power cut may put what lies here back where it came from.
    may_return: Cell<bool>,
}

impl Staged<'_> {
    /// Writes a version into the place, down to the disk.
    pub(crate) fn fill(&self, manifest: &[u8], wasm: &[u8]) -> Result<(), RegistryError> {
        let (dir, _) = self.staging.create_subdir(&self.name, 0o755)?;
        dir.write_new(layout::WASM, wasm)?;
        dir.write_new(layout::MANIFEST, manifest)?;
        dir.sync()
    }

    /// Moves the place out, and says whether nothing was in the way.
    ///
    /// On an error nothing has been published.
    pub(crate) fn publish(&self, to: &Dir, to_name: &str) -> Result<bool, RegistryError> {
        match self.staging.rename(&self.name, to, to_name) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(to.write_error("publish", to_name, errno)),
        }
        let synced = to.sync().and_then(|()| self.staging.sync());
        if synced.is_err() {
            // What may not survive a crash must not be seen: take it back.
            let taken_back = to.rename(to_name, self.staging, &self.name);
            self.may_return.set(taken_back.is_ok());
        }
        synced.map(|()| true)
    }

    /// Moves an entry into the place, and says whether there was one.
    ///
    /// On an error it is where it was.
    pub(crate) fn take(&self, from: &Dir, from_name: &str) -> Result<bool, RegistryError> {
        match from.rename(from_name, self.staging, &self.name) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                // Somebody may have been killed who had taken it and not synced yet.
                return from.sync().map(|()| false);
            }
            Err(errno) => return Err(from.write_error("remove", from_name, errno)),
        }
        let synced = from.sync();
        if synced.is_err() {
            // It may be there again after a crash, so it must be there now: put it back.
            let put_back = self.staging.rename(&self.name, from, from_name);
            self.may_return.set(put_back.is_err());
        }
        synced.map(|()| true)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // A power cut must not bring back one half of a version, so either it
        // stays here, to be swept later, or it goes when it cannot come back.
        if self.may_return.get() && self.staging.sync().is_err() {
            return;
        }
        if let Ok(name) = CString::new(self.name.as_str()) {
            // After publication nothing is left; what cannot be removed is swept later.
            let _ = self.staging.remove_tree(&name);
        }
    }
}
