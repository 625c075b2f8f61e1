//! Manual pages, completions, help, and the page in `docs`.

use crate::util::Place;

const VERBS: [&str; 15] = [
    "keygen",
    "sign",
    "verify",
    "install",
    "list",
    "info",
    "remove",
    "run",
    "inspect",
    "policy",
    "index",
    "push",
    "pull",
    "completions",
    "man",
];

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    place.ok("man --output man");
    for verb in VERBS {
        let page = std::fs::read_to_string(place.path(&format!("man/vortex-plugin-{verb}.1")));
        let page = page.unwrap_or_else(|error| panic!("{verb}: {error}"));
        assert!(
            page.starts_with(".ie") && page.contains(".SH NAME"),
            "{page}"
        );
    }
    for page in [
        "vortex-plugin",
        "vortex-plugin-policy-check",
        "vortex-plugin-index-make",
    ] {
        assert!(place.path(&format!("man/{page}.1")).is_file(), "{page}");
    }
    let main = place.ok("man");
    assert!(
        main.contains("Exit codes") && main.contains("VORTEX_PLUGIN_DIR"),
        "{main}"
    );
}

#[test]
fn every_shell_is_told_of_every_command() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.ok(&format!("completions {shell}"));
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    // A shell accepts its script and completes with it.
    let calls = r#"
        complete=$(complete -p vortex-plugin); complete=${complete#*-F }
        COMP_WORDS=(vortex-plugin ins); COMP_CWORD=1
        ${complete%% *} vortex-plugin ins vortex-plugin
        echo "${COMPREPLY[@]}"
    "#;
    let script = place.ok("completions bash");
    place.write("complete.sh", format!("{script}{calls}"));
    let output = std::process::Command::new("bash")
        .arg(place.path("complete.sh"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "install inspect",
        "{output:?}"
    );
}

#[test]
fn the_page_in_docs_is_complete() {
    let place = Place::new();
    let help = place.ok("--help");
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
        assert!(docs.contains(&format!("`{verb}")), "{verb}");
        // Each says what it does and with which options.
        assert!(
            place
                .ok(&format!("{verb} --help"))
                .contains("Usage: vortex-plugin"),
            "{verb}"
        );
    }
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    assert_eq!(commands.trim().lines().count(), VERBS.len(), "{commands}");
    let codes = help
        .split("Exit codes:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    assert_eq!(codes.lines().count(), 8);
    for line in codes.lines() {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        assert!(docs.contains(&format!("| {code} | {meaning} |")), "{line}");
    }
}
