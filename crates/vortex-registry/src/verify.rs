//! The one trust decision.
//!
//! Nothing else in this crate, and no other crate, decides whether a plugin may
//! run. [`Verified`] and [`Unverified`] can be made here alone.

mod unverified;
mod verified;

use std::collections::BTreeSet;

use semver::Version;

use crate::digest::Digest;
use crate::dsse::{Envelope, Signed};
use crate::error::{Defect, RegistryError};
use crate::key::KeyId;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::policy::{Mode, Policy};
use crate::statement::{PAYLOAD_TYPE, Statement};

pub use unverified::Unverified;
pub use verified::Verified;

/// What the policy thinks of a plugin version that is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Trusted keys have signed it.
    Signed {
        /// Which ones, each once.
        signers: BTreeSet<KeyId>,
        /// What they have signed.
        statement: Box<Statement>,
    },
    /// It carries no signature.
    Unsigned,
    /// It carries signatures, none of them by a trusted key. They are not checked.
    UntrustedKey {
        /// The keys that claim to have signed it.
        key_ids: BTreeSet<KeyId>,
    },
}

/// A plugin version as found: nothing of it has been checked.
pub(crate) struct Candidate {
    /// Under which name it lies in the store.
    pub(crate) name: PluginName,
    /// Under which version it lies in the store.
    pub(crate) version: Version,
    pub(crate) manifest: PluginManifest,
    pub(crate) wasm: Vec<u8>,
}

/// Says whether a plugin version is intact, and if so, what the policy thinks of it.
pub(crate) fn judge(
    policy: &Policy,
    (name, version): (&PluginName, &Version),
    manifest: &PluginManifest,
    wasm: &[u8],
) -> Result<Trust, Defect> {
    if (&manifest.name, &manifest.version) != (name, version) {
        return Err(Defect::Misplaced {
            found: format!("{} {}", manifest.name, manifest.version),
        });
    }
    let actual = Digest::of(wasm);
    if manifest.checksum != actual {
        return Err(Defect::Checksum {
            expected: manifest.checksum,
            actual,
        });
    }
    if !manifest.is_signed() {
        return Ok(Trust::Unsigned);
    }
    let envelope = Envelope::decode(PAYLOAD_TYPE, &manifest.signature)?;
    match envelope.verify(policy.keyring())? {
        Signed::ByNobodyTrusted { key_ids } => Ok(Trust::UntrustedKey { key_ids }),
        Signed::By { signers, payload } => {
            let statement = Box::new(Statement::from_payload(payload)?);
            statement.check(manifest, actual, wasm.len() as u64)?;
            Ok(Trust::Signed { signers, statement })
        }
    }
}

/// Lets a plugin version run if trusted keys have signed it, whatever the mode.
pub(crate) fn verify(policy: &Policy, candidate: Candidate) -> Result<Verified, RegistryError> {
    match judge_candidate(policy, &candidate)? {
        Trust::Signed { signers, statement } => Ok(Verified {
            manifest: candidate.manifest,
            wasm: candidate.wasm,
            signers,
            statement: *statement,
        }),
        Trust::Unsigned => Err(unsigned(&candidate.manifest)),
        Trust::UntrustedKey { key_ids } => Err(untrusted(&candidate.manifest, key_ids)),
    }
}

/// Hands out a plugin version that is intact, if the mode is permissive.
pub(crate) fn verify_permissive(
    policy: &Policy,
    candidate: Candidate,
) -> Result<Unverified, RegistryError> {
    if policy.mode() != Mode::Permissive {
        return Err(RegistryError::PolicyForbids {
            name: candidate.name,
            version: candidate.version.into(),
        });
    }
    let trust = judge_candidate(policy, &candidate)?;
    Ok(Unverified {
        manifest: candidate.manifest,
        wasm: candidate.wasm,
        trust,
    })
}

/// Says whether a plugin version may be installed.
pub(crate) fn admit(
    policy: &Policy,
    manifest: &PluginManifest,
    wasm: &[u8],
) -> Result<(), RegistryError> {
    let place = (&manifest.name, &manifest.version);
    let trust = judge(policy, place, manifest, wasm)
        .map_err(|defect| RegistryError::corrupt(&manifest.name, &manifest.version, defect))?;
    match (trust, policy.mode()) {
        (Trust::Signed { .. }, _) | (_, Mode::Permissive) => Ok(()),
        (Trust::Unsigned, Mode::Strict) => Err(unsigned(manifest)),
        (Trust::UntrustedKey { key_ids }, Mode::Strict) => Err(untrusted(manifest, key_ids)),
    }
}

fn judge_candidate(policy: &Policy, candidate: &Candidate) -> Result<Trust, RegistryError> {
    let place = (&candidate.name, &candidate.version);
    judge(policy, place, &candidate.manifest, &candidate.wasm)
        .map_err(|defect| RegistryError::corrupt(&candidate.name, &candidate.version, defect))
}

fn unsigned(manifest: &PluginManifest) -> RegistryError {
    RegistryError::Unsigned {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
    }
}

fn untrusted(manifest: &PluginManifest, key_ids: BTreeSet<KeyId>) -> RegistryError {
    RegistryError::UntrustedKey {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        key_ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;
    use crate::statement::Release;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    /// Judges a manifest whose signed payload has been changed before signing:
    /// what an author with other software, or a bad intention, could make.
    fn judge_payload(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Trust, Defect> {
        let key = PrivateKey::generate().unwrap();
        let name: PluginName = "a".parse().unwrap();
        let version = Version::new(1, 0, 0);
        let mut manifest = PluginManifest::new(name.clone(), version.clone(), [], WASM);
        let release = Release {
            abi: 1,
            seq: 1,
            released_at: 0,
        };
        let statement = Statement::new(&manifest, WASM, release);
        let mut payload = serde_json::to_value(statement).unwrap();
        edit(&mut payload);
        let payload = serde_json::to_vec(&payload).unwrap();
        let envelope = Envelope::sign(PAYLOAD_TYPE, payload, &[&key]).unwrap();
        manifest.signature = envelope.encode().unwrap();
        let policy = Policy::strict([key.public_key()]);
        judge(&policy, (&name, &version), &manifest, WASM)
    }

    #[test]
    fn the_payload_has_exactly_the_fields_of_the_specification() {
        let mut fields = Vec::new();
        let judged = judge_payload(|payload| {
            fields = payload.as_object().unwrap().keys().cloned().collect();
        });
        assert!(matches!(judged, Ok(Trust::Signed { .. })));
        fields.sort();
        assert_eq!(
            fields.join(" "),
            "abi checksum description hook_types name released_at schema seq size version"
        );
        for field in fields {
            let judged = judge_payload(|payload| {
                payload.as_object_mut().unwrap().remove(&field);
            });
            assert!(matches!(judged, Err(Defect::Statement { .. })), "{field}");
        }
    }

    #[test]
    fn unknown_fields_and_schemas_are_refused_however_well_signed() {
        let judged = judge_payload(|payload| payload["extra"] = 1.into());
        assert!(matches!(judged, Err(Defect::Statement { .. })));
        let judged = judge_payload(|payload| payload["schema"] = 2.into());
        assert!(matches!(judged, Err(Defect::Statement { .. })));
    }

    #[test]
    fn every_field_must_agree() {
        for (field, value) in [
            ("name", "b".into()),
            ("version", "1.0.1".into()),
            ("description", "x".into()),
            ("hook_types", vec!["pre_request"].into()),
            ("checksum", Digest::of(b"").to_string().into()),
            ("size", serde_json::Value::from(9)),
        ] {
            let judged = judge_payload(|payload| payload[field] = value);
            assert_eq!(judged, Err(Defect::StatementMismatch { field }));
        }
    }
}
