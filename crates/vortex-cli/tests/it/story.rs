//! The life of a plugin from its key to its removal.

use crate::util::{Place, fixture};

#[test]
fn from_a_key_to_a_removed_plugin() {
    let place = Place::new();
    place.write("api-key.wasm", fixture("api-key"));
    place.ok("keygen alice");
    let signed = place.ok(
        "sign api-key.wasm --name api-key --version 1.2.0 --hooks pre_request --key alice.key --seq 7",
    );
    assert!(signed.contains("number 7"), "{signed}");
    place.write(
        "policy.toml",
        "[[keys]]\nname = \"alice\"\nfile = \"alice.pub\"\n\n[[rules]]\nname = \"api-*\"\nkeys = [\"alice\"]\n",
    );
    let checked = place.ok("policy check policy.toml --plugin api-key");
    assert!(
        checked.contains("rule 1 decides about api-key"),
        "{checked}"
    );

    let with = |line: &str| format!("{line} --policy policy.toml");
    place.ok(&with("verify ./api-key.wasm"));
    assert!(
        place
            .ok(&with("install api-key.wasm"))
            .contains("installed")
    );
    assert!(
        place
            .ok(&with("install api-key.wasm"))
            .contains("already installed")
    );
    assert!(
        place
            .ok(&with("list"))
            .contains("api-key  1.2.0    pre_request  trusted (")
    );
    let info = place.ok(&with("info api-key@^1"));
    let size = format!("{} bytes", fixture("api-key").len());
    assert!(info.contains("number 7") && info.contains(&size), "{info}");

    let denied = place.run(&with("run api-key request.http"));
    assert_eq!(denied.code, 7, "{denied:?}");
    assert!(denied.out.contains("denied with status 401"), "{denied:?}");
    place.write(
        "key.http",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX-Api-Key: k-demo-123\r\n\r\n",
    );
    let allowed = place.ok(&with("run api-key@1.2.0 key.http --fuel 1000000"));
    for part in [
        "allowed",
        "x-consumer: demo",
        "CPU time",
        "memory",
        "operators",
    ] {
        assert!(allowed.contains(part), "{allowed}");
    }

    // Somebody changes one byte of the module where it lies.
    let module = place.path("store/api-key/1.2.0/plugin.wasm");
    let mut bytes = std::fs::read(&module).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&module, bytes).unwrap();
    for line in [
        "run api-key request.http",
        "verify api-key",
        "info api-key",
        "verify --all",
    ] {
        let refused = place.run(&with(line));
        assert_eq!(refused.code, 5, "{line}: {refused:?}");
        assert!(
            (refused.err.clone() + &refused.out).contains("checksum"),
            "{refused:?}"
        );
    }
    assert!(place.ok(&with("list")).contains("is corrupt"));

    place.ok("remove api-key@1.2.0 --yes");
    place
        .run(&with("run api-key request.http"))
        .fails(4, "not installed");
    assert_eq!(place.ok("list"), "no plugins are installed\n");
}

#[test]
fn every_result_is_json_for_machines() {
    let place = Place::with_installed();
    let with = |line: &str| format!("{line} --trust alice.pub");

    let list = place.json(&with("list"));
    assert_eq!(list[0]["name"], "gate");
    assert_eq!(list[0]["trust"]["state"], "trusted");
    let key_id = list[0]["trust"]["signers"][0].as_str().unwrap();
    assert_eq!(key_id.len(), 64);
    assert_eq!(place.json("list")[0]["trust"]["state"], "untrusted_key");

    let info = place.json(&with("info gate"));
    assert_eq!(
        (&info["version"], &info["abi"]),
        (&"1.0.0".into(), &1.into())
    );
    assert_eq!(
        info["size"],
        std::fs::metadata(place.path("allow.wasm")).unwrap().len()
    );

    assert_eq!(place.json(&with("verify gate"))["signers"][0], key_id);
    assert_eq!(place.json(&with("verify --all"))[0]["status"], "intact");
    assert_eq!(
        place.json(&with("install allow.wasm"))["outcome"],
        "already_installed"
    );

    let run = place.json(&with("run gate request.http --fuel 1000"));
    assert_eq!(run["output"]["allow"], true);
    assert_eq!(
        (&run["verified"], &run["error"]),
        (&true.into(), &serde_json::Value::Null)
    );
    assert_eq!(run["usage"]["memory_bytes"], 65_536);
    assert!(run["usage"]["fuel"].as_u64().unwrap() > 0);
    assert!(run["usage"]["wall_time_ns"].as_u64().unwrap() > 0);

    assert_eq!(
        place.json("remove gate@1.0.0 --yes")["removed"],
        "gate@1.0.0"
    );
    assert_eq!(place.json(&with("list")), serde_json::json!([]));
    let error = place.run("info gate --json");
    assert_eq!((error.code, error.out.as_str()), (4, ""));
    let error: serde_json::Value = serde_json::from_str(&error.err).unwrap();
    assert_eq!(error["error"]["code"], 4);
    assert!(error["error"]["hint"].as_str().unwrap().contains("list"));
}

#[test]
fn a_store_of_the_go_system_is_signed_after_the_fact() {
    let place = Place::new();
    place.ok("keygen alice");
    let checksum = place.json("inspect ./allow.wasm")["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    place.write(
        "go/manifest.json",
        format!(
            "{{\"name\":\"gate\",\"version\":\"1.0.0\",\"description\":\"old\",\
             \"hook_types\":[\"pre_request\"],\"checksum\":\"{checksum}\",\"signature\":\"\"}}"
        ),
    );
    std::fs::copy(place.path("allow.wasm"), place.path("go/plugin.wasm")).unwrap();
    place
        .run("install go --trust alice.pub")
        .fails(3, "is unsigned");
    place
        .run("sign go/plugin.wasm --manifest go/manifest.json --key alice.key")
        .fails(1, "--force");
    place.ok("sign go/plugin.wasm --manifest go/manifest.json --key alice.key --force");
    place.ok("install go --trust alice.pub");
    let info = place.json("info gate --trust alice.pub");
    assert_eq!(
        (&info["description"], &info["hook_types"][0]),
        (&"old".into(), &"pre_request".into())
    );
}
