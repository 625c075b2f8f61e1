//! `HookOutput` in JSON.

mod plain;

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Buffer, lossy, write_headers};
use crate::{DecodeError, HeaderChange, HeaderChanges, HookOutput};

impl HookOutput {
    /// Reads an output from JSON, as a sandboxed plugin answers it.
    ///
    /// What the Go system accepts is accepted, with these differences: a status
    /// outside 100–999 (0 means none), a field or header named twice, a header
    /// that cannot stand in HTTP, and more headers than
    /// [`HeaderChanges::MAX_NAMES`] or values than
    /// [`HeaderChanges::MAX_VALUES`] are errors.
    ///
    /// # Errors
    ///
    /// When `json` is no hook output; the message says where and why.
    pub fn from_json(json: &[u8]) -> Result<Self, DecodeError> {
        match plain::read(json) {
            Some(output) => Ok(output),
            None => from_any_json(json),
        }
    }

    /// The output in JSON as the Go system writes it, which knows neither bodies
    /// nor that a value is added: it is written as if it replaced the others.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        Buffer::of(0, |out| {
            let flag = |flag: bool| if flag { "true" } else { "false" };
            let headers = self.headers.iter().map(|(name, change)| match change {
                HeaderChange::Replace(values) | HeaderChange::Append(values) => {
                    (name, values.iter())
                }
            });
            let status = self.status.as_ref().map_or("0", StatusCode::as_str);
            let out = out.put(b"{\"allow\":")?.copy(flag(self.allow).as_bytes())?;
            let out = out
                .put(b",\"modified\":")?
                .copy(flag(self.modified).as_bytes())?;
            let out = write_headers(out.put(b",\"headers\":")?, headers)?;
            out.put(b",\"status\":")?.copy(status.as_bytes())?.put(b"}")
        })
        .to_vec()
    }
}

/// Reads whatever is a hook output, and says why something is none.
#[cold]
fn from_any_json(json: &[u8]) -> Result<HookOutput, DecodeError> {
    let text = lossy(json);
    parse(&text)
        .or_else(|error| match replace_lone_surrogates(&text) {
            Some(text) => parse(&text),
            None => Err(error),
        })
        .map_err(|error| DecodeError::new("hook output", &error))
}

fn parse(text: &str) -> Result<HookOutput, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let output = json.deserialize_any(OutputVisitor)?;
    json.end()?;
    Ok(output)
}

/// Replaces escaped surrogates that have no partner (`\ud83e`) by `\ufffd`, as
/// Go reads them; `None` when there is none. It only runs on what
/// `serde_json` has refused.
fn replace_lone_surrogates(text: &str) -> Option<String> {
    // The value of a `\uXXXX` escape at `at`.
    let escape = |at: usize| -> Option<u16> {
        let digits = text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text.get(at..)?.find('\\') {
        at += found;
        match escape(at) {
            Some(0xD800..=0xDBFF) if matches!(escape(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // A two-character escape, or text that is no JSON: the parser will say so.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Compares as Go does: by letter without regard to case, where the long s and
/// the Kelvin sign fold to ASCII letters too.
fn is_field(key: &str, field: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key == field || key.chars().map(fold).eq(field.chars())
}

struct OutputVisitor;

impl<'de> Visitor<'de> for OutputVisitor {
    type Value = HookOutput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with allow, modified, headers and status")
    }

    fn visit_unit<E>(self) -> Result<HookOutput, E> {
        Ok(HookOutput::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HookOutput, A::Error> {
        let (mut allow, mut modified, mut headers, mut status) = (None, None, None, None);
        while let Some(key) = map.next_key_seed(Text)? {
            if is_field(&key, "allow") {
                let value: Option<bool> = map.next_value()?;
                once("allow", &mut allow, value.unwrap_or_default())?;
            } else if is_field(&key, "modified") {
                let value: Option<bool> = map.next_value()?;
                once("modified", &mut modified, value.unwrap_or_default())?;
            } else if is_field(&key, "headers") {
                once("headers", &mut headers, map.next_value_seed(Headers)?)?;
            } else if is_field(&key, "status") {
                let value: Option<i64> = map.next_value()?;
                once(
                    "status",
                    &mut status,
                    check_status(value.unwrap_or_default())?,
                )?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(HookOutput {
            allow: allow.unwrap_or_default(),
            modified: modified.unwrap_or_default(),
            headers: headers.unwrap_or_default(),
            status: status.flatten(),
            body: None,
        })
    }
}

/// Two values for one field are two readings of one document: refused.
fn once<T, E: serde::de::Error>(
    field: &'static str,
    slot: &mut Option<T>,
    value: T,
) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(field)),
    }
}

fn check_status<E: serde::de::Error>(status: i64) -> Result<Option<StatusCode>, E> {
    if status == 0 {
        return Ok(None);
    }
    u16::try_from(status)
        .ok()
        .and_then(|s| StatusCode::from_u16(s).ok())
        .map(Some)
        .ok_or_else(|| E::custom(format_args!("status {status} is outside 100–999")))
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The object of headers, or `null`.
struct Headers;

impl<'de> DeserializeSeed<'de> for Headers {
    type Value = HeaderChanges;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Headers {
    type Value = HeaderChanges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of header names and lists of values, or null")
    }

    fn visit_unit<E>(self) -> Result<HeaderChanges, E> {
        Ok(HeaderChanges::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderChanges, A::Error> {
        let mut headers = HeaderChanges::new();
        let mut room = HeaderChanges::MAX_VALUES;
        while let Some(key) = map.next_key_seed(Text)? {
            let name = HeaderName::from_bytes(key.as_bytes()).map_err(|_| {
                A::Error::custom(format_args!(
                    "header name {key:?} is not a token of RFC 9110"
                ))
            })?;
            if headers.get(&name).is_some() {
                return Err(A::Error::custom(format_args!(
                    "header `{name}` is named twice"
                )));
            }
            let values = map.next_value_seed(Values {
                name: &name,
                room: &mut room,
            })?;
            if !headers.set(name, values) {
                return Err(A::Error::custom(format_args!(
                    "more than {} headers",
                    HeaderChanges::MAX_NAMES
                )));
            }
        }
        Ok(headers)
    }
}

/// The list of a header's values, or `null`, taken out of the room that is left.
struct Values<'r> {
    name: &'r HeaderName,
    room: &'r mut usize,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Vec<HeaderValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Vec<HeaderValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings, or null")
    }

    fn visit_unit<E>(self) -> Result<Vec<HeaderValue>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<HeaderValue>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(NullableText)? {
            *self.room = self.room.checked_sub(1).ok_or_else(|| {
                A::Error::custom(format_args!(
                    "more than {} header values",
                    HeaderChanges::MAX_VALUES
                ))
            })?;
            values.push(HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                // The value itself may be a secret and stays out of logs.
                A::Error::custom(format_args!(
                    "a value of header `{}` holds a control character",
                    self.name
                ))
            })?);
        }
        Ok(values)
    }
}

/// A string, or `null` for an empty one, as Go reads the elements of a list.
struct NullableText;

impl<'de> DeserializeSeed<'de> for NullableText {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for NullableText {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Text.deserialize(deserializer)
    }
}
