//! The host's JSON as an input frame.
//!
//! A plugin should stay small: what is called often is compiled once.

use crate::frame::{Head, Writer};
use crate::input::{HEAD, RECORD};
use crate::{Error, Field, Phase};

/// How deep a value that nobody asked for may be nested.
const MAX_DEPTH: u32 = 64;

/// Writes the frame of a JSON input and returns its length in bytes.
#[inline(never)]
pub(super) fn transcode(text: &[u8], frame: &mut [u8]) -> Result<usize, Error> {
    let fields = Fields::read(text).ok_or(Error::Malformed)?;
    let phase = fields.text(Fields::TYPE).and_then(phase);
    let phase = phase.ok_or(Error::Malformed)?;
    // The text is sound in all but its base64, in which an escape has no place:
    // what fails after this is room.
    let body = fields.text(Fields::BODY);
    if !body.is_none_or(is_base64) {
        return Err(Error::Malformed);
    }
    write(&fields, phase, frame).ok_or(Error::Full)
}

#[inline(never)]
fn write(fields: &Fields<'_>, phase: Phase, frame: &mut [u8]) -> Option<usize> {
    let mut count = 0usize;
    if let Some(headers) = fields.headers {
        Parser::at(headers).headers(&mut |_, _| {
            count = count.checked_add(1)?;
            Some(())
        })?;
    }
    let mut writer = Writer::new(frame, count)?;
    if let Some(headers) = fields.headers {
        let mut record = HEAD;
        Parser::at(headers).headers(&mut |name, value| {
            let start = writer.end();
            unescape(name, &mut writer)?;
            writer.since(start)?.make_ascii_lowercase();
            writer.close(record, start)?;
            let start = writer.end();
            unescape(value, &mut writer)?;
            writer.close(record + 8, start)?;
            record += RECORD;
            Some(())
        })?;
    }
    let texts = [
        (Field::Method, Fields::METHOD),
        (Field::Path, Fields::PATH),
        (Field::Remote, Fields::REMOTE),
        (Field::Route, Fields::ROUTE),
    ];
    for (field, at) in texts {
        let start = writer.end();
        unescape(fields.text(at).unwrap_or_default(), &mut writer)?;
        writer.close(field as usize, start)?;
    }
    let body = fields.text(Fields::BODY);
    let start = writer.end();
    decode_base64(body.unwrap_or_default(), &mut writer)?;
    writer.close(80, start)?;
    let body_len = (writer.end() - start) as u64;
    writer.finish(&Head {
        phase,
        has_headers: fields.headers.is_some(),
        has_body: body.is_some(),
        status: 0,
        headers: count,
        body_len,
    })
}

/// The phase of that name, which nobody writes with escapes.
fn phase(name: &[u8]) -> Option<Phase> {
    Phase::from_name(name)
}

/// The values that a hook input has, still escaped; `None` where there is none
/// or `null`.
#[derive(Default)]
struct Fields<'a> {
    texts: [Option<&'a [u8]>; 6],
    /// The text from the headers on.
    headers: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    const TYPE: usize = 0;
    const METHOD: usize = 1;
    const PATH: usize = 2;
    const BODY: usize = 3;
    const REMOTE: usize = 4;
    const ROUTE: usize = 5;
    const NAMES: [&'static [u8]; 6] = [b"type", b"method", b"path", b"body", b"remote", b"route"];

    /// Reads the whole text and checks all of its grammar that is used later.
    #[inline(never)]
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut fields = Self::default();
        // Two values for one field are two readings of one text: refused.
        let mut seen = [false; 7];
        let mut once = |field: usize| {
            let seen = seen.get_mut(field)?;
            (!core::mem::replace(seen, true)).then_some(())
        };
        let mut parser = Parser::at(text);
        parser.members(&mut |parser, key| {
            if let Some(field) = Self::NAMES.iter().position(|name| *name == key) {
                once(field)?;
                *fields.texts.get_mut(field)? = parser.nullable_string()?;
            } else if key == b"headers" {
                once(6)?;
                parser.skip_space();
                if !parser.null() {
                    fields.headers = Some(parser.rest);
                    parser.headers(&mut |_, _| Some(()))?;
                }
            } else {
                parser.skip_value()?;
            }
            Some(())
        })?;
        parser.skip_space();
        parser.rest.is_empty().then_some(fields)
    }

    fn text(&self, field: usize) -> Option<&'a [u8]> {
        self.texts.get(field).copied().flatten()
    }
}

/// A place in a JSON text. Everything is `None` where the text is wrong.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn at(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    #[inline(never)]
    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The next byte that is no space, which must be this one.
    #[inline(never)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.next()? == byte).then_some(())
    }

    /// Whether the next byte that is no space is this one; it is taken then.
    #[inline(never)]
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.next();
        }
        found
    }

    #[inline(never)]
    fn null(&mut self) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(b"null");
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A string as it stands between its quotes, its escapes checked.
    #[inline(never)]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.rest;
        loop {
            match self.next()? {
                b'"' => return start.get(..start.len() - self.rest.len() - 1),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        hex(self.rest)?;
                        self.rest = self.rest.get(4..)?;
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    #[inline(never)]
    fn nullable_string(&mut self) -> Option<Option<&'a [u8]>> {
        if self.null() {
            return Some(None);
        }
        self.string().map(Some)
    }

    /// An object; `each` is given its keys, and takes the values.
    #[inline(never)]
    fn members(&mut self, each: &mut dyn FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            each(self, key)?;
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// An object of lists of strings; `each` is given names and values, still
    /// escaped. `null` is a list of nothing and a string of nothing.
    #[inline(never)]
    fn headers(&mut self, each: &mut dyn FnMut(&'a [u8], &'a [u8]) -> Option<()>) -> Option<()> {
        self.members(&mut |parser, name| {
            if parser.null() {
                return Some(());
            }
            parser.expect(b'[')?;
            if parser.takes(b']') {
                return Some(());
            }
            loop {
                each(name, parser.nullable_string()?.unwrap_or_default())?;
                if !parser.takes(b',') {
                    return parser.expect(b']');
                }
            }
        })
    }

    /// Passes over a value of which nothing is used: its strings and brackets
    /// are checked, and the rest of its grammar is not.
    #[inline(never)]
    fn skip_value(&mut self) -> Option<()> {
        // The open brackets, the innermost in the lowest bit: 1 is an object.
        let (mut open, mut depth) = (0u64, 0u32);
        loop {
            self.skip_space();
            match *self.rest.first()? {
                b'"' => {
                    self.string()?;
                }
                bracket @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return None;
                    }
                    open = open << 1 | u64::from(bracket == b'{');
                    self.next();
                }
                bracket @ (b'}' | b']') => {
                    if depth == 0 || open & 1 != u64::from(bracket == b'}') {
                        return None;
                    }
                    depth -= 1;
                    open >>= 1;
                    self.next();
                }
                b',' | b':' if depth > 0 => {
                    self.next();
                    continue;
                }
                b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                    while let [
                        b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z',
                        rest @ ..,
                    ] = self.rest
                    {
                        self.rest = rest;
                    }
                }
                _ => return None,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// The value of four hexadecimal digits.
#[inline(never)]
fn hex(text: &[u8]) -> Option<u32> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// Writes a string without its escapes. A surrogate without a partner becomes
/// U+FFFD.
#[inline(never)]
fn unescape(mut text: &[u8], writer: &mut Writer<'_>) -> Option<()> {
    loop {
        let plain = text.iter().position(|byte| *byte == b'\\');
        let (before, rest) = text.split_at_checked(plain.unwrap_or(text.len()))?;
        writer.extend(before)?;
        let [_, escape, rest @ ..] = rest else {
            return Some(());
        };
        text = rest;
        let byte = match escape {
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, rest) = unicode(text)?;
                text = rest;
                writer.extend(character.encode_utf8(&mut [0; 4]).as_bytes())?;
                continue;
            }
            other => *other,
        };
        writer.push(byte)?;
    }
}

/// The character whose `\u` stands before this text, and what follows it.
fn unicode(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = (hex(text)?, text.get(4..)?);
    if let (0xD800..0xDC00, [b'\\', b'u', second @ ..]) = (first, rest)
        && let Some(low @ 0xDC00..0xE000) = hex(second)
    {
        let point = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
        return Some((char::from_u32(point)?, second.get(4..)?));
    }
    let character = char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((character, rest))
}

/// Whether this is standard base64 with its padding.
#[inline(never)]
fn is_base64(text: &[u8]) -> bool {
    let (groups, rest) = text.as_chunks::<4>();
    let (last, groups) = match groups.split_last() {
        Some((last, groups)) => (&last[..], groups),
        None => (&b""[..], groups),
    };
    let digits = match last {
        [first @ .., b'=', b'='] => first,
        [first @ .., b'='] => first,
        all => all,
    };
    // What the padding cuts off must have been zero, or two texts mean one body.
    let spare = match digits {
        [_, last] => sextet(*last).is_some_and(|value| value & 0xF == 0),
        [_, _, last] => sextet(*last).is_some_and(|value| value & 0x3 == 0),
        _ => true,
    };
    let known = |digit: &u8| sextet(*digit).is_some();
    rest.is_empty() && spare && digits.iter().all(known) && groups.as_flattened().iter().all(known)
}

#[inline(never)]
fn sextet(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Writes what a checked base64 text says.
#[inline(never)]
fn decode_base64(text: &[u8], writer: &mut Writer<'_>) -> Option<()> {
    for group in text.as_chunks::<4>().0 {
        let digits = group.iter().take_while(|digit| **digit != b'=');
        let mut bits = 0;
        let mut count = 0;
        for digit in digits {
            bits |= sextet(*digit)? << (18 - 6 * count);
            count += 1;
        }
        let [_, bytes @ ..] = u32::to_be_bytes(bits);
        for byte in bytes.iter().take(count * 3 / 4) {
            writer.push(*byte)?;
        }
    }
    Some(())
}
