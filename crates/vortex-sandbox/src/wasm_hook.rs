//! A plugin as a hook.

use std::sync::Arc;

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
}

impl WasmHook {
    /// Checks that the plugin speaks the JSON ABI and makes its first instance.
    ///
    /// # Errors
    ///
    /// [`SandboxError::MissingExport`] or [`SandboxError::MistypedExport`] for
    /// `memory`, `alloc` or `handle`; or why no instance could be made.
    pub fn new(plugin: Arc<Plugin>) -> Result<Self, SandboxError> {
        plugin.check_json_abi()?;
        plugin.warm()?;
        Ok(Self { plugin })
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
        self.plugin
            .call_json(cx, input)
            .await
            .map_err(HookError::new)
    }
}
