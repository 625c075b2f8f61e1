//! The system calls of the store, behind a trait so that tests can make each of them fail.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// What the store asks of the operating system, and all that it does.
///
/// Names are relative to the directory `at`, as in `openat(2)` and its kin.
pub(crate) trait Io: fmt::Debug + Send + Sync {
    /// Opens a file or directory, and makes the file if the flags say so.
    fn open(
        &self,
        at: BorrowedFd<'_>,
        name: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno>;

    /// What kind of file it is, how large, and which.
    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat, Errno>;

    /// The names in a directory, and whether there are more than `limit`.
    fn names(&self, dir: BorrowedFd<'_>, limit: usize) -> Result<(Vec<CString>, bool), Errno>;

    /// Appends what is left of a file, but at most `limit` bytes.
    fn read(&self, file: &File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()>;

    /// Writes all the bytes.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes a directory.
    fn create_dir(&self, at: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<(), Errno>;

    /// Sets the permission bits of an open file or directory.
    fn set_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno>;

    /// Moves an entry from one directory to another.
    fn rename(
        &self,
        from: (BorrowedFd<'_>, &Path),
        to: (BorrowedFd<'_>, &Path),
        flags: RenameFlags,
    ) -> Result<(), Errno>;

    /// Removes an entry: an empty directory if the flags say so, else a file.
    fn remove(&self, at: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<(), Errno>;

    /// Waits until the file's bytes, or the directory's names, are on the disk.
    fn sync(&self, file: BorrowedFd<'_>) -> Result<(), Errno>;

    /// Locks a file exclusively, until its last handle is closed.
    fn lock(&self, file: BorrowedFd<'_>, operation: FlockOperation) -> Result<(), Errno>;
}

/// The operating system itself.
#[derive(Debug)]
pub(crate) struct System;

impl Io for System {
    fn open(
        &self,
        at: BorrowedFd<'_>,
        name: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(at, name, flags, mode)
    }

    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat, Errno> {
        rustix::fs::fstat(file)
    }

    fn names(&self, dir: BorrowedFd<'_>, limit: usize) -> Result<(Vec<CString>, bool), Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
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

    fn read(&self, file: &File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        file.take(limit).read_to_end(bytes).map(drop)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn create_dir(&self, at: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<(), Errno> {
        rustix::fs::mkdirat(at, name, mode)
    }

    fn set_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
        rustix::fs::fchmod(file, mode)
    }

    fn rename(
        &self,
        (from, name): (BorrowedFd<'_>, &Path),
        (to, to_name): (BorrowedFd<'_>, &Path),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if flags.is_empty() {
            // Older file systems know no flags at all.
            return rustix::fs::renameat(from, name, to, to_name);
        }
        rustix::fs::renameat_with(from, name, to, to_name, flags)
    }

    fn remove(&self, at: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(at, name, flags)
    }

    fn sync(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::fs::fsync(file))
    }

    fn lock(&self, file: BorrowedFd<'_>, operation: FlockOperation) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))
    }
}
