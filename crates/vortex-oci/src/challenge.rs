//! How a registry asks who is there (`WWW-Authenticate`, RFC 9110 §11).

/// The longest header read, in bytes.
const MAX_LEN: usize = 4096;

/// A way to authenticate that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// Fetch a token first, from the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Every challenge of a header that this client knows how to meet.
    pub(crate) fn read(header: &str) -> Vec<Self> {
        if header.len() > MAX_LEN {
            return Vec::new();
        }
        let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (word, after) = split_word(rest);
            if word.is_empty() {
                break;
            }
            match after.trim_start().strip_prefix('=') {
                // A parameter belongs to the scheme before it.
                Some(value) => {
                    let (value, after) = split_value(value.trim_start());
                    if let Some((_, parameters)) = challenges.last_mut() {
                        parameters.push((word.to_ascii_lowercase(), value));
                    }
                    rest = after;
                }
                None => {
                    challenges.push((word.to_ascii_lowercase(), Vec::new()));
                    rest = after;
                }
            }
        }
        challenges
            .into_iter()
            .filter_map(|(scheme, parameters)| {
                let parameter = |name: &str| {
                    let found = parameters.iter().find(|(key, _)| key == name);
                    found.map(|(_, value)| value.clone())
                };
                match scheme.as_str() {
                    "basic" => Some(Self::Basic),
                    "bearer" => Some(Self::Bearer {
                        realm: parameter("realm")?,
                        service: parameter("service"),
                    }),
                    _ => None,
                }
            })
            .collect()
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn what_registries_send_is_understood() {
        assert_eq!(
            Challenge::read("Basic realm=\"basic-realm\""),
            [Challenge::Basic]
        );
        assert_eq!(
            Challenge::read(
                r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull,push""#
            ),
            [bearer(
                "https://auth.example.com/token",
                Some("registry.example.com")
            )]
        );
        assert_eq!(
            Challenge::read(r#"Negotiate, bearer Realm = "a\"b" , Basic realm=x"#),
            [bearer("a\"b", None), Challenge::Basic]
        );
    }

    #[test]
    fn what_is_no_challenge_is_left_out() {
        for header in [
            "",
            ",,,",
            "=",
            "Bearer",
            "Bearer service=\"x\"",
            "realm=\"x\"",
            "Digest realm=\"x\"",
            "\"",
            "é=\"",
        ] {
            assert_eq!(Challenge::read(header), [], "{header:?}");
        }
        assert_eq!(
            Challenge::read("Bearer realm=\"open"),
            [bearer("open", None)]
        );
        assert_eq!(
            Challenge::read(&format!("Basic realm=\"{}\"", "x".repeat(5000))),
            []
        );
    }
}
