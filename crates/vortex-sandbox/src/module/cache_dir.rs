//! The directory of an artifact cache: all its system calls.
//!
//! Every access is relative to a handle and follows no symlink. The directory and
//! all in it belong to the user of this process, and nobody else may so much as look.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A file that is not there, or one that is not as this process would have made it.
pub(super) enum Fault {
    Missing,
    Rejected,
}

/// A file in the directory, as eviction sees it.
pub(super) struct Entry {
    pub(super) name: CString,
    pub(super) bytes: u64,
    /// When it was written, in seconds and nanoseconds since 1970-01-01 UTC.
    pub(super) modified: (i64, u64),
}

#[derive(Debug)]
pub(super) struct CacheDir {
    fd: OwnedFd,
}

impl CacheDir {
    /// Opens the directory, and makes it and its parents first if there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Whether the directory is this user's alone.
    pub(super) fn check(&self) -> Result<(), String> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| errno.to_string())?;
        if !is_ours(&stat) {
            return Err(format!(
                "belongs to user {}, not to user {}, whose process this is",
                stat.st_uid,
                rustix::process::geteuid().as_raw()
            ));
        }
        if mode(&stat) & 0o077 != 0 {
            return Err(format!(
                "has mode {:o} and lets others in: set it to 700",
                mode(&stat)
            ));
        }
        Ok(())
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Fault> {
        // Without blocking, since opening a fifo would wait for a writer.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Err(Fault::Missing),
            Err(_) => return Err(Fault::Rejected),
        };
        let stat = rustix::fs::fstat(&file).map_err(|_| Fault::Rejected)?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || !is_ours(&stat) || mode(&stat) != FILE_MODE || size > limit {
            return Err(Fault::Rejected);
        }
        // The file may grow meanwhile; a further byte tells, and is not kept room for.
        let mut bytes = Vec::with_capacity(size as usize + 1);
        file.take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(|_| Fault::Rejected)?;
        Ok(bytes)
    }

    /// Writes a file in one step, in the place of whatever has its name.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let temporary = self.write_temporary(parts)?;
        rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)
            .inspect_err(|_| self.forget(&temporary))?;
        Ok(())
    }

    /// [`CacheDir::write`], unless there is something of that name.
    pub(super) fn write_first(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let temporary = self.write_temporary(parts)?;
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.fd, &temporary, &self.fd, name, flags) {
            Ok(()) => Ok(()),
            Err(errno) => {
                self.forget(&temporary);
                Err(errno.into())
            }
        }
    }

    fn write_temporary(&self, parts: &[&[u8]]) -> io::Result<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let name = format!("{TEMPORARY}{}", hex(&random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let fd = rustix::fs::openat(&self.fd, &name, flags, mode)?;
        // The umask of the process may have taken bits away.
        let mut written = rustix::fs::fchmod(&fd, mode).map_err(io::Error::from);
        let mut file = File::from(fd);
        for part in parts {
            written = written.and_then(|()| file.write_all(part));
        }
        match written {
            Ok(()) => Ok(name),
            Err(error) => {
                self.forget(&name);
                Err(error)
            }
        }
    }

    fn forget(&self, name: &str) {
        // What cannot be removed is left to eviction.
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Removes a file; one that is gone already is none to complain about.
    pub(super) fn remove(&self, entry: &Entry) -> bool {
        rustix::fs::unlinkat(&self.fd, entry.name.as_c_str(), AtFlags::empty()).is_ok()
    }

    /// All files but the one called `except`, whatever they are.
    pub(super) fn entries(&self, except: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() == except.as_bytes() {
                continue;
            }
            // Another process may have removed it since.
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let Ok(stat) = rustix::fs::statat(&self.fd, name.as_c_str(), flags) else {
                continue;
            };
            entries.push(Entry {
                name,
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                modified: (stat.st_mtime, stat.st_mtime_nsec),
            });
        }
        Ok(entries)
    }
}

/// How the names of files begin that are being written.
const TEMPORARY: &str = "new-";

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

fn mode(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}
