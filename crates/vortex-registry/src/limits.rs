//! How much the registry reads.

/// How much the registry reads before it gives up.
///
/// A limit holds for what is read, whatever the file system claims about sizes,
/// and for what is installed.
///
/// ```
/// use vortex_registry::Limits;
///
/// let mut limits = Limits::default();
/// assert_eq!(limits.wasm_bytes, 64 * 1024 * 1024);
/// limits.wasm_bytes = 16 * 1024 * 1024;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest `manifest.json`, in bytes. The default is 64 KiB.
    pub manifest_bytes: u64,
    /// The largest `plugin.wasm`, in bytes. The default is 64 MiB.
    pub wasm_bytes: u64,
    /// The most entries of one directory: plugins of the store, or versions of
    /// a plugin. The default is 10 000.
    pub directory_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 64 * 1024,
            wasm_bytes: 64 * 1024 * 1024,
            directory_entries: 10_000,
        }
    }
}
