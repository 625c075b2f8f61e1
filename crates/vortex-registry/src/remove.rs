//! How a version gets out of the store.

use semver::Version;

use crate::dir::{Dir, Fault};
use crate::error::RegistryError;
use crate::layout;
use crate::lock::StoreLock;
use crate::name::PluginName;
use crate::registry::Registry;
use crate::staging::Staging;

impl Registry {
    /// Removes a version, trusted or not, intact or not.
    ///
    /// It disappears in one step and is deleted afterwards; no symlink is ever
    /// followed. Where a symlink or file lies in place of the plugin's
    /// directory, that is removed. Waits for other writers of the store.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] when it is not there, [`RegistryError::ReadOnly`] or
    /// [`RegistryError::Io`] when the operating system refuses.
    pub fn remove(&self, name: &PluginName, version: &Version) -> Result<(), RegistryError> {
        let not_found = || RegistryError::not_found(name, version);
        let version_dir = layout::version_dir(version)?;
        let plugin_dir = layout::plugin_dir(name);
        let store = Dir::open_store(&self.io, &self.path)?.ok_or_else(not_found)?;
        let lock = StoreLock::acquire(&store)?;
        let staging = Staging::open(&store, &lock)?;
        let staged = staging.reserve()?;
        let was_there = match store.subdir(plugin_dir) {
            Ok(Some(plugin)) => {
                let was_there = staged.take(&plugin, &version_dir)?;
                // Fails while there are other versions, as it should.
                let _ = store.remove_empty_dir(plugin_dir);
                was_there
            }
            Ok(None) => false,
            Err(Fault::Defect(_)) => staged.take(&store, plugin_dir)?,
            Err(Fault::System(error)) => return Err(error),
        };
        if was_there { Ok(()) } else { Err(not_found()) }
    }
}
