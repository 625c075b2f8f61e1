//! Where things lie in a store, and the only place where a path is built.
//!
//! ```text
//! <store>/.lock                               held by whoever writes
//! <store>/.staging/<random>/                  not yet published, or removed already
//! <store>/.downloads/<digest>                 a module that is being downloaded
//! <store>/.index.json                         the fleet index, signed
//! <store>/.index.seen                         the number and digest of the highest one
//! <store>/<name>/<version>/plugin.wasm        the module
//! <store>/<name>/<version>/manifest.json      what it says about itself
//! ```
//!
//! A component is made from a [`PluginName`] or a [`Version`], whose characters
//! leave no way out of a directory, and is opened relative to a directory handle.

use std::ffi::CStr;

use semver::Version;

use crate::error::{RegistryError, excerpt};
use crate::name::PluginName;
use crate::version::{MAX_VERSION_LEN, parse_version};

/// No plugin name begins with a dot, so none of the first five can be one.
pub(crate) const LOCK: &str = ".lock";
pub(crate) const STAGING: &str = ".staging";
/// Belongs to those who fetch versions from elsewhere; nothing here reads it.
pub(crate) const DOWNLOADS: &str = ".downloads";
pub(crate) const INDEX: &str = ".index.json";
pub(crate) const INDEX_SEEN: &str = ".index.seen";
pub(crate) const WASM: &str = "plugin.wasm";
pub(crate) const MANIFEST: &str = "manifest.json";

/// The directory of a plugin.
pub(crate) fn plugin_dir(name: &PluginName) -> &str {
    name.as_str()
}

/// The directory of a version.
pub(crate) fn version_dir(version: &Version) -> Result<String, RegistryError> {
    // A version built from its parts has not passed the parser and its bound.
    let text = version.to_string();
    if text.len() > MAX_VERSION_LEN {
        return Err(RegistryError::InvalidVersion {
            version: excerpt(&text),
        });
    }
    Ok(text)
}

/// A file or directory of staging that nobody else uses.
pub(crate) fn staged_dir() -> Result<String, RegistryError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| RegistryError::Randomness {
        source: error.into(),
    })?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// Whether an entry of the store is the registry's own.
pub(crate) fn is_internal(entry: &CStr) -> bool {
    [LOCK, STAGING, DOWNLOADS, INDEX, INDEX_SEEN]
        .map(str::as_bytes)
        .contains(&entry.to_bytes())
}

/// The plugin that an entry of the store belongs to, if any.
pub(crate) fn plugin_of(entry: &CStr) -> Option<PluginName> {
    entry.to_str().ok()?.parse().ok()
}

/// The version that an entry of a plugin's directory belongs to, if any.
pub(crate) fn version_of(entry: &CStr) -> Option<Version> {
    parse_version(entry.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_built_from_parts_are_bounded() {
        let mut version = Version::new(1, 0, 0);
        version.pre = semver::Prerelease::new(&"a".repeat(122)).unwrap();
        assert_eq!(version_dir(&version).unwrap().len(), MAX_VERSION_LEN);
        version.pre = semver::Prerelease::new(&"a".repeat(123)).unwrap();
        assert!(version_dir(&version).is_err());
    }

    #[test]
    fn staged_directories_are_distinct() {
        let (a, b) = (staged_dir().unwrap(), staged_dir().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
    }
}
