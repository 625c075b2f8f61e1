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
    let (mut allow, mut modified, mut headers, mut status) = (None, None, None, None);
    let mut json = Rest(json).expect(b'{')?;
    let mut is_first = true;
    loop {
        let (field, rest) = json.item(is_first, b'}')?;
        let Some(field) = field else {
            rest.end()?;
            return Some(HookOutput {
                allow: allow.unwrap_or_default(),
                modified: modified.unwrap_or_default(),
                headers: headers.unwrap_or_default(),
                status: status.flatten(),
                body: None,
            });
        };
        is_first = false;
        let value = rest.expect(b':')?;
        json = match field {
            b"allow" => once(&mut allow, value.boolean()?)?,
            b"modified" => once(&mut modified, value.boolean()?)?,
            b"headers" => once(&mut headers, value.headers()?)?,
            b"status" => once(&mut status, value.status()?)?,
            _ => return None,
        };
    }
}

/// Keeps a value that is the first one, and returns what follows it.
#[inline(always)]
fn once<'j, T>(slot: &mut Option<T>, (value, rest): (T, Rest<'j>)) -> Option<Rest<'j>> {
    slot.replace(value).is_none().then_some(rest)
}

/// What is left to read. Whatever reads returns what comes after it, which stays in
/// registers so.
#[derive(Clone, Copy)]
struct Rest<'j>(&'j [u8]);

impl<'j> Rest<'j> {
    /// The next byte that is no white space.
    #[inline(always)]
    fn next(self) -> Option<(u8, Self)> {
        let mut bytes = self.0;
        while let [first, rest @ ..] = bytes {
            if !matches!(first, b' ' | b'\n' | b'\r' | b'\t') {
                return Some((*first, Self(rest)));
            }
            bytes = rest;
        }
        None
    }

    #[inline(always)]
    fn expect(self, byte: u8) -> Option<Self> {
        let (next, rest) = self.next()?;
        (next == byte).then_some(rest)
    }

    fn end(self) -> Option<()> {
        self.next().is_none().then_some(())
    }

    /// What follows `word`, if that comes next.
    #[inline(always)]
    fn after(self, word: &[u8]) -> Option<Self> {
        self.0.strip_prefix(word).map(Self)
    }

    /// The next string of an object or list, or the byte that closes it.
    #[inline(always)]
    fn item(self, is_first: bool, close: u8) -> Option<(Option<&'j [u8]>, Self)> {
        let (next, rest) = self.next()?;
        let (string, rest) = match next {
            b'"' if is_first => rest.string()?,
            b',' if !is_first => rest.expect(b'"')?.string()?,
            _ if next == close => return Some((None, rest)),
            _ => return None,
        };
        Some((Some(string), rest))
    }

    /// A string in which each byte means itself, of which the first quotation mark
    /// was read.
    #[inline(always)]
    fn string(self) -> Option<(&'j [u8], Self)> {
        let mut len = 0;
        loop {
            let rest = self.0.get(len..)?;
            let word = match rest.first_chunk() {
                Some(word) => u64::from_le_bytes(*word),
                // The zeros after the last bytes end the search.
                None => load_short(rest),
            };
            let found = special(word) & all(0x80);
            if found != 0 {
                len += found.trailing_zeros() as usize / 8;
                break;
            }
            len += 8;
        }
        let (string, rest) = self.0.split_at_checked(len)?;
        Some((string, Self(rest).after(b"\"")?))
    }

    #[inline(always)]
    fn boolean(self) -> Option<(bool, Self)> {
        match self.next()? {
            (b't', rest) => Some((true, rest.after(b"rue")?)),
            (b'f', rest) => Some((false, rest.after(b"alse")?)),
            _ => None,
        }
    }

    /// A status, or 0 for none.
    fn status(self) -> Option<(Option<StatusCode>, Self)> {
        match self.next()? {
            (b'0', rest) => Some((None, rest)),
            (hundreds, rest) => {
                let ([tens, ones], rest) = rest.0.split_first_chunk()?;
                let status = StatusCode::from_bytes(&[hundreds, *tens, *ones]).ok()?;
                Some((Some(status), Self(rest)))
            }
        }
    }

    fn headers(self) -> Option<(HeaderChanges, Self)> {
        let mut headers = HeaderChanges::new();
        let mut json = match self.next()? {
            (b'{', rest) => rest,
            // As Go writes a map that was never made.
            (b'n', rest) => return Some((headers, rest.after(b"ull")?)),
            _ => return None,
        };
        let mut room = HeaderChanges::MAX_VALUES;
        let mut is_first = true;
        loop {
            let (name, rest) = json.item(is_first, b'}')?;
            let Some(name) = name else {
                return Some((headers, rest));
            };
            is_first = false;
            let name = HeaderName::from_bytes(name).ok()?;
            if headers.get(&name).is_some() {
                return None;
            }
            json = rest.expect(b':')?.values(name, &mut headers, &mut room)?;
        }
    }

    /// Reads the list of a header's values, which are taken out of the room that is left.
    #[inline(always)]
    fn values(
        self,
        name: HeaderName,
        headers: &mut HeaderChanges,
        room: &mut usize,
    ) -> Option<Self> {
        let (first, rest) = self.expect(b'[')?.item(true, b']')?;
        let Some(first) = first else {
            return headers.set(name, Vec::new()).then_some(rest);
        };
        *room = room.checked_sub(1)?;
        let first = HeaderValue::from_bytes(first).ok()?;
        let (second, mut rest) = rest.item(false, b']')?;
        if second.is_none() {
            return headers.insert(name, first).then_some(rest);
        }
        let (mut values, mut next) = (vec![first], second);
        while let Some(value) = next {
            *room = room.checked_sub(1)?;
            values.push(HeaderValue::from_bytes(value).ok()?);
            (next, rest) = rest.item(false, b']')?;
        }
        headers.set(name, values).then_some(rest)
    }
}
