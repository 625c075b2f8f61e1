//! `index`: what is revoked everywhere.

use crate::util::Place;

/// A place with a plugin of alice's, and a policy that asks for an index of the operator's.
fn place() -> Place {
    let place = Place::with_installed();
    place.ok("keygen operator");
    place.write(
        "policy.toml",
        "index_required = true\n[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\n\
         [[keys]]\nname = \"operator\"\nfile = \"operator.pub\"\n\
         [[rules]]\nname = \"*\"\nkeys = [\"alice\"]\n[index]\nkeys = [\"operator\"]\n",
    );
    place
}

#[test]
fn an_index_is_made_taken_over_and_applied() {
    let place = place();
    let with = |line: &str| format!("{line} --policy policy.toml");
    let missing = place.run(&with("verify gate"));
    missing.fails(3, "it is missing");
    assert!(
        missing.err.contains("`vortex-plugin index update FILE`"),
        "{missing:?}"
    );

    place.ok("index make one.json --seq 1 --key operator.key");
    assert!(place.ok(&with("index update one.json")).contains("number"));
    place.ok(&with("verify gate"));
    place.ok(&with("index update one.json"));

    let made = place.ok(&with(
        "index make two.json --extend --key operator.key --revoke gate@1.0.0",
    ));
    assert!(made.contains("gate@1.0.0"), "{made}");
    place.ok(&with("index update two.json"));
    place
        .run(&with("run gate request.http"))
        .fails(3, "the version is revoked");
    let shown = place.json(&with("index show"));
    assert_eq!(
        (&shown["seq"], &shown["revoked"]["versions"][0]),
        (&2.into(), &"gate@1.0.0".into())
    );

    // The next one keeps what this one has.
    place.ok(&with(
        "index make three.json --extend --key operator.key --minimum other@2.0.0",
    ));
    place.ok(&with("index update three.json"));
    let shown = place.json(&with("index show"));
    assert_eq!(shown["revoked"]["versions"][0], "gate@1.0.0");
    assert_eq!(shown["revoked"]["minimum_versions"]["other"], "2.0.0");
    assert_eq!(shown["seq"], 3);
}

#[test]
fn rollback_equivocation_and_foreign_keys_are_refused() {
    let place = place();
    let with = |line: &str| format!("{line} --policy policy.toml");
    place.ok("index make new.json --seq 5 --key operator.key --revoke gate@1.0.0");
    place.ok("index make old.json --seq 4 --key operator.key");
    place.ok("index make twin.json --seq 5 --key operator.key");
    place.ok("index make alices.json --seq 6 --key alice.key");
    place.ok("index make stale.json --seq 7 --key operator.key --valid-for 0s");
    place.ok(&with("index update new.json"));
    for (file, says) in [
        (
            "old.json",
            "it is number 4, and number 5 has been seen already",
        ),
        ("twin.json", "another one with the number 5"),
        ("alices.json", "0 distinct index keys have signed it"),
        ("stale.json", "it expired at"),
        ("request.http", "it cannot be read"),
    ] {
        place
            .run(&with(&format!("index update {file}")))
            .fails(3, says);
    }
    assert_eq!(place.json(&with("index show"))["seq"], 5);
    place
        .run(&with(
            "index make six.json --extend --seq 5 --key operator.key",
        ))
        .fails(2, "give a higher one");
    place
        .run("index make new.json --seq 6 --key operator.key")
        .fails(1, "--force");
}

#[test]
fn the_index_counts_for_files_too() {
    let place = place();
    let with = |line: &str| format!("{line} --policy policy.toml");
    place
        .run(&with("verify ./allow.wasm"))
        .fails(3, "it is missing");
    place.ok("index make one.json --seq 1 --key operator.key");
    place.ok(&with("index update one.json"));
    place.ok(&with("verify ./allow.wasm"));
    let checksum = place.json("inspect ./allow.wasm")["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    place.ok(&format!(
        "index make two.json --seq 2 --key operator.key --deny {checksum}"
    ));
    place.ok(&with("index update two.json"));
    place
        .run(&with("verify ./allow.wasm"))
        .fails(3, "is denied");
    // Without a store there is no index, and the policy requires one.
    let mut command = place.command();
    command.env_remove("VORTEX_PLUGIN_DIR");
    command.args(["verify", "./allow.wasm", "--policy", "policy.toml"]);
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[test]
fn no_index_is_said_as_such() {
    let place = Place::with_installed();
    assert_eq!(
        place.ok("index show --trust alice.pub"),
        "no fleet index is in force\n"
    );
    place.ok("index make one.json --seq 1 --key alice.key");
    place
        .run("index update one.json --trust alice.pub")
        .fails(3, "name the keys under [index] in the policy");
}
