//! Which version a selector means, and what is in its way.

use vortex_registry::{RegistryError, VersionSelector};

use crate::support::{Fixture, assert_corrupt, assert_error, name, select};

#[test]
fn latest_is_the_highest_that_is_no_prerelease() {
    let fixture = Fixture::with(&["1.9.0", "1.10.0", "2.0.0-rc.1"]);
    let get = |selector| fixture.registry.get(&name("redirect"), &select(selector));
    let version = |selector| get(selector).unwrap().manifest().version.to_string();
    assert_eq!(version("latest"), "1.10.0");
    assert_eq!(version("2.0.0-rc.1"), "2.0.0-rc.1");
    assert_eq!(version("^2.0.0-rc.0"), "2.0.0-rc.1");
    assert_error!(get("^2"), RegistryError::NotFound { .. });
}

#[test]
fn absence_is_not_corruption() {
    let fixture = Fixture::with(&["1.0.0"]);
    let absent = fixture.registry.get(&name("redirect"), &select("1.0.1"));
    assert_error!(
        absent,
        RegistryError::NotFound {
            version: VersionSelector::Exact(_),
            ..
        }
    );
    assert_error!(
        fixture.registry.get_latest(&name("other")),
        RegistryError::NotFound { .. }
    );
    let nowhere = Fixture::new();
    assert_error!(
        nowhere.registry.get_latest(&name("other")),
        RegistryError::NotFound { .. }
    );
    assert!(!nowhere.registry.path().exists());
}

#[test]
fn a_corrupt_newest_version_forces_no_downgrade() {
    use vortex_registry::Defect;
    let fixture = Fixture::with(&["1.0.0", "2.0.0"]);
    std::fs::write(fixture.path("redirect/2.0.0/plugin.wasm"), b"other").unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("redirect")),
        Defect::Checksum { .. }
    );
    assert_corrupt!(
        fixture.registry.get(&name("redirect"), &select(">=1")),
        Defect::Checksum { .. }
    );
    std::fs::remove_file(fixture.path("redirect/2.0.0/plugin.wasm")).unwrap();
    assert_corrupt!(
        fixture.registry.get_latest(&name("redirect")),
        Defect::MissingFile { .. }
    );
    assert!(
        fixture
            .registry
            .get(&name("redirect"), &select("1.0.0"))
            .is_ok()
    );
}

#[test]
fn a_directory_that_is_no_version_is_ignored() {
    let fixture = Fixture::with(&["1.0.0"]);
    for dir in ["garbage", "v2.0.0", "02.0.0", "9.0"] {
        std::fs::create_dir(fixture.path("redirect").join(dir)).unwrap();
    }
    let plugin = fixture.registry.get_latest(&name("redirect")).unwrap();
    assert_eq!(plugin.manifest().version.to_string(), "1.0.0");
}

#[test]
fn build_metadata_matches_exactly() {
    let fixture = Fixture::with(&["1.0.0+linux"]);
    assert!(
        fixture
            .registry
            .get(&name("redirect"), &select("1.0.0+linux"))
            .is_ok()
    );
    for other in ["1.0.0", "1.0.0+mac"] {
        let result = fixture.registry.get(&name("redirect"), &select(other));
        assert_error!(result, RegistryError::NotFound { .. });
        let manifest = fixture.manifest("redirect", other);
        let result = fixture.registry.install(&manifest, crate::support::WASM);
        assert_error!(result, RegistryError::EqualPrecedence { .. });
    }
    assert_eq!(fixture.tree().len(), 4);
}
