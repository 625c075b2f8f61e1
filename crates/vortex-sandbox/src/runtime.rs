//! Plugins by name.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::instance::watchdog::Watchdog;
use crate::{Plugin, RuntimeConfig, SandboxError};

/// Loads plugins, keeps them by name, and watches their calls.
///
/// Dropping it closes nothing: a plugin lives as long as a hook holds it, and the
/// watchdog as long as a plugin. [`Runtime::close`] ends them all.
///
/// ```
/// use vortex_sandbox::{Runtime, RuntimeConfig};
///
/// let runtime = Runtime::new(RuntimeConfig::default())?;
/// runtime.load("empty", b"\0asm\x01\0\0\0")?;
/// assert!(runtime.get("empty").is_some());
/// assert!(runtime.unload("empty"));
/// assert!(!runtime.unload("empty"));
/// # Ok::<(), vortex_sandbox::SandboxError>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    watchdog: Arc<Watchdog>,
    /// `None` once the runtime is closed.
    plugins: RwLock<Option<HashMap<String, Arc<Plugin>>>>,
}

impl Runtime {
    /// A runtime with the limits that its plugins get, and a watchdog thread.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Config`] for a limit out of its range,
    /// [`SandboxError::Watchdog`] when the thread cannot be started.
    pub fn new(config: RuntimeConfig) -> Result<Self, SandboxError> {
        config.check()?;
        Ok(Self {
            config,
            watchdog: Watchdog::start()?,
            plugins: RwLock::new(Some(HashMap::new())),
        })
    }

    /// The limits of plugins that are loaded without their own.
    #[must_use]
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// Compiles a module and keeps it under `name`, in place of what was there.
    ///
    /// A plugin that is replaced goes on working for those who hold it, and is
    /// freed with the last of them.
    ///
    /// # Errors
    ///
    /// Why the module was refused, or [`SandboxError::Unloaded`] once the runtime
    /// is closed. What was loaded under the name before stays.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<Arc<Plugin>, SandboxError> {
        self.load_with(name, wasm, &self.config)
    }

    /// [`Runtime::load`] with limits for this plugin alone.
    ///
    /// # Errors
    ///
    /// As [`Runtime::load`], and [`SandboxError::Config`].
    pub fn load_with(
        &self,
        name: &str,
        wasm: &[u8],
        config: &RuntimeConfig,
    ) -> Result<Arc<Plugin>, SandboxError> {
        let plugin = Arc::new(Plugin::compile(name, wasm, config, &self.watchdog)?);
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        let plugins = plugins.as_mut().ok_or_else(|| SandboxError::Unloaded {
            name: name.to_owned(),
        })?;
        plugins.insert(name.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    /// The plugin that is loaded under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Plugin>> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.as_ref()?.get(name).cloned()
    }

    /// Removes a plugin; returns whether it was there.
    ///
    /// Calls in flight finish. New ones, through hooks that still hold it, fail
    /// with [`SandboxError::Unloaded`].
    pub fn unload(&self, name: &str) -> bool {
        let plugin = self
            .plugins
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .and_then(|plugins| plugins.remove(name));
        if let Some(plugin) = &plugin {
            plugin.retire();
        }
        plugin.is_some()
    }

    /// Unloads every plugin and refuses to load more.
    pub fn close(&self) {
        let plugins = self
            .plugins
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for plugin in plugins.into_iter().flat_map(HashMap::into_values) {
            plugin.retire();
        }
    }
}
