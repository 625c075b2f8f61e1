//! A loaded module.

mod usage;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use vortex_hook_core::{
    CancellationToken, FrameOutput, HookContext, HookInput, HookOutput, LogLevel, LogLine,
};

pub use usage::Usage;

use crate::abi::Abi;
use crate::instance::guest::{Exports, Guest};
use crate::instance::pool::{Lease, Pool};
use crate::instance::running::CallFailure;
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
    name: Arc<str>,
    digest: [u8; 32],
    config: Arc<RuntimeConfig>,
    exports: Arc<[(String, ExportType)]>,
    pool: Arc<Pool>,
    calls: AtomicU64,
    failures: AtomicU64,
    offloaded: AtomicU64,
    /// Moving average of the duration of calls, in microseconds.
    average_us: AtomicU64,
}

/// What a plugin has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginStats {
    /// Hook calls, failed ones included.
    pub calls: u64,
    /// Hook calls that gave no output.
    pub failures: u64,
    /// Hook calls that ran on a blocking thread, see [`RuntimeConfig::blocking_above`].
    pub offloaded: u64,
    /// Instances made.
    pub instances_created: u64,
    /// Instances thrown away: after a trap, an exhausted budget, a broken answer or too much memory.
    pub instances_discarded: u64,
    /// Instances dropped since no call had used them for [`RuntimeConfig::idle_timeout`].
    pub instances_trimmed: u64,
    /// Instances that wait for a call now.
    pub instances_idle: usize,
}

impl Plugin {
    pub(crate) fn new(
        name: &str,
        digest: [u8; 32],
        compiled: Arc<Compiled>,
        watchdog: &Arc<Watchdog>,
    ) -> Self {
        watchdog.serve(&compiled.config);
        let name: Arc<str> = name.into();
        Self {
            name: Arc::clone(&name),
            digest,
            config: Arc::clone(&compiled.config),
            exports: Arc::clone(&compiled.exports),
            pool: Pool::new(name, compiled, Arc::clone(watchdog)),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            offloaded: AtomicU64::new(0),
            average_us: AtomicU64::new(0),
        }
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

    /// The ABI that hook calls go through, 1 for JSON and 2 for frames; `None` when
    /// the module is no hook.
    #[must_use]
    pub fn abi(&self) -> Option<u32> {
        Abi::of(&self.exports).ok().map(|abi| match abi {
            Abi::Json => 1,
            Abi::Frame => 2,
        })
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
            offloaded: self.offloaded.load(Ordering::Relaxed),
            instances_created: self.pool.created.load(Ordering::Relaxed),
            instances_discarded: self.pool.discarded.load(Ordering::Relaxed),
            instances_trimmed: self.pool.trimmed.load(Ordering::Relaxed),
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

    /// Its code, if that is of this module under these limits, and in use.
    pub(crate) fn code_of(
        &self,
        digest: &[u8; 32],
        config: &RuntimeConfig,
    ) -> Option<Arc<Compiled>> {
        let is_same = self.digest == *digest && *self.config == *config;
        is_same.then(|| self.pool.code()).flatten()
    }

    /// Checks that the plugin speaks an ABI for hooks.
    pub(crate) fn check_abi(&self) -> Result<(), SandboxError> {
        Abi::of(&self.exports).map(drop)
    }

    /// Whether its calls belong on blocking threads.
    pub(crate) fn is_slow(&self) -> bool {
        let average = Duration::from_micros(self.average_us.load(Ordering::Relaxed));
        average > self.config.blocking_above
    }

    /// One hook call at once, or `None` when all instances are in use.
    #[inline]
    pub(crate) fn call_now(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
        plugin_config: &[u8],
    ) -> Option<Result<HookOutput, SandboxError>> {
        let lease = match check(cx) {
            Ok(()) => self.pool.try_acquire(cx)?,
            Err(error) => Err(error),
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        Some(self.counted(
            lease.and_then(|mut lease| self.call_on(&mut lease, cx, input, plugin_config)),
        ))
    }

    /// One hook call here, when an instance is to be had.
    pub(crate) async fn call(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
        plugin_config: &[u8],
    ) -> Result<HookOutput, SandboxError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let lease = match check(cx) {
            Ok(()) => Pool::acquire(&*self.pool, cx).await,
            Err(error) => Err(error),
        };
        self.counted(lease.and_then(|mut lease| self.call_on(&mut lease, cx, input, plugin_config)))
    }

    /// One hook call on a blocking thread, when an instance is to be had. Dropping
    /// the future stops the guest at its next safepoint.
    pub(crate) async fn call_on_blocking_thread(
        self: &Arc<Self>,
        threads: &Handle,
        cx: &HookContext,
        input: &HookInput<'_>,
        plugin_config: &Arc<[u8]>,
    ) -> Result<HookOutput, SandboxError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let lease = match check(cx) {
            Ok(()) => Pool::acquire(Arc::clone(&self.pool), cx).await,
            Err(error) => Err(error),
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(error) => return self.counted(Err(error)),
        };
        self.offloaded.fetch_add(1, Ordering::Relaxed);
        let token = cx
            .cancellation()
            .map_or_else(CancellationToken::new, CancellationToken::child_token);
        let _stop_when_dropped = token.clone().drop_guard();
        let (plugin, input) = (Arc::clone(self), input.clone().into_owned());
        let (cx, plugin_config) = (
            cx.clone().with_cancellation(token),
            Arc::clone(plugin_config),
        );
        let call = move || plugin.counted(plugin.call_on(&mut lease, &cx, &input, &plugin_config));
        match threads.spawn_blocking(call).await {
            Ok(result) => result,
            // The call itself does not panic: the runtime is shutting down.
            Err(_) => Err(SandboxError::Cancelled),
        }
    }

    #[inline]
    fn counted(
        &self,
        result: Result<HookOutput, SandboxError>,
    ) -> Result<HookOutput, SandboxError> {
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    #[inline]
    fn call_on(
        &self,
        guest: &mut Guest,
        cx: &HookContext,
        input: &HookInput<'_>,
        plugin_config: &[u8],
    ) -> Result<HookOutput, SandboxError> {
        let config = &self.config;
        let json = matches!(guest.exports(), Exports::Json(_)).then(|| input.to_json());
        let kept = cx.exchange().and_then(|exchange| exchange.kept(&self.name));
        let answer = guest.on_budget(cx, |running| match (running.exports, json) {
            (Exports::Json(exports), Some(json)) => exports.call(running, json, config),
            (Exports::Frame(exports), _) => {
                let context = kept.as_deref().unwrap_or_default();
                exports.call(running, input, plugin_config, context, config)
            }
            _ => Err(not_a_hook().into()),
        });
        self.learn(guest.seen_for());
        let answer = answer?;
        let bytes = guest
            .bytes(answer.ptr, answer.len)
            .ok_or_else(|| answer.inaccessible(guest.memory_len()));
        let output = bytes.and_then(|bytes| match guest.exports() {
            Exports::Frame(_) => Ok(self.take(FrameOutput::read(bytes)?, cx)),
            _ => Ok(HookOutput::from_json(bytes)?),
        });
        if output.is_err() {
            guest.spoil();
        }
        output
    }

    /// Does what a frame asks for beside its decision.
    #[inline]
    fn take(&self, answer: FrameOutput, cx: &HookContext) -> HookOutput {
        if let (Some(exchange), Some(context)) = (cx.exchange(), &answer.context) {
            exchange.keep(&self.name, context);
        }
        for LogLine { level, text } in answer.logs {
            let (plugin, text) = (&self.name, text.escape_debug());
            match level {
                LogLevel::Error => tracing::error!(%plugin, "{text}"),
                LogLevel::Warning => tracing::warn!(%plugin, "{text}"),
                LogLevel::Information => tracing::info!(%plugin, "{text}"),
                LogLevel::Debug => tracing::debug!(%plugin, "{text}"),
                LogLevel::Trace => tracing::trace!(%plugin, "{text}"),
            }
        }
        answer.output
    }

    /// Adds the duration of a call to the moving average, an eighth of which it is.
    #[inline]
    fn learn(&self, duration: Duration) {
        let average = self.average_us.load(Ordering::Relaxed);
        if average == 0 && duration.is_zero() {
            return;
        }
        let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 8);
        let learned = (average.saturating_mul(7).saturating_add(duration)) / 8;
        self.average_us.store(learned, Ordering::Relaxed);
    }
}

/// Refuses a call whose time is up before it begins.
fn check(cx: &HookContext) -> Result<(), SandboxError> {
    if cx.is_cancelled() {
        return Err(SandboxError::Cancelled);
    }
    if cx.is_expired() {
        return Err(SandboxError::DeadlineExceeded);
    }
    Ok(())
}

fn not_a_hook() -> SandboxError {
    SandboxError::MissingExport {
        export: "handle".to_owned(),
        expected: "an ABI for hooks".to_owned(),
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
    lease: Lease<&'p Pool>,
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
            Ok::<_, CallFailure>(running.call_dynamic(export, &params)?)
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
        self.lease.bytes(ptr, len).map(<[u8]>::to_vec)
    }

    /// Copies bytes into the exported memory; `false`, and nothing copied, when they do not fit.
    pub fn write(&mut self, ptr: u32, bytes: &[u8]) -> bool {
        u32::try_from(bytes.len())
            .ok()
            .and_then(|len| self.lease.bytes_mut(ptr, len))
            .map(|room| room.copy_from_slice(bytes))
            .is_some()
    }
}
