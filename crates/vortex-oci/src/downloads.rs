//! Modules on their way into a store: `<store>/.downloads/<digest>`.
//!
//! A file is named after the digest of the module that it is to become, so that
//! whoever continues a download continues the right one. Its lock makes one
//! process at a time download it. What is in it is not trusted: it is hashed
//! when it is complete.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use vortex_registry::Digest;

use crate::error::OciError;

/// The name of the directory, which the registry leaves alone.
const DIRECTORY: &str = ".downloads";

/// When a download that nobody has continued is given up.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How many files are looked at when old ones are swept.
const MAX_SWEPT: usize = 1000;

/// How long a process waits before it tries again to get the lock.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The directory of a store's downloads, opened without following a symlink.
#[derive(Debug)]
pub(crate) struct Downloads {
    directory: OwnedFd,
    path: PathBuf,
}

impl Downloads {
    /// Opens the directory, makes it if need be, and sweeps it.
    pub(crate) fn open(store: &Path) -> Result<Self, OciError> {
        std::fs::create_dir_all(store).map_err(|e| OciError::io("create", store, e))?;
        let path = store.join(DIRECTORY);
        let failed = |errno: Errno| OciError::io("open", &path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The path of the store is the operator's own and may lead through symlinks.
        let parent = rustix::fs::open(store, flags, Mode::empty()).map_err(failed)?;
        match rustix::fs::mkdirat(&parent, DIRECTORY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(OciError::io("create", &path, errno)),
        }
        let flags = flags | OFlags::NOFOLLOW;
        let directory =
            rustix::fs::openat(&parent, DIRECTORY, flags, Mode::empty()).map_err(failed)?;
        let downloads = Self { directory, path };
        downloads.sweep(SystemTime::now());
        Ok(downloads)
    }

    /// Takes the lock on a download, unless somebody else has it.
    pub(crate) fn try_claim(&self, digest: Digest) -> Result<Option<Claim>, OciError> {
        let name = digest.to_string();
        let path = self.path.join(&name);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE;
            let file = self.open_file(&name, flags)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(OciError::io("lock", &path, error)),
            }
            let metadata = file
                .metadata()
                .map_err(|error| OciError::io("read", &path, error))?;
            if !metadata.is_file() {
                let kind = io::Error::other("it is no regular file");
                return Err(OciError::io("write", &path, kind));
            }
            // Whoever had the lock before may have finished and removed the file.
            if metadata.nlink() > 0 {
                return Ok(Some(Claim { file, path, name }));
            }
        }
    }

    /// Removes a download, which is complete or worthless.
    pub(crate) fn remove(&self, claim: &Claim) -> Result<(), OciError> {
        rustix::fs::unlinkat(&self.directory, &claim.name, AtFlags::empty())
            .map_err(|errno| OciError::io("remove", &claim.path, errno))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<File, OciError> {
        // A fifo that somebody has put here must not block.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| OciError::io("open", &self.path.join(name), errno))
    }

    /// Removes what is old and nobody's. What cannot be removed is in nobody's way.
    fn sweep(&self, now: SystemTime) {
        let Ok(entries) = rustix::fs::Dir::read_from(self.directory.as_fd()) else {
            return;
        };
        for entry in entries.take(MAX_SWEPT).flatten() {
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name.parse::<Digest>().is_err() {
                continue;
            }
            let Ok(file) = self.open_file(name, OFlags::RDWR) else {
                continue;
            };
            let age = file
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age > MAX_AGE) && file.try_lock().is_ok() {
                let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
    }
}

/// A download that this process alone may write to, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    name: String,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_claim_excludes_others_until_it_is_dropped() {
        let store = tempfile::tempdir().unwrap();
        let downloads = Downloads::open(store.path()).unwrap();
        let other = Downloads::open(store.path()).unwrap();
        let digest = Digest::of(b"x");
        let claim = downloads.try_claim(digest).unwrap().unwrap();
        assert!(other.try_claim(digest).unwrap().is_none());
        assert!(other.try_claim(Digest::of(b"y")).unwrap().is_some());
        downloads.remove(&claim).unwrap();
        // The file that was removed is nobody's any more; a new one is made.
        let again = other.try_claim(digest).unwrap().unwrap();
        assert!(again.path.exists());
        drop(again);
        assert!(other.try_claim(digest).unwrap().is_some());
    }

    #[test]
    fn symlinks_and_fifos_are_not_written_to() {
        let store = tempfile::tempdir().unwrap();
        let downloads = Downloads::open(store.path()).unwrap();
        let victim = store.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let digest = Digest::of(b"x");
        let place = store.path().join(DIRECTORY).join(digest.to_string());
        symlink(&victim, &place).unwrap();
        assert!(downloads.try_claim(digest).is_err());
        std::fs::remove_file(&place).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(downloads.try_claim(digest).is_err());

        let elsewhere = tempfile::tempdir().unwrap();
        symlink(store.path(), elsewhere.path().join(DIRECTORY)).unwrap();
        assert!(Downloads::open(elsewhere.path()).is_err());
    }

    #[test]
    fn old_downloads_are_swept_unless_somebody_is_at_them() {
        let store = tempfile::tempdir().unwrap();
        let downloads = Downloads::open(store.path()).unwrap();
        let [old, claimed] = [b"old", b"own"].map(|text| Digest::of(text));
        drop(downloads.try_claim(old).unwrap());
        let claim = downloads.try_claim(claimed).unwrap().unwrap();
        let place = |digest: Digest| store.path().join(DIRECTORY).join(digest.to_string());
        downloads.sweep(SystemTime::now() + MAX_AGE / 2);
        assert!(place(old).exists());
        downloads.sweep(SystemTime::now() + MAX_AGE * 2);
        assert!(!place(old).exists());
        assert!(place(claimed).exists());
        drop(claim);
    }
}
