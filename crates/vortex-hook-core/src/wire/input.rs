//! `HookInput` in JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::Error as _;

use super::{Buffer, lossy, write_header_map, write_string};
use crate::{DecodeError, HookInput, HookType};

pub(crate) fn encode_input(input: &HookInput<'_>) -> Buffer {
    let body_len = input.body().map_or(0, |b| b.len().div_ceil(3) * 4);
    let headers_len = input.headers().map_or(0, |h| h.len() * 48);
    let mut buffer = Buffer::take();
    let out = &mut buffer.0;
    out.reserve(192 + input.path().len() + headers_len + body_len);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(input.hook_type().map_or("", HookType::as_str).as_bytes());
    out.extend_from_slice(b"\",\"method\":");
    write_string(out, input.method().map_or("", Method::as_str).as_bytes());
    out.extend_from_slice(b",\"path\":");
    write_string(out, input.path().as_bytes());
    out.extend_from_slice(b",\"headers\":");
    match input.headers() {
        Some(headers) => write_header_map(out, headers),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"body\":");
    match input.body() {
        Some(body) => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + body_len, 0);
            // The buffer is exactly as long as padded base64 needs, so this writes all of it.
            let written = STANDARD.encode_slice(body, &mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"remote\":");
    write_string(out, input.remote().as_bytes());
    out.extend_from_slice(b",\"route\":");
    write_string(out, input.route().as_bytes());
    out.push(b'}');
    buffer
}

impl HookInput<'static> {
    /// Reads an input from JSON, as a test or a tool does that replays one.
    ///
    /// A body of more than [`HookInput::MAX_BODY`] bytes is cut.
    ///
    /// # Errors
    ///
    /// When `json` is no hook input: not JSON, an unknown type, a method,
    /// header or base64 that is none.
    pub fn from_json(json: &[u8]) -> Result<Self, DecodeError> {
        let text = lossy(json);
        serde_json::from_str(&text)
            .and_then(RawInput::check)
            .map_err(|error| DecodeError::new("hook input", &error))
    }
}

#[derive(Deserialize)]
struct RawInput<'a> {
    #[serde(rename = "type", borrow, default)]
    hook_type: Cow<'a, str>,
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    headers: Option<BTreeMap<String, Option<Vec<String>>>>,
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    remote: String,
    #[serde(default)]
    route: String,
}

impl RawInput<'_> {
    fn check(self) -> Result<HookInput<'static>, serde_json::Error> {
        let mut input = HookInput::default();
        if !self.hook_type.is_empty() {
            input.hook_type = Some(self.hook_type.parse().map_err(serde_json::Error::custom)?);
        }
        if !self.method.is_empty() {
            let method = Method::from_bytes(self.method.as_bytes());
            input.method = Some(Cow::Owned(method.map_err(serde_json::Error::custom)?));
        }
        if let Some(raw) = self.headers {
            let mut headers = HeaderMap::new();
            for (name, values) in raw {
                let name = HeaderName::try_from(name).map_err(serde_json::Error::custom)?;
                for value in values.unwrap_or_default() {
                    let value = HeaderValue::try_from(value).map_err(serde_json::Error::custom)?;
                    headers
                        .try_append(name.clone(), value)
                        .map_err(serde_json::Error::custom)?;
                }
            }
            input.headers = Some(Cow::Owned(headers));
        }
        if let Some(body) = self.body {
            let body = STANDARD
                .decode(body.as_bytes())
                .map_err(serde_json::Error::custom)?;
            input = input.with_owned_body(body);
        }
        input.path = Cow::Owned(self.path);
        input.remote = Cow::Owned(self.remote);
        input.route = Cow::Owned(self.route);
        Ok(input)
    }
}
