//! Names, versions, requirements and patterns from arbitrary text.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use vortex_registry::{Digest, KeyId, NamePattern, PluginName, PluginVersion, VersionSelector};

/// Whether the text is one ordinary path component, on Linux and on Windows.
fn is_one_component(text: &str) -> bool {
    let mut components = Path::new(text).components();
    matches!(components.next(), Some(Component::Normal(only)) if only == text)
        && components.next().is_none()
        && !text.contains(['/', '\\', ':', '\0'])
        && !text.starts_with('.')
}

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<PluginName>() {
        assert_eq!(name.as_str(), text);
        assert!(is_one_component(text) && text.len() <= PluginName::MAX_LEN);
        assert!(text.is_ascii() && text == text.to_lowercase());
        assert!(NamePattern::any().matches(&name));
        let own: NamePattern = text.parse().expect("a name is a pattern");
        assert!(own.matches(&name));
    }
    if let Ok(selector) = text.parse::<VersionSelector>() {
        if let VersionSelector::Exact(version) = &selector {
            assert_eq!(version.to_string(), text);
            assert!(is_one_component(text) && text.len() <= 128);
        }
        // What is shown means what was read.
        let again = selector.to_string().parse::<VersionSelector>();
        assert_eq!(again.expect("what is shown can be read"), selector);
    }
    if let Ok(pattern) = text.parse::<NamePattern>() {
        assert_eq!(pattern.as_str(), text);
        let plain = text.replace('*', "");
        if let Ok(name) = plain.parse::<PluginName>() {
            assert!(pattern.matches(&name), "stars may stand for nothing");
        }
    }
    if let Ok(release) = text.parse::<PluginVersion>() {
        assert_eq!(release.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(key_id) = text.parse::<KeyId>() {
        assert_eq!(key_id.to_string(), text);
    }
});
