//! Hook input and output on the wire: in JSON, as the Go system reads and writes
//! it, and in frames (`docs/abi-frame.md`).
//!
//! JSON is written by hand, straight from the borrowed parts: a gateway pays for
//! it at every request. Outputs as plugins usually give them are read by hand for the
//! same reason (`output/plain.rs`); what is accepted is decided by `serde_json`, which
//! reads all else. An output is read with the habits of Go's `encoding/json` that
//! plugins may lean on: names of fields are compared without regard to case, unknown
//! fields are passed over, `null` leaves the zero value, broken UTF-8 and lone
//! surrogates become U+FFFD. An input is read by tests and tools only, without these
//! but the broken UTF-8 and the unknown fields.

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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A JSON string, written byte by byte.
    fn slow_string(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        for b in lossy(bytes).bytes() {
            match b {
                b'"' | b'\\' => out.extend([b'\\', b]),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                0..0x20 => out.extend(format!("\\u{b:04x}").bytes()),
                _ => out.push(b),
            }
        }
        out.push(b'"');
        out
    }

    /// A name in canonical case, written byte by byte.
    fn slow_name(name: &str) -> Vec<u8> {
        let mut upper = true;
        let canonical = name.bytes().map(|mut b| {
            if upper {
                b.make_ascii_uppercase();
            }
            upper = b == b'-';
            b
        });
        [b"\"", &*canonical.collect::<Vec<u8>>(), b"\":["].concat()
    }

    /// What is written into just enough room, and that one byte less is too little.
    fn written(len: usize, write: impl Fn(Cursor<'_>) -> Option<Cursor<'_>>) -> Vec<u8> {
        let mut room = vec![0xEE; len + 1];
        assert!(len == 0 || write(Cursor::new(&mut room[..len - 1])).is_none());
        let left = write(Cursor::new(&mut room[..len])).map(|out| out.left());
        assert_eq!((left, room.pop()), (Some(0), Some(0xEE)));
        room
    }

    fn check_string(bytes: &[u8]) {
        let expected = slow_string(bytes);
        let written = written(expected.len(), |out| write_string(out, bytes));
        assert_eq!(written, expected, "{bytes:?}");
    }

    #[test]
    fn every_byte_at_every_place_of_a_string() {
        for len in 0..=200 {
            let mut bytes: Vec<u8> = (b' '..)
                .filter(|b| !b"\"\\".contains(b))
                .take(len.min(80))
                .collect();
            bytes.resize(len, b'~');
            check_string(&bytes);
            for at in 0..len {
                let kept = bytes[at];
                // Beyond three of the longest pieces, those that are treated apart do.
                let all: &mut dyn Iterator<Item = u8> = match len {
                    0..50 => &mut (0..=u8::MAX),
                    _ => &mut b"\0\n\x1F \"\\\x7F\x80\xC3\xFF".iter().copied(),
                };
                for byte in all {
                    bytes[at] = byte;
                    check_string(&bytes);
                }
                bytes[at] = kept;
            }
        }
    }

    #[test]
    fn every_length_of_a_name_and_every_place_of_its_hyphens() {
        let letters = b"abyz09AZ!~`{^";
        for len in 1..=80 {
            let name: Vec<u8> = letters.iter().copied().cycle().take(len).collect();
            for at in 0..len {
                for width in 1..=len.min(3) {
                    let mut name = name.clone();
                    name[at..len.min(at + width)].fill(b'-');
                    let Ok(name) = HeaderName::from_bytes(&name) else {
                        continue;
                    };
                    let expected = slow_name(name.as_str());
                    assert_eq!(
                        written(expected.len(), |out| write_name(out, &name)),
                        expected
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_string_of_any_bytes(bytes in vec(any::<u8>(), 0..200)) {
            check_string(&bytes);
        }

        #[test]
        fn a_string_of_mostly_ascii(bytes in vec(prop_oneof![20 => 0x20_u8..0x7F, 1 => any::<u8>()], 0..200)) {
            check_string(&bytes);
        }

        #[test]
        fn any_name(name in "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,100}") {
            let name = HeaderName::try_from(name).unwrap();
            let expected = slow_name(name.as_str());
            prop_assert_eq!(written(expected.len(), |out| write_name(out, &name)), expected);
        }
    }
}
