//! Files that the user names: read with a bound, written whole or not at all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vortex_plugins::registry::{Limits, PluginManifest};

use crate::exit::usage_error;

/// Reads a file, or standard input for `-`, of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(limit + 1).read_to_end(&mut bytes);
    if path == Path::new("-") {
        read(&mut io::stdin().lock()).with_context(failed)?;
    } else {
        let mut file = File::open(path).with_context(failed)?;
        read(&mut file).with_context(failed)?;
    }
    if bytes.len() as u64 > limit {
        return Err(usage_error(format!(
            "{} is larger than the limit of {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Reads a module, as large as a store takes.
pub(crate) fn read_wasm(path: &Path) -> Result<Vec<u8>> {
    read(path, Limits::default().wasm_bytes)
}

/// Reads a manifest. Nothing of it is checked but its form.
pub(crate) fn read_manifest(path: &Path) -> Result<PluginManifest> {
    let json = read(path, Limits::default().manifest_bytes).map_err(|error| {
        let missing = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
        if missing {
            error.context("a module needs its manifest: `vortex-plugin sign` makes one")
        } else {
            error
        }
    })?;
    serde_json::from_slice(&json)
        .map_err(|error| usage_error(format!("{} is no plugin manifest: {error}", path.display())))
}

/// The manifest that belongs to a module unless another is named: `manifest.json` beside it.
pub(crate) fn manifest_beside(wasm: &Path) -> PathBuf {
    wasm.with_file_name("manifest.json")
}

/// Refuses to go on when a file is there and must not be replaced.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<()> {
    if !force && path.symlink_metadata().is_ok() {
        bail!(
            "{} is there already: name another file, or give --force to replace it",
            path.display()
        );
    }
    Ok(())
}

/// Writes a file that everybody may read, in one step; with `force` in place of what was there.
pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    check_free(path, force)?;
    let failed = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory_of(path))
        .with_context(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .with_context(failed)?;
    if force {
        file.persist(path)
            .map_err(|error| error.error)
            .with_context(failed)?;
    } else {
        file.persist_noclobber(path)
            .map_err(|error| error.error)
            .with_context(failed)?;
    }
    Ok(())
}

/// The directory that a file lies in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
