//! Every fixture has a test, or it shows nothing.

use anyhow::Result;

use super::File;
use crate::fixtures::{guest_names, wat_names};

/// Fixtures that no test names.
pub(super) fn untested(files: &[File]) -> Result<Vec<String>> {
    let tests: Vec<&str> = files
        .iter()
        .filter(|file| file.is_rust() && holds_tests(&file.path))
        .filter_map(|file| file.text.as_deref())
        .collect();
    let wat = wat_names()?.into_iter().map(|name| {
        let path = format!("tests/fixtures/wat/{name}.wat");
        (name, path)
    });
    let guests = guest_names()?.into_iter().map(|name| {
        let path = format!("tests/fixtures/guests/{name}");
        (name, path)
    });
    Ok(wat
        .chain(guests)
        .filter(|(name, _)| !tests.iter().any(|text| names(text, name)))
        .map(|(name, path)| format!("{path}: no test names \"{name}\""))
        .collect())
}

fn holds_tests(path: &str) -> bool {
    path.starts_with("tests/it/")
        || path.strip_prefix("crates/").is_some_and(|rest| {
            rest.split_once('/')
                .is_some_and(|(_, rest)| rest.starts_with("src/") || rest.starts_with("tests/"))
        })
}

/// Whether a text names a fixture as a whole string: `"allow"`, with or
/// without the extension. The bare word would be found everywhere.
fn names(text: &str, fixture: &str) -> bool {
    ["\"", ".wasm\"", ".wat\""].iter().any(|end| {
        ["\"", "/"]
            .iter()
            .any(|start| text.contains(&format!("{start}{fixture}{end}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixture_is_named_as_a_whole_string() {
        assert!(names(r#"fixture("deny")"#, "deny"));
        assert!(names(r#"path.join("deny.wasm")"#, "deny"));
        assert!(names(r#"include_str!("../fixtures/wat/deny.wat")"#, "deny"));
        assert!(!names(r#"fixture("deny-429")"#, "deny"));
        assert!(!names("// deny", "deny"));
    }

    #[test]
    fn tests_are_where_they_belong() {
        assert!(holds_tests("tests/it/hostile.rs"));
        assert!(holds_tests("crates/vortex-sandbox/src/module/validate.rs"));
        assert!(holds_tests("crates/vortex-sandbox/tests/a.rs"));
        assert!(!holds_tests("examples/examples/gateway.rs"));
        assert!(!holds_tests("xtask/src/demo.rs"));
    }
}
