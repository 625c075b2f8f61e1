//! Directory handles: all input and output of the store.
//!
//! Every access is relative to a handle and follows no symlink, so that what
//! was checked is what is used, whoever else can write to the store. Only the
//! path of the store itself is the operator's own and may lead through symlinks.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Defect, RegistryError};
use crate::io::Io;
use crate::name::PluginName;
use crate::version::VersionSelector;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// How files are opened for reading: without blocking, since opening a fifo
/// would wait for a writer.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How deep a tree may be that is to be removed. A version is one level deep;
/// what is deeper has been put there by somebody else.
const MAX_DEPTH: usize = 32;

/// How many names are held at a time while a tree is removed.
const REMOVE_CHUNK: usize = 1024;

/// A failure to read: what lies there is wrong, or the operating system failed.
#[derive(Debug)]
pub(crate) enum Fault {
    Defect(Defect),
    System(RegistryError),
}

impl Fault {
    /// The error when this happened to a plugin version.
    pub(crate) fn of(
        self,
        name: &PluginName,
        version: impl Into<VersionSelector>,
    ) -> RegistryError {
        match self {
            Self::Defect(defect) => RegistryError::corrupt(name, version, defect),
            Self::System(error) => error,
        }
    }
}

/// An open directory. The path serves messages alone.
#[derive(Debug)]
pub(crate) struct Dir {
    io: Arc<dyn Io>,
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the store, unless there is none.
    pub(crate) fn open_store(io: &Arc<dyn Io>, path: &Path) -> Result<Option<Self>, RegistryError> {
        match io.open(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                io: Arc::clone(io),
                fd,
                path: path.to_owned(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(RegistryError::read("open the plugin store", path, errno)),
        }
    }

    /// Opens the store, and makes it first if there is none.
    pub(crate) fn create_store(io: &Arc<dyn Io>, path: &Path) -> Result<Self, RegistryError> {
        if let Some(store) = Self::open_store(io, path)? {
            return Ok(store);
        }
        let error = |errno| RegistryError::write("create the plugin store", path, errno);
        create_dirs(&**io, path).map_err(error)?;
        Self::open_store(io, path)?.ok_or_else(|| error(Errno::NOENT))
    }

    /// Waits until the way from the root to the store is on the disk: a store
    /// that cannot be found after a power cut has lost all that is in it.
    pub(crate) fn sync_ancestors(&self) -> Result<(), RegistryError> {
        let error = |path: &Path, e: io::Error| RegistryError::write("sync", path, e);
        let real = std::fs::canonicalize(&self.path).map_err(|e| error(&self.path, e))?;
        for ancestor in real.ancestors().skip(1) {
            let synced = self
                .io
                .open(CWD, ancestor, DIRECTORY, Mode::empty())
                .and_then(|dir| self.io.sync(dir.as_fd()));
            match synced {
                // Not made by this user, or not the kind of directory that is kept.
                Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
                Err(errno) => return Err(error(ancestor, errno.into())),
            }
        }
        Ok(())
    }

    /// Opens a directory in this one, unless there is nothing of that name.
    pub(crate) fn subdir(&self, name: &str) -> Result<Option<Self>, Fault> {
        match self.open_dir(name) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Fault::Defect(Defect::NotADirectory {
                file: name.to_owned(),
            })),
            Err(errno) => Err(Fault::System(self.read_error("open", name, errno))),
        }
    }

    /// Makes a directory in this one, and says whether that was necessary.
    pub(crate) fn create_subdir(
        &self,
        name: &str,
        mode: u32,
    ) -> Result<(Self, bool), RegistryError> {
        let error = |errno| self.write_error("create", name, errno);
        let mode = Mode::from_raw_mode(mode);
        let created = match self.io.create_dir(self.fd.as_fd(), name.as_ref(), mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(error(errno)),
        };
        let dir = self.open_dir(name).map_err(error)?;
        if created {
            // The umask of the process shall not decide who can read the store.
            self.io.set_mode(dir.fd.as_fd(), mode).map_err(error)?;
        }
        Ok((dir, created))
    }

    fn open_dir(&self, name: &str) -> Result<Self, Errno> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let fd = self.open(name, flags, Mode::empty())?;
        Ok(Self {
            io: Arc::clone(&self.io),
            fd,
            path: self.path.join(name),
        })
    }

    fn open(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        self.io.open(self.fd.as_fd(), name.as_ref(), flags, mode)
    }

    /// The names in this directory, and whether there are more than `limit`.
    pub(crate) fn names(&self, limit: usize) -> Result<(Vec<CString>, bool), RegistryError> {
        self.io
            .names(self.fd.as_fd(), limit)
            .map_err(|errno| RegistryError::read("list", &self.path, errno))
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &'static str, limit: u64) -> Result<Vec<u8>, Fault> {
        let system = |errno: Errno| Fault::System(self.read_error("read", name, errno));
        let not_a_file = || {
            Fault::Defect(Defect::NotAFile {
                file: name.to_owned(),
            })
        };
        let file = match self.open(name, FILE, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => {
                return Err(Fault::Defect(Defect::MissingFile {
                    file: name.to_owned(),
                }));
            }
            // A symlink, or a socket or device without anybody behind it.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(not_a_file()),
            Err(errno) => return Err(system(errno)),
        };
        let stat = self.io.stat(file.as_fd()).map_err(system)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_a_file());
        }
        // The size only helps to set room aside: the file may grow meanwhile.
        let expected = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
        let mut bytes = Vec::with_capacity(expected as usize + 1);
        self.io
            .read(&file, limit.saturating_add(1), &mut bytes)
            .map_err(|e| Fault::System(self.read_error("read", name, e)))?;
        if bytes.len() as u64 > limit {
            return Err(Fault::Defect(Defect::TooLarge { file: name, limit }));
        }
        Ok(bytes)
    }

    /// Writes a new file that everybody may read, down to the disk.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self
            .open(name, flags, mode)
            .map_err(|e| self.write_error("create", name, e))?;
        self.io
            .set_mode(fd.as_fd(), mode)
            .map_err(|e| self.write_error("set the mode of", name, e))?;
        let file = File::from(fd);
        self.io
            .write(&file, bytes)
            .and_then(|()| Ok(self.io.sync(file.as_fd())?))
            .map_err(|e| self.write_error("write", name, e))
    }

    /// Opens a regular file for locking, and makes it first if there is none.
    pub(crate) fn open_lock(&self, name: &str) -> Result<OwnedFd, RegistryError> {
        // The owner alone may open it, since whoever can open it can hold the lock for ever.
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        self.open(name, flags, mode)
            .map_err(|e| self.write_error("open", name, e))
    }

    /// Waits until the names in this directory are on the disk.
    pub(crate) fn sync(&self) -> Result<(), RegistryError> {
        self.io
            .sync(self.fd.as_fd())
            .map_err(|e| RegistryError::write("sync", &self.path, e))
    }

    /// Waits until the bytes of a file are on the disk, whoever has written them.
    pub(crate) fn sync_file(&self, name: &str) -> Result<(), RegistryError> {
        self.open(name, FILE, Mode::empty())
            .and_then(|file| self.io.sync(file.as_fd()))
            .map_err(|e| self.write_error("sync", name, e))
    }

    /// Moves an entry into another directory, where it replaces nothing.
    pub(crate) fn rename(&self, name: &str, to: &Self, to_name: &str) -> Result<(), Errno> {
        self.move_to(name, to, to_name, RenameFlags::NOREPLACE)
    }

    /// Moves a file into another directory, in the place of what is there.
    pub(crate) fn replace(&self, name: &str, to: &Self, to_name: &str) -> Result<(), Errno> {
        self.move_to(name, to, to_name, RenameFlags::empty())
    }

    fn move_to(
        &self,
        name: &str,
        to: &Self,
        to_name: &str,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let from = (self.fd.as_fd(), name.as_ref());
        self.io
            .rename(from, (to.fd.as_fd(), to_name.as_ref()), flags)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_empty_dir(&self, name: &str) -> Result<(), Errno> {
        self.io
            .remove(self.fd.as_fd(), name.as_ref(), AtFlags::REMOVEDIR)
    }

    /// Removes an entry with all that is below it. A symlink is removed itself.
    pub(crate) fn remove_tree(&self, name: &CStr) -> Result<(), Errno> {
        remove_tree(&*self.io, self.fd.as_fd(), name, MAX_DEPTH)
    }

    /// The operating system, as this directory sees it.
    pub(crate) fn io(&self) -> &dyn Io {
        &*self.io
    }

    /// Whether both are handles of the same directory.
    pub(crate) fn is_same(&self, other: &Self) -> Result<bool, RegistryError> {
        let stat = |dir: &Self| {
            dir.io
                .stat(dir.fd.as_fd())
                .map_err(|e| RegistryError::read("stat", &dir.path, e))
        };
        let (a, b) = (stat(self)?, stat(other)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_error(
        &self,
        action: &'static str,
        name: &str,
        source: impl Into<io::Error>,
    ) -> RegistryError {
        RegistryError::write(action, &self.path.join(name), source)
    }

    fn read_error(
        &self,
        action: &'static str,
        name: &str,
        source: impl Into<io::Error>,
    ) -> RegistryError {
        RegistryError::read(action, &self.path.join(name), source)
    }
}

/// Makes a directory, and those above it that are missing.
fn create_dirs(io: &dyn Io, path: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o777);
    match io.create_dir(CWD, path, mode) {
        Err(Errno::NOENT) => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            create_dirs(io, parent.ok_or(Errno::NOENT)?)?;
            io.create_dir(CWD, path, mode)
        }
        other => other,
    }
    .or_else(|errno| match errno {
        // Somebody else has just made it.
        Errno::EXIST => Ok(()),
        errno => Err(errno),
    })
}

fn remove_tree(
    io: &dyn Io,
    parent: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
) -> Result<(), Errno> {
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    match io.remove(parent, path, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        other => return other,
    }
    let dir = io.open(parent, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    loop {
        let (names, _) = io.names(dir.as_fd(), REMOVE_CHUNK)?;
        if names.is_empty() {
            break;
        }
        for name in &names {
            remove_tree(io, dir.as_fd(), name, depth - 1)?;
        }
    }
    io.remove(parent, path, AtFlags::REMOVEDIR)
}

#[cfg(test)]
impl Dir {
    /// Writes a new file as other programs do, without waiting for the disk.
    pub(crate) fn copy(&self, name: &str, bytes: &[u8]) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.open(name, flags, Mode::from_raw_mode(0o644)).unwrap();
        self.io.write(&File::from(fd), bytes).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::System;

    fn open(path: &Path) -> Dir {
        let io: Arc<dyn Io> = Arc::new(System);
        Dir::open_store(&io, path).unwrap().unwrap()
    }

    fn opened() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        (temp, dir)
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_and_no_further() {
        let (_temp, dir) = opened();
        dir.write_new("f", &[7; 10]).unwrap();
        assert_eq!(dir.read("f", 10).unwrap(), [7; 10]);
        assert!(matches!(
            dir.read("f", 9),
            Err(Fault::Defect(Defect::TooLarge { limit: 9, .. }))
        ));
    }

    /// A file of procfs says that it is empty and is not.
    #[test]
    fn the_size_in_the_metadata_is_not_believed() {
        let dir = open(Path::new("/proc/self"));
        assert!(matches!(
            dir.read("status", 16),
            Err(Fault::Defect(Defect::TooLarge { .. }))
        ));
    }

    #[test]
    fn names_are_bounded() {
        let (_temp, dir) = opened();
        for name in ["a", "b", "c"] {
            dir.write_new(name, b"").unwrap();
        }
        assert_eq!(dir.names(3).unwrap().0.len(), 3);
        assert!(!dir.names(3).unwrap().1);
        assert!(dir.names(2).unwrap().1);
    }

    #[test]
    fn removing_a_tree_follows_no_symlink() {
        let (temp, dir) = opened();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("precious"), b"").unwrap();
        std::fs::create_dir_all(temp.path().join("t/deeper")).unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("t/deeper/link")).unwrap();
        for i in 0..2 * REMOVE_CHUNK + 1 {
            std::fs::write(temp.path().join(format!("t/{i}")), b"").unwrap();
        }
        dir.remove_tree(c"t").unwrap();
        assert!(!temp.path().join("t").exists());
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn removing_a_tree_is_bounded_in_depth() {
        let (temp, dir) = opened();
        let deep = "d/".repeat(MAX_DEPTH + 2);
        std::fs::create_dir_all(temp.path().join(deep)).unwrap();
        assert!(dir.remove_tree(c"d").is_err());
    }

    #[test]
    fn a_rename_replaces_nothing() {
        let (_temp, dir) = opened();
        dir.write_new("a", b"new").unwrap();
        dir.write_new("b", b"old").unwrap();
        assert_eq!(dir.rename("a", &dir, "b"), Err(Errno::EXIST));
        assert_eq!(dir.read("b", 9).unwrap(), b"old");
    }
}
