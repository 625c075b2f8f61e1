//! What a hook answers.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use crate::HeaderChanges;

/// A hook's decision, or a chain's.
///
/// The default is the Go system's zero value: it denies.
///
/// ```
/// use http::StatusCode;
/// use vortex_hook_core::HookOutput;
///
/// let output = HookOutput::deny(StatusCode::TOO_MANY_REQUESTS).with_header("retry-after", "3")?;
/// assert!(!output.allow);
/// assert_eq!(output.deny_status(), 429);
///
/// let from_guest = HookOutput::from_json(br#"{"allow":true}"#)?;
/// assert_eq!(from_guest, HookOutput::allow());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookOutput {
    /// Whether the request, response or connection may go on.
    pub allow: bool,
    /// Whether `headers` counts: without it a chain ignores them.
    pub modified: bool,
    /// The header changes.
    pub headers: HeaderChanges,
    /// The status to answer or overwrite with; `None` leaves it to the gateway (0 on the wire).
    pub status: Option<StatusCode>,
    /// The body to answer a denied request with, or to go on with in place of the
    /// message's own; `None` leaves it. JSON does not have it.
    pub body: Option<Bytes>,
}

impl HookOutput {
    /// Lets it pass unchanged.
    #[must_use]
    pub fn allow() -> Self {
        Self {
            allow: true,
            ..Self::default()
        }
    }

    /// Denies with a status.
    #[must_use]
    pub fn deny(status: StatusCode) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// Sets the body, see [`HookOutput::body`].
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets one header to one value, replacing what it had.
    ///
    /// # Errors
    ///
    /// When `name` or `value` cannot stand in HTTP, or
    /// [`HeaderChanges::MAX_NAMES`] names are changed already.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let header_name = HeaderName::try_from(name).map_err(|_| InvalidHeader::Name {
            name: name.to_owned(),
        })?;
        let value = HeaderValue::try_from(value).map_err(|_| InvalidHeader::Value {
            name: header_name.clone(),
        })?;
        if !self.headers.insert(header_name, value) {
            return Err(InvalidHeader::TooMany);
        }
        self.modified = true;
        Ok(self)
    }

    /// The status that a denial is answered with: the output's own, else 403.
    ///
    /// A status below 300 is no denial to a client (an earlier hook that allowed
    /// may have set it), so that 403 stands in for it too.
    #[must_use]
    pub fn deny_status(&self) -> StatusCode {
        self.status
            .filter(|status| status.as_u16() >= 300)
            .unwrap_or(StatusCode::FORBIDDEN)
    }
}

/// Why a header cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is no token of RFC 9110.
    #[error("header name {name:?} is not a token (RFC 9110, section 5.6.2)")]
    Name {
        /// The name.
        name: String,
    },
    /// The value holds a control character.
    #[error("the value for header `{name}` holds a control character")]
    Value {
        /// The header's name.
        name: HeaderName,
    },
    /// There is no room for a further name.
    #[error(
        "more than {} header names changed in one output",
        HeaderChanges::MAX_NAMES
    )]
    TooMany,
}
