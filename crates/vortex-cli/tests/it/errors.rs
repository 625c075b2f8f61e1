//! Every exit code, with the words that come with it.

use crate::util::{Done, Place, guest};

#[test]
fn one_something_else_failed() {
    let place = Place::with_installed();
    place.run("verify ./nothing.wasm").fails(1, "No such file");
    place.ok(
        "sign deny.wasm --name gate --version 1.0.0 --hooks pre_request --key alice.key --force",
    );
    place
        .run("install deny.wasm --trust alice.pub")
        .fails(1, "installed with other contents: versions never change");
    place.write("file", "");
    place.run("list --store file").fails(1, "could not open");
    place
        .run("install ./allow.wasm --manifest no.json")
        .fails(1, "`vortex-plugin sign` makes one");
}

#[test]
fn two_the_arguments_cannot_be_used() {
    let place = Place::with_installed();
    for (line, says) in [
        ("", "Usage"),
        ("lst", "similar subcommand"),
        ("info ../x", "use lower-case words"),
        ("info gate@1", "use `latest`"),
        ("remove gate", "major.minor.patch"),
        ("remove gate@1.0.0", "give --yes"),
        ("verify", "required"),
        ("verify gate --manifest manifest.json", "is for a file"),
        (
            "verify gate --trust nobody.pub --policy p.toml",
            "cannot be used with",
        ),
        ("sign allow.wasm --name gate --key alice.key", "--version"),
        (
            "sign allow.wasm --name a --version 1.0.0 --hooks never --key alice.key",
            "never",
        ),
        (
            "verify ./allow.wasm --manifest request.http",
            "no plugin manifest",
        ),
        ("verify gate --trust request.http", "no usable ed25519 key"),
        (
            "verify gate --policy request.http",
            "request.http is unusable",
        ),
        ("index make i --key alice.key", "--seq"),
        (
            "index make i --key alice.key --seq 1 --revoke-key 12",
            "64 lower-case",
        ),
    ] {
        place.run(line).fails(2, says);
    }
    let mut command = place.command();
    command.env_remove("VORTEX_PLUGIN_DIR").arg("list");
    Done::of(&mut command).fails(2, "use --store DIR or set VORTEX_PLUGIN_DIR");
    command.env("VORTEX_PLUGIN_DIR", "");
    Done::of(&mut command).fails(2, "no plugin store given");
}

#[test]
fn three_refused_for_want_of_trust() {
    let place = Place::with_installed();
    place.ok("keygen mallory");
    for line in [
        "verify gate",
        "run gate request.http",
        "inspect gate",
        "install allow.wasm",
    ] {
        let done = place.run(line);
        done.fails(3, "signed by no trusted key");
        assert!(
            done.err.contains("give --policy FILE or --trust KEY.pub"),
            "{done:?}"
        );
    }
    let done = place.run("verify gate --trust mallory.pub");
    done.fails(3, "trust that key or have it signed by a trusted one");
    assert!(!done.err.contains("nobody is trusted"), "{done:?}");
    assert_eq!(place.run("verify --all --trust mallory.pub").code, 3);

    let policy = |rest: &str| {
        let keys = "[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\n[[rules]]\nname = \"g*\"\nkeys = [\"alice\"]\n";
        place.write("policy.toml", format!("{keys}{rest}"));
        place.run("verify gate --policy policy.toml")
    };
    assert_eq!(policy("").code, 0);
    policy("[revoked]\nversions = [\"gate@1.0.0\"]\n").fails(3, "the version is revoked");
    policy("[minimum_versions]\ngate = \"1.0.1\"\n").fails(3, "lowest version allowed is 1.0.1");
    policy("max_bytes = 10\n").fails(3, "rule g* allows 10");
    policy("hook_types = [\"on_close\"]\n").fails(3, "does not allow it to run at pre_request");
}

#[test]
fn four_not_installed() {
    let place = Place::with_installed();
    for line in [
        "info other",
        "verify gate@2.0.0 --trust alice.pub",
        "run gate@^2 request.http --trust alice.pub",
        "remove gate@2.0.0 --yes",
    ] {
        let done = place.run(line);
        done.fails(4, "is not installed");
        assert!(done.err.contains("`vortex-plugin list` shows"), "{done:?}");
    }
    place.write("local", guest("{}"));
    place
        .run("run local request.http")
        .fails(4, "write ./local to mean it");
}

#[test]
fn five_damaged() {
    let place = Place::with_installed();
    place.write("store/gate/1.0.0/manifest.json", "{}");
    let done = place.run("verify gate --trust alice.pub");
    done.fails(5, "plugin gate 1.0.0 is corrupt");
    place
        .run("verify gate@1.0.0 --trust alice.pub")
        .fails(5, "`vortex-plugin remove gate@1.0.0`");
    place
        .run("info gate@1.0.0 --trust alice.pub")
        .fails(5, "the manifest cannot be read");
    // One that is sound does not make up for it, whichever comes first.
    for name in ["a", "z"] {
        place.ok(&format!(
            "sign allow.wasm --name {name} --version 1.0.0 --hooks on_close --key alice.key --force"
        ));
        place.ok("install allow.wasm --trust alice.pub");
    }
    assert_eq!(place.run("verify --all --trust alice.pub").code, 5);
    place.ok("remove gate@1.0.0 --yes");
}

#[test]
fn six_the_plugin_cannot_run() {
    let place = Place::new();
    place.write("text.wasm", "hello");
    place
        .run("run ./text.wasm request.http")
        .fails(6, "not an acceptable WebAssembly module");
    place.write(
        "imports.wasm",
        wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap(),
    );
    let done = place.run("run ./imports.wasm request.http");
    done.fails(6, "plugins get no imports");
    assert!(
        done.err.contains("`vortex-plugin inspect FILE` shows all"),
        "{done:?}"
    );
    place.write(
        "mute.wasm",
        wat::parse_str("(module (memory (export \"memory\") 1))").unwrap(),
    );
    place
        .run("run ./mute.wasm request.http")
        .fails(6, "does not export `alloc`");
}

#[test]
fn whoever_stops_reading_has_read_enough() {
    let place = Place::with_installed();
    let mut command = place.command();
    command
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
