//! When a hook runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The moment in the life of a request or connection at which a hook runs.
///
/// On the wire, in manifests and in policies a hook type is written in snake
/// case, as the Go system writes it.
///
/// ```
/// use vortex_hook_core::HookType;
///
/// let hook_type: HookType = "pre_request".parse()?;
/// assert_eq!(hook_type, HookType::PreRequest);
/// assert_eq!(hook_type.to_string(), "pre_request");
/// # Ok::<(), vortex_hook_core::ParseHookTypeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookType {
    /// Before a request goes upstream: the hook may deny it or change its headers.
    PreRequest,
    /// After the upstream has answered: the hook may deny the response or change its headers.
    PostResponse,
    /// When a client connects, before any byte of HTTP is read: the hook may refuse it.
    OnConnect,
    /// When a connection has ended: the answer is ignored.
    OnClose,
}

impl HookType {
    /// Every hook type, in the order of a connection's life as the Go system lists them.
    pub const ALL: [Self; 4] = [
        Self::PreRequest,
        Self::PostResponse,
        Self::OnConnect,
        Self::OnClose,
    ];

    /// The name on the wire, such as `pre_request`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreRequest => "pre_request",
            Self::PostResponse => "post_response",
            Self::OnConnect => "on_connect",
            Self::OnClose => "on_close",
        }
    }
}

impl fmt::Display for HookType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HookType {
    type Err = ParseHookTypeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str() == s)
            .ok_or(ParseHookTypeError)
    }
}

/// The text names none of the four hook types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown hook type: expected pre_request, post_response, on_connect or on_close")]
pub struct ParseHookTypeError;
