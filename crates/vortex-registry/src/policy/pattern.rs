//! Which names a rule is about.

use std::fmt;
use std::str::FromStr;

use crate::error::{RegistryError, excerpt};
use crate::name::PluginName;

/// A plugin name in which `*` stands for any characters, or none.
///
/// ```
/// use vortex_registry::NamePattern;
///
/// let pattern: NamePattern = "auth-*".parse()?;
/// assert!(pattern.matches(&"auth-jwt".parse()?));
/// assert!(!pattern.matches(&"oauth-jwt".parse()?));
/// assert!("auth/*".parse::<NamePattern>().is_err());
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern that every name matches.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &PluginName) -> bool {
        glob(self.0.as_bytes(), name.as_str().as_bytes())
    }

    /// Whether every name that matches `other` is known to match this one too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        // A star can only have matched a star, and then matches what that stands for.
        glob(self.0.as_bytes(), other.0.as_bytes())
    }
}

/// Takes the leftmost match of what stands between two stars, which leaves the
/// most for the rest: at most pattern times text steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after_star, from)) = retry {
            (p, t) = (after_star, from + 1);
            retry = Some((p, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

impl FromStr for NamePattern {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed =
            |b: u8| matches!(b, b'*' | b'-') || b.is_ascii_lowercase() || b.is_ascii_digit();
        let sensible = if text.contains('*') {
            text.len() <= PluginName::MAX_LEN && text.bytes().all(allowed)
        } else {
            text.parse::<PluginName>().is_ok()
        };
        if sensible {
            Ok(Self(text.to_owned()))
        } else {
            Err(RegistryError::InvalidPattern {
                pattern: excerpt(text),
            })
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word; exponential.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), _) => {
                (0..=text.len()).any(|skipped| naive(rest, &text[skipped..]))
            }
            (Some((p, rest)), Some((t, others))) => p == t && naive(rest, others),
            (Some(_), None) => false,
        }
    }

    fn words(alphabet: &[u8], max: usize) -> Vec<Vec<u8>> {
        let mut all = vec![vec![]];
        let mut last = 0;
        for _ in 0..max {
            let end = all.len();
            for i in last..end {
                for &letter in alphabet {
                    all.push([&all[i][..], &[letter]].concat());
                }
            }
            last = end;
        }
        all
    }

    /// Every pattern of up to 5 characters against every text of up to 5.
    #[test]
    fn globs_match_as_defined() {
        let (patterns, texts) = (words(b"ab*", 5), words(b"ab", 5));
        let mut matched = 0;
        for pattern in &patterns {
            for text in &texts {
                let expected = naive(pattern, text);
                assert_eq!(glob(pattern, text), expected, "{pattern:?} {text:?}");
                matched += usize::from(expected);
            }
        }
        assert_eq!(patterns.len() * texts.len(), 364 * 63);
        assert_eq!(matched, 4_628);
    }

    #[test]
    fn a_pattern_that_covers_another_matches_all_that_it_matches() {
        let (patterns, texts) = (words(b"ab*", 3), words(b"ab", 5));
        for a in &patterns {
            for b in patterns.iter().filter(|b| glob(a, b)) {
                for text in texts.iter().filter(|text| glob(b, text)) {
                    assert!(glob(a, text), "{a:?} {b:?} {text:?}");
                }
            }
        }
    }

    #[test]
    fn stars_do_not_cost_exponentially() {
        let pattern = "a*".repeat(32);
        assert!(!glob(pattern.as_bytes(), &[b'a'; 31]));
        assert!(!glob(
            format!("{}b", "*a".repeat(31)).as_bytes(),
            &[b'a'; 64]
        ));
    }

    #[test]
    fn only_what_names_are_made_of_and_stars() {
        for good in ["*", "a*", "*-a", "a-*-b", "**", "redirect"] {
            let pattern: NamePattern = good.parse().unwrap();
            assert_eq!(
                (pattern.as_str(), pattern.to_string()),
                (good, good.to_owned())
            );
        }
        let long = "*".repeat(65);
        for bad in [
            "", "A*", "a?", "[a]*", "a/*", "../*", "con", "a--b", "é*", &long,
        ] {
            assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
        }
    }
}
