//! Names and versions never lead out of the store.

use std::path::{Component, Path};

use proptest::prelude::*;
use vortex_registry::{PluginName, Version, VersionSelector};

/// The rule `^[a-z][a-z0-9]*(-[a-z0-9]+)*$`, as an automaton.
fn matches_the_pattern(text: &str) -> bool {
    #[derive(PartialEq)]
    enum State {
        Start,
        InWord,
        AfterHyphen,
        Dead,
    }
    let end = text
        .chars()
        .fold(State::Start, |state, c| match (state, c) {
            (State::Start, 'a'..='z') => State::InWord,
            (State::InWord | State::AfterHyphen, 'a'..='z' | '0'..='9') => State::InWord,
            (State::InWord, '-') => State::AfterHyphen,
            _ => State::Dead,
        });
    end == State::InWord
}

fn is_device(text: &str) -> bool {
    let numbered = ["com", "lpt"]
        .iter()
        .flat_map(|device| (0..10).map(move |n| format!("{device}{n}")));
    ["con", "prn", "aux", "nul"]
        .map(String::from)
        .into_iter()
        .chain(numbered)
        .any(|d| d == text)
}

fn check(text: &str) {
    let expected = text.len() <= 64 && matches_the_pattern(text) && !is_device(text);
    let parsed = text.parse::<PluginName>();
    assert_eq!(parsed.is_ok(), expected, "{text:?}");
    if let Ok(name) = parsed {
        let store = Path::new("/store");
        let path = store.join(name.as_str());
        let inside: Vec<_> = path.strip_prefix(store).unwrap().components().collect();
        assert_eq!(inside, [Component::Normal(text.as_ref())]);
    }
}

proptest! {
    #[test]
    fn names_follow_the_rule(text in any::<String>()) { check(&text); }

    #[test]
    fn near_names_follow_the_rule(text in "[a-z0-9-]{0,70}") { check(&text); }

    #[test]
    fn short_names_follow_the_rule(text in "[a-cA-C0-1./\\\\\\x00\u{e9}:-]{0,4}") { check(&text); }

    #[test]
    fn devices_follow_the_rule(text in "(con|com|lpt|aux)[0-9a-z]{0,2}") { check(&text); }

    #[test]
    fn what_matches_the_pattern_is_a_name(text in "[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,10}){0,3}") {
        prop_assume!(!is_device(&text));
        prop_assert!(text.parse::<PluginName>().is_ok());
    }

    #[test]
    fn versions_are_one_harmless_component(text in "[0-9a-z+./-]{0,12}|[0-9]\\.[0-9]\\.[0-9][+-][a-z0-9./+-]{1,8}") {
        if let Ok(VersionSelector::Exact(version)) = text.parse() {
            prop_assert_eq!(version.to_string(), text.clone());
            let components: Vec<_> = Path::new(&text).components().collect();
            prop_assert_eq!(components, [Component::Normal(text.as_ref())]);
        }
    }
}

#[test]
fn known_attacks_are_no_names() {
    let long = "a".repeat(65);
    for bad in [
        "", ".", "..", "../x", "/x", "x/y", "x\0", "x\n", "X", "é", "ａ", "-x", "x-", "x--y", "1x",
        "x_y", "x.y", ".lock", ".staging", "con", "nul", "com0", "lpt9", "a b", "a\\b", "%2e%2e",
        &long,
    ] {
        assert!(bad.parse::<PluginName>().is_err(), "{bad:?}");
        check(bad);
    }
    for good in ["a", "con-x", "com10", "com", "x1-2", &long[1..]] {
        assert!(good.parse::<PluginName>().is_ok(), "{good:?}");
    }
    assert!("1.2.3/../../x".parse::<VersionSelector>().is_err());
    assert!(Version::parse("1.2.3-/").is_err());
}
