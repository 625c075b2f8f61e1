//! The programs that keep credentials for Docker.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::Credential;
use crate::error::{OciError, printable};

/// How long a helper may take. Some ask a service over the network.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The largest answer read, in bytes.
const MAX_ANSWER_LEN: u64 = 64 * 1024;

/// What helpers say of a host that they know nothing about.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: Zeroizing<String>,
}

/// Asks the helper of that name for the credential of a server.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, OciError> {
    let program = format!("docker-credential-{name}");
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let answer = if name.bytes().all(is_plain) {
        ask(&program, server, TIME_LIMIT).await
    } else {
        // A name with a slash would be looked up elsewhere than in PATH.
        Err("is no name of a program".to_owned())
    };
    answer.map_err(|reason| OciError::Credentials {
        host: server.to_owned(),
        reason: printable(&format!("{program} {reason}")),
    })
}

async fn ask(program: &str, server: &str, limit: Duration) -> Result<Option<Credential>, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A helper may answer without having read the question.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut answer = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            let mut stdout = stdout.take(MAX_ANSWER_LEN + 1);
            stdout.read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > MAX_ANSWER_LEN {
            // Dropped, and with that killed.
            return Ok(None);
        }
        let status = child.wait().await?;
        Ok(Some((status, answer)))
    };
    let (status, answer) = tokio::time::timeout(limit, talk)
        .await
        .map_err(|_| format!("took longer than {limit:?}"))?
        .map_err(|error: std::io::Error| format!("cannot be asked: {error}"))?
        .ok_or_else(|| format!("answers more than {MAX_ANSWER_LEN} bytes"))?;
    if !status.success() {
        return if String::from_utf8_lossy(&answer).contains(NOT_FOUND) {
            Ok(None)
        } else {
            Err(format!("failed ({status})"))
        };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| "does not answer with Username and Secret".to_owned())?;
    Ok(Some(Credential::new(answer.username, answer.secret)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What a helper with this script answers about `host`.
    async fn answer(script: &str, limit: Duration) -> Result<Option<Credential>, String> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("helper");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        loop {
            let answer = ask(program.to_str().unwrap(), "host", limit).await;
            // Another test forks while the script is still open for writing.
            if !matches!(&answer, Err(reason) if reason.contains("busy")) {
                return answer;
            }
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_about_the_host() {
        let script = r#"read host; echo "{\"ServerURL\": \"x\", \"Username\": \"$1-$host\", \"Secret\": \"s\"}""#;
        let found = answer(script, TIME_LIMIT).await.unwrap().unwrap();
        let Credential::Password { user, password } = found else {
            panic!("a password was expected");
        };
        assert_eq!((user.as_str(), password.as_str()), ("get-host", "s"));
        let script = r#"echo '{"Username": "<token>", "Secret": "t"}'"#;
        let found = answer(script, TIME_LIMIT).await.unwrap().unwrap();
        assert!(matches!(found, Credential::IdentityToken(token) if *token == "t"));
    }

    #[tokio::test]
    async fn what_a_helper_does_not_know_is_no_error() {
        let script = "echo credentials not found in native keychain; exit 1";
        assert_eq!(answer(script, TIME_LIMIT).await, Ok(None));
    }

    #[tokio::test]
    async fn helpers_that_fail_flood_or_hang_are_errors() {
        for script in [
            "exit 1",
            "echo secret",
            "echo '{\"Username\": \"u\"}'",
            "cat /dev/zero",
        ] {
            let error = answer(script, TIME_LIMIT).await.unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = answer("sleep 60", Duration::from_millis(100)).await;
        assert!(error.unwrap_err().contains("took longer"));
    }

    #[tokio::test]
    async fn a_name_is_no_path_and_a_missing_helper_is_an_error() {
        for name in ["../x", "/bin/sh", "a b", "vortex-there-is-no-such-helper"] {
            assert!(get(name, "host").await.is_err(), "{name}");
        }
    }
}
