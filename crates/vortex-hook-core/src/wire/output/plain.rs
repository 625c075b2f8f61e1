//! The answers that plugins nearly always give, read without detours.
//!
//! This reads a part of what `serde_json` reads and says the same of it: objects of the
//! known fields, each at most once and spelt as usual, whose strings are ASCII
//! without escapes. To all else it says nothing, neither that it is right nor wrong.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use crate::wire::word::{all, load_short, special};
use crate::{HeaderChanges, HookOutput};

/// The output that `json` is; `None` leaves it to `serde_json`.
pub(super) fn read(json: &[u8]) -> Option<HookOutput> {
    let mut json = Plain(json);
    let (mut allow, mut modified, mut headers, mut status) = (None, None, None, None);
    json.members(|json, field| match field {
        b"allow" => once(&mut allow, json.boolean()?),
        b"modified" => once(&mut modified, json.boolean()?),
        b"headers" => once(&mut headers, json.headers()?),
        b"status" => once(&mut status, json.status()?),
        _ => None,
    })?;
    json.end()?;
    Some(HookOutput {
        allow: allow.unwrap_or_default(),
        modified: modified.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        status: status.flatten(),
        body: None,
    })
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// What is left to read.
struct Plain<'j>(&'j [u8]);

impl<'j> Plain<'j> {
    #[inline]
    fn skip_space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next byte that is no white space.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        self.skip_space();
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Passes over `word` if that comes next.
    #[inline]
    fn is<const N: usize>(&mut self, word: &[u8; N]) -> bool {
        self.skip_space();
        match self.0.split_first_chunk() {
            Some((first, rest)) if first == word => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn end(mut self) -> Option<()> {
        self.next().is_none().then_some(())
    }

    /// An object, whose values `read` reads, each with its name.
    #[inline]
    fn members(&mut self, mut read: impl FnMut(&mut Self, &'j [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.is(b"}") {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            read(self, name)?;
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A string in which each byte means itself.
    #[inline]
    fn string(&mut self) -> Option<&'j [u8]> {
        self.expect(b'"')?;
        let mut len = 0;
        let (string, rest) = loop {
            let rest = self.0.get(len..)?;
            // The zeros that follow the last bytes end the search.
            let word = rest
                .first_chunk()
                .map_or_else(|| load_short(rest), |w| u64::from_le_bytes(*w));
            match special(word) & all(0x80) {
                0 => len += 8,
                found => {
                    break self
                        .0
                        .split_at_checked(len + found.trailing_zeros() as usize / 8)?;
                }
            }
        };
        self.0 = rest.strip_prefix(b"\"")?;
        Some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        let is_true = self.is(b"true");
        (is_true || self.is(b"false")).then_some(is_true)
    }

    /// A status, or 0 for none.
    fn status(&mut self) -> Option<Option<StatusCode>> {
        if self.is(b"0") {
            return Some(None);
        }
        let (digits, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        StatusCode::from_bytes(digits).ok().map(Some)
    }

    fn headers(&mut self) -> Option<HeaderChanges> {
        let mut headers = HeaderChanges::new();
        // As Go writes a map that was never made.
        if self.is(b"null") {
            return Some(headers);
        }
        let mut room = HeaderChanges::MAX_VALUES;
        self.members(|json, name| {
            let name = HeaderName::from_bytes(name).ok()?;
            let is_new = headers.get(&name).is_none();
            json.expect(b'[')?;
            let fits = if json.is(b"]") {
                headers.set(name, Vec::new())
            } else {
                let first = json.value(&mut room)?;
                if json.is(b"]") {
                    headers.insert(name, first)
                } else {
                    let mut values = vec![first];
                    while !json.is(b"]") {
                        json.expect(b',')?;
                        values.push(json.value(&mut room)?);
                    }
                    headers.set(name, values)
                }
            };
            (is_new && fits).then_some(())
        })?;
        Some(headers)
    }

    /// A header's value, taken out of the room that is left.
    fn value(&mut self, room: &mut usize) -> Option<HeaderValue> {
        *room = room.checked_sub(1)?;
        HeaderValue::from_bytes(self.string()?).ok()
    }
}
