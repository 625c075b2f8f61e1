//! Text that others have written, made safe to show.

use std::fmt::Write;

/// Whether a character could do something to a terminal, or to how its reader sees
/// the text around it, other than stand there.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Marks that turn the direction of writing, and invisible ones.
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with every such character as `\u{…}`, `\n` and the like.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// JSON text with every such character inside of its strings as `\uXXXX`. JSON
/// itself lets most of them stand, and machines' output is looked at by people too.
pub(crate) fn escaped_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings, JSON has no control character but the newline.
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        for (text, expected) in [
            ("plain é 日本", "plain é 日本"),
            ("\x1b[2J\x07", "\\u{1b}[2J\\u{7}"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("user\u{202e}gnp.exe", "user\\u{202e}gnp.exe"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "\u{9b}\u{202e}\u{7f}\u{e0001}\n\x1b", "é": [1]});
        let text = escaped_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(['\u{9b}', '\u{202e}', '\u{7f}', '\u{e0001}', '\x1b']));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
