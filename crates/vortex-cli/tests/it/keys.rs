//! Keys and signatures.

use std::os::unix::fs::PermissionsExt;

use crate::util::Place;

#[test]
fn private_keys_are_their_owners_and_never_overwritten_unasked() {
    let place = Place::new();
    place.ok("keygen alice");
    let mode = |name| {
        std::fs::metadata(place.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("alice.key"), mode("alice.pub")), (0o600, 0o644));
    let (key, public) = (place.path("alice.key"), place.path("alice.pub"));
    let before = std::fs::read(&key).unwrap();

    place.run("keygen alice").fails(1, "--force");
    std::fs::remove_file(&public).unwrap();
    place
        .run("keygen alice")
        .fails(1, "alice.key is there already");
    assert_eq!(std::fs::read(&key).unwrap(), before);

    place.ok("keygen alice --force");
    assert_ne!(std::fs::read(&key).unwrap(), before);
    assert_eq!((mode("alice.key"), mode("alice.pub")), (0o600, 0o644));
    // The pair belongs together, and nothing else is left lying about.
    place.ok("sign allow.wasm --name a --version 1.0.0 --hooks pre_request --key alice.key");
    place.ok("verify ./allow.wasm --trust alice.pub");
    let keys = std::fs::read_dir(place.path(".")).unwrap();
    assert_eq!(
        keys.count(),
        6,
        "alice.key, alice.pub, manifest.json and what was there"
    );
}

#[test]
fn a_key_that_others_can_read_does_not_sign() {
    let place = Place::with_signed();
    let key = place.path("alice.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    place
        .run("sign allow.wasm --name gate --version 1.0.1 --hooks pre_request --key alice.key --force")
        .fails(2, "chmod 600");
    place
        .run("sign allow.wasm --name gate --version 1.0.1 --hooks pre_request --key alice.pub --force")
        .fails(2, "can be read by others");
}

#[test]
fn two_keys_meet_a_threshold_and_one_twice_does_not() {
    let place = Place::new();
    place.ok("keygen alice");
    place.ok("keygen bob");
    place.write(
        "policy.toml",
        "[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\n[[keys]]\nname = \"bob\"\nfile = \"bob.pub\"\n\
         [[rules]]\nname = \"*\"\nkeys = [\"alice\", \"bob\"]\nthreshold = 2\n",
    );
    let sign = "sign allow.wasm --name gate --version 1.0.0 --hooks pre_request --force";
    place.ok(&format!("{sign} --key alice.key --key alice.key"));
    place
        .run("verify ./allow.wasm --policy policy.toml")
        .fails(3, "1 distinct trusted keys have signed it");
    place.ok(&format!("{sign} --key alice.key --key bob.key"));
    let verified = place.json("verify ./allow.wasm --policy policy.toml");
    assert_eq!(verified["signers"].as_array().unwrap().len(), 2);
}

#[test]
fn a_module_that_no_gateway_would_run_is_signed_with_a_word_of_warning() {
    let place = Place::new();
    place.ok("keygen alice");
    place.write(
        "odd.wasm",
        wat::parse_str("(module (memory 2000))").unwrap(),
    );
    let done =
        place.run("sign odd.wasm --name odd --version 1.0.0 --hooks on_close --key alice.key");
    assert_eq!(done.code, 0);
    assert!(
        done.err
            .contains("will not run it: the module's memory_bytes"),
        "{done:?}"
    );
}

#[test]
fn what_is_signed_is_what_was_said() {
    let place = Place::new();
    place.ok("keygen alice");
    let signed = place.json(
        "sign allow.wasm --name gate --version 2.0.0-rc.1 --hooks pre_request,on_close \
         --key alice.key --seq 9 --released-at 2026-01-31T12:00:00Z --output out.json",
    );
    assert_eq!(
        (&signed["seq"], &signed["released_at"]),
        (&9.into(), &1_769_860_800_u64.into())
    );
    let verified = place.json("verify ./allow.wasm --manifest out.json --trust alice.pub");
    assert_eq!(verified["released_at"], 1_769_860_800_u64);
    assert_eq!(
        verified["hook_types"],
        serde_json::json!(["pre_request", "on_close"])
    );
    // Another module under the same manifest is another plugin.
    place
        .run("verify ./deny.wasm --manifest out.json --trust alice.pub")
        .fails(5, "checksum");
}

#[test]
fn a_bill_of_materials_is_signed_shown_and_can_be_required() {
    let place = Place::with_signed();
    place.write(
        "policy.toml",
        "[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\n\
         [[rules]]\nname = \"*\"\nkeys = [\"alice\"]\nrequire_sbom = true\n",
    );
    place
        .run("verify ./allow.wasm --policy policy.toml")
        .fails(3, "SBOM");
    let bill = r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}"#;
    place.write("bom.json", bill);
    let sign = "sign allow.wasm --name gate --version 1.0.0 --hooks pre_request --key alice.key \
                --force";
    let signed = place.json(&format!("{sign} --sbom bom.json"));
    assert_eq!(signed["sbom"]["format"], "cyclonedx");
    place.ok("verify ./allow.wasm --policy policy.toml");
    place.ok("install allow.wasm --store store --policy policy.toml");
    let info = place.ok("info gate --store store --policy policy.toml");
    assert!(info.contains("CycloneDX"), "{info}");
    let digest = signed["sbom"]["digest"].as_str().unwrap();
    assert!(info.contains(digest), "{info}");

    place.write("bom.json", "{}");
    let refused = place.run(&format!("{sign} --sbom bom.json"));
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("bom.json"), "{refused:?}");
}
