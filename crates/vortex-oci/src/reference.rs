//! Where a plugin version is in an OCI registry.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;
use vortex_registry::{Digest, PluginName, Version};

use crate::error::{OciError, excerpt};

/// The longest reference read, in bytes.
const MAX_LEN: usize = 1024;

/// The longest repository, in bytes, as most registries have it.
const MAX_REPOSITORY_LEN: usize = 255;

/// The longest tag (OCI distribution specification 1.1), in bytes.
const MAX_TAG_LEN: usize = 128;

/// Where a plugin version is in an OCI registry, and which one it has to be.
///
/// As text `host[:port]/repository[:version][@sha256:digest]`, with a version, a
/// digest or both. The host is never left out, the last component of the
/// repository is the plugin's name, and the tag is a full version without build
/// metadata, since `+` cannot stand in a tag. So a reference always says which
/// plugin is expected, and what is pulled is compared with that.
///
/// ```
/// use vortex_oci::Reference;
/// use vortex_registry::Version;
///
/// let reference = Reference::parse("registry.example.com/team/redirect:1.2.3")?;
/// assert_eq!(reference.host(), "registry.example.com");
/// assert_eq!(reference.repository(), "team/redirect");
/// assert_eq!(reference.plugin().as_str(), "redirect");
/// assert_eq!(reference.version(), Some(&Version::new(1, 2, 3)));
///
/// // A tag that moves, no version at all, and no host.
/// assert!(Reference::parse("registry.example.com/team/redirect:latest").is_err());
/// assert!(Reference::parse("registry.example.com/team/redirect").is_err());
/// assert!(Reference::parse("team/redirect:1.2.3").is_err());
/// # Ok::<(), vortex_oci::OciError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    plugin: PluginName,
    version: Option<Version>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference of at most 1024 bytes.
    ///
    /// # Errors
    ///
    /// [`OciError::InvalidReference`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, OciError> {
        Self::read(text).map_err(|reason| OciError::InvalidReference {
            reference: excerpt(text),
            reason,
        })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LEN {
            return Err("it is longer than 1024 bytes");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (host, path) = rest
            .split_once('/')
            .ok_or("it names no host: write host/repository:version")?;
        let host = parse_host(host)?;
        let (repository, version) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(parse_tag(tag)?)),
            None => (path, None),
        };
        if version.is_none() && digest.is_none() {
            return Err("it has neither a version (:1.2.3) nor a digest (@sha256:…)");
        }
        if repository.len() > MAX_REPOSITORY_LEN || !repository.split('/').all(is_component) {
            return Err(
                "the repository is no lower-case path of letters, digits and single separators, \
                 at most 255 bytes",
            );
        }
        let name = repository.rsplit('/').next().unwrap_or(repository);
        Ok(Self {
            host,
            repository: repository.to_owned(),
            plugin: name.parse().map_err(|_| {
                "the last component of the repository is no plugin name: use lower-case words of \
                 letters and digits joined by `-`"
            })?,
            version,
            digest,
        })
    }

    /// The host of the registry in lower case, with its port if one was given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The plugin that is expected there.
    #[must_use]
    pub const fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    /// The version that is expected there, unless only the digest is given.
    #[must_use]
    pub const fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The digest of the OCI manifest that is expected there, if it is pinned.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same place, pinned to the OCI manifest with this digest.
    #[must_use]
    pub fn pinned(self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self
        }
    }

    /// What stands for the manifest in a URL: the digest, or else the tag.
    pub(crate) fn selector(&self) -> String {
        match (&self.digest, &self.version) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(version)) => version.to_string(),
            (None, None) => String::new(),
        }
    }
}

impl FromStr for Reference {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(version) = &self.version {
            write!(f, ":{version}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

fn parse_digest(text: &str) -> Result<Digest, &'static str> {
    let reason = "the digest is not sha256: and 64 lower-case hexadecimal digits";
    let hex = text.strip_prefix("sha256:").ok_or(reason)?;
    hex.parse().map_err(|_| reason)
}

fn parse_tag(tag: &str) -> Result<Version, &'static str> {
    let reason = "the tag is no full version such as 1.2.3";
    if tag.len() > MAX_TAG_LEN {
        return Err("the tag is longer than 128 bytes");
    }
    let version = Version::parse(tag).map_err(|_| reason)?;
    if !version.build.is_empty() {
        return Err("a published version has no build metadata: `+` cannot stand in a tag");
    }
    Ok(version)
}

/// Reads the host and port of a registry, in the one spelling that URLs have for it.
pub(crate) fn parse_host(text: &str) -> Result<String, &'static str> {
    let reason = "the host is no DNS name or IP address with an optional port";
    let host = text.to_ascii_lowercase();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if host.len() > MAX_REPOSITORY_LEN || !host.bytes().all(is_plain) {
        return Err(reason);
    }
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| reason)?;
    let name = url.host_str().unwrap_or_default();
    // A shorter or longer spelling of an address would hide what it is.
    let same_spelling = match host.strip_prefix(name) {
        Some("") => true,
        Some(port) => port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok_and(|p| p.to_string() == port)),
        None => false,
    };
    if !same_spelling {
        return Err(reason);
    }
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err("the host has no dot and no port: write the registry's full name");
    }
    Ok(host)
}

/// Whether a host with or without a port is this machine, by its address or
/// because it is called `localhost` (RFC 6761).
pub(crate) fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("https://{host}/")) else {
        return false;
    };
    is_loopback_url(&url)
}

pub(crate) fn is_loopback_url(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, as the distribution specification has it.
fn is_component(component: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = component.split(is_letter).filter(|run| !run.is_empty());
    let is_separator =
        |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    component.starts_with(is_letter)
        && component.ends_with(is_letter)
        && separators.into_iter().all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let digest = Digest::of(b"").to_string();
        for text in [
            "registry.example.com/redirect:1.2.3".to_owned(),
            "registry.example.com:5000/a/b__c/d-e.f/redirect:1.2.3-rc.1".to_owned(),
            "127.0.0.1:5000/redirect:1.2.3".to_owned(),
            "[::1]:5000/redirect:1.2.3".to_owned(),
            "localhost/redirect:1.2.3".to_owned(),
            format!("registry.example.com/redirect@sha256:{digest}"),
            format!("registry.example.com/redirect:1.2.3@sha256:{digest}"),
        ] {
            assert_eq!(Reference::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let digest = Digest::of(b"").to_string();
        for bad in [
            String::new(),
            "redirect:1.2.3".into(),
            "team/redirect:1.2.3".into(),
            "registry.example.com/redirect".into(),
            "registry.example.com/redirect:latest".into(),
            "registry.example.com/redirect:1.2".into(),
            "registry.example.com/redirect:1.2.3+build".into(),
            "registry.example.com/redirect:1.2.3:4.5.6".into(),
            "registry.example.com/Redirect:1.2.3".into(),
            "registry.example.com/../redirect:1.2.3".into(),
            "registry.example.com//redirect:1.2.3".into(),
            "registry.example.com/a/./redirect:1.2.3".into(),
            "registry.example.com/a?b/redirect:1.2.3".into(),
            "registry.example.com/con:1.2.3".into(),
            "registry.example.com/a___b/redirect:1.2.3".into(),
            "user@registry.example.com/redirect:1.2.3".into(),
            "user:pw@registry.example.com/redirect:1.2.3".into(),
            "https://registry.example.com/redirect:1.2.3".into(),
            "registry.example.com:99999/redirect:1.2.3".into(),
            "registry.example.com:/redirect:1.2.3".into(),
            "registry.example.com:05000/redirect:1.2.3".into(),
            "127.1:5000/redirect:1.2.3".into(),
            "0x7f000001:5000/redirect:1.2.3".into(),
            "[0:0:0:0:0:0:0:1]:5000/redirect:1.2.3".into(),
            "régistry.example.com/redirect:1.2.3".into(),
            "registry.example.com/redirect:1.2.3\r\n".into(),
            format!("registry.example.com/redirect@sha512:{digest}"),
            format!("registry.example.com/redirect@sha256:{}", &digest[1..]),
            format!("registry.example.com/{}:1.2.3", "a/".repeat(200) + "a"),
            format!("registry.example.com/redirect:1.0.0-{}", "a".repeat(200)),
        ] {
            assert!(Reference::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "127.0.0.1.example.com",
            "localhost.example.com",
            "10.0.0.1",
            "0.0.0.0:5000",
            "[::]:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
