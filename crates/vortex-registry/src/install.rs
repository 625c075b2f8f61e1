//! How a version gets into the store.

use semver::Version;

use crate::dir::{Dir, Fault};
use crate::error::{Defect, RegistryError};
use crate::layout;
use crate::lock::StoreLock;
use crate::manifest::PluginManifest;
use crate::registry::{Found, Registry};
use crate::staging::Staging;
use crate::verify::{Candidate, Verified, admit, verify};

/// What an installation has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallOutcome {
    /// The version was not there and now is.
    Installed,
    /// The version was there, with the same manifest and module.
    AlreadyInstalled,
}

impl Registry {
    /// Installs a version that the policy admits, completely or not at all.
    ///
    /// Its files are written and synced aside, then published in one step.
    /// Waits for other writers of the store, of this process or another.
    ///
    /// # Errors
    ///
    /// Before anything is written: [`RegistryError::Corrupt`] when manifest, module and
    /// signature do not belong together or are larger than the [`Limits`](crate::Limits),
    /// [`RegistryError::Unsigned`] or [`RegistryError::UntrustedKey`] when the policy is strict,
    /// [`RegistryError::Refused`] when one of its rules or the fleet index is against it,
    /// [`RegistryError::Index`] when there is no usable fleet index and the policy requires one.
    ///
    /// With the store as it was: [`RegistryError::Conflict`] when the version is there with other
    /// contents, [`RegistryError::EqualPrecedence`] when a version is there that differs in build
    /// metadata alone, [`RegistryError::TooManyEntries`], [`RegistryError::ReadOnly`] or
    /// [`RegistryError::Io`].
    pub fn install(
        &self,
        manifest: &PluginManifest,
        wasm: &[u8],
    ) -> Result<InstallOutcome, RegistryError> {
        let json = manifest.to_json()?;
        let version_dir = layout::version_dir(&manifest.version)?;
        let (manifest_limit, wasm_limit) = (self.limits.manifest_bytes, self.limits.wasm_bytes);
        self.check_size(manifest, layout::MANIFEST, json.len(), manifest_limit)?;
        self.check_size(manifest, layout::WASM, wasm.len(), wasm_limit)?;
        self.with_authority(|authority| admit(authority, manifest, wasm))?;

        let store = Dir::create_store(&self.io, &self.path)?;
        let lock = StoreLock::acquire(&store)?;
        let staging = Staging::open(&store, &lock)?;
        if let Some(plugin) = self.find_same(&store, manifest, wasm)? {
            // Whoever has put it there may have been killed before it was on the disk.
            let version = plugin
                .subdir(&version_dir)
                .map_err(|fault| fault.of(&manifest.name, &manifest.version))?
                .ok_or_else(|| RegistryError::not_found(&manifest.name, &manifest.version))?;
            version.sync_file(layout::WASM)?;
            version.sync_file(layout::MANIFEST)?;
            for dir in [&version, &plugin, &store] {
                dir.sync()?;
            }
            staging.sync()?;
            return Ok(InstallOutcome::AlreadyInstalled);
        }
        let staged = staging.reserve()?;
        staged.fill(&json, wasm)?;

        let name = layout::plugin_dir(&manifest.name);
        let (plugin, created) = store.create_subdir(name, 0o755)?;
        let published = store
            .sync()
            .and_then(|()| staged.publish(&plugin, &version_dir));
        if created && !matches!(published, Ok(true)) {
            // Fails when somebody has put something there, and then rightly so.
            let _ = store.remove_empty_dir(name);
        }
        match published? {
            true => Ok(InstallOutcome::Installed),
            // Somebody who holds no lock was faster.
            false => Err(conflict(manifest)),
        }
    }

    /// Verifies a version that need not be in the store, as [`get`](Self::get) would if it were.
    ///
    /// ```
    /// use vortex_registry::{PluginManifest, Policy, Registry, RegistryError, Version};
    ///
    /// # let store = tempfile::tempdir()?;
    /// let registry = Registry::open(store.path(), Policy::default())?;
    /// let manifest = PluginManifest::new("draft".parse()?, Version::new(0, 1, 0), [], b"");
    /// let refused = registry.check(manifest, Vec::new());
    /// assert!(matches!(refused, Err(RegistryError::Unsigned { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), but for what concerns the store.
    pub fn check(
        &self,
        manifest: PluginManifest,
        wasm: Vec<u8>,
    ) -> Result<Verified, RegistryError> {
        let wasm_limit = self.limits.wasm_bytes;
        self.check_size(&manifest, layout::WASM, wasm.len(), wasm_limit)?;
        let candidate = Candidate {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            manifest,
            wasm,
        };
        self.with_authority(|authority| verify(authority, candidate))
    }

    fn check_size(
        &self,
        manifest: &PluginManifest,
        file: &'static str,
        size: usize,
        limit: u64,
    ) -> Result<(), RegistryError> {
        if size as u64 > limit {
            let defect = Defect::TooLarge { file, limit };
            return Err(RegistryError::corrupt(
                &manifest.name,
                &manifest.version,
                defect,
            ));
        }
        Ok(())
    }

    /// The directory of the plugin, if it has this version with the same
    /// contents; nothing, if it has nothing that is in the way.
    fn find_same(
        &self,
        store: &Dir,
        manifest: &PluginManifest,
        wasm: &[u8],
    ) -> Result<Option<Dir>, RegistryError> {
        let PluginManifest { name, version, .. } = manifest;
        let plugin = match store.subdir(layout::plugin_dir(name)) {
            Ok(Some(plugin)) => plugin,
            Ok(None) => return Ok(None),
            Err(Fault::Defect(_)) => return Err(conflict(manifest)),
            Err(Fault::System(error)) => return Err(error),
        };
        match self.read(&plugin, name, version) {
            Ok(Found::Version(found)) if (&found.manifest, &*found.wasm) == (manifest, wasm) => {
                return Ok(Some(plugin));
            }
            Ok(Found::Version(_)) | Err(RegistryError::Corrupt { .. }) => {
                return Err(conflict(manifest));
            }
            Ok(Found::Nothing | Found::Replaced) => {}
            Err(error) => return Err(error),
        }
        let versions = self.versions(&plugin)?;
        match find_equal(&versions, version) {
            Some(existing) => Err(RegistryError::EqualPrecedence {
                name: name.clone(),
                version: version.clone(),
                existing: existing.clone(),
            }),
            // One more must not be one too many for those who read.
            None if self.names(&plugin)?.len() >= self.limits.directory_entries => {
                Err(RegistryError::TooManyEntries {
                    path: plugin.path().to_owned(),
                    limit: self.limits.directory_entries,
                })
            }
            None => Ok(None),
        }
    }
}

/// The version that differs from the one given in build metadata alone.
fn find_equal<'a>(versions: &'a [Version], version: &Version) -> Option<&'a Version> {
    versions
        .iter()
        .find(|existing| existing.cmp_precedence(version).is_eq())
}

fn conflict(manifest: &PluginManifest) -> RegistryError {
    RegistryError::Conflict {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
    }
}
