//! A loaded module.

mod usage;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use vortex_hook_core::{HookContext, HookInput, HookOutput};

pub use usage::Usage;

use crate::abi::json;
use crate::instance::guest::{CallFailure, Guest};
use crate::instance::pool::{Lease, Pool};
use crate::instance::watchdog::Watchdog;
use crate::module::compile::Compiled;
use crate::module::validate::require;
use crate::value::{self, Values};
use crate::{ExportType, RuntimeConfig, SandboxError};

/// A module that is compiled and may be called, from any thread and from many at once.
///
/// Each call runs on an instance of its own for its time; instances are kept for
/// later calls, so that what a guest remembers lives on in the instance.
pub struct Plugin {
    name: String,
    digest: [u8; 32],
    config: RuntimeConfig,
    exports: Vec<(String, ExportType)>,
    pool: Pool,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// What a plugin has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginStats {
    /// Hook calls, failed ones included.
    pub calls: u64,
    /// Hook calls that gave no output.
    pub failures: u64,
    /// Instances made.
    pub instances_created: u64,
    /// Instances thrown away: after a trap, an exhausted budget, a broken answer or too much memory.
    pub instances_discarded: u64,
    /// Instances that wait for a call now.
    pub instances_idle: usize,
}

impl Plugin {
    pub(crate) fn compile(
        name: &str,
        wasm: &[u8],
        config: &RuntimeConfig,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, SandboxError> {
        config.check()?;
        let compiled = Arc::new(Compiled::new(wasm, config)?);
        watchdog.serve(config);
        let exports = compiled.exports.clone();
        Ok(Self {
            name: name.to_owned(),
            digest: Sha256::digest(wasm).into(),
            config: config.clone(),
            exports,
            pool: Pool::new(name, compiled, Arc::clone(watchdog)),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// The name it was loaded under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 digest of the module's bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Its limits.
    #[must_use]
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// The CPU time that one call may use.
    #[must_use]
    pub fn max_cpu(&self) -> Duration {
        self.config.cpu_time
    }

    /// The module's exports with their types.
    pub fn exports(&self) -> impl Iterator<Item = (&str, &ExportType)> {
        self.exports.iter().map(|(name, ty)| (name.as_str(), ty))
    }

    /// Counters, each read on its own.
    #[must_use]
    pub fn stats(&self) -> PluginStats {
        PluginStats {
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            instances_created: self.pool.created.load(Ordering::Relaxed),
            instances_discarded: self.pool.discarded.load(Ordering::Relaxed),
            instances_idle: self.pool.idle(),
        }
    }

    /// A fresh instance for a test or a tool, to call any export of; no hook call
    /// ever sees it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Saturated`] when all instances are in use, or why none could be made.
    pub fn instance(&self) -> Result<PluginInstance<'_>, SandboxError> {
        Ok(PluginInstance {
            lease: self.pool.fresh()?,
            plugin: self,
        })
    }

    /// Makes an instance and keeps it for the first call.
    pub(crate) fn warm(&self) -> Result<(), SandboxError> {
        self.pool.warm()
    }

    /// Refuses calls from now on, with [`SandboxError::Unloaded`], and frees what
    /// those in flight do not use. There is no way back.
    pub fn retire(&self) {
        self.pool.close();
    }

    pub(crate) fn check_json_abi(&self) -> Result<(), SandboxError> {
        json::check_exports(&self.exports)
    }

    /// One hook call through the JSON ABI.
    pub(crate) async fn call_json(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Result<HookOutput, SandboxError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let result = match self.lease(cx).await {
            Ok(mut lease) => self.call_on(&mut lease, cx, input),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn lease(&self, cx: &HookContext) -> Result<Lease<'_>, SandboxError> {
        if cx.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        if cx.is_expired() {
            return Err(SandboxError::DeadlineExceeded);
        }
        self.pool.acquire(cx).await
    }

    fn call_on(
        &self,
        guest: &mut Guest,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Result<HookOutput, SandboxError> {
        let json = input.to_json();
        let answer = guest.on_budget(cx, |running| json::call(running, json, &self.config))?;
        HookOutput::from_json(&answer).map_err(|error| {
            guest.spoil();
            SandboxError::BadAnswer(error)
        })
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// One instance of a plugin, which counts as one of its instances until it is dropped.
///
/// ```
/// use vortex_sandbox::{Runtime, RuntimeConfig};
///
/// let runtime = Runtime::new(RuntimeConfig::default())?;
/// let wasm = wat::parse_str(
///     r#"(module (memory 1) (func (export "add") (param i32 i32) (result i32)
///          (i32.add (local.get 0) (local.get 1))))"#,
/// )?;
/// let plugin = runtime.load("adder", &wasm)?;
/// let sum: i32 = plugin.instance()?.call("add", (2, 40))?;
/// assert_eq!(sum, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PluginInstance<'p> {
    lease: Lease<'p>,
    plugin: &'p Plugin,
}

impl fmt::Debug for PluginInstance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginInstance")
            .field("plugin", &self.plugin.name)
            .finish_non_exhaustive()
    }
}

impl PluginInstance<'_> {
    /// Calls an exported function, on the budget of one hook call.
    ///
    /// # Errors
    ///
    /// [`SandboxError::MissingExport`] or [`SandboxError::MistypedExport`] when the
    /// module has no function of that name and type, or what ended the call.
    pub fn call<P: Values, R: Values>(
        &mut self,
        export: &str,
        params: P,
    ) -> Result<R, SandboxError> {
        let expected = ExportType::Function {
            params: value::names(P::TYPES),
            results: value::names(R::TYPES),
        };
        require(&self.plugin.exports, export, &expected)?;
        let params = value::to_wasmer(&params.into_values());
        let results = self.lease.on_budget(&HookContext::new(), |running| {
            Ok::<_, CallFailure>(running.guest.call_dynamic(export, &params)?)
        })?;
        R::from_values(&value::from_wasmer(&results)).ok_or_else(|| SandboxError::Trap {
            reason: format!("`{export}` returned values of other types than it declares"),
        })
    }

    /// Linear memory, in bytes.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.lease.memory_len()
    }

    /// Copies `len` bytes out of the exported memory; `None` when they are not all in it.
    #[must_use]
    pub fn read(&self, ptr: u32, len: u32) -> Option<Vec<u8>> {
        self.lease.read(ptr, len)
    }

    /// Copies bytes into the exported memory; `false`, and nothing copied, when they do not fit.
    pub fn write(&mut self, ptr: u32, bytes: &[u8]) -> bool {
        self.lease.write(ptr, bytes)
    }
}
