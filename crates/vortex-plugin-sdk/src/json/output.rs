//! An output frame as the JSON that the host reads.

use crate::bytes::{copy, same_ignoring_case};
use crate::{Answer, Change, Input};

/// Writes the answer and returns its length in bytes; `None` when the buffer
/// is full.
#[inline(never)]
pub(super) fn write(input: &Input<'_>, answer: &Answer<'_>, buffer: &mut [u8]) -> Option<usize> {
    let mut json = Json { buffer, end: 0 };
    let modified = answer.operations().len() > 0;
    json.text(match (answer.allow(), modified) {
        (true, true) => b"{\"allow\":true,\"modified\":true,\"headers\":{",
        (true, false) => b"{\"allow\":true,\"modified\":false,\"headers\":{",
        (false, true) => b"{\"allow\":false,\"modified\":true,\"headers\":{",
        (false, false) => b"{\"allow\":false,\"modified\":false,\"headers\":{",
    })?;
    let mut more = false;
    for (at, (_, name, _)) in answer.operations().enumerate() {
        let is_same = |other: &[u8]| same_ignoring_case(other, name);
        if answer
            .operations()
            .take(at)
            .any(|(_, other, _)| is_same(other))
        {
            continue;
        }
        if core::mem::replace(&mut more, true) {
            json.byte(b',')?;
        }
        json.string(name)?;
        json.byte(b':')?;
        values(&mut json, input, answer, name)?;
    }
    json.text(b"},\"status\":")?;
    json.number(answer.status())?;
    json.byte(b'}')?;
    Some(json.end)
}

/// The list of values that a header has after all operations on it.
#[inline(never)]
fn values(json: &mut Json<'_>, input: &Input<'_>, answer: &Answer<'_>, name: &[u8]) -> Option<()> {
    // What comes before the last replacement or removal has no effect.
    let mut replaced = None;
    for (at, (change, other, _)) in answer.operations().enumerate() {
        if change != Change::Append && same_ignoring_case(other, name) {
            replaced = Some(at);
        }
    }
    let mut more = false;
    json.byte(b'[')?;
    let mut value = |value: &[u8]| {
        if core::mem::replace(&mut more, true) {
            json.byte(b',')?;
        }
        json.string(value)
    };
    // A denial is a reply of its own, which has no headers yet.
    if replaced.is_none() && answer.allow() {
        for existing in input.values_of(name) {
            value(existing)?;
        }
    }
    for (change, other, added) in answer.operations().skip(replaced.unwrap_or_default()) {
        if change != Change::Remove && same_ignoring_case(other, name) {
            value(added)?;
        }
    }
    json.byte(b']')
}

/// A JSON text that grows.
struct Json<'b> {
    buffer: &'b mut [u8],
    end: usize,
}

impl Json<'_> {
    #[inline(never)]
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.buffer.get_mut(self.end)? = byte;
        self.end += 1;
        Some(())
    }

    #[inline(never)]
    fn text(&mut self, text: &[u8]) -> Option<()> {
        copy(self.buffer.get_mut(self.end..)?, text)?;
        self.end += text.len();
        Some(())
    }

    fn number(&mut self, number: u16) -> Option<()> {
        let mut divisor = 10_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            self.byte(b'0' + (number / divisor % 10) as u8)?;
            divisor /= 10;
        }
        Some(())
    }

    /// A string; every byte that is no part of valid UTF-8 becomes U+FFFD.
    #[inline(never)]
    fn string(&mut self, bytes: &[u8]) -> Option<()> {
        self.byte(b'"')?;
        for chunk in bytes.utf8_chunks() {
            for byte in chunk.valid().bytes() {
                match byte {
                    b'"' | b'\\' => {
                        self.byte(b'\\')?;
                        self.byte(byte)?;
                    }
                    0..0x20 => {
                        const DIGITS: &[u8; 16] = b"0123456789abcdef";
                        self.text(b"\\u00")?;
                        self.byte(b'0' + (byte >> 4))?;
                        self.byte(*DIGITS.get(usize::from(byte & 15))?)?;
                    }
                    _ => self.byte(byte)?,
                }
            }
            for _ in chunk.invalid() {
                self.text("\u{FFFD}".as_bytes())?;
            }
        }
        self.byte(b'"')
    }
}
