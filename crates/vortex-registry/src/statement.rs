//! What is signed.

use semver::Version;
use serde::{Deserialize, Serialize};
use vortex_hook_core::HookType;

use crate::digest::Digest;
use crate::error::{Defect, RegistryError};
use crate::json;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::sbom::{self, Sbom};

/// The DSSE payload type of a statement.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.vortex.plugin.v1+json";

/// The shape of statements that this crate writes and reads.
const SCHEMA: u32 = 1;

/// What the author says about a release beyond the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The binary interface between gateway and module: 1 is JSON, 2 is frames.
    pub abi: u32,
    /// Counts the releases of a plugin, so that an older one can be told from a newer one.
    pub seq: u64,
    /// When it was released, in seconds since 1970-01-01 UTC.
    pub released_at: u64,
}

/// What the author of a plugin has signed: all of the manifest, and the [`Release`].
///
/// Were the module alone signed, an old one could be given out under a newer
/// version, under another name or for other hooks.
///
/// ```
/// use vortex_registry::{PluginManifest, Policy, PrivateKey, Registry, Release, Version};
///
/// # let store = tempfile::tempdir()?;
/// let (wasm, key) = (b"\0asm\x01\0\0\0", PrivateKey::generate()?);
/// let release = Release { abi: 2, seq: 7, released_at: 1_750_000_000 };
/// let manifest = PluginManifest::new("redirect".parse()?, Version::new(1, 0, 0), [], wasm)
///     .sign(wasm, release, &[&key])?;
/// let registry = Registry::open(store.path(), Policy::strict([key.public_key()]))?;
/// registry.install(&manifest, wasm)?;
///
/// let plugin = registry.get_latest(&"redirect".parse()?)?;
/// assert_eq!(plugin.statement().release(), release);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    schema: u32,
    name: PluginName,
    #[serde(deserialize_with = "crate::version::deserialize")]
    version: Version,
    description: String,
    hook_types: Vec<HookType>,
    checksum: Digest,
    size: u64,
    abi: u32,
    seq: u64,
    released_at: u64,
    // Left out where there is none: such a statement is that of versions
    // without this field, byte by byte.
    #[serde(
        default,
        deserialize_with = "sbom::present",
        skip_serializing_if = "Option::is_none"
    )]
    sbom: Option<Sbom>,
}

impl Statement {
    pub(crate) fn new(
        manifest: &PluginManifest,
        wasm: &[u8],
        release: Release,
        sbom: Option<Sbom>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            hook_types: manifest.hook_types.clone(),
            checksum: Digest::of(wasm),
            size: wasm.len() as u64,
            abi: release.abi,
            seq: release.seq,
            released_at: release.released_at,
            sbom,
        }
    }

    /// What the author says beyond the manifest.
    #[must_use]
    pub const fn release(&self) -> Release {
        Release {
            abi: self.abi,
            seq: self.seq,
            released_at: self.released_at,
        }
    }

    /// The size of the module, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The software bill of materials that the author vouches for, if there is one.
    #[must_use]
    pub const fn sbom(&self) -> Option<Sbom> {
        self.sbom
    }

    /// The bytes to be signed. They are never made again for verification.
    pub(crate) fn to_payload(&self) -> Result<Vec<u8>, RegistryError> {
        serde_json::to_vec(self).map_err(|source| RegistryError::Json { source })
    }

    /// Reads bytes whose signature has been verified.
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self, Defect> {
        let unreadable = |reason| Defect::Statement { reason };
        let statement: Self = json::object(payload).map_err(unreadable)?;
        if statement.schema != SCHEMA {
            let schema = statement.schema;
            return Err(unreadable(format!(
                "schema is {schema}, this version of the registry reads {SCHEMA}"
            )));
        }
        Ok(statement)
    }

    /// Checks that the statement is about this manifest, and about the module
    /// with this digest and size in bytes.
    pub(crate) fn check(
        &self,
        manifest: &PluginManifest,
        digest: Digest,
        size: u64,
    ) -> Result<(), Defect> {
        // Taken apart, so that a field added to either is not forgotten here.
        let PluginManifest {
            name,
            version,
            description,
            hook_types,
            checksum,
            signature: _,
        } = manifest;
        let agreements = [
            ("name", self.name == *name),
            ("version", self.version == *version),
            ("description", self.description == *description),
            ("hook_types", self.hook_types == *hook_types),
            ("checksum", self.checksum == *checksum),
            ("checksum", self.checksum == digest),
            ("size", self.size == size),
        ];
        match agreements.into_iter().find(|(_, agrees)| !agrees) {
            Some((field, _)) => Err(Defect::StatementMismatch { field }),
            None => Ok(()),
        }
    }
}
