//! Who the client is to a registry: what `docker login` has left behind.

mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::OciError;

/// The largest config file read, in bytes.
const MAX_CONFIG_LEN: u64 = 1024 * 1024;

/// What Docker Hub is called in a config file.
const DOCKER_HUB: &str = "index.docker.io";
const DOCKER_HUB_URL: &str = "https://index.docker.io/v1/";

/// What a registry is told when it asks who is there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A user's name and password, or an access token in its place.
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    /// A token that the registry's token service takes for another one.
    IdentityToken(Zeroizing<String>),
}

impl Credential {
    fn new(user: String, secret: Zeroizing<String>) -> Self {
        // What credential helpers say when they keep a token.
        if user == "<token>" {
            Self::IdentityToken(secret)
        } else {
            Self::Password {
                user,
                password: secret,
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// The credentials of a Docker config file, and the helpers that it names.
///
/// `credHelpers` comes before `credsStore`, and that before `auths`, as Docker
/// has it. A helper is the program `docker-credential-<name>` in `PATH`; it gets
/// the host on its standard input and has 10 seconds.
///
/// ```
/// use vortex_oci::DockerConfig;
///
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("config.json");
/// std::fs::write(&file, r#"{"auths": {"registry.example.com": {"auth": "dXNlcjpzZWNyZXQ="}}}"#)?;
/// let config = DockerConfig::read(&file)?;
/// assert!(!format!("{config:?}").contains("dXNlcjpzZWNyZXQ="));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Zeroizing<String>,
    username: String,
    password: Zeroizing<String>,
    identitytoken: Zeroizing<String>,
}

impl DockerConfig {
    /// No credentials at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads `config.json` in the directory that `DOCKER_CONFIG` names, or else
    /// in `~/.docker`. A file that does not exist is empty.
    ///
    /// # Errors
    ///
    /// [`OciError::Credentials`] when the file cannot be read, is larger than 1 MiB or no config.
    pub fn from_env() -> Result<Self, OciError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        match directory {
            Some(directory) => Self::read(&directory.join("config.json")),
            None => Ok(Self::empty()),
        }
    }

    /// Reads a config file. One that does not exist is empty.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn read(file: &Path) -> Result<Self, OciError> {
        let unreadable = |reason: String| OciError::Credentials {
            host: file.display().to_string(),
            reason,
        };
        let opened = match std::fs::File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::empty()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let mut json = Zeroizing::new(Vec::new());
        opened
            .take(MAX_CONFIG_LEN + 1)
            .read_to_end(&mut json)
            .map_err(|error| unreadable(error.to_string()))?;
        if json.len() as u64 > MAX_CONFIG_LEN {
            return Err(unreadable(format!(
                "it is larger than {MAX_CONFIG_LEN} bytes"
            )));
        }
        // The parser's own words may quote a secret.
        serde_json::from_slice(&json).map_err(|error| {
            unreadable(format!(
                "line {} column {} is not as Docker writes it",
                error.line(),
                error.column()
            ))
        })
    }

    /// The credential for a host with or without a port, if there is one.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Option<Credential>, OciError> {
        let wanted = normalised(host);
        let by_host = |key: &&String| normalised(key) == wanted;
        let helper = match self.cred_helpers.keys().find(by_host) {
            Some(key) => &self.cred_helpers[key],
            None => &self.creds_store,
        };
        if !helper.is_empty() {
            let server = if wanted == DOCKER_HUB {
                DOCKER_HUB_URL
            } else {
                host
            };
            if let Some(found) = helper::get(helper, server).await? {
                return Ok(Some(found));
            }
        }
        match self.auths.keys().find(by_host) {
            Some(key) => self.auths[key].credential(host),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig")
            .field("hosts", &self.auths.keys())
            .field("creds_store", &self.creds_store)
            .field("cred_helpers", &self.cred_helpers)
            .finish_non_exhaustive()
    }
}

impl Auth {
    fn credential(&self, host: &str) -> Result<Option<Credential>, OciError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identitytoken.clone())));
        }
        if !self.username.is_empty() {
            let (user, secret) = (self.username.clone(), self.password.clone());
            return Ok(Some(Credential::new(user, secret)));
        }
        if self.auth.is_empty() {
            // `docker login` leaves an empty entry where a helper keeps the secret.
            return Ok(None);
        }
        let decoded = STANDARD
            .decode(self.auth.trim().as_bytes())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Zeroizing::new);
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, secret)) => Ok(Some(Credential::new(
                user.to_owned(),
                Zeroizing::new(secret.trim_end_matches('\0').to_owned()),
            ))),
            None => Err(OciError::Credentials {
                host: host.to_owned(),
                reason: "its `auth` in the Docker config is no base64 of user:password".to_owned(),
            }),
        }
    }
}

/// A host as a config's key, which may be a URL.
fn normalised(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key).to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> DockerConfig {
        serde_json::from_str(json).unwrap()
    }

    async fn password(config: &DockerConfig, host: &str) -> Option<(String, String)> {
        match config.lookup(host).await.unwrap()? {
            Credential::Password { user, password } => Some((user, password.to_string())),
            Credential::IdentityToken(token) => Some(("<token>".to_owned(), token.to_string())),
        }
    }

    #[tokio::test]
    async fn every_way_to_write_a_host_is_found() {
        let config = config(
            r#"{"auths": {
                "https://registry.example.com/v2/": {"auth": "dXNlcjpzZTpjcmV0"},
                "localhost:5000": {"username": "a", "password": "b"},
                "token.example.com": {"identitytoken": "t"},
                "https://index.docker.io/v1/": {"auth": "aHViOmh1Yg=="},
                "empty.example.com": {}
            }, "HttpHeaders": {"User-Agent": "x"}}"#,
        );
        let found = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        assert_eq!(
            password(&config, "registry.example.com").await,
            found("user", "se:cret")
        );
        assert_eq!(password(&config, "localhost:5000").await, found("a", "b"));
        assert_eq!(
            password(&config, "token.example.com").await,
            found("<token>", "t")
        );
        assert_eq!(password(&config, "docker.io").await, found("hub", "hub"));
        for host in [
            "empty.example.com",
            "localhost",
            "localhost:5001",
            "example.com",
            "registry.example.com:5000",
            "registry.example.com.evil.example",
        ] {
            assert_eq!(password(&config, host).await, None, "{host}");
        }
    }

    #[tokio::test]
    async fn a_broken_entry_is_an_error_without_its_contents() {
        for auth in ["c2VjcmV0", "se-cret", "//8="] {
            let config = config(&format!(r#"{{"auths": {{"host": {{"auth": "{auth}"}}}}}}"#));
            let error = config.lookup("host").await.unwrap_err().to_string();
            assert!(
                !error.contains(auth) && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn broken_and_huge_files_are_errors_and_missing_ones_are_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        assert!(DockerConfig::read(&file).unwrap().auths.is_empty());
        std::fs::write(&file, r#"{"auths": {"host": "secret"}}"#).unwrap();
        let error = DockerConfig::read(&file).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        std::fs::write(&file, vec![b' '; MAX_CONFIG_LEN as usize + 1]).unwrap();
        let error = DockerConfig::read(&file).unwrap_err().to_string();
        assert!(error.contains("larger"), "{error}");
    }
}
