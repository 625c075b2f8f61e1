//! The guest as an Extism plugin, under the limits that Extism has.

use std::time::Duration;

use anyhow::{Context, Result};
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};
use vortex_benches::place;

/// 64 MiB, the sandbox's own default.
const MEMORY_PAGES: u32 = 1024;

/// Ten times 100 ms, the sandbox's own default for the wall clock.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Compiles a module under a timeout and a limit on memory.
pub(crate) fn compile(wasm: Vec<u8>, timeout: Duration) -> Result<CompiledPlugin> {
    let manifest = Manifest::new([Wasm::data(wasm)])
        .with_timeout(timeout)
        .with_memory_max(MEMORY_PAGES);
    PluginBuilder::new(manifest).with_cache_disabled().compile()
}

/// The plugin that has the logic of the `api-key` fixture.
pub(crate) fn api_key() -> Result<Plugin> {
    let path = place::target().join("peers/guests/extism-api-key.wasm");
    let wasm = std::fs::read(&path).with_context(|| {
        format!(
            "cannot read {}: run `cargo xtask bench --peers`",
            path.display()
        )
    })?;
    Plugin::new_from_compiled(&compile(wasm, TIMEOUT)?)
}

/// Hands the plugin a document and `read` its answer, where it stands.
pub(crate) fn call<T>(
    plugin: &mut Plugin,
    json: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    read(plugin.call::<&[u8], &[u8]>("check", json)?)
}
