//! What is in the store.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

use crate::dir::Dir;
use crate::error::RegistryError;
use crate::layout;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::registry::{Found, Registry};
use crate::verify::{Authority, Trust, judge};

/// An entry of the store: a version of a plugin, or something that should not be there.
#[derive(Debug)]
#[non_exhaustive]
pub struct ListEntry {
    /// Where it lies, relative to the store. May hold any character: escape it before printing.
    pub path: PathBuf,
    /// The plugin, if the path names one.
    pub name: Option<PluginName>,
    /// The version, if the path names one.
    pub version: Option<Version>,
    /// What it is like.
    pub status: Status,
}

/// What an entry of the store is like.
#[derive(Debug)]
#[non_exhaustive]
pub enum Status {
    /// The version is intact.
    Intact {
        /// What it says about itself.
        manifest: Box<PluginManifest>,
        /// What the policy thinks of it: whether [`Registry::get`] returns it.
        trust: Trust,
    },
    /// The version is corrupt, or cannot be read: the reason says which.
    Corrupt {
        /// What [`Registry::get`] would say.
        reason: Box<RegistryError>,
    },
    /// The path is neither a plugin name nor a version. Reading ignores it.
    Foreign,
}

impl Registry {
    /// Looks at every version in the store, good or bad, in the order of names and versions.
    ///
    /// Each is read whole and judged by the policy, so this takes its time on a
    /// large store. One bad entry does not hide the others.
    ///
    /// ```
    /// use vortex_registry::{PluginManifest, Policy, Registry, Status, Trust, Version};
    ///
    /// # let store = tempfile::tempdir()?;
    /// let registry = Registry::open(store.path(), Policy::permissive([]))?;
    /// let manifest = PluginManifest::new("draft".parse()?, Version::new(0, 1, 0), [], b"");
    /// registry.install(&manifest, b"")?;
    ///
    /// let entries = registry.list()?;
    /// assert!(matches!(entries[0].status, Status::Intact { trust: Trust::Unsigned, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`] or [`RegistryError::TooManyEntries`] when the store itself cannot be
    /// listed, [`RegistryError::Index`] when nothing in it may run, for want of a usable fleet
    /// index.
    pub fn list(&self) -> Result<Vec<ListEntry>, RegistryError> {
        self.with_authority(|authority| self.list_under(authority))
    }

    fn list_under(&self, authority: Authority<'_>) -> Result<Vec<ListEntry>, RegistryError> {
        let mut entries = Vec::new();
        let Some(store) = Dir::open_store(&self.io, &self.path)? else {
            return Ok(entries);
        };
        let mut names = self.names(&store)?;
        names.sort();
        for dir_name in names.iter().filter(|name| !layout::is_internal(name)) {
            let Some(name) = layout::plugin_of(dir_name) else {
                entries.push(ListEntry {
                    path: path_of(dir_name),
                    name: None,
                    version: None,
                    status: Status::Foreign,
                });
                continue;
            };
            if let Err(reason) = self.list_plugin(authority, &store, &name, &mut entries) {
                entries.push(ListEntry {
                    path: path_of(dir_name),
                    name: Some(name),
                    version: None,
                    status: corrupt(reason),
                });
            }
        }
        Ok(entries)
    }

    fn list_plugin(
        &self,
        authority: Authority<'_>,
        store: &Dir,
        name: &PluginName,
        entries: &mut Vec<ListEntry>,
    ) -> Result<(), RegistryError> {
        let dir_name = layout::plugin_dir(name);
        let Some(plugin) = store
            .subdir(dir_name)
            .map_err(|fault| fault.of(name, VersionReq::STAR))?
        else {
            // Somebody has removed it since the store was listed.
            return Ok(());
        };
        let mut versions: Vec<_> = self
            .names(&plugin)?
            .into_iter()
            .map(|entry| (layout::version_of(&entry), entry))
            .collect();
        versions.sort();
        for (version, entry) in versions {
            let status = match &version {
                Some(version) => self.status(authority, &plugin, name, version),
                None => Some(Status::Foreign),
            };
            entries.extend(status.map(|status| ListEntry {
                path: Path::new(dir_name).join(path_of(&entry)),
                name: Some(name.clone()),
                version,
                status,
            }));
        }
        Ok(())
    }

    /// What a version is like, unless it has just been removed.
    fn status(
        &self,
        authority: Authority<'_>,
        plugin: &Dir,
        name: &PluginName,
        version: &Version,
    ) -> Option<Status> {
        let found = match self.read(plugin, name, version) {
            Ok(Found::Version(found)) => found,
            Ok(Found::Nothing | Found::Replaced) => return None,
            Err(reason) => return Some(corrupt(reason)),
        };
        let judged = judge(authority, (name, version), &found.manifest, &found.wasm);
        Some(match judged {
            Ok(trust) => Status::Intact {
                manifest: Box::new(found.manifest),
                trust,
            },
            Err(defect) => corrupt(RegistryError::corrupt(name, version, defect)),
        })
    }
}

fn corrupt(reason: RegistryError) -> Status {
    Status::Corrupt {
        reason: Box::new(reason),
    }
}

fn path_of(entry: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(entry.to_bytes()))
}
