//! `policy check`: what a policy means, and what in it cannot work.

use crate::util::Place;

const KEYS: &str = "[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\nnot_after = 2020-01-01T00:00:00Z\n\
    [[keys]]\nname = \"bob\"\nfile = \"bob.pub\"\n";

#[test]
fn a_policy_is_explained() {
    let place = Place::new();
    place.ok("keygen alice");
    place.ok("keygen bob");
    place.write("policy.toml", format!(
        "{KEYS}[[rules]]\nname = \"auth-*\"\nkeys = [\"alice\", \"bob\"]\nthreshold = 2\nmax_bytes = 1048576\n\
         [[rules]]\nname = \"*\"\nkeys = [\"bob\"]\nhook_types = [\"pre_request\"]\n\
         [revoked]\nversions = [\"redirect@1.2.3\"]\n"));
    let done = place.run("policy check policy.toml");
    assert_eq!(done.code, 0, "{done:?}");
    for part in [
        "strict",
        "auth-*",
        "1.0 MiB",
        "pre_request",
        "expired",
        "2020-01-01T00:00:00Z",
        "versions: 1",
    ] {
        assert!(done.out.contains(part), "not {part:?} in {}", done.out);
    }
    assert!(
        done.err
            .contains("rule 1 (auth-*) asks for 2 keys, and 1 of its keys can be used now"),
        "{done:?}"
    );

    let json = place.json("policy check policy.toml --plugin redirect");
    assert_eq!(
        (&json["plugin"]["rule"], &json["rules"][0]["threshold"]),
        (&2.into(), &2.into())
    );
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(json["revoked"]["versions"][0], "redirect@1.2.3");
    let states: Vec<_> = json["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k["state"].clone())
        .collect();
    assert!(
        states.contains(&"expired".into()) && states.contains(&"valid".into()),
        "{states:?}"
    );
}

#[test]
fn a_name_without_a_rule_is_told() {
    let place = Place::new();
    place.ok("keygen alice");
    place.ok("keygen bob");
    place.write(
        "policy.toml",
        format!("mode = \"permissive\"\n{KEYS}[[rules]]\nname = \"a*\"\nkeys = [\"bob\"]\n"),
    );
    let done = place.run("policy check policy.toml --plugin redirect");
    assert_eq!(done.code, 3);
    assert!(done.out.contains("no rule is about redirect"), "{done:?}");
    assert!(done.err.contains("the mode is permissive"), "{done:?}");
    assert!(
        place
            .ok("policy check --policy policy.toml --plugin auth")
            .contains("rule 1 decides")
    );
    place.write("empty.toml", "");
    assert!(
        place
            .run("policy check empty.toml")
            .err
            .contains("every plugin is refused")
    );
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_the_place() {
    let place = Place::new();
    place.run("policy check").fails(2, "no policy file given");
    for (text, says) in [
        ("mode = \"lax\"", "line 1"),
        ("\n\nrule = 1", "line 3"),
        ("index_required = true", "no [index] says"),
        (
            "[[rules]]\nname = \"*\"\nkeys = [\"nobody\"]",
            "no key is named",
        ),
        ("[[rules]]\nname = \"*\"\nkeys = []", "threshold is 1"),
    ] {
        place.write("policy.toml", text);
        place.run("policy check policy.toml").fails(2, says);
    }
}

#[test]
fn the_variable_names_the_policy_and_options_count_more() {
    let place = Place::with_installed();
    place.ok("keygen bob");
    place.write(
        "bob.toml",
        "[[keys]]\nname = \"bob\"\nfile = \"bob.pub\"\n[[rules]]\nname = \"*\"\nkeys = [\"bob\"]\n",
    );
    let verify = |arguments: &[&str]| {
        let mut command = place.command();
        command
            .env("VORTEX_PLUGIN_POLICY", "bob.toml")
            .args(["verify", "gate"])
            .args(arguments);
        command.status().unwrap().code()
    };
    assert_eq!(verify(&[]), Some(3));
    assert_eq!(verify(&["--trust", "alice.pub"]), Some(0));
    assert_eq!(verify(&["--policy", "alice.pub"]), Some(2));
}
