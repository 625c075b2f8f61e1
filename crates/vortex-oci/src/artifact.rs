//! How a plugin version is laid out in an OCI registry.
//!
//! ```text
//! image manifest  application/vnd.oci.image.manifest.v1+json
//!   config        application/vnd.wasm.config.v0+json   never read
//!   layer         application/wasm, titled plugin.wasm  the module, exactly one
//!   annotations   name, version, description, hook types, and the signature:
//!                 the DSSE envelope in base64, as it stands in manifest.json
//! ```
//!
//! The config is that of the CNCF's "Wasm OCI Artifact layout", so that other
//! tools know the artifact for what it is. The same plugin version always gives
//! the same bytes, hence the same digests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vortex_registry::{Digest, HookType, PluginManifest, PluginName, Version};

use crate::error::OciError;

/// The largest OCI manifest read, in bytes. A `manifest.json` of the largest
/// size that a store takes fits in with room to spare.
pub(crate) const MAX_MANIFEST_LEN: u64 = 128 * 1024;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";

const LAYER_TITLE: &str = "plugin.wasm";
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
const DESCRIPTION: &str = "org.opencontainers.image.description";
const HOOK_TYPES: &str = "io.github.vortex-gateway.plugin.hook-types";
const SIGNATURE: &str = "io.github.vortex-gateway.plugin.signature";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: WireDescriptor,
    layers: Vec<WireDescriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The config of a module, with nothing in it that differs from build to build.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
}

impl WireDescriptor {
    fn new(media_type: &str, digest: Digest, size: usize) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{digest}"),
            size: size as u64,
            annotations: BTreeMap::new(),
        }
    }
}

/// A plugin version ready to be pushed, but for the module itself.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) config: Bytes,
    pub(crate) config_digest: Digest,
    pub(crate) manifest: Bytes,
    pub(crate) manifest_digest: Digest,
}

impl Artifact {
    /// Lays out a plugin version whose module has `wasm_len` bytes.
    pub(crate) fn new(
        manifest: &PluginManifest,
        wasm_len: usize,
    ) -> Result<Self, serde_json::Error> {
        let config = serde_json::to_vec(&WireConfig {
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            // What the layout asks for where a module has no system.
            os: "wasip1",
            layer_digests: [format!("sha256:{}", manifest.checksum)],
        })?;
        let config_digest = Digest::of(&config);
        let mut layer = WireDescriptor::new(LAYER_TYPE, manifest.checksum, wasm_len);
        layer
            .annotations
            .insert(TITLE.to_owned(), LAYER_TITLE.to_owned());
        let mut annotations = BTreeMap::from([
            (TITLE.to_owned(), manifest.name.to_string()),
            (VERSION.to_owned(), manifest.version.to_string()),
            (
                HOOK_TYPES.to_owned(),
                serde_json::to_string(&manifest.hook_types)?,
            ),
        ]);
        for (key, value) in [
            (DESCRIPTION, &manifest.description),
            (SIGNATURE, &manifest.signature),
        ] {
            if !value.is_empty() {
                annotations.insert(key.to_owned(), value.clone());
            }
        }
        let manifest = serde_json::to_vec(&WireManifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            config: WireDescriptor::new(CONFIG_TYPE, config_digest, config.len()),
            layers: vec![layer],
            annotations,
        })?;
        Ok(Self {
            manifest_digest: Digest::of(&manifest),
            manifest: manifest.into(),
            config_digest,
            config: config.into(),
        })
    }
}

/// What an OCI manifest says. Nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: PluginName,
    pub(crate) version: Version,
    description: String,
    hook_types: Vec<HookType>,
    signature: String,
    /// The digest of the module.
    pub(crate) checksum: Digest,
    /// The size of the module in bytes.
    pub(crate) size: u64,
}

impl Description {
    /// Reads a manifest whose module may have up to `max_wasm` bytes.
    pub(crate) fn read(host: &str, json: &[u8], max_wasm: u64) -> Result<Self, OciError> {
        let bad = |reason: String| OciError::malformed(host, "the manifest", reason);
        let wire: WireManifest =
            serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
        if wire.schema_version != 2 || wire.media_type.is_some_and(|t| t != MANIFEST_TYPE) {
            return Err(bad(format!("it is no {MANIFEST_TYPE}")));
        }
        if wire.config.media_type != CONFIG_TYPE {
            return Err(bad(format!("its config is no {CONFIG_TYPE}")));
        }
        let layers: [WireDescriptor; 1] = wire.layers.try_into().map_err(|layers: Vec<_>| {
            bad(format!(
                "it has {} layers where a plugin has one",
                layers.len()
            ))
        })?;
        let [layer] = layers;
        if layer.media_type != LAYER_TYPE {
            return Err(bad(format!("its layer is no {LAYER_TYPE}")));
        }
        if layer.annotations.get(TITLE).map(String::as_str) != Some(LAYER_TITLE) {
            return Err(bad(format!("its layer is not titled {LAYER_TITLE}")));
        }
        let checksum = layer
            .digest
            .strip_prefix("sha256:")
            .and_then(|hex| hex.parse().ok())
            .ok_or_else(|| bad("its layer has no sha256 digest".to_owned()))?;
        if layer.size > max_wasm {
            return Err(OciError::TooLarge {
                host: host.to_owned(),
                what: "the module",
                limit: max_wasm,
            });
        }
        let mut annotations = wire.annotations;
        let mut take = |key| annotations.remove(key);
        let required = |key, value: Option<String>| {
            value.ok_or_else(|| bad(format!("it has no annotation {key}")))
        };
        let invalid = |key, error: String| bad(format!("its annotation {key} is wrong: {error}"));
        let version = required(VERSION, take(VERSION))?;
        // The length of a version is bounded where a selector is read.
        let version = match version.parse() {
            Ok(vortex_registry::VersionSelector::Exact(version)) => version,
            _ => return Err(invalid(VERSION, "it is no full version".to_owned())),
        };
        Ok(Self {
            name: required(TITLE, take(TITLE))?.parse().map_err(
                |error: vortex_registry::RegistryError| invalid(TITLE, error.to_string()),
            )?,
            version,
            description: take(DESCRIPTION).unwrap_or_default(),
            hook_types: serde_json::from_str(&required(HOOK_TYPES, take(HOOK_TYPES))?)
                .map_err(|error| invalid(HOOK_TYPES, error.to_string()))?,
            signature: take(SIGNATURE).unwrap_or_default(),
            checksum,
            size: layer.size,
        })
    }

    /// The manifest of the plugin store for these bytes.
    pub(crate) fn manifest(&self, wasm: &[u8]) -> PluginManifest {
        let hook_types = self.hook_types.iter().copied();
        let mut manifest =
            PluginManifest::new(self.name.clone(), self.version.clone(), hook_types, wasm);
        manifest.description.clone_from(&self.description);
        manifest.signature.clone_from(&self.signature);
        manifest
    }

    /// Whether a store's manifest says the same.
    pub(crate) fn is_of(&self, manifest: &PluginManifest) -> bool {
        self.name == manifest.name
            && self.version == manifest.version
            && self.description == manifest.description
            && self.hook_types == manifest.hook_types
            && self.signature == manifest.signature
            && self.checksum == manifest.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    fn plugin() -> PluginManifest {
        let mut manifest = PluginManifest::new(
            "redirect".parse().unwrap(),
            Version::new(1, 2, 3),
            [HookType::PreRequest, HookType::OnClose],
            WASM,
        );
        manifest.description = "sends \"old\" addresses on\n".to_owned();
        manifest.signature = "c2lnbmF0dXJl".to_owned();
        manifest
    }

    fn read(json: &str) -> Result<Description, OciError> {
        Description::read("host", json.as_bytes(), 1024)
    }

    #[test]
    fn what_is_laid_out_is_read_back() {
        let artifact = Artifact::new(&plugin(), WASM.len()).unwrap();
        let description = Description::read("host", &artifact.manifest, 8).unwrap();
        assert_eq!(description.manifest(WASM), plugin());
        assert!(description.is_of(&plugin()));
        assert_eq!(description.size, 8);
        assert!(matches!(
            Description::read("host", &artifact.manifest, 7),
            Err(OciError::TooLarge { limit: 7, .. })
        ));
        let again = Artifact::new(&plugin(), WASM.len()).unwrap();
        assert_eq!(artifact.manifest_digest, again.manifest_digest);
        assert_eq!(artifact.manifest_digest, Digest::of(&artifact.manifest));
    }

    #[test]
    fn every_field_counts() {
        let artifact = Artifact::new(&plugin(), WASM.len()).unwrap();
        let json = String::from_utf8(artifact.manifest.to_vec()).unwrap();
        let layer_digest = format!("sha256:{}", Digest::of(WASM));
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            (
                "vnd.oci.image.manifest.v1+json",
                "vnd.oci.image.index.v1+json",
            ),
            ("vnd.wasm.config.v0+json", "vnd.oci.image.config.v1+json"),
            ("\"application/wasm\"", "\"application/octet-stream\""),
            ("\"plugin.wasm\"", "\"../plugin.wasm\""),
            ("\"layers\":[{", "\"layers\":[{},{"),
            (layer_digest.as_str(), "sha512:00"),
            (layer_digest.as_str(), "00"),
            ("\"size\":8", "\"size\":-8"),
            (VERSION, "x"),
            (HOOK_TYPES, "x"),
            ("\"redirect\"", "\"../redirect\""),
            ("\"1.2.3\"", "\"latest\""),
            ("\"1.2.3\"", "\"^1.2\""),
            ("pre_request", "whenever"),
        ] {
            let bad = json.replacen(from, to, 1);
            assert_ne!(bad, json);
            assert!(read(&bad).is_err(), "{bad}");
        }
        assert!(read(&json).is_ok());
        assert!(read(&json.replacen(SIGNATURE, "x", 1)).is_ok_and(|d| d.signature.is_empty()));
        for bad in ["", "{}", "[]", "null", &json[1..], &"[".repeat(100_000)] {
            assert!(read(bad).is_err());
        }
    }

    #[test]
    fn no_layers_and_two_are_too_few_and_too_many() {
        let artifact = Artifact::new(&plugin(), WASM.len()).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&artifact.manifest).unwrap();
        let layer = json["layers"][0].clone();
        json["layers"] = vec![layer.clone(), layer].into();
        assert!(
            read(&json.to_string())
                .unwrap_err()
                .to_string()
                .contains("2 layers")
        );
        json["layers"] = Vec::<u8>::new().into();
        assert!(
            read(&json.to_string())
                .unwrap_err()
                .to_string()
                .contains("0 layers")
        );
    }
}
