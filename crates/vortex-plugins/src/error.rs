//! What can go wrong between a store and a chain.

use vortex_registry::{PluginName, RegistryError, Version};
use vortex_sandbox::SandboxError;

use crate::PluginRef;

/// Why a plugin was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The store or the policy refuses it, or it is not there.
    #[error("cannot load plugin {reference}")]
    Registry {
        /// What was asked for.
        reference: Box<PluginRef>,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The store cannot be opened, or its fleet index not be used.
    #[error("cannot use the plugin store")]
    Store {
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The sandbox refuses its module.
    #[error("cannot run plugin {name} {version}")]
    Sandbox {
        /// Its name.
        name: PluginName,
        /// Its version.
        version: Box<Version>,
        /// Why.
        #[source]
        source: SandboxError,
    },
    /// The limits are not acceptable, or the runtime cannot start.
    #[error("cannot start the plugin runtime")]
    Runtime {
        /// Why.
        #[source]
        source: SandboxError,
    },
    /// The plugin's statement names an ABI that this host or its module does not speak.
    #[error(
        "plugin {name} {version} is made for ABI {abi}, which this host or its module does not speak (1 is JSON, 2 frames)"
    )]
    Abi {
        /// Its name.
        name: PluginName,
        /// Its version.
        version: Version,
        /// The ABI in its signed statement.
        abi: u32,
    },
    /// The plugin is for no hook type at all and would never run.
    #[error("plugin {name} {version} declares no hook types: it would never run")]
    NoHookTypes {
        /// Its name.
        name: PluginName,
        /// Its version.
        version: Version,
    },
}

impl HostError {
    /// Whether the plugin is just not installed, as opposed to damaged,
    /// distrusted or not runnable.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Registry {
                source: RegistryError::NotFound { .. },
                ..
            }
        )
    }
}
