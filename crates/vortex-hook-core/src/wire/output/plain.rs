//! The answers that plugins nearly always give, read without detours.
//!
//! This reads a part of what `serde_json` reads and says the same of it: objects of
//! the known fields, each at most once, spelt as usual and with its colon next to it,
//! whose strings are ASCII without escapes. To all else it says nothing, neither that
//! it is right nor that it is wrong.

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
        let (is_there, field) = json.item(is_first, b'}')?;
        if !is_there {
            field.end()?;
            return Some(HookOutput {
                allow: allow.unwrap_or_default(),
                modified: modified.unwrap_or_default(),
                headers: headers.unwrap_or_default(),
                status: status.flatten(),
                body: None,
            });
        }
        is_first = false;
        // Each compared as a whole, which is faster than to look for its end.
        json = if let Some(value) = field.after(b"allow\":") {
            once(&mut allow, value.boolean()?)?
        } else if let Some(value) = field.after(b"modified\":") {
            once(&mut modified, value.boolean()?)?
        } else if let Some(value) = field.after(b"headers\":") {
            once(&mut headers, value.headers()?)?
        } else {
            once(&mut status, field.after(b"status\":")?.status()?)?
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
    fn after<const N: usize>(self, word: &[u8; N]) -> Option<Self> {
        let (next, rest) = self.0.split_first_chunk()?;
        (next == word).then_some(Self(rest))
    }

    /// Goes into the next string of an object or list, or out of it where it is closed:
    /// then `false` comes with the rest.
    #[inline(always)]
    fn item(self, is_first: bool, close: u8) -> Option<(bool, Self)> {
        match self.next()? {
            (b'"', rest) if is_first => Some((true, rest)),
            (b',', rest) if !is_first => Some((true, rest.expect(b'"')?)),
            (next, rest) => (next == close).then_some((false, rest)),
        }
    }

    /// A string in which each byte means itself, of which the first quotation mark
    /// was read.
    #[inline(never)]
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
            let (is_there, rest) = json.item(is_first, b'}')?;
            if !is_there {
                return Some((headers, rest));
            }
            is_first = false;
            let (name, rest) = rest.string()?;
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
        let (mut is_there, mut json) = self.expect(b'[')?.item(true, b']')?;
        let mut values = Vec::new();
        while is_there {
            *room = room.checked_sub(1)?;
            let (value, rest) = json.string()?;
            let value = HeaderValue::from_bytes(value).ok()?;
            (is_there, json) = rest.item(false, b']')?;
            if values.is_empty() && !is_there {
                return headers.insert(name, value).then_some(json);
            }
            values.push(value);
        }
        headers.set(name, values).then_some(json)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::wire::output::from_any_json;

    const ANSWERS: [&str; 10] = [
        "{}",
        r#"{"allow":true}"#,
        r#"{"allow":true,"modified":true,"headers":{"x-consumer":["demo"]}}"#,
        r#"{"allow":false,"modified":false,"headers":null,"status":429}"#,
        r#"{"allow":true,"modified":true,"headers":{},"status":0}"#,
        r#"{"headers":{"A":[],"b-c":["1","","three"]}}"#,
        "\t{ \"allow\":\r\ntrue , \"headers\": { \"x\" : [ \"1\" , \"2\" ] , \"y\" : [ ] } } \n",
        r#"{"status":200,"allow":false}"#,
        r#"{"headers":{"a-name-of-more-than-16":["a value, of more than sixteen"]}}"#,
        r#"{"allow":true,"headers":{"Cache-Control":["no-store"],"Via":["1.1 a","1.1 b"]}}"#,
    ];

    /// Whatever is read here is read by `serde_json` too, and means the same.
    fn check(json: &[u8]) -> bool {
        let Some(output) = read(json) else {
            return false;
        };
        let shown = String::from_utf8_lossy(json);
        match from_any_json(json) {
            Ok(other) => assert_eq!(output, other, "{shown}"),
            Err(error) => panic!("{shown} was read as {output:?}, but: {error}"),
        }
        true
    }

    #[test]
    fn usual_answers_are_plain() {
        for json in ANSWERS {
            assert!(check(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_serde_json() {
        for json in [
            "",
            "null",
            r#"{"Allow":true}"#,
            r#"{"allow":null}"#,
            r#"{"allow" :true}"#,
            r#"{"allow":true,"allow":true}"#,
            r#"{"allow":true,"more":1}"#,
            r#"{"allow":true,}"#,
            r#"{,"allow":true}"#,
            r#"{"allow":true} x"#,
            r#"{"status":99}"#,
            r#"{"status":2000}"#,
            r#"{"status":200.0}"#,
            r#"{"status":00}"#,
            r#"{"headers":{"x":"1"}}"#,
            r#"{"headers":{"x":[null]}}"#,
            r#"{"headers":{"x":["a\u0062"]}}"#,
            r#"{"headers":{"x":["é"]}}"#,
            r#"{"headers":{"x":["1"],"X":["2"]}}"#,
            r#"{"headers":{"x y":["1"]}}"#,
            "{\"headers\":{\"x\":[\"\x7f\"]}}",
            "{\u{c}\"allow\":true}",
        ] {
            assert!(!check(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn no_byte_of_an_answer_can_be_changed_without_serde_json_seeing_the_same() {
        let mut read = 0;
        for json in ANSWERS.map(str::as_bytes) {
            for at in 0..=json.len() {
                let (before, after) = json.split_at(at);
                read += u32::from(check(before));
                for byte in 0..=u8::MAX {
                    read += u32::from(check(&[before, &[byte], after].concat()));
                    if let [_, after @ ..] = after {
                        read += u32::from(check(&[before, &[byte], after].concat()));
                    }
                }
                if let [_, after @ ..] = after {
                    read += u32::from(check(&[before, after].concat()));
                }
            }
        }
        assert!(read > 20_000, "only {read} were plain");
    }

    #[test]
    fn as_many_headers_and_values_as_may_be() {
        for (names, values) in [(256, 4), (257, 1), (1, 1024), (1, 1025), (256, 5)] {
            let list = vec![r#""v""#; values].join(",");
            let headers: Vec<_> = (0..names).map(|i| format!(r#""h{i}":[{list}]"#)).collect();
            let json = format!(r#"{{"headers":{{{}}}}}"#, headers.join(","));
            let fits =
                names <= HeaderChanges::MAX_NAMES && names * values <= HeaderChanges::MAX_VALUES;
            assert_eq!(check(json.as_bytes()), fits, "{names} × {values}");
            assert_eq!(from_any_json(json.as_bytes()).is_ok(), fits);
        }
    }

    fn token() -> impl Strategy<Value = String> {
        let token = select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\"x\"",
            "\"y\"",
            "\"allow\"",
            "\"modified\"",
            "\"headers\"",
            "\"status\"",
            "true",
            "false",
            "null",
            "0",
            "200",
            "99",
            "1e2",
            "-",
            " ",
            "\n",
            "\u{c}",
            "\\",
            "\\u0061",
            "{\"allow\":",
            "{\"headers\":{\"x\":[",
            "],",
            "]}",
            "é",
        ]);
        prop_oneof![12 => token.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
    }

    /// Objects of the fields, with what belongs there and what does not.
    fn answer() -> impl Strategy<Value = String> {
        let space = || select(vec!["", "", "", "", " ", "\n\t"]);
        let text = "[ -~]{0,20}".prop_map(|text| format!("\"{text}\""));
        let name = select(vec![
            "\"x\"",
            "\"y\"",
            "\"X\"",
            "\"x-long-name-of-a-header\"",
            "\"\"",
        ]);
        let list = vec(text, 0..4).prop_map(|values| format!("[{}]", values.join(",")));
        let list = prop_oneof![9 => list, 1 => Just("null".to_owned())];
        let headers = vec((name, list), 0..4).prop_map(|headers| {
            let members = headers.iter().map(|(name, list)| format!("{name}:{list}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        });
        let value = prop_oneof![
            4 => select(vec!["true", "false", "null", "0", "200", "429", "7", "1000", "{}", "[]"])
                .prop_map(str::to_owned),
            2 => headers,
        ];
        let field = select(vec![
            "\"allow\"",
            "\"modified\"",
            "\"headers\"",
            "\"status\"",
            "\"Allow\"",
            "\"a\"",
        ]);
        let member = (space(), field, space(), space(), value, space())
            .prop_map(|(a, field, b, c, value, d)| format!("{a}{field}{b}:{c}{value}{d}"));
        vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50_000))]

        #[test]
        fn any_tokens(tokens in vec(token(), 0..24)) {
            check(tokens.concat().as_bytes());
        }

        #[test]
        fn any_answer(json in answer()) {
            check(json.as_bytes());
        }
    }
}
