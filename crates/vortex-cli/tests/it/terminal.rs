//! A session at a terminal, as a person has it: a shell on a pseudo-terminal.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, open};

use crate::util::{PROGRAM, Place, guest_with};

const PROMPT: &str = "ready> ";

/// How long to wait for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell on a terminal.
struct Session {
    terminal: File,
    output: Receiver<Vec<u8>>,
    /// What has come and nobody has waited for yet.
    pending: String,
    shell: Child,
}

impl Session {
    fn start(place: &Place, variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(24, 200)).unwrap();
        let programs = std::path::Path::new(PROGRAM).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let shell = Command::new("/bin/sh")
            .env_clear()
            .envs([
                ("PATH", path.as_str()),
                ("TERM", "xterm-256color"),
                ("PS1", PROMPT),
            ])
            .env("VORTEX_PLUGIN_DIR", "store")
            .envs(variables.iter().copied())
            .current_dir(place.path("."))
            .spawn(pts)
            .unwrap();
        let terminal = File::from(OwnedFd::from(pty));
        let mut reader = terminal.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match reader.read(&mut buffer) {
                    // The other side has been closed.
                    Ok(0) => return,
                    Err(error) if error.kind() != ErrorKind::Interrupted => return,
                    Err(_) => {}
                    Ok(read) => {
                        if sender.send(buffer[..read].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let mut session = Self {
            terminal,
            output,
            pending: String::new(),
            shell,
        };
        session.wait_for(PROMPT);
        session
    }

    /// Waits until the terminal shows this, and returns all up to there.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.pending.find(text) {
                return self.pending.drain(..at + text.len()).collect();
            }
            match self
                .output
                .recv_timeout(PATIENCE.saturating_sub(start.elapsed()))
            {
                Ok(bytes) => self.pending.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {text:?} in {:?}", self.pending)
                }
            }
        }
    }

    fn keys(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line and returns what the terminal shows before the next prompt,
    /// without the line itself.
    #[track_caller]
    fn enter(&mut self, line: &str) -> String {
        self.keys(&format!("{line}\n"));
        self.wait_for("\r\n");
        let shown = self.wait_for(PROMPT);
        shown.strip_suffix(PROMPT).unwrap().to_owned()
    }

    /// The exit code of the line before.
    #[track_caller]
    fn code(&mut self) -> i32 {
        let shown = self.enter("echo $?");
        shown.trim().parse().unwrap_or_else(|_| panic!("{shown:?}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Ends the shell, and what runs in it, with the terminal.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[1m\u{1b}[31m";

#[test]
fn a_person_signs_installs_runs_and_removes_a_plugin() {
    let place = Place::new();
    let mut at = Session::start(&place, &[]);
    assert!(
        at.enter("vortex-plugin keygen alice")
            .contains("keep it secret")
    );
    let shown = at.enter("vortex-plugin keygen alice");
    assert!(
        shown.contains(&format!("{RED}error")) && shown.contains("--force"),
        "{shown:?}"
    );
    assert_eq!(at.code(), 1);

    at.enter("vortex-plugin sign deny.wasm --name gate --version 1.0.0 --hooks pre_request --key alice.key");
    assert_eq!(at.code(), 0);
    at.enter("export VORTEX_PLUGIN_POLICY=policy.toml");
    at.enter(
        "printf '[[keys]]\\nname = \"alice\"\\nfile = \"alice.pub\"\\n[[rules]]\\nname = \"*\"\\nkeys = [\"alice\"]\\n' > policy.toml",
    );
    assert!(at.enter("vortex-plugin policy check").contains("strict"));
    let shown = at.enter("vortex-plugin install deny.wasm");
    assert!(shown.contains(&format!("{GREEN}installed")), "{shown:?}");
    let shown = at.enter("vortex-plugin list");
    assert!(shown.contains(&format!("{GREEN}trusted (")), "{shown:?}");

    // Whoever reads the output of a pipe gets no colours.
    let shown = at.enter("vortex-plugin list 2>/dev/null | cat");
    assert!(
        shown.contains("trusted (") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
    let shown = at.enter("vortex-plugin list --color never 2>/dev/null");
    assert!(
        shown.contains("trusted (") && !shown.contains(GREEN),
        "{shown:?}"
    );
    let shown = at.enter("vortex-plugin list --color always | cat");
    assert!(shown.contains(GREEN), "{shown:?}");

    let shown = at.enter("vortex-plugin run gate request.http");
    assert!(shown.contains("denied with status 429"), "{shown:?}");
    // While it compiles the terminal says so, and nothing of that stays.
    assert!(shown.contains("compiling"), "{shown:?}");
    assert_eq!(at.code(), 7);

    // Asked, the person thinks better of it, and then does not.
    at.keys("vortex-plugin remove gate@1.0.0\n");
    at.wait_for("Remove gate@1.0.0 from store? [y/N] ");
    assert!(at.enter("n").contains("nothing was removed"));
    assert_eq!(at.code(), 1);
    at.keys("vortex-plugin remove gate@1.0.0\n");
    at.wait_for("[y/N] ");
    assert!(at.enter("y").contains("removed gate@1.0.0"));
    assert!(
        at.enter("vortex-plugin list")
            .contains("no plugins are installed")
    );
}

#[test]
fn no_color_means_none() {
    let place = Place::with_installed();
    let mut at = Session::start(&place, &[("NO_COLOR", "1")]);
    let shown = at.enter("vortex-plugin list --trust alice.pub 2>/dev/null");
    assert!(
        shown.contains("trusted (") && !shown.contains("\u{1b}[3"),
        "{shown:?}"
    );
    let shown = at.enter("vortex-plugin info nothing");
    assert!(
        shown.contains("error: plugin nothing") && !shown.contains("\u{1b}[3"),
        "{shown:?}"
    );
}

#[test]
fn control_c_ends_a_plugin_that_runs_for_ever() {
    let place = Place::new();
    place.write("spin.wasm", guest_with("{}", "(loop (br 0))"));
    let mut at = Session::start(&place, &[]);
    at.keys("vortex-plugin run ./spin.wasm request.http --cpu-time 1h\n");
    at.wait_for("the file is run unverified");
    at.keys("\u{3}");
    at.wait_for(PROMPT);
    // As the shell counts a program that SIGINT has ended.
    assert_eq!(at.code(), 130);
    // At a question it ends the command too, and changes nothing.
    let place = Place::with_installed();
    let mut at = Session::start(&place, &[]);
    at.keys("vortex-plugin remove gate@1.0.0\n");
    at.wait_for("[y/N] ");
    at.keys("\u{3}");
    at.wait_for(PROMPT);
    assert_eq!(at.code(), 130);
    assert!(at.enter("vortex-plugin list").contains("1.0.0"));
}

#[test]
fn a_pipe_shows_no_progress() {
    let place = Place::with_installed();
    for line in [
        "list",
        "verify --all",
        "run gate request.http",
        "inspect gate",
    ] {
        let done = place.run(&format!("{line} --trust alice.pub"));
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
    }
}
