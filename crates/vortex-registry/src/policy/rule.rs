//! Who may publish what under which names.

use std::collections::BTreeSet;

use vortex_hook_core::HookType;

use super::NamePattern;
use crate::key::PublicKey;
use crate::keyring::Keyring;

/// Who may publish plugins of certain names, and what those may be.
///
/// ```
/// use vortex_registry::{HookType, PrivateKey, Rule};
///
/// let keys = [PrivateKey::generate()?.public_key(), PrivateKey::generate()?.public_key()];
/// let rule = Rule::new("auth-*".parse()?, keys)
///     .with_threshold(2)
///     .with_hook_types([HookType::PreRequest])
///     .with_max_bytes(1024 * 1024);
/// assert_eq!(rule.threshold(), 2);
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pattern: NamePattern,
    keyring: Keyring,
    threshold: usize,
    hook_types: Option<BTreeSet<HookType>>,
    max_bytes: Option<u64>,
    sbom_required: bool,
}

impl Rule {
    /// Trusts each of the keys alone for plugins whose names match.
    #[must_use]
    pub fn new(pattern: NamePattern, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            pattern,
            keyring: keys.into_iter().collect(),
            threshold: 1,
            hook_types: None,
            max_bytes: None,
            sbom_required: false,
        }
    }

    /// Asks for signatures by so many distinct keys. 0 counts as 1; more than
    /// there are keys lets nothing run.
    #[must_use]
    pub fn with_threshold(self, threshold: usize) -> Self {
        let threshold = threshold.max(1);
        Self { threshold, ..self }
    }

    /// Allows these hook types alone.
    #[must_use]
    pub fn with_hook_types(self, hook_types: impl IntoIterator<Item = HookType>) -> Self {
        let hook_types = Some(hook_types.into_iter().collect());
        Self { hook_types, ..self }
    }

    /// Allows modules of at most so many bytes, if [`Limits`](crate::Limits) do too.
    #[must_use]
    pub fn with_max_bytes(self, bytes: u64) -> Self {
        let max_bytes = Some(bytes);
        Self { max_bytes, ..self }
    }

    /// Refuses what has been signed without the digest of an [SBOM](crate::Sbom).
    #[must_use]
    pub fn requiring_sbom(self) -> Self {
        Self {
            sbom_required: true,
            ..self
        }
    }

    /// The names that the rule is about.
    #[must_use]
    pub const fn pattern(&self) -> &NamePattern {
        &self.pattern
    }

    /// The keys that may sign.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// How many distinct keys must sign, at least one.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// The hook types allowed, or `None` for all.
    #[must_use]
    pub const fn hook_types(&self) -> Option<&BTreeSet<HookType>> {
        self.hook_types.as_ref()
    }

    /// The largest module allowed, in bytes, or `None` for what [`Limits`](crate::Limits) says.
    #[must_use]
    pub const fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// Whether what has been signed without the digest of an SBOM is refused.
    #[must_use]
    pub const fn sbom_required(&self) -> bool {
        self.sbom_required
    }
}
