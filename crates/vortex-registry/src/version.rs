//! Which version of a plugin is meant.

use std::fmt;
use std::str::FromStr;

use semver::{Version, VersionReq};
use serde::{Deserialize, Deserializer};

use crate::error::{RegistryError, excerpt};

/// The longest version read or stored, in bytes: it becomes a file name, and a
/// file name of Linux ends at 255.
pub(crate) const MAX_VERSION_LEN: usize = 128;

/// The longest requirement read, in bytes.
const MAX_REQUIREMENT_LEN: usize = 256;

/// Which version of a plugin is asked for (SemVer 2.0.0).
///
/// As text: `latest`; a full version such as `1.2.3`, which means exactly that
/// one; or a requirement in which every comparator has an operator or a
/// wildcard, such as `^1.2`, `~1.2.3`, `>=1, <2` or `1.*`. A bare `1.2` is
/// refused, because readers disagree on what it means.
///
/// Precedence follows SemVer 2.0.0 §11, so 1.10.0 is newer than 1.9.0. A
/// prerelease is found only when it is asked for, by its exact version or by a
/// requirement that names a prerelease of the same `major.minor.patch`.
///
/// ```
/// use vortex_registry::{Version, VersionSelector};
///
/// assert_eq!("latest".parse::<VersionSelector>()?, VersionSelector::Latest);
/// assert_eq!("1.2.3".parse::<VersionSelector>()?, VersionSelector::Exact(Version::new(1, 2, 3)));
/// assert!(matches!("^1.2".parse::<VersionSelector>()?, VersionSelector::Matching(_)));
/// assert!("1.2".parse::<VersionSelector>().is_err());
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// The highest version that is no prerelease.
    Latest,
    /// Exactly this version, build metadata included.
    Exact(Version),
    /// The highest version that meets the requirement.
    Matching(VersionReq),
}

impl VersionSelector {
    /// The version meant, out of those there are.
    pub(crate) fn choose(&self, versions: Vec<Version>) -> Option<Version> {
        versions
            .into_iter()
            .filter(|version| match self {
                Self::Latest => version.pre.is_empty(),
                Self::Exact(exact) => version == exact,
                Self::Matching(requirement) => requirement.matches(version),
            })
            .max()
    }
}

impl FromStr for VersionSelector {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Ok(version) = parse_version(text) {
            return Ok(Self::Exact(version));
        }
        let invalid = || RegistryError::InvalidSelector {
            selector: excerpt(text),
        };
        let is_explicit = |comparator: &str| {
            let comparator = comparator.trim();
            comparator.starts_with(['=', '<', '>', '~', '^']) || comparator.ends_with('*')
        };
        if text.len() > MAX_REQUIREMENT_LEN || !text.split(',').all(is_explicit) {
            return Err(invalid());
        }
        match VersionReq::parse(text) {
            // It is shown with a space after each comma, and what is shown can be read.
            Ok(requirement) if requirement.to_string().len() <= MAX_REQUIREMENT_LEN => {
                Ok(Self::Matching(requirement))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Exact(version) => version.fmt(f),
            Self::Matching(requirement) => requirement.fmt(f),
        }
    }
}

impl From<Version> for VersionSelector {
    fn from(version: Version) -> Self {
        Self::Exact(version)
    }
}

impl From<&Version> for VersionSelector {
    fn from(version: &Version) -> Self {
        Self::Exact(version.clone())
    }
}

impl From<VersionReq> for VersionSelector {
    fn from(requirement: VersionReq) -> Self {
        Self::Matching(requirement)
    }
}

/// Reads a version of bounded length.
pub(crate) fn parse_version(text: &str) -> Result<Version, RegistryError> {
    let invalid = || RegistryError::InvalidVersion {
        version: excerpt(text),
    };
    if text.len() > MAX_VERSION_LEN {
        return Err(invalid());
    }
    Version::parse(text).map_err(|_| invalid())
}

/// Deserialises a version of bounded length.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
    let text = String::deserialize(from)?;
    parse_version(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(selector: &str, versions: &[&str]) -> Option<String> {
        let versions = versions.iter().map(|v| v.parse().unwrap()).collect();
        let selector: VersionSelector = selector.parse().unwrap();
        selector.choose(versions).map(|v| v.to_string())
    }

    #[test]
    fn precedence_is_numeric_and_leaves_prereleases_out() {
        let all = ["1.2.0", "1.9.0", "1.10.0", "2.0.0-rc.2", "2.0.0-rc.10"];
        assert_eq!(choose("latest", &all).as_deref(), Some("1.10.0"));
        assert_eq!(choose("^1.2", &all).as_deref(), Some("1.10.0"));
        assert_eq!(choose("~1.2", &all).as_deref(), Some("1.2.0"));
        assert_eq!(choose(">=1, <1.10", &all).as_deref(), Some("1.9.0"));
        assert_eq!(choose("*", &all).as_deref(), Some("1.10.0"));
        assert_eq!(choose("2.*", &all), None);
        assert_eq!(choose("^2.0.0-rc.1", &all).as_deref(), Some("2.0.0-rc.10"));
        assert_eq!(choose("2.0.0-rc.2", &all).as_deref(), Some("2.0.0-rc.2"));
        assert_eq!(choose("latest", &["1.0.0-alpha"]), None);
    }

    #[test]
    fn ambiguous_and_malformed_selectors_are_refused() {
        for bad in [
            "",
            " ",
            "1",
            "1.2",
            "v1.2.3",
            "01.2.3",
            "1.2.3.4",
            "Latest",
            "1.2.3, <2",
            "^",
            "../1",
            "1.2.3\n",
            "=1.2.3\0",
        ] {
            assert!(bad.parse::<VersionSelector>().is_err(), "{bad:?}");
        }
        assert!(
            format!("^{}", "1".repeat(300))
                .parse::<VersionSelector>()
                .is_err()
        );
    }

    /// Commas without spaces let a requirement fit that does not when it is shown.
    #[test]
    fn what_is_shown_of_a_requirement_can_be_read() {
        let comparators = |count| vec![">=1.2.3"; count].join(",");
        for count in 1..=32 {
            let Ok(selector) = comparators(count).parse::<VersionSelector>() else {
                assert!(count > 28, "{count}");
                continue;
            };
            assert!(count <= 28, "{count}");
            let shown = selector.to_string();
            assert_eq!(shown.parse::<VersionSelector>().unwrap(), selector);
        }
    }

    #[test]
    fn versions_are_bounded() {
        let fits = format!("1.0.0-{}", "a".repeat(MAX_VERSION_LEN - 6));
        assert!(parse_version(&fits).is_ok());
        assert!(parse_version(&format!("{fits}a")).is_err());
    }
}
