//! The keys that are trusted.

use std::collections::BTreeMap;

use crate::key::{KeyId, PublicKey};

/// The public keys that a policy trusts, each once.
///
/// ```
/// use vortex_registry::{Keyring, PrivateKey};
///
/// let key = PrivateKey::generate()?.public_key();
/// let keyring: Keyring = [key.clone(), key.clone()].into_iter().collect();
/// assert_eq!(keyring.len(), 1);
/// assert_eq!(keyring.get(&key.key_id()), Some(&key));
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<KeyId, PublicKey>);

impl Keyring {
    /// The key with this id, if it is trusted.
    #[must_use]
    pub fn get(&self, key_id: &KeyId) -> Option<&PublicKey> {
        self.0.get(key_id)
    }

    /// The keys, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<PublicKey> for Keyring {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        // The id comes from the key itself, so an id cannot stand for a foreign key.
        Self(keys.into_iter().map(|key| (key.key_id(), key)).collect())
    }
}
