//! What a single file may contain.

use super::File;

/// Past this many lines a file has more than one noun in it.
const MOST_LINES: usize = 500;

/// A WebAssembly module that does nothing: magic and version.
const EMPTY_MODULE_SIZE: u64 = 8;

/// Where unsafe code is at home. Each of these files allows it with a reason.
const UNSAFE_PLACES: [&str; 3] = [
    "crates/vortex-sandbox/src/",
    "crates/vortex-plugin-sdk/src/exports.rs",
    "tests/fixtures/guests/",
];

/// Source files that have grown too long.
pub(super) fn too_long(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.is_rust() && file.lines().count() > MOST_LINES)
        .map(|file| {
            let lines = file.lines().count();
            format!(
                "{}: {lines} lines, more than {MOST_LINES}: split it",
                file.path
            )
        })
        .collect()
}

/// Modules under a name that says nothing.
pub(super) fn mod_rs(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.name() == "mod.rs")
        .map(|file| format!("{}: call it after its directory, beside it", file.path))
        .collect()
}

/// Work that was put off.
pub(super) fn leftovers(files: &[File]) -> Vec<String> {
    // In two parts, so that this file is not found itself.
    let anywhere = [concat!("FIX", "ME"), concat!("X", "XX")];
    let in_rust = [
        concat!("todo", "!("),
        concat!("unimple", "mented!("),
        concat!("#[ign", "ore"),
    ];
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            let word = anywhere.iter().find(|word| has_word(line, word));
            let call = in_rust
                .iter()
                .find(|call| file.is_rust() && line.contains(**call));
            if let Some(leftover) = word.or(call) {
                findings.push(format!(
                    "{}:{number}: {leftover} is not for keeping",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Paths that exist on one machine only.
pub(super) fn machine_paths(files: &[File], machine: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            let path = machine
                .iter()
                // The root directory itself is on every machine.
                .filter(|path| path.len() > 1)
                .find(|path| has_path(line, path));
            if let Some(path) = path {
                findings.push(format!(
                    "{}:{number}: {path} is on this machine only",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Unsafe code where it is not at home, and permission for it without a reason.
pub(super) fn unsafe_code(files: &[File]) -> Vec<String> {
    let permission = concat!("allow(unsafe", "_code");
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let at_home = UNSAFE_PLACES
            .iter()
            .any(|place| file.path.starts_with(place));
        let text = file.text.as_deref().unwrap_or_default();
        for (start, _) in text.match_indices(permission) {
            let line = text[..start].lines().count().max(1);
            let attribute = text[start..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason =") {
                findings.push(format!(
                    "{}:{line}: unsafe code allowed without a reason",
                    file.path
                ));
            }
        }
        if at_home {
            continue;
        }
        for (number, line) in file.lines() {
            if is_unsafe(line) {
                findings.push(format!(
                    "{}:{number}: unsafe code is not at home here",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Compiled modules that would be committed.
pub(super) fn binaries(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".wasm"))
        .filter(|file| {
            let vector = file.path.split('/').any(|part| part == "vectors");
            !vector || file.size > EMPTY_MODULE_SIZE
        })
        .map(|file| format!("{}: no built module in git: build it in a task", file.path))
        .collect()
}

/// Whether a line uses the keyword, and not only the word.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(concat!("un", "safe"))
        .any(|(start, word)| {
            let before = code[..start].chars().next_back();
            let after = code[start + word.len()..].trim_start();
            !before.is_some_and(|before| before.is_alphanumeric() || "_\"`".contains(before))
                && ["{", "fn ", "impl", "extern", "trait ", "("]
                    .iter()
                    .any(|next| after.starts_with(next))
        })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        ![before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric)
    })
}

/// Whether a line has a path that begins with this directory.
fn has_path(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + dir.len()..].chars().next();
        let begins =
            !before.is_some_and(|before| before.is_alphanumeric() || "._-~}/".contains(before));
        begins && after == Some('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> [File; 1] {
        [File::of("crates/a/src/b.rs", text)]
    }

    #[test]
    fn five_hundred_lines_are_enough() {
        assert!(too_long(&rust(&"\n".repeat(500))).is_empty());
        assert_eq!(too_long(&rust(&"\n".repeat(501))).len(), 1);
    }

    #[test]
    fn leftovers_are_words() {
        let word = concat!("FIX", "ME");
        assert_eq!(leftovers(&rust(&format!("// {word}: later"))).len(), 1);
        assert_eq!(
            leftovers(&rust(concat!("#[ign", "ore = \"slow\"]"))).len(),
            1
        );
        assert_eq!(leftovers(&rust(concat!("todo", "!()"))).len(), 1);
        assert!(leftovers(&rust("mktemp -t vortex.XXXXXX")).is_empty());
    }

    #[test]
    fn a_machine_is_known_by_its_paths() {
        let machine = ["/home/someone", "/srv/build"];
        let found = |line: &str| machine_paths(&rust(line), &machine).len();
        assert_eq!(found("let path = \"/srv/build/target\";"), 1);
        assert_eq!(found("cd /home/someone/src"), 1);
        assert_eq!(found("https://example.org/home/someone/"), 0);
        assert_eq!(found("/home/someone-else/"), 0);
        assert!(machine_paths(&rust("/usr/bin"), &["/", ""]).is_empty());
    }

    #[test]
    fn unsafe_code_stays_at_home() {
        let code = concat!("let x = un", "safe { *p };");
        assert_eq!(unsafe_code(&rust(code)).len(), 1);
        assert!(unsafe_code(&[File::of("crates/vortex-sandbox/src/a.rs", code)]).is_empty());
        // In the SDK, the file of the exports alone.
        let in_sdk = |file: &str| File::of(&format!("crates/vortex-plugin-sdk/src/{file}"), code);
        assert!(unsafe_code(&[in_sdk("exports.rs")]).is_empty());
        assert_eq!(unsafe_code(&[in_sdk("input.rs")]).len(), 1);
        assert!(unsafe_code(&rust(concat!("// un", "safe { }"))).is_empty());
        assert!(unsafe_code(&rust("#![forbid(unsafe_code)]")).is_empty());
    }

    #[test]
    fn permission_needs_a_reason() {
        let found = |rest: &str| {
            let text = format!("\n#![allow({}_code{rest})]", concat!("un", "safe"));
            unsafe_code(&[File::of("crates/vortex-sandbox/src/a.rs", &text)])
        };
        assert_eq!(found("").len(), 1);
        assert!(
            found("").first().unwrap().contains("a.rs:2"),
            "{:?}",
            found("")
        );
        assert!(found(",\n    reason = \"the kernel is asked\"").is_empty());
    }

    #[test]
    fn built_modules_stay_out_of_git() {
        let sized = |path: &str, size| File {
            path: path.to_owned(),
            text: None,
            size,
        };
        let files = [
            sized("tests/vectors/store/a/1.0.0/plugin.wasm", 8),
            sized("tests/vectors/big.wasm", 9),
            sized("tests/fixtures/a.wasm", 8),
        ];
        assert_eq!(binaries(&files).len(), 2);
    }
}
