//! A plugin as a hook.

use std::sync::Arc;

use tokio::runtime::Handle;
use vortex_hook_core::{Hook, HookContext, HookError, HookInput, HookOutput, async_trait};

use crate::{Plugin, SandboxError};

/// A hook whose decisions a sandboxed plugin makes.
///
/// A failed call is a [`HookError`] that holds a [`SandboxError`]; the chain
/// denies, unless the hook's registration says otherwise.
///
/// ```
/// use vortex_hook_core::{Hook, HookContext, HookInput, HookType};
/// use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};
///
/// let wasm = wat::parse_str(r#"(module
///   (memory (export "memory") 1)
///   (data (i32.const 16) "{\"allow\":true}")
///   (func (export "alloc") (param i32) (result i32) (i32.const 1024))
///   (func (export "handle") (param i32 i32) (result i64)
///     (i64.const 0x10_0000000e)))"#)?;
/// let runtime = Runtime::new(RuntimeConfig::default())?;
/// let hook = WasmHook::new(runtime.load("allow", &wasm)?)?;
///
/// let input = HookInput::new(HookType::PreRequest);
/// let output = futures_executor::block_on(hook.call(&HookContext::new(), &input))?;
/// assert!(output.allow);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WasmHook {
    plugin: Arc<Plugin>,
    config: Arc<[u8]>,
}

impl WasmHook {
    /// Checks that the plugin speaks one of the ABIs and makes its first instance.
    ///
    /// # Errors
    ///
    /// [`SandboxError::MissingExport`] or [`SandboxError::MistypedExport`] for
    /// `memory`, `alloc` or `handle`, or `vortex_handle` where `vortex_abi_v2` is
    /// exported; or why no instance could be made.
    pub fn new(plugin: Arc<Plugin>) -> Result<Self, SandboxError> {
        plugin.check_abi()?;
        plugin.warm()?;
        let config = Arc::default();
        Ok(Self { plugin, config })
    }

    /// Sets the configuration that the plugin finds in every frame, as bytes whose
    /// meaning is the plugin's own. A plugin that speaks JSON does not get it.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<Arc<[u8]>>) -> Self {
        self.config = config.into();
        self
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }
}

#[async_trait]
impl Hook for WasmHook {
    async fn call(&self, cx: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError> {
        let (plugin, config) = (&self.plugin, &self.config);
        let result = match Handle::try_current() {
            Ok(threads) if plugin.is_slow() => {
                plugin
                    .call_on_blocking_thread(&threads, cx, input, config)
                    .await
            }
            _ => plugin.call(cx, input, config).await,
        };
        result.map_err(HookError::new)
    }

    fn call_now(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Option<Result<HookOutput, HookError>> {
        if self.plugin.is_slow() {
            return None;
        }
        let result = self.plugin.call_now(cx, input, &self.config)?;
        Some(result.map_err(HookError::new))
    }
}
