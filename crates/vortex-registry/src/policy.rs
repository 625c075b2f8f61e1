//! Who is trusted for what.

mod file;
mod pattern;
mod rule;

use std::collections::BTreeMap;

pub use pattern::NamePattern;
pub use rule::Rule;

use crate::key::{KeyId, PublicKey};
use crate::keyring::Keyring;
use crate::name::PluginName;
use crate::revocations::Revocations;

/// What happens to a plugin that has not been signed as the policy asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is neither installed nor returned.
    #[default]
    Strict,
    /// It is installed, and returned as [`Unverified`](crate::Unverified) to
    /// those who ask for that.
    Permissive,
}

/// When a key may be used, in seconds since 1970-01-01 UTC, both ends included.
///
/// A signature counts if its key is valid both at the moment of the release, as
/// the signer states it, and now. The first alone would let a key that was
/// stolen after its time sign with an old date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first second, or `None` for since ever.
    pub not_before: Option<u64>,
    /// The last second, or `None` for ever.
    pub not_after: Option<u64>,
}

/// Who signs the fleet index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexSigners {
    pub(crate) keyring: Keyring,
    pub(crate) threshold: usize,
}

/// Who is trusted to sign which plugins, what is revoked, and what happens to the rest.
///
/// The first rule whose pattern matches a name decides about it, alone. The
/// default is strict with no key at all: it lets nothing run. A policy is built
/// here or read from a [file](Policy::read_toml_file).
///
/// ```
/// use vortex_registry::{Mode, Policy, PrivateKey, Rule};
///
/// let [alice, bob] = [PrivateKey::generate()?.public_key(), PrivateKey::generate()?.public_key()];
/// let policy = Policy::strict([alice.clone()]);
/// assert_eq!(policy.mode(), Mode::Strict);
/// assert_eq!(Policy::default(), Policy::strict([]));
///
/// let policy = policy.with_rules([
///     Rule::new("auth-*".parse()?, [alice.clone(), bob]).with_threshold(2),
///     Rule::new("*".parse()?, [alice]),
/// ]);
/// assert_eq!(policy.rule_for(&"auth-jwt".parse()?).map(Rule::threshold), Some(2));
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    mode: Mode,
    keyring: Keyring,
    rules: Vec<Rule>,
    validities: BTreeMap<KeyId, Validity>,
    revocations: Revocations,
    index_signers: Option<IndexSigners>,
    index_required: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self::strict([])
    }
}

impl Policy {
    /// Trusts each of these keys for every name and refuses whatever else there is.
    #[must_use]
    pub fn strict(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self::new(Mode::Strict, keys)
    }

    /// Trusts these keys, and hands out the rest as unverified: for development.
    ///
    /// It relaxes who must have signed, and nothing else. A plugin that is
    /// damaged, whose signature by one of these keys is wrong, that is denied or
    /// revoked, too large or of a hook type that is not allowed is still refused.
    /// An SBOM that a rule asks for is part of what is signed, and may be missing.
    #[must_use]
    pub fn permissive(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self::new(Mode::Permissive, keys)
    }

    fn new(mode: Mode, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let policy = Self {
            mode,
            keyring: Keyring::default(),
            rules: Vec::new(),
            validities: BTreeMap::new(),
            revocations: Revocations::default(),
            index_signers: None,
            index_required: false,
        };
        policy.with_rules([Rule::new(NamePattern::any(), keys)])
    }

    /// Replaces the rules. The first that matches a name decides about it; a
    /// name that none matches is refused.
    #[must_use]
    pub fn with_rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules: Vec<Rule> = rules.into_iter().collect();
        let keyring = rules
            .iter()
            .flat_map(|rule| rule.keyring().iter().cloned())
            .collect();
        Self {
            keyring,
            rules,
            ..self
        }
    }

    /// Says when a key may be used, be it for plugins or for the index: for an index the moment
    /// of its release is `issued_at`, and one whose keys have expired meanwhile is unusable.
    #[must_use]
    pub fn with_validity(mut self, key_id: KeyId, validity: Validity) -> Self {
        self.validities.insert(key_id, validity);
        self
    }

    /// Replaces what is revoked.
    #[must_use]
    pub fn with_revocations(self, revocations: Revocations) -> Self {
        Self {
            revocations,
            ..self
        }
    }

    /// Applies the [fleet index](crate::FleetIndex) that `threshold` distinct of
    /// these keys have signed, when there is one. A threshold of 0 counts as 1.
    #[must_use]
    pub fn with_index_keys(
        self,
        keys: impl IntoIterator<Item = PublicKey>,
        threshold: usize,
    ) -> Self {
        let index_signers = Some(IndexSigners {
            keyring: keys.into_iter().collect(),
            threshold: threshold.max(1),
        });
        Self {
            index_signers,
            ..self
        }
    }

    /// Refuses everything while there is no fleet index that has not expired.
    #[must_use]
    pub fn requiring_index(self) -> Self {
        Self {
            index_required: true,
            ..self
        }
    }

    /// What happens to a plugin that has not been signed as the policy asks.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The keys that are trusted for some name at least.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that decides about a name.
    #[must_use]
    pub fn rule_for(&self, name: &PluginName) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern().matches(name))
    }

    /// When a key may be used: always, unless the policy says otherwise.
    #[must_use]
    pub fn validity(&self, key_id: &KeyId) -> Validity {
        self.validities.get(key_id).copied().unwrap_or_default()
    }

    /// What is revoked by the policy itself.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Whether everything is refused while there is no fleet index that has not expired.
    #[must_use]
    pub const fn index_required(&self) -> bool {
        self.index_required
    }

    pub(crate) const fn index_signers(&self) -> Option<&IndexSigners> {
        self.index_signers.as_ref()
    }
}
