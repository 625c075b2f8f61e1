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
mod frame;
mod input;
mod output;

pub(crate) use buffer::Buffer;
pub(crate) use frame::{FrameHead, encode_frame_head};
pub use frame::{FrameOutput, LogLevel, LogLine};
pub(crate) use input::encode_input;

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Writes `{"Name":["value",…],…}` with names in canonical MIME case.
fn write_headers<'h>(
    out: &mut Vec<u8>,
    headers: impl Iterator<Item = (&'h HeaderName, impl Iterator<Item = &'h HeaderValue>)>,
) {
    out.push(b'{');
    for (i, (name, values)) in headers.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'"');
        write_canonical(out, name);
        out.extend_from_slice(b"\":[");
        for (i, value) in values.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(out, value.as_bytes());
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// [`write_headers`] for a header map, in one pass: the values of a name come one
/// after the other.
fn write_header_map(out: &mut Vec<u8>, headers: &HeaderMap) {
    out.push(b'{');
    let mut previous = None;
    for (name, value) in headers {
        if previous == Some(name) {
            out.push(b',');
        } else {
            out.extend_from_slice(if previous.is_some() { b"],\"" } else { b"\"" });
            write_canonical(out, name);
            out.extend_from_slice(b"\":[");
            previous = Some(name);
        }
        write_string(out, value.as_bytes());
    }
    if previous.is_some() {
        out.push(b']');
    }
    out.push(b'}');
}

/// Canonical MIME case: the first letter and each after a hyphen in upper case
/// (Go, `textproto.CanonicalMIMEHeaderKey`). A header name needs no escaping.
fn write_canonical(out: &mut Vec<u8>, name: &HeaderName) {
    let start = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    let mut upper = true;
    for b in &mut out[start..] {
        if upper {
            b.make_ascii_uppercase();
        }
        upper = *b == b'-';
    }
}

/// Writes a JSON string; each byte that is no part of valid UTF-8 becomes U+FFFD, as in Go.
fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    // Without an early end, this is a few vector instructions for most values.
    let is_plain = bytes.iter().fold(true, |plain, &b| {
        plain & (0x20..0x80).contains(&b) & (b != b'"') & (b != b'\\')
    });
    if is_plain {
        out.extend_from_slice(bytes);
    } else {
        write_escaped(out, &lossy(bytes));
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..i]);
        start = i + 1;
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(b >> 4), usize::from(b & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
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
