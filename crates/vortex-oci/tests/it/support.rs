//! What the scenarios share: plugins, stores, and Debian's `docker-registry`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vortex_oci::{Client, ClientBuilder, DockerConfig, Reference};
use vortex_registry::{HookType, PluginManifest, Policy, PrivateKey, Registry, Release};

/// Lines of the registry's log that tell of an answered request have this.
const ANSWERED: &str = "response completed";

/// An author with a key, and stores that trust that author.
pub(crate) struct Author {
    pub(crate) temp: TempDir,
    pub(crate) key: PrivateKey,
}

impl Author {
    pub(crate) fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
            key: PrivateKey::generate().unwrap(),
        }
    }

    /// A store of that name, empty if it is new.
    pub(crate) fn store(&self, name: &str) -> Registry {
        let policy = Policy::strict([self.key.public_key()]);
        Registry::open(self.temp.path().join(name), policy).unwrap()
    }

    pub(crate) fn sign(&self, version: &str, wasm: &[u8]) -> PluginManifest {
        signed(&self.key, version, wasm)
    }
}

/// A signed manifest of the plugin `redirect`.
pub(crate) fn signed(key: &PrivateKey, version: &str, wasm: &[u8]) -> PluginManifest {
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 1_750_000_000,
    };
    let hooks = [HookType::PreRequest, HookType::OnClose];
    let name = "redirect".parse().unwrap();
    let mut manifest = PluginManifest::new(name, version.parse().unwrap(), hooks, wasm);
    manifest.description = "sends \"old\" addresses on".to_owned();
    manifest.sign(wasm, release, &[key]).unwrap()
}

/// Bytes that look like a module from outside, different for each seed.
pub(crate) fn module(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    b"\0asm\x01\0\0\0"
        .iter()
        .copied()
        .chain(noise)
        .take(len)
        .collect()
}

/// A client that has no credentials.
pub(crate) fn anonymous() -> ClientBuilder {
    Client::builder().docker_config(DockerConfig::empty())
}

/// The plugin `redirect` on a host.
pub(crate) fn on(host: &str, version: &str) -> Reference {
    Reference::parse(&format!("{host}/team/redirect:{version}")).unwrap()
}

/// A Docker config with a password for each of the hosts.
pub(crate) fn passwords(hosts: &[&str], user: &str, password: &str) -> DockerConfig {
    let auths: serde_json::Map<_, _> = hosts
        .iter()
        .map(|host| {
            let auth = serde_json::json!({ "username": user, "password": password });
            ((*host).to_owned(), auth)
        })
        .collect();
    config(&serde_json::json!({ "auths": auths }))
}

pub(crate) fn config(json: &serde_json::Value) -> DockerConfig {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, json.to_string()).unwrap();
    DockerConfig::read(&file).unwrap()
}

/// A running `docker-registry` on a port of its own, gone when dropped.
pub(crate) struct DockerRegistry {
    temp: TempDir,
    child: Child,
    /// Its host and port.
    pub(crate) host: String,
}

impl DockerRegistry {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts one whose config has more to say; the files that this needs go
    /// into the directory.
    pub(crate) fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let more = more(temp.path());
        let storage = temp.path().join("storage");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{more}",
            storage.display()
        );
        let file = temp.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(temp.path().join("log")).unwrap();
        let child = Command::new(installed("docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry = Self {
            temp,
            child,
            host: String::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        registry.host = loop {
            let log = registry.log();
            let address = log.split("listening on ").nth(1);
            if let Some(address) = address.and_then(|rest| rest.split([',', '"', ' ']).next()) {
                break address.to_owned();
            }
            assert!(registry.child.try_wait().unwrap().is_none(), "{log}");
            assert!(Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(20));
        };
        registry
    }

    fn log(&self) -> String {
        fs::read_to_string(self.temp.path().join("log")).unwrap()
    }

    /// How many requests of this method for paths with this in them were answered.
    pub(crate) fn answered(&self, method: &str, path: &str) -> usize {
        let method = format!("http.request.method={method} ");
        let log = self.log();
        log.lines()
            .filter(|line| line.contains(ANSWERED) && line.contains(&method))
            .filter(|line| {
                let uri = line.split("http.request.uri=").nth(1);
                uri.is_some_and(|rest| rest.split(' ').next().unwrap_or(rest).contains(path))
            })
            .count()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program that the tests need and that this machine must have.
pub(crate) fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{program} is not installed, and this test is nothing without it: run \
                 `cargo xtask test`, which installs it where it may, or \
                 `apt-get install --no-install-recommends {program}`"
            )
        })
}

/// Runs skopeo, which shares no code with this crate.
pub(crate) fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(installed("skopeo"))
        .args(arguments)
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Names the test that a child process runs, where it plays another role than in its parent.
const CHILD: &str = "OCI_TEST_CHILD";

/// Names the directory that the parent has prepared for the child.
const CHILD_DIR: &str = "OCI_TEST_DIR";

/// This binary, to run this test alone, in the child's role.
pub(crate) fn as_child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env(CHILD_DIR, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What the parent has prepared, when this process is a child in this test.
pub(crate) fn child_dir(test: &str) -> Option<PathBuf> {
    let child = std::env::var_os(CHILD)?;
    assert_eq!(child, *test, "a child runs no test but its own");
    Some(std::env::var_os(CHILD_DIR).unwrap().into())
}

/// What a child has printed, if it has run its test and that has passed.
pub(crate) fn passed(output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Fails unless the value is an error of this shape.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}
pub(crate) use assert_error;
