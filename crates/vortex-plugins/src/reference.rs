//! Which plugin, in which version.

use std::fmt;
use std::str::FromStr;

use vortex_registry::{PluginName, RegistryError, VersionSelector};

/// A plugin's name and what version of it: `name@requirement`.
///
/// ```
/// use vortex_plugins::PluginRef;
///
/// let reference: PluginRef = "api-key@^1.2".parse()?;
/// assert_eq!(reference.name().as_str(), "api-key");
/// let latest: PluginRef = "api-key".parse()?;
/// assert_eq!(latest.to_string(), "api-key@latest");
/// # Ok::<(), vortex_plugins::registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRef {
    name: PluginName,
    version: VersionSelector,
}

impl PluginRef {
    /// A reference from its parts.
    #[must_use]
    pub fn new(name: PluginName, version: VersionSelector) -> Self {
        Self { name, version }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// Which version.
    #[must_use]
    pub fn version(&self) -> &VersionSelector {
        &self.version
    }
}

impl FromStr for PluginRef {
    type Err = RegistryError;

    /// Reads `name`, which means the latest version, or `name@` followed by
    /// `latest`, a version or a requirement.
    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let (name, version) = text.split_once('@').unwrap_or((text, "latest"));
        Ok(Self::new(name.parse()?, version.parse()?))
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
