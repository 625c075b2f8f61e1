//! Where fixtures and results are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    // Cargo says where the package is; what was compiled in serves a binary
    // that is started by hand.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.ancestors().nth(2).unwrap_or(Path::new("."));
    root.join("target")
}

/// Where results are written.
#[must_use]
pub fn results() -> PathBuf {
    target().join("bench")
}

/// The module of a built fixture.
///
/// # Errors
///
/// If it is not built.
pub fn fixture(name: &str) -> Result<Vec<u8>> {
    let path = target().join("fixtures").join(format!("{name}.wasm"));
    std::fs::read(&path)
        .with_context(|| format!("cannot read {}: run `cargo xtask bench`", path.display()))
}
