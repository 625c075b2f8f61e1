//! `push`, `pull` and `install` against Debian's `docker-registry`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::util::Place;

/// A running registry on a port of its own, gone when dropped.
struct OciRegistry {
    host: String,
    child: Child,
}

impl OciRegistry {
    fn start(place: &Place) -> Self {
        place.write(
            "oci/config.yml",
            format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: 127.0.0.1:0\n",
                place.path("oci/storage").display()
            ),
        );
        let log_file = place.path("oci/log");
        let child = Command::new(program())
            .args(["serve", "config.yml"])
            .current_dir(place.path("oci"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log_file).unwrap())
            .spawn()
            .unwrap();
        let mut registry = Self {
            host: String::new(),
            child,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        registry.host = loop {
            let log = std::fs::read_to_string(&log_file).unwrap();
            let address = log.split("listening on ").nth(1);
            if let Some(address) = address.and_then(|rest| rest.split([',', '"', ' ']).next()) {
                break address.to_owned();
            }
            assert!(Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(20));
        };
        registry
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("docker-registry"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("docker-registry is not installed: run `cargo xtask test`, which installs it")
        })
}

#[test]
fn a_plugin_travels_from_its_author_to_a_gateway() {
    let place = Place::with_signed();
    let oci = OciRegistry::start(&place);
    let reference = format!("{}/team/gate:1.0.0", oci.host);

    let pushed = place.json(&format!("push allow.wasm {reference}"));
    let pinned = pushed["reference"].as_str().unwrap();
    assert!(
        pinned.starts_with(&reference) && pinned.contains("@sha256:"),
        "{pinned}"
    );

    let refused = place.run(&format!("install {reference}"));
    refused.fails(3, "signed by no trusted key");
    assert!(
        refused.err.contains("give --policy FILE or --trust"),
        "{refused:?}"
    );
    let installed = place.ok(&format!("install {reference} --trust alice.pub"));
    assert!(installed.contains("installed"), "{installed}");
    let again = place.json(&format!("install oci://{pinned} --trust alice.pub"));
    assert_eq!(again["outcome"], "already_installed");
    place.ok("run gate request.http --trust alice.pub");

    // A gateway's operator passes it on under another path.
    place.ok(&format!(
        "push gate {}/copies/gate:1.0.0 --trust alice.pub",
        oci.host
    ));
    let pulled = place.json(&format!(
        "pull {}/copies/gate:1.0.0 --output copy",
        oci.host
    ));
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_eq!(
        std::fs::read(place.path("copy/plugin.wasm")).unwrap(),
        std::fs::read(place.path("allow.wasm")).unwrap()
    );
    place.ok("verify copy/plugin.wasm --trust alice.pub");
    place
        .run(&format!("pull {pinned} --output copy"))
        .fails(1, "--force");
}

#[test]
fn what_is_not_there_or_does_not_fit_is_told() {
    let place = Place::with_signed();
    let oci = OciRegistry::start(&place);
    let host = &oci.host;
    place
        .run(&format!("pull {host}/team/gate:9.9.9"))
        .fails(4, "gate");
    place
        .run(&format!("install {host}/team/gate:9.9.9 --trust alice.pub"))
        .fails(4, "gate");
    place
        .run(&format!("push allow.wasm {host}/team/gate:2.0.0"))
        .fails(2, "the plugin is gate 1.0.0");
    place
        .run(&format!("push allow.wasm {host}/team/gate:latest"))
        .fails(2, "no full version");
    place.run("pull gate:1.0.0").fails(2, "names no host");
    place.run("install oci://gate").fails(2, "names no host");

    place.ok(&format!("push allow.wasm {host}/team/gate:1.0.0"));
    place.ok(
        "sign deny.wasm --name gate --version 1.0.0 --hooks pre_request --key alice.key --force",
    );
    place
        .run(&format!("push deny.wasm {host}/team/gate:1.0.0"))
        .fails(1, "published versions never change");
    drop(oci);
    place
        .run("pull 127.0.0.1:1/team/gate:1.0.0")
        .fails(1, "no answer from 127.0.0.1:1");
}

#[test]
fn an_unsigned_plugin_is_pushed_with_a_word_of_warning() {
    let place = Place::with_signed();
    let oci = OciRegistry::start(&place);
    let manifest = std::fs::read(place.path("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["signature"] = "".into();
    place.write("manifest.json", manifest.to_string());
    let done = place.run(&format!("push allow.wasm {}/team/gate:1.0.0", oci.host));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.err.contains("no strict policy will let it in"),
        "{done:?}"
    );
    place
        .run(&format!(
            "install {}/team/gate:1.0.0 --trust alice.pub",
            oci.host
        ))
        .fails(3, "is unsigned");
}
