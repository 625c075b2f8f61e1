//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vortex_registry::{Digest, PluginName, RegistryError, Version};

/// Why a push or a pull failed.
///
/// What a server has sent stands in a message shortened and escaped, and no
/// message holds credentials or the query of a URL.
///
/// ```
/// use vortex_oci::{OciError, Reference};
///
/// let error = Reference::parse("registry.example.com/redirect:latest").unwrap_err();
/// assert!(matches!(error, OciError::InvalidReference { .. }));
/// assert!(error.to_string().contains("the tag is no full version such as 1.2.3"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// The text is no reference, see [`Reference`](crate::Reference).
    #[error("invalid reference {reference:?}: {reason}")]
    InvalidReference {
        /// The text, shortened.
        reference: String,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// The client cannot be set up as asked.
    #[error("the OCI client cannot be set up: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },

    /// The Docker config or a credential helper has no usable answer.
    #[error("credentials for {host} cannot be read: {reason}")]
    Credentials {
        /// The host they are for, or the file that was read.
        host: String,
        /// What is wrong.
        reason: String,
    },

    /// The server asks for credentials that would travel in plain text.
    #[error(
        "{host} asks for credentials over plain HTTP, which would show them to everybody on the way: use HTTPS"
    )]
    InsecureCredentials {
        /// The host.
        host: String,
    },

    /// The server wants credentials and there are none, or it refuses those there are.
    #[error("{host} refuses access: {reason}")]
    Unauthorized {
        /// The host.
        host: String,
        /// What was tried.
        reason: &'static str,
    },

    /// The server cannot be reached, or the connection broke.
    #[error("no answer from {host}")]
    Transport {
        /// The host.
        host: String,
        /// What the HTTP client says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The server sent nothing for too long.
    #[error("{host} sent nothing for {limit:?}")]
    Stalled {
        /// The host.
        host: String,
        /// How long it may be silent.
        limit: Duration,
    },

    /// The whole push or pull took too long.
    #[error(
        "{reference} took longer than {limit:?}: raise the client's deadline or use a nearer mirror"
    )]
    Deadline {
        /// What was pushed or pulled.
        reference: String,
        /// How long it may take.
        limit: Duration,
    },

    /// The server has an error of its own, or refuses what was asked.
    #[error("{host} answers {status} to {action}: {message:?}")]
    Status {
        /// The host.
        host: String,
        /// What was asked for.
        action: &'static str,
        /// The HTTP status code.
        status: u16,
        /// The beginning of what it says.
        message: String,
    },

    /// There is no such plugin version.
    #[error("{reference} is not on {host}")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// The host.
        host: String,
    },

    /// The server sends the client to where it must not go.
    #[error("{host} redirects to {location:?}, which is refused: {reason}")]
    Redirect {
        /// The host.
        host: String,
        /// Scheme and host of the target, shortened.
        location: String,
        /// Which rule is broken.
        reason: &'static str,
    },

    /// Something is larger than it may be.
    #[error("{what} from {host} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// What it is.
        what: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },

    /// What the server sent breaks the protocol or is no plugin in the layout of this crate.
    #[error("{what} from {host} is unusable: {reason}")]
    Malformed {
        /// The host.
        host: String,
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A body ended before its end.
    #[error("{what} from {host} ended after {received} of {expected} bytes")]
    Truncated {
        /// The host.
        host: String,
        /// What it is.
        what: &'static str,
        /// How many bytes there are, in all attempts together.
        received: u64,
        /// How many there should be.
        expected: u64,
    },

    /// The bytes are others than their digest says.
    #[error("{what} from {host} has the digest sha256:{actual}, not sha256:{expected}")]
    Digest {
        /// The host.
        host: String,
        /// What it is.
        what: &'static str,
        /// The digest that was asked for or announced.
        expected: Digest,
        /// The digest of what was sent.
        actual: Digest,
    },

    /// The plugin is another one than the reference asks for: a tag was moved, perhaps back.
    #[error(
        "{reference} on {host} is plugin {name} {version}: the registry gives out another plugin or version than was asked for"
    )]
    WrongPlugin {
        /// What was asked for.
        reference: String,
        /// The host.
        host: String,
        /// The plugin that is there.
        name: PluginName,
        /// Its version.
        version: Version,
    },

    /// What is to be pushed does not fit the reference or itself.
    #[error("cannot push to {reference}: {reason}")]
    Unpublishable {
        /// Where it should go.
        reference: String,
        /// What does not fit.
        reason: String,
    },

    /// The version has been pushed before, with other contents.
    #[error(
        "{reference} is there already as sha256:{existing}: published versions never change, push a new one"
    )]
    AlreadyPublished {
        /// Where it should go.
        reference: String,
        /// The digest of the OCI manifest that is there.
        existing: Digest,
    },

    /// No mirror and not the registry itself could serve the plugin version.
    #[error("no source of {reference} serves it: {}", join(failures))]
    Sources {
        /// What was asked for.
        reference: String,
        /// What happened at each host, in the order they were asked.
        failures: Vec<OciError>,
    },

    /// A file of the store's downloads could not be read or written.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },

    /// The plugin registry refuses the plugin version, or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),

    /// The async runtime ended in the middle.
    #[error("the runtime was shut down while {action}")]
    Interrupted {
        /// What was going on.
        action: &'static str,
    },
}

impl OciError {
    /// Whether the same request may well succeed when it is sent again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Stalled { .. } | Self::Truncated { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether another source may serve what this one did not. Who is trusted
    /// is the registry's decision, and it decides about each source anew.
    pub(crate) fn is_of_source(&self) -> bool {
        match self {
            Self::Registry(error) => matches!(
                error,
                RegistryError::Corrupt { .. }
                    | RegistryError::Unsigned { .. }
                    | RegistryError::UntrustedKey { .. }
                    | RegistryError::Refused { .. }
            ),
            Self::Credentials { .. }
            | Self::InsecureCredentials { .. }
            | Self::Unauthorized { .. }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Status { .. }
            | Self::NotFound { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Truncated { .. }
            | Self::Digest { .. }
            | Self::WrongPlugin { .. } => true,
            _ => false,
        }
    }

    /// Whether the plugin version is nowhere, as far as every source says.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Sources { failures, .. } => failures.iter().all(Self::is_not_found),
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn malformed(host: &str, what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            host: host.to_owned(),
            what,
            reason: printable(&reason.into()),
        }
    }
}

/// The beginning of a text that may be of any length, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The beginning of a text that a server may have a hand in, for a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::new();
    for c in excerpt(text).chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Each failure with its cause, since a join has no `source`.
fn join(failures: &[OciError]) -> String {
    let texts: Vec<_> = failures
        .iter()
        .map(|failure| match std::error::Error::source(failure) {
            Some(cause) => format!("{failure} ({cause})"),
            None => failure.to_string(),
        })
        .collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_free_of_control_characters() {
        let reason = format!("\u{1b}[2J{}", "x".repeat(10_000));
        let message = OciError::malformed("host", "the manifest", reason).to_string();
        assert!(message.len() < 300, "{message}");
        assert!(!message.contains('\u{1b}'));
    }

    #[test]
    fn what_is_nowhere_is_not_found() {
        let not_found = || OciError::NotFound {
            reference: "a".to_owned(),
            host: "b".to_owned(),
        };
        let sources = |failures| OciError::Sources {
            reference: "a".to_owned(),
            failures,
        };
        assert!(sources(vec![not_found(), not_found()]).is_not_found());
        let refused = OciError::Unauthorized {
            host: "b".to_owned(),
            reason: "x",
        };
        assert!(!sources(vec![not_found(), refused]).is_not_found());
    }
}
