//! Plugins by name.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use crate::instance::watchdog::Watchdog;
use crate::module::compile::Compiled;
use crate::module::loader::Loader;
use crate::{ArtifactCache, CompilerProcess, Plugin, RuntimeConfig, SandboxError};

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
    config: Arc<RuntimeConfig>,
    loader: Loader,
    watchdog: Arc<Watchdog>,
    /// `None` once the runtime is closed.
    plugins: RwLock<Option<HashMap<String, Arc<Plugin>>>>,
}

impl Runtime {
    /// A runtime with the limits that its plugins get, and a watchdog thread. It
    /// compiles in this process and keeps no artifacts; see [`Runtime::builder`].
    ///
    /// # Errors
    ///
    /// [`SandboxError::Config`] for a limit out of its range,
    /// [`SandboxError::Watchdog`] when the thread cannot be started.
    pub fn new(config: RuntimeConfig) -> Result<Self, SandboxError> {
        Self::builder(config).build()
    }

    /// A runtime with these limits, of which more is to be said.
    #[must_use]
    pub fn builder(config: RuntimeConfig) -> RuntimeBuilder {
        RuntimeBuilder {
            config,
            cache: None,
            compiler: None,
        }
    }

    /// What it compiles in, if that is a process of its own.
    #[must_use]
    pub fn compiler_process(&self) -> Option<&CompilerProcess> {
        self.loader.compiler()
    }

    /// How many modules it has given to a compiler, whatever came of it. Those that
    /// came from the artifact cache are not among them.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.loader.compilations()
    }

    /// The limits of plugins that are loaded without their own.
    #[must_use]
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// Compiles a module and keeps it under `name`, in place of what was there.
    ///
    /// A plugin that is replaced goes on working for those who hold it, and is
    /// freed with the last of them. A module that is loaded already under the same
    /// limits, by whatever name, is not compiled again: the plugins share its code.
    ///
    /// # Errors
    ///
    /// Why the module was refused, or [`SandboxError::Unloaded`] once the runtime
    /// is closed. What was loaded under the name before stays.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<Arc<Plugin>, SandboxError> {
        self.keep(name, wasm, Sha256::digest(wasm).into(), &self.config)
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
        self.load_with_digest(name, wasm, Sha256::digest(wasm).into(), config)
    }

    /// [`Runtime::load_with`] for a module whose SHA-256 digest is known, since a
    /// registry, say, has just computed it over these same bytes. It is not computed
    /// again: under a wrong digest the plugin gets the code of another module, which
    /// this runtime runs already or the artifact cache returns, and the cache may keep
    /// what is wrong.
    ///
    /// # Errors
    ///
    /// As [`Runtime::load_with`].
    pub fn load_with_digest(
        &self,
        name: &str,
        wasm: &[u8],
        digest: [u8; 32],
        config: &RuntimeConfig,
    ) -> Result<Arc<Plugin>, SandboxError> {
        config.check()?;
        let config = if *config == *self.config {
            Arc::clone(&self.config)
        } else {
            Arc::new(config.clone())
        };
        self.keep(name, wasm, digest, &config)
    }

    fn keep(
        &self,
        name: &str,
        wasm: &[u8],
        digest: [u8; 32],
        config: &Arc<RuntimeConfig>,
    ) -> Result<Arc<Plugin>, SandboxError> {
        let code = match self.code_of(&digest, config) {
            Some(code) => code,
            None => Arc::new(self.loader.load(wasm, &digest, config)?),
        };
        let plugin = Arc::new(Plugin::new(name, digest, code, &self.watchdog));
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        let plugins = plugins.as_mut().ok_or_else(|| SandboxError::Unloaded {
            name: name.to_owned(),
        })?;
        plugins.insert(name.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    /// The code of a module that is loaded under the same limits, by whatever name:
    /// plugins share it, and nothing of what their instances remember.
    fn code_of(&self, digest: &[u8; 32], config: &RuntimeConfig) -> Option<Arc<Compiled>> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        let mut plugins = plugins.as_ref()?.values();
        plugins.find_map(|plugin| plugin.code_of(digest, config))
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

/// A [`Runtime`] before it starts.
///
/// ```
/// use vortex_sandbox::{ArtifactCache, CompilerProcess, Runtime, RuntimeConfig};
///
/// # let directory = tempfile::tempdir()?;
/// let runtime = Runtime::builder(RuntimeConfig::default())
///     .artifact_cache(ArtifactCache::open(directory.path().join("artifacts"))?)
///     .compiler_process(CompilerProcess::find())
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    config: RuntimeConfig,
    cache: Option<ArtifactCache>,
    compiler: Option<CompilerProcess>,
}

impl RuntimeBuilder {
    /// Keeps what is compiled, and compiles no module again that is there.
    #[must_use]
    pub fn artifact_cache(self, cache: impl Into<Option<ArtifactCache>>) -> Self {
        let cache = cache.into();
        Self { cache, ..self }
    }

    /// Compiles in a process that can be killed; without one, in this process, where
    /// only the structural caps bound what a compilation takes.
    #[must_use]
    pub fn compiler_process(self, compiler: impl Into<Option<CompilerProcess>>) -> Self {
        let compiler = compiler.into();
        Self { compiler, ..self }
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// As [`Runtime::new`].
    pub fn build(self) -> Result<Runtime, SandboxError> {
        self.config.check()?;
        Ok(Runtime {
            config: Arc::new(self.config),
            loader: Loader::new(self.cache, self.compiler),
            watchdog: Watchdog::start()?,
            plugins: RwLock::new(Some(HashMap::new())),
        })
    }
}
