//! What the tests share: a place to work in, modules, and the command itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The command, as cargo has built it.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vortex-plugin");

/// A guest whose answer is always the same.
pub(crate) fn guest(answer: &str) -> Vec<u8> {
    guest_with(answer, "")
}

/// A guest whose answer is always the same, with code that runs before it.
pub(crate) fn guest_with(answer: &str, code: &str) -> Vec<u8> {
    let data = answer.replace('"', "\\\"");
    let packed = (16_u64 << 32) | answer.len() as u64;
    wat::parse_str(format!(
        r#"(module $guest (memory (export "memory") 1) (data (i32.const 16) "{data}")
             (func (export "alloc") (param i32) (result i32) (i32.const 4096))
             (func (export "handle") (param i32 i32) (result i64) {code} (i64.const {packed})))"#
    ))
    .unwrap()
}

/// A directory of its own, with a store in it, a request and two guests.
pub(crate) struct Place {
    dir: TempDir,
}

/// How a run of the command has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        place.write("allow.wasm", guest(r#"{"allow":true}"#));
        place.write("deny.wasm", guest(r#"{"allow":false,"status":429}"#));
        place.write("request.http", "GET /hello HTTP/1.1\nHost: a.example\n\n");
        place
    }

    /// A place with a key pair `alice` and `allow.wasm` signed by it as `gate` 1.0.0.
    pub(crate) fn with_signed() -> Self {
        let place = Self::new();
        place.ok("keygen alice");
        place.ok("sign allow.wasm --name gate --version 1.0.0 --hooks pre_request --key alice.key");
        place
    }

    /// The same, and installed.
    pub(crate) fn with_installed() -> Self {
        let place = Self::with_signed();
        place.ok("install allow.wasm --trust alice.pub");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// The command in this place, with no more of the environment than it has to have.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.dir.path()).env_clear();
        command.env("VORTEX_PLUGIN_DIR", "store");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command on a line of arguments that are parted by spaces.
    pub(crate) fn run(&self, line: &str) -> Done {
        let mut command = self.command();
        command.args(line.split_whitespace());
        Done::of(&mut command)
    }

    /// Runs the command, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let done = self.run(line);
        assert_eq!(done.code, 0, "{line}: {done:?}");
        done.out
    }

    /// Runs the command with `--json`, which must succeed, and reads what it printed.
    pub(crate) fn json(&self, line: &str) -> Value {
        let out = self.ok(&format!("{line} --json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }
}

impl Done {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code, and that the error says this.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(says), "not {says:?} in {}", self.err);
    }
}

/// A built fixture.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let target = match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    let path = target.join("fixtures").join(name).with_extension("wasm");
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run cargo xtask fixtures", path.display()))
}
