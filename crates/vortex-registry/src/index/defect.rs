//! What is wrong with a fleet index.

use crate::error::Defect;
use crate::key::KeyId;

/// Why a fleet index is refused, or why nothing may run without one. Times are
/// in seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexDefect {
    /// The policy does not say who signs the index.
    #[error("the policy names no index keys")]
    NoKeys,
    /// There is none, and the policy requires one or there has been one.
    #[error("it is missing: update it")]
    Missing,
    /// It is no envelope or payload of the known shape, or too large.
    #[error("it cannot be read: {reason}")]
    Unreadable {
        /// What the parser says.
        reason: String,
    },
    /// A signature said to be by an index key is not.
    #[error("the signature by key {key_id} is wrong")]
    Signature {
        /// The key.
        key_id: KeyId,
    },
    /// Fewer distinct index keys have signed than the policy asks for. Keys that
    /// are revoked or not valid do not count.
    #[error("{have} distinct index keys have signed it, the policy asks for {need}")]
    Threshold {
        /// How many have signed.
        have: usize,
        /// How many must.
        need: usize,
    },
    /// A newer one has been seen: somebody brings back an old one.
    #[error("it is number {given}, and number {seen} has been seen already")]
    Rollback {
        /// The highest number seen.
        seen: u64,
        /// Its number.
        given: u64,
    },
    /// Another one of the same number has been seen: its signers are at odds.
    #[error("another one with the number {seq} has been seen")]
    Equivocation {
        /// The number of both.
        seq: u64,
    },
    /// It is out of date: somebody withholds newer ones.
    #[error("it expired at {expires} and it is {now}: update it")]
    Freeze {
        /// From when on it is out of date.
        expires: u64,
        /// The time now.
        now: u64,
    },
}

impl From<Defect> for IndexDefect {
    /// What is wrong with the envelope.
    fn from(defect: Defect) -> Self {
        match defect {
            Defect::Signature { key_id } => Self::Signature { key_id },
            other => Self::Unreadable {
                reason: other.to_string(),
            },
        }
    }
}
