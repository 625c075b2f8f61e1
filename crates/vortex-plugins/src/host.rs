//! Store, sandbox and chains in one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vortex_hook_core::{ChainOrder, HookChain, HookType, Registration, RegistrationId};
use vortex_registry::{
    Digest, Loaded, Mode, MustStop, PluginManifest, PluginName, Policy, Registry, RegistryError,
    Trust, Version,
};
use vortex_sandbox::{CompilerProcess, Runtime, RuntimeConfig, WasmHook};

use crate::{HostError, PluginRef, PluginSpec};

/// The ABI of plugins that do not say which they are made for.
const ABI: u32 = 1;
/// The ABIs that the sandbox speaks: JSON and frames.
const ABIS: [u32; 2] = [1, 2];

/// Loads plugins from a store and keeps them running in chains.
///
/// Every load verifies the plugin anew under the store's policy. A module that is
/// loaded already is not compiled again.
#[derive(Debug)]
pub struct PluginHost {
    registry: Registry,
    runtime: Runtime,
    /// Where this host has put plugins, to replace them there.
    placements: Mutex<Vec<Placement>>,
}

/// A plugin that is verified, compiled and ready to run.
#[derive(Clone, Debug)]
pub struct LoadedPlugin {
    name: PluginName,
    version: Version,
    hook_types: Vec<HookType>,
    digest: Digest,
    hook: WasmHook,
    /// What a later revocation is held against.
    loaded: Loaded,
}

impl LoadedPlugin {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// When it runs, as its manifest says.
    #[must_use]
    pub fn hook_types(&self) -> &[HookType] {
        &self.hook_types
    }

    /// The digest of its module.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The hook, to call it by itself or to register it by hand.
    #[must_use]
    pub fn hook(&self) -> &WasmHook {
        &self.hook
    }

    fn registration(&self, spec: &PluginSpec) -> Registration {
        Registration::new(
            self.name.as_str(),
            self.hook_types.iter().copied(),
            self.hook.clone(),
        )
        .with_priority(spec.priority)
        .on_error(spec.on_error)
    }
}

/// A plugin as the registry has verified it, and the ABI in its signed statement;
/// an unsigned plugin can only be one of ABI 1.
type Read = (PluginManifest, Vec<u8>, Loaded, u32);

#[derive(Debug)]
struct Placement {
    chain: Weak<HookChain>,
    id: RegistrationId,
    spec: PluginSpec,
    plugin: LoadedPlugin,
}

impl PluginHost {
    /// Opens a store under a policy, with the default limits.
    ///
    /// # Errors
    ///
    /// [`HostError::Store`] when the store cannot be opened,
    /// [`HostError::Runtime`] when the runtime cannot start.
    pub fn open(store: impl Into<PathBuf>, policy: Policy) -> Result<Self, HostError> {
        let registry =
            Registry::open(store, policy).map_err(|source| HostError::Store { source })?;
        Self::new(registry, RuntimeConfig::default())
    }

    /// A host of its own making: a registry with other limits, other budgets.
    ///
    /// Plugins are compiled in a process that can be killed where [`CompilerProcess::find`]
    /// finds its program, and in this process where it does not.
    ///
    /// # Errors
    ///
    /// [`HostError::Runtime`] when a limit is out of its range or the runtime cannot start.
    pub fn new(registry: Registry, config: RuntimeConfig) -> Result<Self, HostError> {
        let runtime = Runtime::builder(config)
            .compiler_process(CompilerProcess::find())
            .build()
            .map_err(|source| HostError::Runtime { source })?;
        Ok(Self::with_runtime(registry, runtime))
    }

    /// A host with a runtime of its own: one with an artifact cache, one that
    /// compiles elsewhere or always in this process.
    ///
    /// ```
    /// use vortex_plugins::sandbox::{ArtifactCache, CompilerProcess, Runtime};
    /// use vortex_plugins::{Policy, PluginHost, RuntimeConfig, registry::Registry};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let (store, cache) = (directory.path().join("plugins"), directory.path().join("cache"));
    /// let runtime = Runtime::builder(RuntimeConfig::default())
    ///     .artifact_cache(ArtifactCache::open(cache)?)
    ///     .compiler_process(CompilerProcess::find())
    ///     .build()?;
    /// let host = PluginHost::with_runtime(Registry::open(store, Policy::default())?, runtime);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_runtime(registry: Registry, runtime: Runtime) -> Self {
        Self {
            registry,
            runtime,
            placements: Mutex::default(),
        }
    }

    /// The store.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The sandbox.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Loads a plugin: finds the version, verifies it, compiles it, makes its first instance.
    ///
    /// # Errors
    ///
    /// [`HostError`]; [`HostError::is_missing`] tells whether it is just not installed.
    pub fn load(&self, reference: &PluginRef) -> Result<LoadedPlugin, HostError> {
        self.load_with(reference, self.runtime.config())
    }

    fn load_with(
        &self,
        reference: &PluginRef,
        config: &RuntimeConfig,
    ) -> Result<LoadedPlugin, HostError> {
        self.start(&self.read(reference)?, config)
    }

    /// Compiles what was read, unless it runs already, and makes its first instance.
    fn start(
        &self,
        (manifest, wasm, loaded, abi): &Read,
        config: &RuntimeConfig,
    ) -> Result<LoadedPlugin, HostError> {
        let digest = manifest.checksum;
        let PluginManifest {
            name,
            version,
            hook_types,
            ..
        } = manifest.clone();
        let wrong_abi = HostError::Abi {
            name: name.clone(),
            version: version.clone(),
            abi: *abi,
        };
        if !ABIS.contains(abi) {
            return Err(wrong_abi);
        }
        if hook_types.is_empty() {
            return Err(HostError::NoHookTypes { name, version });
        }
        let running = self
            .runtime
            .get(name.as_str())
            .filter(|p| p.digest() == *digest.as_bytes() && p.config() == config);
        let plugin = match running {
            Some(plugin) => Ok(plugin),
            // The registry has compared this digest with the module's own.
            None => self
                .runtime
                .load_with_digest(name.as_str(), wasm, *digest.as_bytes(), config),
        };
        if let Ok(plugin) = &plugin
            && plugin.abi().is_some_and(|spoken| spoken < *abi)
        {
            return Err(wrong_abi);
        }
        match plugin.and_then(WasmHook::new) {
            Ok(hook) => Ok(LoadedPlugin {
                name,
                version,
                hook_types,
                digest,
                hook,
                loaded: loaded.clone(),
            }),
            Err(source) => Err(HostError::Sandbox {
                name,
                version: Box::new(version),
                source,
            }),
        }
    }

    /// What the registry returns under its policy.
    fn read(&self, reference: &PluginRef) -> Result<Read, HostError> {
        let fail = |source: RegistryError| HostError::Registry {
            reference: Box::new(reference.clone()),
            source,
        };
        let (name, version) = (reference.name(), reference.version());
        match self.registry.policy().mode() {
            Mode::Strict => {
                let plugin = self.registry.get(name, version).map_err(fail)?;
                let abi = plugin.statement().release().abi;
                let (manifest, loaded) = (plugin.manifest().clone(), plugin.loaded());
                Ok((manifest, plugin.into_wasm(), loaded, abi))
            }
            Mode::Permissive => {
                let plugin = self.registry.get_permissive(name, version).map_err(fail)?;
                let abi = match plugin.trust() {
                    Trust::Signed { statement, .. } => statement.release().abi,
                    _ => {
                        tracing::warn!(plugin = %reference, "running a plugin that no trusted key has signed");
                        ABI
                    }
                };
                let (manifest, loaded) = (plugin.manifest().clone(), plugin.loaded());
                Ok((manifest, plugin.into_wasm(), loaded, abi))
            }
        }
    }

    /// Makes a chain of plugins. Native hooks can be registered in it too.
    ///
    /// # Errors
    ///
    /// [`HostError`] for the first plugin that cannot be loaded, unless it is
    /// missing and its spec lets it be.
    pub fn chain(
        &self,
        order: ChainOrder,
        specs: impl IntoIterator<Item = PluginSpec>,
    ) -> Result<Arc<HookChain>, HostError> {
        let chain = Arc::new(HookChain::new(order));
        for spec in specs {
            self.add(&chain, spec)?;
        }
        Ok(chain)
    }

    /// Loads a plugin and registers it in a chain; `None` when it is missing and
    /// the spec lets it be.
    ///
    /// # Errors
    ///
    /// As [`PluginHost::load`], but for a plugin that may be missing.
    pub fn add(
        &self,
        chain: &Arc<HookChain>,
        spec: PluginSpec,
    ) -> Result<Option<RegistrationId>, HostError> {
        let config = spec.config.as_ref().unwrap_or(self.runtime.config());
        // Held from the load on: a plugin that is removed in between would be
        // registered unloaded, and one that is replaced in its old version.
        let mut placements = self.placements();
        let plugin = match self.load_with(&spec.reference, config) {
            Ok(plugin) => plugin,
            Err(error) if error.is_missing() && spec.skip_if_missing => {
                tracing::warn!(plugin = %spec.reference, "plugin is not installed and is left out");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        placements.retain(|placement| placement.chain.strong_count() > 0);
        let id = chain.register(plugin.registration(&spec));
        placements.push(Placement {
            chain: Arc::downgrade(chain),
            id,
            spec,
            plugin,
        });
        Ok(Some(id))
    }

    /// Puts another version of a plugin in the place of the one that runs, in
    /// every chain of this host. Returns in how many places.
    ///
    /// Requests in flight finish with the old version, which is freed then; no
    /// request is refused in between. Priority, error policy and limits stay.
    ///
    /// # Errors
    ///
    /// As [`PluginHost::load`]. The old version goes on running everywhere.
    pub fn replace(&self, reference: &PluginRef) -> Result<usize, HostError> {
        let mut placements = self.placements();
        placements.retain(|placement| placement.chain.strong_count() > 0);
        let places: Vec<_> = placements
            .iter_mut()
            .filter(|p| p.spec.reference.name() == reference.name())
            .collect();
        if places.is_empty() {
            return Ok(0);
        }
        // It is read once, so that every place gets the same version, and
        // everything is loaded before anything is replaced.
        let read = self.read(reference)?;
        let mut replacements = Vec::new();
        for placement in places {
            let config = placement.spec.config.as_ref();
            let plugin = self.start(&read, config.unwrap_or(self.runtime.config()))?;
            replacements.push((placement, plugin));
        }
        let mut replaced = 0;
        for (placement, plugin) in replacements {
            placement.spec.reference = reference.clone();
            let registration = plugin.registration(&placement.spec);
            if let Some(chain) = placement.chain.upgrade() {
                replaced += usize::from(chain.replace(placement.id, registration));
            }
            placement.plugin = plugin;
        }
        Ok(replaced)
    }

    /// Takes a plugin out of every chain of this host and unloads it. Returns
    /// whether it was there.
    ///
    /// Runs in flight that have not reached it yet fail there, as after any error of a hook.
    pub fn remove(&self, name: &PluginName) -> bool {
        let mut removed = false;
        let mut placements = self.placements();
        placements.retain(|placement| {
            if placement.spec.reference.name() != name {
                return true;
            }
            if let Some(chain) = placement.chain.upgrade() {
                removed |= chain.unregister(placement.id);
            }
            placement.plugin.hook.plugin().retire();
            false
        });
        // Still under the lock, or else it could unload what is being added.
        self.runtime.unload(name.as_str()) || removed
    }

    /// Stops the plugins that policy and fleet index no longer let run, and returns
    /// them with the reasons. Call it after each [`Registry::update_index`], and
    /// from time to time where another process updates it.
    ///
    /// A stopped plugin keeps its place in its chains and fails there, so that what
    /// it guarded stays guarded; [`PluginHost::replace`] puts a good version there,
    /// [`PluginHost::remove`] takes it out.
    ///
    /// # Errors
    ///
    /// [`HostError::Store`] when the fleet index cannot be read or trusted.
    pub fn stop_revoked(&self) -> Result<Vec<MustStop>, HostError> {
        let placements = self.placements();
        let loaded = placements.iter().map(|p| p.plugin.loaded.clone());
        let stops = self
            .registry
            .must_stop(loaded)
            .map_err(|source| HostError::Store { source })?;
        for placement in placements.iter() {
            let plugin = placement.plugin.hook.plugin();
            if stops
                .iter()
                .any(|stop| stop.plugin == placement.plugin.loaded)
            {
                // Or else a later load of the same module would find it here.
                if self
                    .runtime
                    .get(plugin.name())
                    .is_some_and(|p| Arc::ptr_eq(&p, plugin))
                {
                    self.runtime.unload(plugin.name());
                }
                plugin.retire();
            }
        }
        Ok(stops)
    }

    fn placements(&self) -> MutexGuard<'_, Vec<Placement>> {
        // What is done under this lock leaves the list sound at every step.
        self.placements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
