//! What can go wrong.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use semver::Version;

use crate::digest::Digest;
use crate::index::IndexDefect;
use crate::key::KeyId;
use crate::name::PluginName;
use crate::refusal::Refusal;
use crate::version::VersionSelector;

/// Why the registry refused, or could not do, what was asked.
///
/// Absence, damage and distrust are different variants, since a caller reacts
/// to each differently.
///
/// ```
/// use vortex_registry::{Policy, Registry, RegistryError};
///
/// # let store = tempfile::tempdir()?;
/// let registry = Registry::open(store.path(), Policy::default())?;
/// let error = registry.get_latest(&"missing".parse()?).unwrap_err();
/// assert!(matches!(error, RegistryError::NotFound { .. }));
/// assert_eq!(error.to_string(), "plugin missing latest is not installed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The text breaks the rule for names, see [`PluginName`].
    #[error(
        "invalid plugin name {name:?}: use lower-case words of letters and digits joined by `-`, starting with a letter, at most 64 bytes, no device name of Windows"
    )]
    InvalidName {
        /// The text, shortened.
        name: String,
    },

    /// The text is no version (SemVer 2.0.0), or too long.
    #[error(
        "invalid version {version:?}: use major.minor.patch as in SemVer 2.0.0, at most 128 bytes"
    )]
    InvalidVersion {
        /// The text, shortened.
        version: String,
    },

    /// The text selects no version, see [`VersionSelector`].
    #[error(
        "invalid version selector {selector:?}: use `latest`, a full version such as 1.2.3, or a requirement with an operator such as ^1.2"
    )]
    InvalidSelector {
        /// The text, shortened.
        selector: String,
    },

    /// The text is no pattern of names, see [`NamePattern`](crate::NamePattern).
    #[error(
        "invalid name pattern {pattern:?}: use a plugin name, or its letters, digits and `-` with `*` for any of them, at most 64 bytes"
    )]
    InvalidPattern {
        /// The text, shortened.
        pattern: String,
    },

    /// The policy file cannot be read, or asks for what cannot be.
    #[error("{origin} is unusable: {reason}")]
    InvalidPolicy {
        /// Where the policy came from.
        origin: String,
        /// What is wrong, and in which field, key or rule.
        reason: String,
    },

    /// It is no software bill of materials that can be recognised.
    #[error("{origin} is no usable SBOM: {reason}")]
    InvalidSbom {
        /// Where the bill came from.
        origin: String,
        /// What is wrong.
        reason: String,
    },

    /// The text is no digest or key id.
    #[error("invalid digest {text:?}: use 64 lower-case hexadecimal digits")]
    InvalidDigest {
        /// The text, shortened.
        text: String,
    },

    /// The key is malformed, of another algorithm, weak or not canonical.
    #[error("{origin} holds no usable ed25519 key: {reason}")]
    InvalidKey {
        /// Where the key came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Others than the owner can read the private key.
    #[error("private key {} can be read by others (mode {mode:04o}): run chmod 600 on it", path.display())]
    KeyFilePermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// A plugin cannot be signed without a key, or by more than fit an envelope.
    #[error("{count} signing keys given: use between 1 and {limit}")]
    SignerCount {
        /// The number of keys given.
        count: usize,
        /// The most an envelope holds.
        limit: usize,
    },

    /// No such plugin version is in the store.
    #[error("plugin {name} {version} is not installed")]
    NotFound {
        /// The plugin asked for.
        name: PluginName,
        /// The version asked for.
        version: VersionSelector,
    },

    /// The plugin version is damaged or was tampered with.
    #[error("plugin {name} {version} is corrupt: {defect}")]
    Corrupt {
        /// The plugin.
        name: PluginName,
        /// The version, or what was asked for where none could be chosen.
        version: VersionSelector,
        /// What is wrong with it.
        defect: Box<Defect>,
    },

    /// The plugin version carries no signature, and the policy is strict.
    #[error("plugin {name} {version} is unsigned: have it signed by a trusted key")]
    Unsigned {
        /// The plugin.
        name: PluginName,
        /// Its version.
        version: Version,
    },

    /// No trusted key has signed the plugin version, and the policy is strict.
    #[error(
        "plugin {name} {version} is signed by no trusted key, only by {}: trust that key or have it signed by a trusted one",
        join(key_ids)
    )]
    UntrustedKey {
        /// The plugin.
        name: PluginName,
        /// Its version.
        version: Version,
        /// The keys that claim to have signed it.
        key_ids: BTreeSet<KeyId>,
    },

    /// A rule of the policy or the fleet index refuses the plugin version.
    #[error("plugin {name} {version} is refused: {refusal}")]
    Refused {
        /// The plugin.
        name: PluginName,
        /// Its version.
        version: Version,
        /// Which rule.
        refusal: Box<Refusal>,
    },

    /// The fleet index is refused, or nothing may run for want of a good one.
    #[error("the fleet index is unusable: {defect}")]
    Index {
        /// What is wrong with it.
        defect: Box<IndexDefect>,
    },

    /// Unverified plugins were asked for, and the policy is strict.
    #[error(
        "plugin {name} {version} was asked for without verification: only a permissive policy allows that"
    )]
    PolicyForbids {
        /// The plugin asked for.
        name: PluginName,
        /// The version asked for.
        version: VersionSelector,
    },

    /// The version is installed already, with other contents.
    #[error(
        "plugin {name} {version} is installed with other contents: versions never change, so publish a new one or remove this one"
    )]
    Conflict {
        /// The plugin.
        name: PluginName,
        /// Its version.
        version: Version,
    },

    /// A version that differs in build metadata alone is installed (SemVer 2.0.0 §10).
    #[error(
        "plugin {name} {version} has the same precedence as the installed {existing}: publish a higher version"
    )]
    EqualPrecedence {
        /// The plugin.
        name: PluginName,
        /// The version to be installed.
        version: Version,
        /// The version of equal precedence.
        existing: Version,
    },

    /// A directory holds more entries than [`Limits`](crate::Limits) allows.
    #[error("{} holds more than {limit} entries: remove some or raise `Limits::directory_entries`", path.display())]
    TooManyEntries {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },

    /// The store may not be written to.
    #[error("the plugin store is read-only: could not {action} {}", path.display())]
    ReadOnly {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },

    /// The file system of the store has no file locks, so nothing may be written.
    #[error("the file system of {} has no file locks, without which writers would undo each other's work: put the plugin store on one that has", path.display())]
    NoLocks {
        /// The store.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },

    /// The operating system failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },

    /// The operating system has no randomness to give.
    #[error("could not read randomness of the operating system")]
    Randomness {
        /// The answer of the operating system.
        source: io::Error,
    },

    /// A manifest, statement or envelope could not be written as JSON.
    #[error("could not write JSON")]
    Json {
        /// The answer of the serialiser.
        source: serde_json::Error,
    },
}

/// What is wrong with a plugin version that is [corrupt](RegistryError::Corrupt).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// A file of the version is missing.
    #[error("{file} is missing")]
    MissingFile {
        /// The file's name.
        file: String,
    },
    /// A symlink, fifo, device or the like lies where a file belongs.
    #[error("{file} is no regular file")]
    NotAFile {
        /// The file's name.
        file: String,
    },
    /// A symlink, file or the like lies where a directory belongs.
    #[error("{file} is no directory")]
    NotADirectory {
        /// The directory's name.
        file: String,
    },
    /// A file is larger than [`Limits`](crate::Limits) allows.
    #[error("{file} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file's name.
        file: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The manifest is no JSON of the known shape, or breaks a rule.
    #[error("the manifest cannot be read: {reason}")]
    Manifest {
        /// What the parser says.
        reason: String,
    },
    /// The manifest names another plugin or version than the place it lies in.
    #[error("the manifest says {found}")]
    Misplaced {
        /// Name and version in the manifest.
        found: String,
    },
    /// The module is not the one that the manifest describes.
    #[error("the wasm has the checksum {actual}, the manifest says {expected}")]
    Checksum {
        /// The checksum in the manifest.
        expected: Digest,
        /// The checksum of the module.
        actual: Digest,
    },
    /// The signature is no DSSE envelope of the known shape.
    #[error("the signature cannot be read: {reason}")]
    Envelope {
        /// What the parser says.
        reason: String,
    },
    /// A signature said to be by a trusted key is not.
    #[error("the signature by key {key_id} is wrong")]
    Signature {
        /// The key.
        key_id: KeyId,
    },
    /// The signed statement is no JSON of the known shape.
    #[error("the signed statement cannot be read: {reason}")]
    Statement {
        /// What the parser says.
        reason: String,
    },
    /// The signed statement speaks of another plugin.
    #[error("the signed statement says otherwise about {field}")]
    StatementMismatch {
        /// The field that differs.
        field: &'static str,
    },
}

impl RegistryError {
    /// A failure to read.
    pub(crate) fn read(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// A failure to write, which is [`ReadOnly`](Self::ReadOnly) when the
    /// operating system does not allow it at all.
    pub(crate) fn write(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly {
                action,
                path,
                source,
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    pub(crate) fn corrupt(
        name: &PluginName,
        version: impl Into<VersionSelector>,
        defect: Defect,
    ) -> Self {
        Self::Corrupt {
            name: name.clone(),
            version: version.into(),
            defect: Box::new(defect),
        }
    }

    pub(crate) fn not_found(name: &PluginName, version: impl Into<VersionSelector>) -> Self {
        Self::NotFound {
            name: name.clone(),
            version: version.into(),
        }
    }
}

impl From<IndexDefect> for RegistryError {
    fn from(defect: IndexDefect) -> Self {
        Self::Index {
            defect: Box::new(defect),
        }
    }
}

/// The beginning of a text that may be of any length, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn join(key_ids: &BTreeSet<KeyId>) -> String {
    let ids: Vec<_> = key_ids.iter().map(KeyId::to_string).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_a_read_only_store_and_nothing_else_is() {
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
            let error = RegistryError::write("create", Path::new("/store/x"), errno);
            assert!(matches!(error, RegistryError::ReadOnly { .. }), "{errno}");
            assert!(error.to_string().contains("/store/x"));
        }
        for errno in [Errno::NOSPC, Errno::IO, Errno::DQUOT] {
            let error = RegistryError::write("create", Path::new("/store/x"), errno);
            assert!(matches!(error, RegistryError::Io { .. }), "{errno}");
        }
    }

    #[test]
    fn messages_stay_short() {
        let error = "x".repeat(1 << 20).parse::<PluginName>().unwrap_err();
        assert!(error.to_string().len() < 400);
        assert_eq!(excerpt(&"é".repeat(81)).chars().count(), 81);
    }
}
