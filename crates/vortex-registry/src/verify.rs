//! The one trust decision.
//!
//! Nothing else in this crate, and no other crate, decides whether a plugin may
//! run. [`Verified`] and [`Unverified`] can be made here alone.
//!
//! [`judge`] asks in this order, and the first answer counts:
//!
//! 1. Is it intact? Place, checksum, envelope, every signature by a key of the
//!    rule, statement. If not, it is corrupt.
//! 2. Is it denied or revoked by the policy or the fleet index, or too old?
//! 3. Which rule is about its name, and does that allow its size and hook types?
//! 4. Have as many distinct keys of the rule signed as it asks for, not counting
//!    those that are revoked or not valid, and have they vouched for what the
//!    rule asks of a statement?
//!
//! In permissive mode the answer to 4, and a name without a rule, do not matter
//! to those who ask for the unverified; all else does.

mod loaded;
#[cfg(test)]
mod tests;
mod unverified;
mod verified;

use std::collections::BTreeSet;

use semver::Version;

use crate::digest::Digest;
use crate::dsse::{Envelope, Signed};
use crate::error::{Defect, RegistryError};
use crate::index::{self, FleetIndex, IndexDefect};
use crate::key::KeyId;
use crate::keyring::Keyring;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::policy::{Mode, Policy, Rule};
use crate::refusal::Refusal;
use crate::statement::{PAYLOAD_TYPE, Statement};

pub use loaded::{Loaded, MustStop};
pub use unverified::Unverified;
pub use verified::Verified;

/// What the policy thinks of a plugin version that is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// As many trusted keys as its rule asks for have signed it.
    Signed {
        /// Which ones, each once; those that are revoked or not valid left out.
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
    /// A rule of the policy or the fleet index refuses it.
    Refused {
        /// Which rule.
        refusal: Refusal,
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

/// All that a plugin version is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Authority<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) index: Option<&'a FleetIndex>,
    /// The time in seconds since 1970-01-01 UTC; none for what runs already,
    /// which mere passing of time does not stop.
    pub(crate) now: Option<u64>,
}

/// What the rules are about, besides signatures.
#[derive(Clone, Copy)]
struct Facts<'a> {
    name: &'a PluginName,
    version: &'a Version,
    digest: Digest,
    size: u64,
    hook_types: &'a [vortex_hook_core::HookType],
}

/// What the signers have said, as far as the rules ask about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Vouched {
    released_at: u64,
    sbom: bool,
}

impl Vouched {
    fn of(statement: &Statement) -> Self {
        Self {
            released_at: statement.release().released_at,
            sbom: statement.sbom().is_some(),
        }
    }
}

/// Says whether a plugin version is intact, and if so, what the policy thinks of it.
pub(crate) fn judge(
    authority: Authority<'_>,
    (name, version): (&PluginName, &Version),
    manifest: &PluginManifest,
    wasm: &[u8],
) -> Result<Trust, Defect> {
    if (&manifest.name, &manifest.version) != (name, version) {
        return Err(Defect::Misplaced {
            found: format!("{} {}", manifest.name, manifest.version),
        });
    }
    let digest = Digest::of(wasm);
    if manifest.checksum != digest {
        return Err(Defect::Checksum {
            expected: manifest.checksum,
            actual: digest,
        });
    }
    let facts = Facts {
        name,
        version,
        digest,
        size: wasm.len() as u64,
        hook_types: &manifest.hook_types,
    };
    let rule = authority.policy.rule_for(name);
    let refused = |refusal| Ok(Trust::Refused { refusal });
    if !manifest.is_signed() {
        return match allowed(authority, facts, rule) {
            Ok(_) => Ok(Trust::Unsigned),
            Err(refusal) => refused(refusal),
        };
    }
    let envelope = Envelope::decode(PAYLOAD_TYPE, &manifest.signature)?;
    let nobody = Keyring::default();
    let signed = match envelope.verify(rule.map_or(&nobody, Rule::keyring))? {
        Signed::ByNobodyTrusted { key_ids } => Err(key_ids),
        Signed::By { signers, payload } => {
            let statement = Box::new(Statement::from_payload(payload)?);
            statement.check(manifest, digest, facts.size)?;
            Ok((signers, statement))
        }
    };
    let rule = match allowed(authority, facts, rule) {
        Ok(rule) => rule,
        Err(refusal) => return refused(refusal),
    };
    let (signers, statement) = match signed {
        Err(key_ids) => return Ok(Trust::UntrustedKey { key_ids }),
        Ok(signed) => signed,
    };
    match enough(authority, rule, signers, Vouched::of(&statement)) {
        Ok(signers) => Ok(Trust::Signed { signers, statement }),
        Err(refusal) => refused(refusal),
    }
}

/// Whether the plugin version may be there at all, whoever has signed it, and
/// the rule that says who must have.
fn allowed<'a>(
    Authority { policy, index, .. }: Authority<'_>,
    facts: Facts<'_>,
    rule: Option<&'a Rule>,
) -> Result<&'a Rule, Refusal> {
    let Facts { name, version, .. } = facts;
    let of_index = index.map(|index| &index.revocations);
    for revoked in of_index.into_iter().chain([policy.revocations()]) {
        if revoked.digests.contains(&facts.digest) {
            let digest = facts.digest;
            return Err(Refusal::DeniedDigest { digest });
        }
        let is_it = |r: &crate::PluginVersion| (&r.name, &r.version) == (name, version);
        if revoked.versions.iter().any(is_it) {
            return Err(Refusal::RevokedVersion);
        }
        if let Some(minimum) = revoked.minimum_versions.get(name)
            && version.cmp_precedence(minimum).is_lt()
        {
            let minimum = minimum.clone();
            return Err(Refusal::BelowMinimumVersion { minimum });
        }
    }
    let rule = rule.ok_or(Refusal::NoRule)?;
    let pattern = || rule.pattern().to_string();
    if let Some(limit) = rule.max_bytes().filter(|limit| facts.size > *limit) {
        return Err(Refusal::TooLarge {
            rule: pattern(),
            size: facts.size,
            limit,
        });
    }
    if let Some(allowed) = rule.hook_types()
        && let Some(&hook_type) = facts.hook_types.iter().find(|h| !allowed.contains(h))
    {
        return Err(Refusal::HookTypeNotAllowed {
            rule: pattern(),
            hook_type,
        });
    }
    Ok(rule)
}

/// The signers that count, if there are as many as the rule asks for and they
/// have said what it asks for. A set holds a key once, however many signatures
/// are by it.
fn enough(
    Authority { policy, index, now }: Authority<'_>,
    rule: &Rule,
    signers: BTreeSet<KeyId>,
    vouched: Vouched,
) -> Result<BTreeSet<KeyId>, Refusal> {
    let revoked_by_index = index.map(|index| &index.revocations.keys);
    let mut counted = BTreeSet::new();
    let mut disqualified = Vec::new();
    for key_id in signers {
        match usable(policy, revoked_by_index, key_id, vouched.released_at, now) {
            Ok(()) => _ = counted.insert(key_id),
            Err(refusal) => disqualified.push(refusal),
        }
    }
    let pattern = || rule.pattern().to_string();
    let (have, need) = (counted.len(), rule.threshold());
    if have >= need {
        return match rule.sbom_required() && !vouched.sbom {
            true => Err(Refusal::MissingSbom { rule: pattern() }),
            false => Ok(counted),
        };
    }
    let is_revoked = |refusal: &Refusal| matches!(refusal, Refusal::RevokedKey { .. });
    disqualified.sort_by_key(|refusal| !is_revoked(refusal));
    Err(disqualified.into_iter().next().unwrap_or_else(|| {
        let rule = pattern();
        Refusal::Threshold { rule, have, need }
    }))
}

/// Whether a signature by this key counts: it is not revoked, whenever it
/// signed, and is valid both at the time that the signer states and now.
fn usable(
    policy: &Policy,
    revoked_by_index: Option<&BTreeSet<KeyId>>,
    key_id: KeyId,
    stated: u64,
    now: Option<u64>,
) -> Result<(), Refusal> {
    let revoked = revoked_by_index.into_iter();
    if revoked
        .chain([&policy.revocations().keys])
        .any(|keys| keys.contains(&key_id))
    {
        return Err(Refusal::RevokedKey { key_id });
    }
    let validity = policy.validity(&key_id);
    for at in [Some(stated), now].into_iter().flatten() {
        if let Some(not_before) = validity.not_before.filter(|first| at < *first) {
            return Err(Refusal::KeyNotYetValid {
                key_id,
                not_before,
                at,
            });
        }
        if let Some(not_after) = validity.not_after.filter(|last| at > *last) {
            return Err(Refusal::KeyExpired {
                key_id,
                not_after,
                at,
            });
        }
    }
    Ok(())
}

/// Reads a fleet index that as many index keys have signed as the policy asks
/// for. Neither its age nor its number is looked at.
pub(crate) fn verify_index(
    policy: &Policy,
    bytes: &[u8],
    revoked_by_index: Option<&BTreeSet<KeyId>>,
    now: u64,
) -> Result<FleetIndex, IndexDefect> {
    let keys = policy.index_signers().ok_or(IndexDefect::NoKeys)?;
    let envelope = Envelope::from_json(index::PAYLOAD_TYPE, bytes)?;
    let need = keys.threshold;
    match envelope.verify(&keys.keyring)? {
        Signed::ByNobodyTrusted { .. } => Err(IndexDefect::Threshold { have: 0, need }),
        Signed::By { signers, payload } => {
            let index = FleetIndex::from_payload(payload)?;
            let at = index.issued_at;
            let counts =
                |id: &&KeyId| usable(policy, revoked_by_index, **id, at, Some(now)).is_ok();
            let have = signers.iter().filter(counts).count();
            if have < need {
                return Err(IndexDefect::Threshold { have, need });
            }
            Ok(index)
        }
    }
}

/// Lets a plugin version run if it is signed as the policy asks, whatever the mode.
pub(crate) fn verify(
    authority: Authority<'_>,
    candidate: Candidate,
) -> Result<Verified, RegistryError> {
    match judge_candidate(authority, &candidate)? {
        Trust::Signed { signers, statement } => Ok(Verified {
            manifest: candidate.manifest,
            wasm: candidate.wasm,
            signers,
            statement: *statement,
        }),
        distrust => Err(refusal_of(&candidate.manifest, distrust)),
    }
}

/// Hands out a plugin version that is intact, if the mode is permissive.
pub(crate) fn verify_permissive(
    authority: Authority<'_>,
    candidate: Candidate,
) -> Result<Unverified, RegistryError> {
    if authority.policy.mode() != Mode::Permissive {
        return Err(RegistryError::PolicyForbids {
            name: candidate.name,
            version: candidate.version.into(),
        });
    }
    let trust = judge_candidate(authority, &candidate)?;
    if !tolerable(&trust) {
        return Err(refusal_of(&candidate.manifest, trust));
    }
    Ok(Unverified {
        manifest: candidate.manifest,
        wasm: candidate.wasm,
        trust,
    })
}

/// Says whether a plugin version may be installed.
pub(crate) fn admit(
    authority: Authority<'_>,
    manifest: &PluginManifest,
    wasm: &[u8],
) -> Result<(), RegistryError> {
    let place = (&manifest.name, &manifest.version);
    let trust = judge(authority, place, manifest, wasm)
        .map_err(|defect| RegistryError::corrupt(&manifest.name, &manifest.version, defect))?;
    match (&trust, authority.policy.mode()) {
        (Trust::Signed { .. }, _) => Ok(()),
        (_, Mode::Permissive) if tolerable(&trust) => Ok(()),
        _ => Err(refusal_of(manifest, trust)),
    }
}

/// Whether permissive mode overlooks it: who has signed and what only they
/// could have said, and nothing else.
fn tolerable(trust: &Trust) -> bool {
    match trust {
        Trust::Signed { .. } | Trust::Unsigned | Trust::UntrustedKey { .. } => true,
        Trust::Refused { refusal } => match refusal {
            Refusal::NoRule
            | Refusal::RevokedKey { .. }
            | Refusal::KeyNotYetValid { .. }
            | Refusal::KeyExpired { .. }
            | Refusal::Threshold { .. }
            | Refusal::MissingSbom { .. } => true,
            Refusal::DeniedDigest { .. }
            | Refusal::RevokedVersion
            | Refusal::BelowMinimumVersion { .. }
            | Refusal::TooLarge { .. }
            | Refusal::HookTypeNotAllowed { .. } => false,
        },
    }
}

/// Says why a plugin that runs already must not go on, if it must not.
pub(crate) fn judge_loaded(authority: Authority<'_>, loaded: &Loaded) -> Result<(), Refusal> {
    let facts = Facts {
        name: &loaded.name,
        version: &loaded.version,
        digest: loaded.digest,
        size: loaded.size,
        hook_types: &loaded.hook_types,
    };
    let rule = authority.policy.rule_for(&loaded.name);
    let verdict = allowed(authority, facts, rule).and_then(|rule| {
        let of_rule = |id: &&KeyId| rule.keyring().get(id).is_some();
        let signers = loaded.signers.iter().filter(of_rule).copied().collect();
        enough(authority, rule, signers, loaded.vouched).map(drop)
    });
    match (verdict, authority.policy.mode()) {
        (Err(refusal), Mode::Permissive)
            if tolerable(&Trust::Refused {
                refusal: refusal.clone(),
            }) =>
        {
            Ok(())
        }
        (verdict, _) => verdict,
    }
}

fn judge_candidate(
    authority: Authority<'_>,
    candidate: &Candidate,
) -> Result<Trust, RegistryError> {
    let place = (&candidate.name, &candidate.version);
    judge(authority, place, &candidate.manifest, &candidate.wasm)
        .map_err(|defect| RegistryError::corrupt(&candidate.name, &candidate.version, defect))
}

/// The error for a plugin version that may not run.
fn refusal_of(manifest: &PluginManifest, trust: Trust) -> RegistryError {
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    match trust {
        Trust::Unsigned | Trust::Signed { .. } => RegistryError::Unsigned { name, version },
        Trust::UntrustedKey { key_ids } => RegistryError::UntrustedKey {
            name,
            version,
            key_ids,
        },
        Trust::Refused { refusal } => RegistryError::Refused {
            name,
            version,
            refusal: Box::new(refusal),
        },
    }
}
