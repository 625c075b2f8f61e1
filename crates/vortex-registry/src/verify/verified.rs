//! A plugin version that may run.

use std::collections::BTreeSet;
use std::fmt;

use super::Loaded;
use crate::digest::Digest;
use crate::key::KeyId;
use crate::manifest::PluginManifest;
use crate::statement::Statement;

/// A plugin version that is intact and signed by trusted keys: it may run.
///
/// There is no way to make one but [`Registry::get`](crate::Registry::get) and
/// [`Registry::check`](crate::Registry::check).
///
/// ```compile_fail,E0308
/// fn run(plugin: vortex_registry::Verified) {}
/// fn run_anything(plugin: vortex_registry::Unverified) { run(plugin) }
/// ```
pub struct Verified {
    pub(super) manifest: PluginManifest,
    pub(super) wasm: Vec<u8>,
    pub(super) signers: BTreeSet<KeyId>,
    pub(super) statement: Statement,
}

impl Verified {
    /// What the plugin version says about itself.
    #[must_use]
    pub const fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// The module: the very bytes that were checked.
    #[must_use]
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// The module, without copying it.
    #[must_use]
    pub fn into_wasm(self) -> Vec<u8> {
        self.wasm
    }

    /// The digest of the module.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.manifest.checksum
    }

    /// The trusted keys that have signed, each once and at least one.
    #[must_use]
    pub const fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }

    /// What [`Registry::must_stop`](crate::Registry::must_stop) must know while it runs.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        Loaded::new(
            &self.manifest,
            self.wasm.len(),
            self.signers.clone(),
            Some(&self.statement),
        )
    }

    /// What they have signed.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.manifest.checksum)
            .field("signers", &self.signers)
            .finish_non_exhaustive()
    }
}
