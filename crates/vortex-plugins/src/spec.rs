//! A plugin's place in a chain.

use std::str::FromStr;

use vortex_hook_core::FailPolicy;
use vortex_registry::RegistryError;
use vortex_sandbox::RuntimeConfig;

use crate::PluginRef;

/// Which plugin goes into a chain, and how.
///
/// ```
/// use vortex_plugins::{FailPolicy, PluginSpec};
///
/// let spec = PluginSpec::new("geo-tag@^2".parse()?)
///     .with_priority(10)
///     .on_error(FailPolicy::Skip)
///     .skip_if_missing();
/// assert_eq!(spec.reference().to_string(), "geo-tag@^2");
/// # Ok::<(), vortex_plugins::registry::RegistryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PluginSpec {
    pub(crate) reference: PluginRef,
    pub(crate) priority: i32,
    pub(crate) on_error: FailPolicy,
    pub(crate) skip_if_missing: bool,
    pub(crate) config: Option<RuntimeConfig>,
}

impl PluginSpec {
    /// A plugin with priority 0 that must be there and whose errors deny.
    #[must_use]
    pub fn new(reference: PluginRef) -> Self {
        Self {
            reference,
            priority: 0,
            on_error: FailPolicy::default(),
            skip_if_missing: false,
            config: None,
        }
    }

    /// Which plugin.
    #[must_use]
    pub fn reference(&self) -> &PluginRef {
        &self.reference
    }

    /// Sets its priority in a chain by priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets what an error of the plugin does: a trap, an exhausted budget, a broken answer.
    #[must_use]
    pub fn on_error(mut self, policy: FailPolicy) -> Self {
        self.on_error = policy;
        self
    }

    /// Leaves the plugin out when it is not installed. One that is installed but
    /// damaged, distrusted or not runnable is an error all the same.
    #[must_use]
    pub fn skip_if_missing(mut self) -> Self {
        self.skip_if_missing = true;
        self
    }

    /// Sets limits for this plugin in place of the host's.
    #[must_use]
    pub fn with_config(mut self, config: RuntimeConfig) -> Self {
        self.config = Some(config);
        self
    }
}

impl From<PluginRef> for PluginSpec {
    fn from(reference: PluginRef) -> Self {
        Self::new(reference)
    }
}

impl FromStr for PluginSpec {
    type Err = RegistryError;

    /// [`PluginSpec::new`] of a [`PluginRef`].
    fn from_str(text: &str) -> Result<Self, RegistryError> {
        text.parse().map(Self::new)
    }
}
