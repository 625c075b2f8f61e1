//! The fleet index: what is revoked everywhere, signed and numbered.

mod defect;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

pub use defect::IndexDefect;
pub(crate) use state::Seen;

use crate::digest::Digest;
use crate::dsse::Envelope;
use crate::error::RegistryError;
use crate::json;
use crate::key::{KeyId, PrivateKey};
use crate::name::PluginName;
use crate::revocations::{PluginVersion, Revocations};

/// The DSSE payload type of an index.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.vortex.index.v1+json";

/// The largest index read, in bytes.
pub(crate) const MAX_INDEX_BYTES: u64 = 4 * 1024 * 1024;

/// The shape of indexes that this crate writes and reads.
const SCHEMA: u32 = 1;

/// What a fleet's operator revokes, for every gateway at once.
///
/// It travels as a DSSE envelope signed by the index keys of the
/// [`Policy`](crate::Policy), and reaches a store by
/// [`Registry::update_index`](crate::Registry::update_index). Each holds all
/// that is revoked, not just what has been added. Times are in seconds since
/// 1970-01-01 UTC.
///
/// ```
/// use vortex_registry::{FleetIndex, Policy, PrivateKey, Registry, RegistryError};
///
/// # let store = tempfile::tempdir()?;
/// let key = PrivateKey::generate()?;
/// let policy = Policy::default().with_index_keys([key.public_key()], 1).requiring_index();
/// let registry = Registry::open(store.path(), policy)?;
///
/// let mut index = FleetIndex::new(1, 1_750_000_000, 4_000_000_000);
/// index.revocations.versions.insert("redirect@1.2.3".parse()?);
/// registry.update_index(&index.sign(&[&key])?)?;
/// assert_eq!(registry.index()?, Some(index));
///
/// let older = FleetIndex::new(0, 1_750_000_000, 4_000_000_000).sign(&[&key])?;
/// assert!(matches!(registry.update_index(&older), Err(RegistryError::Index { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetIndex {
    /// Counts the indexes: a higher one replaces a lower one, never the reverse.
    pub seq: u64,
    /// When it was signed.
    pub issued_at: u64,
    /// From when on it is out of date. A later one should be there by then.
    pub expires: u64,
    /// What is revoked.
    pub revocations: Revocations,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    schema: u32,
    seq: u64,
    issued_at: u64,
    expires: u64,
    revoked_keys: BTreeSet<KeyId>,
    denied_digests: BTreeSet<Digest>,
    minimum_versions: BTreeMap<PluginName, MinimumVersion>,
    revoked_versions: BTreeSet<PluginVersion>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct MinimumVersion(#[serde(deserialize_with = "crate::version::deserialize")] Version);

impl FleetIndex {
    /// An index that revokes nothing yet.
    #[must_use]
    pub fn new(seq: u64, issued_at: u64, expires: u64) -> Self {
        Self {
            seq,
            issued_at,
            expires,
            revocations: Revocations::default(),
        }
    }

    /// Signs the index with every one of the keys (1 to 16): the bytes to be handed out.
    ///
    /// # Errors
    ///
    /// [`RegistryError::SignerCount`] when there are too few or too many keys.
    pub fn sign(&self, keys: &[&PrivateKey]) -> Result<Vec<u8>, RegistryError> {
        let Revocations {
            keys: revoked_keys,
            digests: denied_digests,
            versions: revoked_versions,
            minimum_versions,
        } = self.revocations.clone();
        let minimum_versions = minimum_versions
            .into_iter()
            .map(|(name, version)| (name, MinimumVersion(version)));
        let payload = Payload {
            schema: SCHEMA,
            seq: self.seq,
            issued_at: self.issued_at,
            expires: self.expires,
            revoked_keys,
            denied_digests,
            minimum_versions: minimum_versions.collect(),
            revoked_versions,
        };
        let payload =
            serde_json::to_vec(&payload).map_err(|source| RegistryError::Json { source })?;
        Envelope::sign(PAYLOAD_TYPE, payload, keys)?.to_json()
    }

    /// Reads bytes whose signature has been verified.
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self, IndexDefect> {
        let unreadable = |reason| IndexDefect::Unreadable { reason };
        let payload: Payload = json::object(payload).map_err(unreadable)?;
        if payload.schema != SCHEMA {
            let schema = payload.schema;
            return Err(unreadable(format!(
                "schema is {schema}, this version of the registry reads {SCHEMA}"
            )));
        }
        let minimum_versions = payload.minimum_versions.into_iter();
        Ok(Self {
            seq: payload.seq,
            issued_at: payload.issued_at,
            expires: payload.expires,
            revocations: Revocations {
                keys: payload.revoked_keys,
                digests: payload.denied_digests,
                versions: payload.revoked_versions,
                minimum_versions: minimum_versions.map(|(name, v)| (name, v.0)).collect(),
            },
        })
    }
}
