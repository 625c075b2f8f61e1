//! How plugins are named.

use vortex_plugins::registry::{RegistryError, VersionSelector};
use vortex_plugins::{PluginRef, PluginSpec};

#[test]
fn good_references_are_read_and_written() {
    for (text, name, written) in [
        ("api-key", "api-key", "api-key@latest"),
        ("api-key@latest", "api-key", "api-key@latest"),
        ("a@1.2.3", "a", "a@1.2.3"),
        ("a@1.2.3-rc.1+build.5", "a", "a@1.2.3-rc.1+build.5"),
        ("a@^1.2", "a", "a@^1.2"),
        ("a@~1.2.3", "a", "a@~1.2.3"),
        ("a@>=1, <2", "a", "a@>=1, <2"),
        ("a@>=1,<2", "a", "a@>=1, <2"),
        ("a@=1.2.3", "a", "a@=1.2.3"),
        ("a@1.*", "a", "a@1.*"),
        ("a@*", "a", "a@*"),
        ("x1-2-y", "x1-2-y", "x1-2-y@latest"),
    ] {
        let reference: PluginRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.name().as_str(), name);
        assert_eq!(reference.to_string(), written);
        assert_eq!(written.parse::<PluginRef>().unwrap(), reference);
        let parts = PluginRef::new(reference.name().clone(), reference.version().clone());
        assert_eq!(parts, reference);
        let spec: PluginSpec = text.parse().unwrap();
        assert_eq!(*spec.reference(), reference);
        assert_eq!(*PluginSpec::from(reference.clone()).reference(), reference);
    }
}

#[test]
fn versions_are_of_the_right_kind() {
    let version = |text: &str| text.parse::<PluginRef>().unwrap().version().clone();
    assert_eq!(version("a"), VersionSelector::Latest);
    assert_eq!(version("a@latest"), VersionSelector::Latest);
    assert_eq!(
        version("a@1.2.3"),
        VersionSelector::Exact("1.2.3".parse().unwrap())
    );
    assert_eq!(
        version("a@=1.2.3"),
        VersionSelector::Matching("=1.2.3".parse().unwrap())
    );
    assert_ne!(version("a@=1.2.3"), version("a@1.2.3"));
}

#[test]
fn bad_references_are_refused() {
    for text in [
        "",
        "@",
        "@1.0.0",
        "@latest",
        " a",
        "a ",
        "A",
        "a_b",
        "a/b",
        "../a",
        "/a",
        "a.b",
        "-a",
        "a-",
        "a--b",
        "1a",
        "ä",
        "a\0",
        "a\n",
        "con",
        "nul@1.0.0",
        "a b@1.0.0",
        "a @1.0.0",
    ] {
        assert!(
            matches!(
                text.parse::<PluginRef>(),
                Err(RegistryError::InvalidName { .. })
            ),
            "{text:?}: {:?}",
            text.parse::<PluginRef>()
        );
        assert!(text.parse::<PluginSpec>().is_err(), "{text:?}");
    }
    let long = format!("a@{}", "1.0.0, ^".repeat(100));
    for text in [
        "a@",
        "a@@",
        "a@ ",
        "a@1",
        "a@1.2",
        "a@v1.2.3",
        "a@1.2.3.4",
        "a@01.2.3",
        "a@Latest",
        "a@newest",
        "a@1.2.3@1.2.3",
        "a@latest@latest",
        "a@../1.0.0",
        "a@1.2.3/..",
        "a@^",
        "a@>=",
        "a@^1.2,",
        "a@1.2.3 ",
        "a@1.2.3\0",
        "a@^1.2 || ^2",
        &long,
    ] {
        assert!(
            matches!(
                text.parse::<PluginRef>(),
                Err(RegistryError::InvalidSelector { .. })
            ),
            "{text:?}: {:?}",
            text.parse::<PluginRef>()
        );
        assert!(text.parse::<PluginSpec>().is_err(), "{text:?}");
    }
    let name = "a".repeat(64);
    assert!(name.parse::<PluginRef>().is_ok());
    assert!(format!("{name}a").parse::<PluginRef>().is_err());
}
