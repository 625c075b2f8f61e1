//! A plugin version that runs.

use std::collections::BTreeSet;

use semver::Version;
use vortex_hook_core::HookType;

use super::Vouched;
use crate::digest::Digest;
use crate::key::KeyId;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::refusal::Refusal;
use crate::statement::Statement;

/// What a host keeps of a plugin version while it runs, to be judged again when
/// something is revoked: all but the module, which need not be in the store any more.
///
/// [`Verified::loaded`](crate::Verified::loaded) and
/// [`Unverified::loaded`](crate::Unverified::loaded) make one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loaded {
    pub(super) name: PluginName,
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) hook_types: Vec<HookType>,
    pub(super) signers: BTreeSet<KeyId>,
    pub(super) vouched: Vouched,
}

impl Loaded {
    pub(super) fn new(
        manifest: &PluginManifest,
        size: usize,
        signers: BTreeSet<KeyId>,
        statement: Option<&Statement>,
    ) -> Self {
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: manifest.checksum,
            size: size as u64,
            hook_types: manifest.hook_types.clone(),
            signers,
            vouched: statement.map_or_else(Vouched::default, Vouched::of),
        }
    }

    /// What the plugin is called.
    #[must_use]
    pub const fn name(&self) -> &PluginName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The digest of its module.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// A plugin version that runs and must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MustStop {
    /// Which one.
    pub plugin: Loaded,
    /// Why.
    pub refusal: Refusal,
}
