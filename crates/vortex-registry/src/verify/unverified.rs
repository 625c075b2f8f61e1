//! A plugin version that nobody vouches for.

use std::fmt;

use super::{Loaded, Trust};
use crate::digest::Digest;
use crate::manifest::PluginManifest;

/// A plugin version that is intact, but was asked for without verification.
///
/// A type of its own, and deliberately without a conversion into
/// [`Verified`](crate::Verified): whoever runs one has to say so.
///
/// ```
/// use vortex_registry::{PluginManifest, Policy, Registry, Trust, Version};
///
/// # let store = tempfile::tempdir()?;
/// let wasm = b"\0asm\x01\0\0\0";
/// let manifest = PluginManifest::new("draft".parse()?, Version::new(0, 1, 0), [], wasm);
/// let registry = Registry::open(store.path(), Policy::permissive([]))?;
/// registry.install(&manifest, wasm)?;
///
/// let draft = registry.get_permissive(&"draft".parse()?, &"latest".parse()?)?;
/// assert_eq!(draft.trust(), &Trust::Unsigned);
/// assert!(registry.get_latest(&"draft".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Unverified {
    pub(super) manifest: PluginManifest,
    pub(super) wasm: Vec<u8>,
    pub(super) trust: Trust,
}

impl Unverified {
    /// What the plugin version says about itself.
    #[must_use]
    pub const fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// The module: the very bytes whose checksum was compared.
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

    /// What [`Registry::must_stop`](crate::Registry::must_stop) must know while it runs.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        let (signers, statement) = match &self.trust {
            Trust::Signed { signers, statement } => (signers.clone(), Some(&**statement)),
            _ => Default::default(),
        };
        Loaded::new(&self.manifest, self.wasm.len(), signers, statement)
    }

    /// What the policy thinks of it.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.manifest.checksum)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}
