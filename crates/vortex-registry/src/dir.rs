//! Directory handles: all input and output of the store.
//!
//! Every access is relative to a handle and follows no symlink, so that what
//! was checked is what is used, whoever else can write to the store. Only the
//! path of the store itself is the operator's own and may lead through symlinks.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Defect, RegistryError};
use crate::name::PluginName;
use crate::version::VersionSelector;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
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
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the store, unless there is none.
    pub(crate) fn open_store(path: &Path) -> Result<Option<Self>, RegistryError> {
        match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: path.to_owned(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(RegistryError::read("open the plugin store", path, errno)),
        }
    }

    /// Opens the store, and makes it first if there is none.
    pub(crate) fn create_store(path: &Path) -> Result<Self, RegistryError> {
        if let Some(store) = Self::open_store(path)? {
            return Ok(store);
        }
        let create = "create the plugin store";
        std::fs::create_dir_all(path).map_err(|e| RegistryError::write(create, path, e))?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty())
            && let Some(parent) = Self::open_store(parent)?
        {
            parent.sync()?;
        }
        Self::open_store(path)?
            .ok_or_else(|| RegistryError::write(create, path, io::ErrorKind::NotFound))
    }

    /// Opens a directory in this one, unless there is nothing of that name.
    pub(crate) fn subdir(&self, name: &str) -> Result<Option<Self>, Fault> {
        match rustix::fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.path.join(name),
            })),
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
        let created = match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(error(errno)),
        };
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(error)?;
        if created {
            // The umask of the process shall not decide who can read the store.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(error)?;
        }
        let path = self.path.join(name);
        Ok((Self { fd, path }, created))
    }

    /// The names in this directory, and whether there are more than `limit`.
    pub(crate) fn names(&self, limit: usize) -> Result<(Vec<CString>, bool), RegistryError> {
        let error = |errno| RegistryError::read("list", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if names.len() == limit {
                return Ok((names, true));
            }
            names.push(name.to_owned());
        }
        Ok((names, false))
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &'static str, limit: u64) -> Result<Vec<u8>, Fault> {
        let system = |errno: Errno| Fault::System(self.read_error("read", name, errno));
        let not_a_file = || {
            Fault::Defect(Defect::NotAFile {
                file: name.to_owned(),
            })
        };
        // Without blocking, since opening a fifo would wait for a writer.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
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
        let stat = rustix::fs::fstat(&file).map_err(system)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_a_file());
        }
        // The size only helps to set room aside: the file may grow meanwhile.
        let expected = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
        let mut bytes = Vec::with_capacity(expected as usize + 1);
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
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
        let fd = rustix::fs::openat(&self.fd, name, flags, mode)
            .map_err(|e| self.write_error("create", name, e))?;
        rustix::fs::fchmod(&fd, mode).map_err(|e| self.write_error("set the mode of", name, e))?;
        let mut file = File::from(fd);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| self.write_error("write", name, e))
    }

    /// Opens a regular file for locking, and makes it first if there is none.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File, RegistryError> {
        // The owner alone may open it, since whoever can open it can hold the lock for ever.
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, mode)
            .map_err(|e| self.write_error("open", name, e))?;
        Ok(File::from(fd))
    }

    /// Waits until the names in this directory are on the disk.
    pub(crate) fn sync(&self) -> Result<(), RegistryError> {
        rustix::fs::fsync(&self.fd).map_err(|e| RegistryError::write("sync", &self.path, e))
    }

    /// Moves an entry into another directory, where it replaces nothing.
    pub(crate) fn rename(&self, name: &str, to: &Self, to_name: &str) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.fd, name, &to.fd, to_name, RenameFlags::NOREPLACE)
    }

    /// Moves a file into another directory, in the place of what is there.
    pub(crate) fn replace(&self, name: &str, to: &Self, to_name: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.fd, name, &to.fd, to_name)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_empty_dir(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Removes an entry with all that is below it. A symlink is removed itself.
    pub(crate) fn remove_tree(&self, name: &CStr) -> Result<(), Errno> {
        remove_tree(&self.fd, name, MAX_DEPTH)
    }

    /// Whether both are handles of the same directory.
    pub(crate) fn is_same(&self, other: &Self) -> Result<bool, RegistryError> {
        let stat = |dir: &Self| {
            rustix::fs::fstat(&dir.fd).map_err(|e| RegistryError::read("stat", &dir.path, e))
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

fn remove_tree(parent: impl AsFd, name: &CStr, depth: usize) -> Result<(), Errno> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        other => return other,
    }
    let dir = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    loop {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
            if names.len() == REMOVE_CHUNK {
                break;
            }
        }
        if names.is_empty() {
            break;
        }
        for name in &names {
            remove_tree(&dir, name, depth - 1)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_store(temp.path()).unwrap().unwrap();
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
        let dir = Dir::open_store(Path::new("/proc/self")).unwrap().unwrap();
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
