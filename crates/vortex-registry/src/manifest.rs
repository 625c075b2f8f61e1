//! What a plugin version says about itself.

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize};
use vortex_hook_core::HookType;

use crate::digest::Digest;
use crate::dsse::Envelope;
use crate::error::{Defect, RegistryError};
use crate::json;
use crate::key::PrivateKey;
use crate::name::PluginName;
use crate::sbom::Sbom;
use crate::statement::{PAYLOAD_TYPE, Release, Statement};

/// The contents of `manifest.json`, as the Go system writes it.
///
/// ```
/// use vortex_registry::{HookType, PluginManifest, Version};
///
/// let wasm = b"\0asm\x01\0\0\0";
/// let mut manifest =
///     PluginManifest::new("redirect".parse()?, Version::new(1, 0, 0), [HookType::PreRequest], wasm);
/// manifest.description = "sends old addresses on".to_owned();
/// assert!(!manifest.is_signed());
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PluginManifest {
    /// What the plugin is called.
    pub name: PluginName,
    /// Its version (SemVer 2.0.0), at most 128 bytes long.
    #[serde(deserialize_with = "crate::version::deserialize")]
    pub version: Version,
    /// What it does, for people. May hold any character: escape it before printing.
    #[serde(default)]
    pub description: String,
    /// When it runs. The Go system writes an empty list as `null`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub hook_types: Vec<HookType>,
    /// The digest of the module.
    pub checksum: Digest,
    /// A DSSE envelope around a [`Statement`] in base64, or nothing when unsigned.
    #[serde(default)]
    pub signature: String,
}

impl PluginManifest {
    /// Describes a module, without a signature.
    #[must_use]
    pub fn new(
        name: PluginName,
        version: Version,
        hook_types: impl IntoIterator<Item = HookType>,
        wasm: &[u8],
    ) -> Self {
        Self {
            name,
            version,
            description: String::new(),
            hook_types: hook_types.into_iter().collect(),
            checksum: Digest::of(wasm),
            signature: String::new(),
        }
    }

    /// Signs all that the manifest says, with every one of the keys (1 to 16).
    ///
    /// A signature that was there before is replaced. What the manifest says
    /// must not change afterwards.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] when the manifest describes another module than `wasm`,
    /// [`RegistryError::SignerCount`] when there are too few or too many keys.
    pub fn sign(
        self,
        wasm: &[u8],
        release: Release,
        keys: &[&PrivateKey],
    ) -> Result<Self, RegistryError> {
        self.sign_statement(wasm, release, None, keys)
    }

    /// Signs as [`sign`](Self::sign) does, and the digest of a software bill of materials as well.
    ///
    /// ```
    /// use vortex_registry::{PluginManifest, PrivateKey, Release, Sbom, Version};
    ///
    /// let (wasm, key) = (b"\0asm\x01\0\0\0", PrivateKey::generate()?);
    /// let sbom = Sbom::of_json(br#"{"spdxVersion": "SPDX-2.3"}"#)?;
    /// let release = Release { abi: 2, seq: 7, released_at: 1_750_000_000 };
    /// let manifest = PluginManifest::new("redirect".parse()?, Version::new(1, 0, 0), [], wasm)
    ///     .sign_with_sbom(wasm, release, sbom, &[&key])?;
    /// assert!(manifest.is_signed());
    /// # Ok::<(), vortex_registry::RegistryError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign).
    pub fn sign_with_sbom(
        self,
        wasm: &[u8],
        release: Release,
        sbom: Sbom,
        keys: &[&PrivateKey],
    ) -> Result<Self, RegistryError> {
        self.sign_statement(wasm, release, Some(sbom), keys)
    }

    fn sign_statement(
        mut self,
        wasm: &[u8],
        release: Release,
        sbom: Option<Sbom>,
        keys: &[&PrivateKey],
    ) -> Result<Self, RegistryError> {
        let statement = Statement::new(&self, wasm, release, sbom);
        statement
            .check(&self, Digest::of(wasm), wasm.len() as u64)
            .map_err(|defect| RegistryError::corrupt(&self.name, &self.version, defect))?;
        let envelope = Envelope::sign(PAYLOAD_TYPE, statement.to_payload()?, keys)?;
        self.signature = envelope.encode()?;
        Ok(self)
    }

    /// Whether there is a signature at all, good or bad.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.signature.is_empty()
    }

    /// The manifest as the Go system lays it out: JSON indented by two spaces.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, RegistryError> {
        serde_json::to_vec_pretty(self).map_err(|source| RegistryError::Json { source })
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Defect> {
        json::object(json).map_err(|reason| Defect::Manifest { reason })
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HookType>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
  "name": "a",
  "version": "1.0.0",
  "description": "",
  "hook_types": [
    "pre_request"
  ],
  "checksum": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "signature": ""
}"#;

    #[test]
    fn written_as_the_go_system_writes_it() {
        let manifest = PluginManifest::from_json(JSON.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(manifest.to_json().unwrap()).unwrap(),
            JSON
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to) in [
            ("\"name\": \"a\"", "\"name\": \"../a\""),
            ("\"name\": \"a\"", "\"name\": \"a\", \"name\": \"a\""),
            ("\"1.0.0\"", "\"1.0\""),
            ("pre_request", "whenever"),
            ("e3b0", "E3B0"),
            ("\"signature\"", "\"sig\""),
            (
                "\"description\": \"\",",
                "\"description\": \"\", \"extra\": 1,",
            ),
        ] {
            let bad = JSON.replacen(from, to, 1);
            assert_ne!(bad, JSON);
            assert!(PluginManifest::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(PluginManifest::from_json(format!("{JSON}{{}}").as_bytes()).is_err());
    }
}
