//! `cargo xtask demo`: a gateway with signed plugins, from the key to a
//! tampered file, with real programs on real sockets.

mod child;
mod parse;
mod report;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{fixtures, process, workspace};
use child::Server;
use report::Report;

/// A key that the `api-key` guest knows, and whose it is.
const KEY: (&str, &str) = ("k-demo-123", "demo");

/// Long enough for a slow machine to compile the plugins without optimisation.
const START_LIMIT: Duration = Duration::from_secs(60);
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

const HOOK_TYPES: [&str; 4] = ["on_connect", "pre_request", "post_response", "on_close"];

/// What is installed: name, version and the hooks it is called for.
const PLUGINS: [(&str, &str, &str); 3] = [
    ("api-key", "1.0.0", "pre_request"),
    (
        "header-rewrite",
        "1.0.0",
        "pre_request,post_response,on_connect,on_close",
    ),
    ("spin", "1.0.0", "pre_request"),
];

/// Runs the demo; it fails if anything in it went another way than it should.
pub(crate) fn run() -> Result<()> {
    fixtures::build(None)?;
    println!("demo: building the examples");
    process::run(process::cargo().args([
        "build",
        "--workspace",
        "--examples",
        "--bin",
        "vortex-compile",
    ]))?;

    let scratch = Scratch::new()?;
    let mut report = Report::new();
    sign_and_install(&scratch, &mut report)?;
    serve(&scratch, &mut report)?;
    tamper(&scratch, &mut report)?;
    ensure!(report.close(), "the demo did not go as it should");
    Ok(())
}

/// A directory that goes when the demo does.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("vortex-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind in the temporary directory, it harms nobody.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn example(name: &str) -> Command {
    Command::new(workspace::target().join("debug/examples").join(name))
}

fn sign_and_install(scratch: &Scratch, report: &mut Report) -> Result<()> {
    report.section("Sign and install");
    let mut keygen = example("sign_install_run");
    keygen.arg("keygen").arg("--out").arg(&scratch.dir);
    step(report, "keygen", &mut keygen)?;

    for (name, version, hooks) in PLUGINS {
        let mut install = example("sign_install_run");
        install
            .arg("install")
            .arg("--store")
            .arg(scratch.path("store"))
            .arg("--key")
            .arg(scratch.path("demo.key"))
            .args(["--name", name, "--version", version, "--hooks", hooks])
            .arg(workspace::fixtures().join(format!("{name}.wasm")));
        step(report, &format!("install {name} {version}"), &mut install)?;
    }
    Ok(())
}

/// One command that everything after it needs: if it fails, so does the demo.
fn step(report: &mut Report, what: &str, command: &mut Command) -> Result<()> {
    let begun = Instant::now();
    let ended = Server::start("sign_install_run", command)?.end(START_LIMIT)?;
    if !ended.success {
        bail!("{what} failed: {}", ended.output);
    }
    let said = shortened(ended.output.lines().next().unwrap_or("done"));
    report.finding(what, &said, Some(begun.elapsed()), &[]);
    Ok(())
}

fn serve(scratch: &Scratch, report: &mut Report) -> Result<()> {
    report.section("Serve");
    let upstream = Server::start("upstream", &mut example("upstream"))?;
    let upstream_address = upstream.address(START_LIMIT)?;
    let begun = Instant::now();
    let gateway = Server::start("gateway", &mut gateway(scratch, &upstream_address))?;
    let address = gateway.address(START_LIMIT)?;
    report.finding(
        "start the gateway",
        &format!("listening on {address}"),
        Some(begun.elapsed()),
        &[],
    );

    let client = Client::new(address);
    requests(&client, report);
    // A connection closes when the client forgets it.
    drop(client);
    hook_events(&gateway, report);
    Ok(())
}

fn requests(client: &Client, report: &mut Report) {
    let key = Some(KEY.0);
    client.check(report, "GET / with a known key", "/", key, |answer| {
        let mut unmet = answer.unless_status(|status| status == 200, "status 200");
        for (header, value) in [
            ("x-consumer", KEY.1),
            ("user-agent", "vortex-guest/1.0"),
            ("x-request-class", "page"),
        ] {
            if parse::echoed(&answer.body, header) != Some(value) {
                unmet.push(format!("`{header}: {value}` to reach the upstream"));
            }
        }
        unmet
    });
    client.check(report, "GET / without a key", "/", None, |answer| {
        answer.unless_status(|status| status == 401, "status 401")
    });
    client.check(
        report,
        "GET /spin, an endless plugin",
        "/spin",
        key,
        |answer| {
            let mut unmet = answer.unless_status(
                |status| status == 403 || (500..600).contains(&status),
                "status 403 or 5xx",
            );
            if !parse::speaks_of_budget(&answer.everything()) {
                unmet.push("the answer to name the cpu budget".to_owned());
            }
            unmet
        },
    );
    client.check(
        report,
        "GET / again, the plugin replaced",
        "/",
        key,
        |answer| answer.unless_status(|status| status == 200, "status 200"),
    );
}

fn hook_events(gateway: &Server, report: &mut Report) {
    let seen = |log: &[String], hook_type: &str| {
        log.iter()
            .filter_map(|line| parse::hook_event(line))
            .filter(|event| event.hook_type == hook_type)
            .count()
    };
    gateway.wait_for_log(Duration::from_secs(5), |log| {
        HOOK_TYPES.iter().all(|hook_type| seen(log, hook_type) > 0)
    });
    let log = gateway.log();
    report.section("Hooks that ran");
    for hook_type in HOOK_TYPES {
        let times = seen(&log, hook_type);
        let unmet = if times == 0 {
            vec!["at least one".to_owned()]
        } else {
            Vec::new()
        };
        report.finding(hook_type, &plugins_of(&log, hook_type, times), None, &unmet);
    }
}

/// How often hooks of a type ran, and of which plugins.
fn plugins_of(log: &[String], hook_type: &str, times: usize) -> String {
    let mut plugins: Vec<&str> = log
        .iter()
        .filter_map(|line| parse::hook_event(line))
        .filter(|event| event.hook_type == hook_type)
        .map(|event| event.plugin)
        .collect();
    plugins.sort_unstable();
    plugins.dedup();
    format!("{times} × {}", plugins.join(", "))
        .trim_end_matches([' ', '×'])
        .to_owned()
}

/// Flips a byte of an installed plugin: a gateway that starts must see it.
fn tamper(scratch: &Scratch, report: &mut Report) -> Result<()> {
    report.section("Tamper");
    let file = scratch.path("store/api-key/1.0.0/plugin.wasm");
    let mut wasm =
        std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let middle = wasm.len() / 2;
    wasm[middle] ^= 1;
    // In place and with its mode as it was, so that nothing but the byte can
    // be what the gateway complains about.
    let permissions = std::fs::metadata(&file)?.permissions();
    let mut writable = permissions.clone();
    writable.set_mode(permissions.mode() | 0o200);
    std::fs::set_permissions(&file, writable)?;
    std::fs::write(&file, wasm).with_context(|| format!("cannot write {}", file.display()))?;
    std::fs::set_permissions(&file, permissions)?;

    let begun = Instant::now();
    // The upstream is never asked: the gateway must not come that far.
    let gateway = Server::start("gateway", &mut gateway(scratch, "127.0.0.1:9"))?;
    let mut unmet = Vec::new();
    let outcome = if gateway.address(START_LIMIT).is_ok() {
        unmet.push("the gateway to refuse".to_owned());
        "started all the same".to_owned()
    } else {
        let ended = gateway.end(START_LIMIT)?;
        if ended.success {
            unmet.push("an exit status other than 0".to_owned());
        }
        if !parse::speaks_of_corruption(&ended.output) {
            unmet.push(format!("an error about the file, not: {}", ended.output));
        }
        let reason = ended.output.lines().find(|line| line.contains("corrupt"));
        let reason = reason
            .and_then(|line| line.split_once("plugin "))
            .map(|(_, reason)| reason);
        shortened(&format!("refused: {}", reason.unwrap_or("to start")))
    };
    report.finding(
        "start over one flipped byte",
        &outcome,
        Some(begun.elapsed()),
        &unmet,
    );
    Ok(())
}

fn gateway(scratch: &Scratch, upstream: &str) -> Command {
    let mut command = example("gateway");
    command
        .arg("--store")
        .arg(scratch.path("store"))
        .arg("--key")
        .arg(scratch.path("demo.pub"))
        .arg("--upstream")
        .arg(format!("http://{upstream}"))
        .args(["--plugin", "api-key@^1"])
        .args(["--plugin", "header-rewrite@latest"])
        .args(["--plugin", "spin@latest"]);
    command
}

/// An answer, or what stood in its place.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn everything(&self) -> String {
        format!("{}\n{}", self.headers, self.body)
    }

    fn unless_status(&self, good: impl Fn(u16) -> bool, expected: &str) -> Vec<String> {
        if good(self.status) {
            Vec::new()
        } else {
            vec![expected.to_owned()]
        }
    }

    fn outcome(&self) -> String {
        let status = self.status;
        let denied = self
            .headers
            .lines()
            .find(|h| h.starts_with("x-denied-because"));
        if let Some(denied) = denied {
            return format!("{status}, {denied}");
        }
        match parse::echoed(&self.body, "x-consumer") {
            Some(consumer) => format!("{status}, upstream saw x-consumer: {consumer}"),
            None => {
                let first = self.body.lines().next().unwrap_or_default();
                shortened(&format!("{status} {first}"))
            }
        }
    }
}

/// An HTTP client with one connection to the gateway.
struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    fn new(address: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .user_agent("vortex-demo")
            // A proxy of the machine's has no business on the loopback.
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            base: format!("http://{address}"),
        }
    }

    fn get(&self, path: &str, key: Option<&str>) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("X-Api-Key", key);
        }
        let mut response = request.call()?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Answer {
            status: response.status().as_u16(),
            headers,
            body: response.body_mut().read_to_string()?,
        })
    }

    /// Sends one request and reports what `expect` finds missing.
    fn check(
        &self,
        report: &mut Report,
        what: &str,
        path: &str,
        key: Option<&str>,
        expect: impl Fn(&Answer) -> Vec<String>,
    ) {
        let begun = Instant::now();
        let answer = self.get(path, key);
        let took = Some(begun.elapsed());
        match answer {
            Ok(answer) => report.finding(what, &answer.outcome(), took, &expect(&answer)),
            Err(error) => {
                report.finding(what, "no answer", took, &[format!("one, but: {error:#}")]);
            }
        }
    }
}

/// Cut to the width of a column.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 44;
    let text = text.trim();
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn long_text_is_cut_to_its_column() {
        assert_eq!(shortened(" short "), "short");
        let cut = shortened(&"é".repeat(80));
        assert_eq!(cut.chars().count(), 44);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn plugins_are_listed_once() {
        let log = [
            "hook pre_request name=spin allow=true".to_owned(),
            "hook pre_request name=api-key allow=true".to_owned(),
            "hook pre_request name=spin allow=false".to_owned(),
        ];
        assert_eq!(plugins_of(&log, "pre_request", 3), "3 × api-key, spin");
        assert_eq!(plugins_of(&log, "on_close", 0), "0");
    }

    #[test]
    fn the_client_returns_denials_as_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let answer = "HTTP/1.1 503 x\r\nX-Reason: cpu budget\r\nContent-Length: 4\r\n\r\ndown";
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let answer = Client::new(address).get("/spin", Some("k")).unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.outcome(), "503 down");
        assert!(parse::speaks_of_budget(&answer.everything()));
        assert!(
            server
                .join()
                .unwrap()
                .to_lowercase()
                .contains("x-api-key: k")
        );
    }
}
