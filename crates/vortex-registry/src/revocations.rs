//! What is no longer allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::key::KeyId;
use crate::name::PluginName;
use crate::version::parse_version;

/// What is no longer allowed, whoever has signed it.
///
/// A policy holds one of these and a fleet index another; both apply.
///
/// ```
/// use vortex_registry::{Revocations, Version};
///
/// let mut revoked = Revocations::default();
/// revoked.versions.insert("redirect@1.2.3".parse()?);
/// revoked.minimum_versions.insert("redirect".parse()?, Version::new(1, 2, 0));
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Keys whose signatures never count, whenever they were made.
    pub keys: BTreeSet<KeyId>,
    /// Modules that must not run, under whatever name.
    pub digests: BTreeSet<Digest>,
    /// Versions that must not run. Build metadata counts: `1.2.3+a` is not `1.2.3`.
    pub versions: BTreeSet<PluginVersion>,
    /// The lowest version of a plugin that may run, by precedence (SemVer 2.0.0 §11).
    pub minimum_versions: BTreeMap<PluginName, Version>,
}

/// One version of one plugin, as text `name@version`.
///
/// ```
/// use vortex_registry::{PluginVersion, Version};
///
/// let release: PluginVersion = "redirect@1.2.3".parse()?;
/// assert_eq!(release.version, Version::new(1, 2, 3));
/// assert_eq!(release.to_string(), "redirect@1.2.3");
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginVersion {
    /// The plugin.
    pub name: PluginName,
    /// Its version.
    pub version: Version,
}

impl FromStr for PluginVersion {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = text.split_once('@').unwrap_or((text, ""));
        Ok(Self {
            name: name.parse()?,
            version: parse_version(version)?,
        })
    }
}

impl TryFrom<String> for PluginVersion {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PluginVersion> for String {
    fn from(release: PluginVersion) -> Self {
        release.to_string()
    }
}

impl fmt::Display for PluginVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
