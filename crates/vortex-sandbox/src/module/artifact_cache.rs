//! Compiled modules on disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::artifact::{Artifact, ArtifactName, Seal};
use super::cache_dir::{CacheDir, Fault, hex};
use super::code_limits::CodeLimits;
use super::toolchain;
use crate::{RuntimeConfig, SandboxError};

/// The file with the key of this host, 32 random bytes.
const KEY_FILE: &str = "key";
const KEY_LEN: usize = 32;

/// The largest artifact that is kept or read, in bytes.
const MAX_ARTIFACT: u64 = 256 << 20;

/// A directory of compiled modules, shared by any number of runtimes and processes
/// of one user.
///
/// What it holds is machine code, and to load that is to run it. So every entry
/// carries a MAC under a key that lies in the directory, made when that is first
/// opened and readable by its owner alone. An entry is found again only by the same
/// module, under limits that are the same as far as code or its acceptance depends
/// on them, by the same version of the sandbox, on a processor with the same
/// features. Whatever is wrong with an entry, it is as good as not there: the
/// module is compiled, and its entry written anew. Nothing that happens to the
/// directory makes a load fail.
///
/// Whoever can read the key or write to the memory of a process of this user can
/// make code that will be run. Keep the directory out of plugin stores, images and
/// backups.
///
/// ```
/// use vortex_sandbox::{ArtifactCache, Runtime, RuntimeConfig};
///
/// # let directory = tempfile::tempdir()?;
/// # let wasm = b"\0asm\x01\0\0\0";
/// let cache = ArtifactCache::open(directory.path().join("artifacts"))?;
/// let start = || {
///     let builder = Runtime::builder(RuntimeConfig::default());
///     builder.artifact_cache(cache.clone()).build()
/// };
/// let first = start()?;
/// first.load("plugin", wasm)?;
/// assert_eq!(first.compilations(), 1);
///
/// let second = start()?;
/// second.load("plugin", wasm)?;
/// assert_eq!(second.compilations(), 0);
/// assert_eq!(cache.stats().hits, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ArtifactCache {
    shared: Arc<Shared>,
    max_bytes: u64,
}

struct Shared {
    path: PathBuf,
    dir: CacheDir,
    seal: Seal,
    /// Makes names, so that they say nothing about modules to who lists them.
    naming_key: [u8; 32],
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    stored: AtomicU64,
}

/// What an [`ArtifactCache`] has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries that were there and passed their checks.
    pub hits: u64,
    /// Modules that were not found, rejected entries included.
    pub misses: u64,
    /// Entries that were there and failed a check: damaged, forged, of a wrong mode.
    pub rejected: u64,
    /// Entries written.
    pub stored: u64,
}

impl ArtifactCache {
    /// How many bytes of entries a cache keeps, unless told otherwise: 512 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 512 << 20;

    /// Opens the cache in this directory, which is made if there is none.
    ///
    /// # Errors
    ///
    /// [`SandboxError::ArtifactCache`] when the directory cannot be made or opened,
    /// belongs to another user or lets others in, or the key cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, SandboxError> {
        let path = directory.into();
        let (dir, key) = open(&path).map_err(|reason| SandboxError::ArtifactCache {
            path: path.clone(),
            reason,
        })?;
        let derive = |purpose| blake3::derive_key(purpose, &key);
        let shared = Shared {
            path,
            dir,
            seal: Seal::new(derive("vortex-sandbox 2026-11 artifact cache: seal")),
            naming_key: derive("vortex-sandbox 2026-11 artifact cache: name"),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
            max_bytes: Self::DEFAULT_MAX_BYTES,
        })
    }

    /// Keeps no more than so many bytes of entries; those written first go first.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Counters, each read on its own; clones of a cache share them.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: get(&self.shared.hits),
            misses: get(&self.shared.misses),
            rejected: get(&self.shared.rejected),
            stored: get(&self.shared.stored),
        }
    }

    /// The name of what becomes of the module with this SHA-256 digest.
    pub(super) fn name(&self, digest: &[u8; 32], config: &RuntimeConfig) -> ArtifactName {
        let key = &self.shared.naming_key;
        name_of(key, toolchain::id(), CodeLimits::from(config), digest)
    }

    /// The artifact of this name, if it is there and nothing is wrong with it.
    pub(super) fn get(&self, name: &ArtifactName) -> Option<Artifact> {
        let found = self.find(name);
        if matches!(found, Err(Fault::Rejected)) {
            count(&self.shared.rejected);
        }
        count(match found {
            Ok(_) => &self.shared.hits,
            Err(_) => &self.shared.misses,
        });
        found.ok()
    }

    fn find(&self, name: &ArtifactName) -> Result<Artifact, Fault> {
        let Shared { dir, seal, .. } = &*self.shared;
        dir.check().map_err(|_| Fault::Rejected)?;
        let limit = MAX_ARTIFACT + Seal::HEADER as u64;
        // What is opened is what has been read, whatever becomes of the file.
        let sealed = Bytes::from(dir.read(&hex(name), limit)?);
        seal.open(name, sealed).ok_or(Fault::Rejected)
    }

    /// Keeps an artifact under this name, if that can be done.
    pub(super) fn put(&self, name: &ArtifactName, artifact: &[u8]) {
        let Shared { dir, seal, .. } = &*self.shared;
        let size = artifact.len() as u64;
        if size > MAX_ARTIFACT.min(self.max_bytes) || dir.check().is_err() {
            return;
        }
        let header = seal.header(name, artifact);
        if dir.write(&hex(name), &[&header, artifact]).is_ok() {
            count(&self.shared.stored);
        }
        self.evict();
    }

    /// Removes the oldest files until the others fit.
    fn evict(&self) {
        let Ok(mut entries) = self.shared.dir.entries(KEY_FILE) else {
            return;
        };
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        entries.sort_by_key(|entry| entry.modified);
        for entry in entries {
            if bytes <= self.max_bytes {
                break;
            }
            if self.shared.dir.remove(&entry) {
                bytes -= entry.bytes;
            }
        }
    }
}

impl fmt::Debug for ArtifactCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactCache")
            .field("path", &self.shared.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A name that is another one when anything is another that code depends on. All
/// parts have fixed lengths, so that none can pass for another.
fn name_of(
    key: &[u8; 32],
    toolchain: &[u8; 32],
    limits: CodeLimits,
    digest: &[u8; 32],
) -> ArtifactName {
    let mut name = blake3::Hasher::new_keyed(key);
    name.update(toolchain)
        .update(&limits.to_bytes())
        .update(digest);
    *name.finalize().as_bytes()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn open(path: &Path) -> Result<(CacheDir, [u8; KEY_LEN]), String> {
    let dir = CacheDir::open(path).map_err(|error| format!("cannot be opened or made: {error}"))?;
    dir.check()?;
    let key = host_key(&dir)?;
    Ok((dir, key))
}

/// The key in the directory, made first if there is none. One that others can
/// read, or that is no key at all, is replaced: what it has sealed proves nothing.
fn host_key(dir: &CacheDir) -> Result<[u8; KEY_LEN], String> {
    let cannot = |what: &str, error: &dyn fmt::Display| {
        format!("has no key, and to {what} it failed: {error}")
    };
    let read = || match dir.read(KEY_FILE, KEY_LEN as u64) {
        Ok(bytes) => bytes.try_into().map_err(|_| Fault::Rejected),
        Err(fault) => Err(fault),
    };
    let found = read();
    if let Ok(key) = found {
        return Ok(key);
    }
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key).map_err(|error| cannot("make", &error))?;
    let written = match found {
        // Of several processes that come here at once, one is the first.
        Err(Fault::Missing) => dir.write_first(KEY_FILE, &[&key]),
        _ => dir.write(KEY_FILE, &[&key]),
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(cannot("write", &error))
        }
        _ => read().map_err(|_| cannot("read", &"it has been tampered with while it was made")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_everything_that_code_depends_on() {
        let limits = CodeLimits::from(&RuntimeConfig::default());
        let name = name_of(&[1; 32], &[2; 32], limits, &[3; 32]);
        for bit in 0..8 * CodeLimits::BYTES {
            let mut other = limits.to_bytes();
            other[bit / 8] ^= 1 << (bit % 8);
            let other = CodeLimits::from_bytes(&other);
            assert_ne!(name_of(&[1; 32], &[2; 32], other, &[3; 32]), name);
        }
        for bit in 0..256 {
            let flipped = |byte| {
                let mut bytes = [byte; 32];
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert_ne!(name_of(&flipped(1), &[2; 32], limits, &[3; 32]), name);
            assert_ne!(name_of(&[1; 32], &flipped(2), limits, &[3; 32]), name);
            assert_ne!(name_of(&[1; 32], &[2; 32], limits, &flipped(3)), name);
        }
    }
}
