//! `HookInput` in JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::Error as _;

use super::cursor::Cursor;
use super::{Buffer, lossy, write_header_map, write_string};
use crate::{DecodeError, HookInput, HookType};

pub(crate) fn encode_input(input: &HookInput<'_>) -> Buffer {
    let body_len = input.body().map_or(0, base64_len);
    Buffer::of(1024 + body_len, |out| write_input(out, input))
}

fn write_input<'b>(mut out: Cursor<'b>, input: &HookInput<'_>) -> Option<Cursor<'b>> {
    let hook_type = input.hook_type().map_or("", HookType::as_str);
    let method = input.method().map_or("", Method::as_str);
    out = out.put(b"{\"type\":\"")?.copy(hook_type.as_bytes())?;
    out = write_string(out.put(b"\",\"method\":")?, method.as_bytes())?;
    out = write_string(out.put(b",\"path\":")?, input.path().as_bytes())?;
    out = out.put(b",\"headers\":")?;
    out = match input.headers() {
        Some(headers) => write_header_map(out, headers)?,
        None => out.put(b"null")?,
    };
    out = out.put(b",\"body\":")?;
    out = match input.body() {
        Some(body) => write_base64(out, body)?,
        None => out.put(b"null")?,
    };
    out = write_string(out.put(b",\"remote\":")?, input.remote().as_bytes())?;
    out = write_string(out.put(b",\"route\":")?, input.route().as_bytes())?;
    out.put(b"}")
}

fn write_base64<'b>(out: Cursor<'b>, bytes: &[u8]) -> Option<Cursor<'b>> {
    let (to, rest) = out.put(b"\"")?.take(base64_len(bytes))?;
    // It is exactly as long as padded base64 needs, so that all of it is written.
    let written = STANDARD.encode_slice(bytes, to);
    debug_assert_eq!(written.ok(), Some(base64_len(bytes)));
    rest.put(b"\"")
}

fn base64_len(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
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
