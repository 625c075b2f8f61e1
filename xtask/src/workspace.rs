//! Where things are.

use std::path::{Path, PathBuf};

/// The root of the workspace.
///
/// Cargo tells a program it runs where its package is; the path that was
/// compiled in serves a binary that is started by hand.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Cargo's target directory, an absolute path.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
        None => root().join("target"),
    }
}

/// Where the built fixtures are, one `<name>.wasm` each.
pub(crate) fn fixtures() -> PathBuf {
    target().join("fixtures")
}
