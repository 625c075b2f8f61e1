//! Which rule of the policy refuses a plugin version.

use semver::Version;
use vortex_hook_core::HookType;

use crate::digest::Digest;
use crate::key::KeyId;

/// Which rule of the policy, or of the fleet index, refuses a plugin version
/// that is intact. Times are in seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The module is denied by its digest, under whatever name.
    #[error("its module {digest} is denied")]
    DeniedDigest {
        /// The digest of the module.
        digest: Digest,
    },
    /// This very version is revoked.
    #[error("the version is revoked")]
    RevokedVersion,
    /// A higher version is the least that may run.
    #[error("the lowest version allowed is {minimum}")]
    BelowMinimumVersion {
        /// That version.
        minimum: Version,
    },
    /// No rule of the policy is about a plugin of this name.
    #[error("no rule of the policy is about that name")]
    NoRule,
    /// The module is larger than the rule allows.
    #[error("its module has {size} bytes, rule {rule} allows {limit}")]
    TooLarge {
        /// The pattern of the rule.
        rule: String,
        /// The size of the module, in bytes.
        size: u64,
        /// The most the rule allows, in bytes.
        limit: u64,
    },
    /// The plugin wants to run at a moment that the rule does not allow.
    #[error("rule {rule} does not allow it to run at {hook_type}")]
    HookTypeNotAllowed {
        /// The pattern of the rule.
        rule: String,
        /// The moment.
        hook_type: HookType,
    },
    /// Without a signature by a revoked key there are too few.
    #[error("key {key_id} is revoked, and the other signatures do not suffice")]
    RevokedKey {
        /// The key.
        key_id: KeyId,
    },
    /// Without a signature by a key that is not valid yet there are too few.
    #[error("key {key_id} is valid from {not_before} on and was used for {at}")]
    KeyNotYetValid {
        /// The key.
        key_id: KeyId,
        /// When its validity begins.
        not_before: u64,
        /// The moment at which it is not valid: that of the release, or now.
        at: u64,
    },
    /// Without a signature by a key that is no longer valid there are too few.
    #[error("key {key_id} is valid until {not_after} and was used for {at}")]
    KeyExpired {
        /// The key.
        key_id: KeyId,
        /// When its validity ends.
        not_after: u64,
        /// The moment at which it is not valid: that of the release, or now.
        at: u64,
    },
    /// The signed statement names no software bill of materials.
    #[error("rule {rule} asks for an SBOM, and it has been signed without one: sign it with one")]
    MissingSbom {
        /// The pattern of the rule.
        rule: String,
    },
    /// Fewer distinct keys have signed than the rule asks for.
    #[error("{have} distinct trusted keys have signed it, rule {rule} asks for {need}")]
    Threshold {
        /// The pattern of the rule.
        rule: String,
        /// How many have signed.
        have: usize,
        /// How many must.
        need: usize,
    },
}
