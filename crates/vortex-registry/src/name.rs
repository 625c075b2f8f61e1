//! What a plugin is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{RegistryError, excerpt};

/// The name of a plugin: `^[a-z][a-z0-9]*(-[a-z0-9]+)*$`, at most 64 bytes, no
/// device name of Windows (`con`, `prn`, `aux`, `nul`, `com0`–`com9`,
/// `lpt0`–`lpt9`).
///
/// A name becomes a directory, hence the rule: nothing in it can climb out of
/// the store, nothing differs in case or Unicode form alone, and a store can be
/// copied to any file system.
///
/// ```
/// use vortex_registry::PluginName;
///
/// let name: PluginName = "rate-limit".parse()?;
/// assert_eq!(name.as_str(), "rate-limit");
/// assert!("../rate-limit".parse::<PluginName>().is_err());
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(String);

impl PluginName {
    /// The longest name allowed, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn follows_the_rule(name: &str) -> bool {
    let starts_with_a_letter = name.starts_with(|c: char| c.is_ascii_lowercase());
    let words_are_plain = name.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    name.len() <= PluginName::MAX_LEN && starts_with_a_letter && words_are_plain
}

/// Windows opens the device whatever the directory, and with any extension.
fn is_windows_device(name: &str) -> bool {
    let numbered = |prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(name, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

impl FromStr for PluginName {
    type Err = RegistryError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if follows_the_rule(name) && !is_windows_device(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(RegistryError::InvalidName {
                name: excerpt(name),
            })
        }
    }
}

impl TryFrom<String> for PluginName {
    type Error = RegistryError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> Self {
        name.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginName({})", self.0)
    }
}
