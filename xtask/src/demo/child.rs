//! A program that runs beside the demo and ends with it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A started program, killed when this is dropped, whatever the reason.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    stdout: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
}

/// How a program that was expected to end did so.
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) output: String,
}

impl Server {
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (sender, stdout) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(pipe) = child.stdout.take() {
            each_line(pipe, move |line| {
                // Once nobody waits for lines any more they are only drained.
                let _ = sender.send(line);
            });
        }
        if let Some(pipe) = child.stderr.take() {
            let log = Arc::clone(&log);
            each_line(pipe, move |line| lock(&log).push(line));
        }
        Ok(Self {
            name,
            child,
            stdout,
            log,
        })
    }

    /// Waits for the line that says where the program listens.
    pub(super) fn address(&self, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(line) => {
                    if let Some(address) = super::parse::listening(&line) {
                        return Ok(address.to_owned());
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("{} did not listen within {} s", self.name, limit.as_secs());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    // The last words may still be on their way.
                    std::thread::sleep(Duration::from_millis(50));
                    bail!("{} ended early: {}", self.name, self.log().join(" / "));
                }
            }
        }
    }

    /// What the program has written to standard error so far.
    pub(super) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until the log is as wanted, and says whether it came to be.
    pub(super) fn wait_for_log(&self, limit: Duration, wanted: impl Fn(&[String]) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if wanted(&lock(&self.log)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of a program that is not meant to stay.
    pub(super) fn end(mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // Until the sender is gone, standard output is not at its end.
                let left = deadline.saturating_duration_since(Instant::now());
                let mut lines: Vec<String> = Vec::new();
                while let Ok(line) = self.stdout.recv_timeout(left) {
                    lines.push(line);
                }
                std::thread::sleep(Duration::from_millis(50));
                lines.extend(self.log());
                return Ok(Ended {
                    success: status.success(),
                    output: lines.join("\n"),
                });
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} was still running after {} s",
                    self.name,
                    limit.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn each_line(pipe: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            take(line);
        }
    });
}

/// A reader that panicked leaves lines that are as good as ever.
fn lock(log: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Server {
        Server::start("shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn an_address_is_waited_for() {
        let server = shell("echo hello; echo listening on 127.0.0.1:99; exec sleep 30");
        assert_eq!(server.address(LIMIT).unwrap(), "127.0.0.1:99");
    }

    #[test]
    fn a_program_that_gives_up_is_quoted() {
        let server = shell("echo no such key >&2; exit 1");
        let error = server.address(LIMIT).unwrap_err().to_string();
        assert!(error.contains("no such key"), "{error}");
    }

    #[test]
    fn a_program_that_stays_silent_is_given_up() {
        let server = shell("exec sleep 30");
        assert!(server.address(Duration::from_millis(100)).is_err());
        assert!(server.end(Duration::from_millis(100)).is_err());
    }

    #[test]
    fn an_end_brings_both_outputs() {
        let ended = shell("echo out; echo err >&2; exit 4").end(LIMIT).unwrap();
        assert!(!ended.success);
        assert_eq!(ended.output, "out\nerr");
    }
}
