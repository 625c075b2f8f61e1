//! Who is trusted.

use crate::key::PublicKey;
use crate::keyring::Keyring;

/// What happens to a plugin that no trusted key has signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is neither installed nor returned.
    #[default]
    Strict,
    /// It is installed, and returned as [`Unverified`](crate::Unverified) to
    /// those who ask for that.
    Permissive,
}

/// Who is trusted to sign plugins, and what happens to the others.
///
/// The default is strict with no key at all: it lets nothing run.
///
/// ```
/// use vortex_registry::{Mode, Policy, PrivateKey};
///
/// let policy = Policy::strict([PrivateKey::generate()?.public_key()]);
/// assert_eq!(policy.mode(), Mode::Strict);
/// assert_eq!(Policy::default(), Policy::strict([]));
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    mode: Mode,
    keyring: Keyring,
}

impl Policy {
    /// Trusts these keys and refuses whatever else there is.
    #[must_use]
    pub fn strict(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            mode: Mode::Strict,
            keyring: keys.into_iter().collect(),
        }
    }

    /// Trusts these keys, and hands out the rest as unverified: for development.
    ///
    /// A plugin that is damaged, or whose signature by one of these keys is
    /// wrong, is still refused.
    #[must_use]
    pub fn permissive(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            mode: Mode::Permissive,
            keyring: keys.into_iter().collect(),
        }
    }

    /// What happens to a plugin that no trusted key has signed.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The keys that are trusted.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}
