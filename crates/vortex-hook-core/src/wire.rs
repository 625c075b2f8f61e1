//! Hook input and output on the wire: in JSON, as the Go system reads and writes
//! it, and in frames (`docs/abi-frame.md`).
//!
//! JSON is written by hand, straight from the borrowed parts: a gateway pays for
//! it at every request. Reading is left to `serde_json`. An output is read with the
//! habits of Go's `encoding/json` that plugins may lean on: names of fields are
//! compared without regard to case, unknown fields are passed over, `null`
//! leaves the zero value, broken UTF-8 and lone surrogates become U+FFFD. An
//! input is read by tests and tools only, without these but the broken UTF-8
//! and the unknown fields.

mod buffer;
mod cursor;
mod frame;
mod input;
mod output;
mod word;

pub(crate) use buffer::Buffer;
pub(crate) use frame::{FrameHead, encode_frame_head};
pub use frame::{FrameOutput, LogLevel, LogLine};
pub(crate) use input::encode_input;
pub(crate) use word::contains;

use std::borrow::Cow;
use std::ptr;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use cursor::Cursor;

/// Writes `{"Name":["value",…],…}` with names in canonical MIME case.
fn write_headers<'b, 'h>(
    mut out: Cursor<'b>,
    headers: impl Iterator<Item = (&'h HeaderName, impl Iterator<Item = &'h HeaderValue>)>,
) -> Option<Cursor<'b>> {
    out = out.put(b"{")?;
    for (i, (name, values)) in headers.enumerate() {
        if i > 0 {
            out = out.put(b",")?;
        }
        out = write_name(out, name)?;
        for (i, value) in values.enumerate() {
            if i > 0 {
                out = out.put(b",")?;
            }
            out = write_string(out, value.as_bytes())?;
        }
        out = out.put(b"]")?;
    }
    out.put(b"}")
}

/// [`write_headers`] for a header map, in one pass: the values of a name come one
/// after the other.
fn write_header_map<'b>(mut out: Cursor<'b>, headers: &HeaderMap) -> Option<Cursor<'b>> {
    out = out.put(b"{")?;
    let mut previous: Option<&HeaderName> = None;
    for (name, value) in headers {
        out = match previous {
            // A map has each name once, and lends it with each of its values.
            Some(previous) if ptr::eq(previous, name) => out.put(b",")?,
            Some(_) => write_name(out.put(b"],")?, name)?,
            None => write_name(out, name)?,
        };
        previous = Some(name);
        out = write_string(out, value.as_bytes())?;
    }
    if previous.is_some() {
        out = out.put(b"]")?;
    }
    out.put(b"}")
}

/// Writes the name of a header, which needs no escaping, and opens the list of its
/// values.
#[inline(always)]
fn write_name<'b>(out: Cursor<'b>, name: &HeaderName) -> Option<Cursor<'b>> {
    let name = name.as_str().as_bytes();
    out.put(b"\"")?.copy_canonical(name)?.put(b"\":[")
}

/// Writes a JSON string; each byte that is no part of valid UTF-8 becomes U+FFFD, as in Go.
#[inline(always)]
fn write_string<'b>(out: Cursor<'b>, bytes: &[u8]) -> Option<Cursor<'b>> {
    out.put(b"\"")?
        .copy_plain(bytes, |out| write_escaped(out, &lossy(bytes)))?
        .put(b"\"")
}

#[cold]
fn write_escaped<'b>(mut out: Cursor<'b>, text: &str) -> Option<Cursor<'b>> {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out = out.copy(&bytes[start..i])?;
        start = i + 1;
        out = match b {
            b'"' | b'\\' => out.put(&[b'\\', b])?,
            b'\n' => out.put(b"\\n")?,
            b'\r' => out.put(b"\\r")?,
            b'\t' => out.put(b"\\t")?,
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(b >> 4), usize::from(b & 15));
                out.put(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]])?
            }
        };
    }
    out.copy(&bytes[start..])
}

/// UTF-8 from any bytes, one U+FFFD for each byte that fits nowhere. (The
/// standard library's lossy conversion writes one for each broken sequence.)
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}
