//! `run`: one call of a plugin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::Args;
use serde_json::{Value, json};
use vortex_plugins::sandbox::{
    CompilerProcess, Runtime, RuntimeConfig, SandboxError, Usage, WasmHook,
};
use vortex_plugins::{
    HeaderChange, HookContext, HookInput, HookOutput, HookType, PluginHost, PluginRef,
};

use super::inspect::hex;
use crate::cli::Options;
use crate::exit::{Exit, usage_error};
use crate::files;
use crate::http_request;
use crate::store::Target;
use crate::table::{BAD, Cell, DOUBTFUL, GOOD, Table};
use crate::ui::Ui;

/// The largest input file, in bytes: a body of 64 KiB in base64, and room for headers.
const MAX_INPUT: u64 = 1 << 20;

/// Run a plugin on one input and show its answer and what it used
///
/// A plugin in the store is verified under the policy; a file is run unverified, in the same
/// sandbox. Ends with code 0 when the plugin allows, 7 when it denies, 6 when it fails.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// NAME or NAME@VERSION in the store, or a path to a module (with a slash or a dot)
    #[arg(value_name = "PLUGIN")]
    target: Target,

    /// A hook input in JSON, or an HTTP/1.1 request; `-` reads standard input
    input: PathBuf,

    /// The hook type of an HTTP request: pre_request (if left out), post_response, on_connect,
    /// on_close
    #[arg(long = "type", value_name = "TYPE")]
    hook_type: Option<HookType>,

    /// The client's address, in place of that in the input
    #[arg(long, value_name = "IP:PORT")]
    remote: Option<String>,

    /// The name of the gateway's route, in place of that in the input
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    #[command(flatten)]
    limits: Limits,
}

/// What the call may use.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// CPU time, such as 10ms; 100ms if left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    cpu_time: Option<Duration>,

    /// Wall-clock time; ten times the CPU time if left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wall_time: Option<Duration>,

    /// Linear memory, such as 16MiB; 64MiB if left out
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<usize>,

    /// Count the operators that the plugin executes, and stop it after so many
    #[arg(long, value_name = "OPERATORS")]
    fuel: Option<u64>,

    /// Stack, such as 256KiB; 1MiB if left out
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    stack: Option<usize>,

    /// The answer, such as 64KiB; 1MiB if left out
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    output: Option<usize>,
}

/// Reads a number of bytes, with or without a unit.
pub(super) fn parse_bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse()?;
    usize::try_from(size.as_u64()).map_err(|error| error.to_string())
}

impl Limits {
    fn config(&self) -> RuntimeConfig {
        let default = RuntimeConfig::default();
        RuntimeConfig {
            cpu_time: self.cpu_time.unwrap_or(default.cpu_time),
            wall_time: self.wall_time,
            memory_bytes: self.memory.unwrap_or(default.memory_bytes),
            max_fuel: self.fuel,
            stack_bytes: self.stack.unwrap_or(default.stack_bytes),
            output_bytes: self.output.unwrap_or(default.output_bytes),
            ..default
        }
    }
}

/// A plugin that is ready to be called, and what is known of it.
struct Ready {
    hook: WasmHook,
    title: String,
    /// When a gateway would ask it, if it has been verified.
    verified: Option<Vec<HookType>>,
}

impl Run {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let bytes = files::read(&self.input, MAX_INPUT)?;
        let request;
        let input = if is_json(&bytes) {
            let input = HookInput::from_json(&bytes)
                .with_context(|| format!("{} cannot be used", self.input.display()))?;
            match (input.hook_type(), self.hook_type) {
                (None, _) => {
                    return Err(usage_error(
                        "the input has no `type`, such as \"pre_request\"",
                    ));
                }
                (Some(own), Some(given)) if own != given => {
                    return Err(usage_error(format!(
                        "the input is of type {own}: leave --type out, it is for HTTP requests"
                    )));
                }
                _ => input,
            }
        } else {
            request = http_request::parse(&bytes).map_err(|reason| {
                let file = self.input.display();
                usage_error(format!(
                    "{file} is no hook input in JSON and no HTTP/1.1 request: {reason}"
                ))
            })?;
            let hook_type = self.hook_type.unwrap_or(HookType::PreRequest);
            let input = HookInput::from_request(hook_type, &request);
            match request.body().as_slice() {
                [] => input,
                body => input.with_body(body),
            }
        };
        let input = match &self.remote {
            Some(remote) => input.with_remote(remote),
            None => input,
        };
        let input = match &self.route {
            Some(route) => input.with_route(route),
            None => input,
        };
        let config = self.limits.config();
        let ready = {
            let _spinner = ui.spinner("compiling");
            match &self.target {
                Target::Installed(reference) => installed(options, reference, config)?,
                Target::File(path) => from_file(path, config)?,
            }
        };
        match (&ready.verified, input.hook_type()) {
            (None, _) => ui.note("the file is run unverified: nobody was asked who trusts it"),
            (Some(hook_types), Some(hook_type)) if !hook_types.contains(&hook_type) => {
                ui.note(&format!(
                    "no gateway asks this plugin at {hook_type}, which is not in its hook types"
                ));
            }
            _ => {}
        }
        let plugin = ready.hook.plugin();
        let (result, usage) = plugin.instance()?.measure(&HookContext::new(), &input);
        ui.result(
            || to_json(&ready, &result, &usage),
            || to_text(&ready, &result, &usage),
        )?;
        let output = result?;
        Ok(if output.allow {
            Exit::Done
        } else {
            Exit::Denied
        })
    }
}

fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

/// A plugin of the store, verified under the policy.
fn installed(options: &Options, reference: &PluginRef, config: RuntimeConfig) -> Result<Ready> {
    let plugin = PluginHost::new(options.registry()?, config)?.load(reference)?;
    Ok(Ready {
        hook: plugin.hook().clone(),
        title: format!("{} {}", plugin.name(), plugin.version()),
        verified: Some(plugin.hook_types().to_vec()),
    })
}

/// A module that nobody vouches for.
fn from_file(path: &Path, config: RuntimeConfig) -> Result<Ready> {
    let wasm = files::read_wasm(path)?;
    let title = path.display().to_string();
    let runtime = Runtime::builder(config)
        .compiler_process(CompilerProcess::find())
        .build()?;
    let plugin = runtime.load(&title, &wasm)?;
    Ok(Ready {
        hook: WasmHook::new(plugin)?,
        title,
        verified: None,
    })
}

fn to_json(ready: &Ready, result: &Result<HookOutput, SandboxError>, usage: &Usage) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let output = result.as_ref().ok();
    let output = output.and_then(|output| serde_json::from_slice::<Value>(&output.to_json()).ok());
    json!({
        "plugin": ready.title,
        "sha256": hex(&ready.hook.plugin().digest()),
        "verified": ready.verified.is_some(),
        "output": output,
        "error": result.as_ref().err().map(ToString::to_string),
        "usage": {
            "cpu_time_ns": nanoseconds(usage.cpu_time),
            "wall_time_ns": nanoseconds(usage.wall_time),
            "memory_bytes": usage.memory_bytes,
            "fuel": usage.fuel,
        },
    })
}

fn to_text(ready: &Ready, result: &Result<HookOutput, SandboxError>, usage: &Usage) -> String {
    let mut table = Table::default();
    table.field("plugin", &ready.title);
    match result {
        Ok(output) if output.allow => table.field("verdict", Cell::new("allowed", GOOD)),
        Ok(output) => table.field(
            "verdict",
            Cell::new(
                format!("denied with status {}", output.deny_status()),
                DOUBTFUL,
            ),
        ),
        Err(_) => table.field("verdict", Cell::new("failed", BAD)),
    }
    if let Ok(output) = result {
        if let Some(status) = output.status.filter(|_| output.allow) {
            table.field("status", status.to_string());
        }
        for (name, change) in output.headers.iter() {
            let (HeaderChange::Replace(values) | HeaderChange::Append(values)) = change;
            let values: Vec<_> = values
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            let shown = match values.as_slice() {
                [] => "removed".to_owned(),
                values if matches!(change, HeaderChange::Append(_)) => {
                    format!("{} (added)", values.join(", "))
                }
                values => values.join(", "),
            };
            let ignored = if output.modified {
                ""
            } else {
                "  (ignored: the answer is not `modified`)"
            };
            table.field("header", format!("{name}: {shown}{ignored}"));
        }
    }
    table.field("CPU time", format!("{:?}", usage.cpu_time));
    table.field("wall time", format!("{:?}", usage.wall_time));
    let memory = usage.memory_bytes;
    table.field(
        "memory",
        format!("{memory} bytes ({})", ByteSize(memory as u64)),
    );
    if let (Some(fuel), Some(limit)) = (usage.fuel, ready.hook.plugin().config().max_fuel) {
        table.field("fuel", format!("{fuel} of {limit} operators"));
    }
    table.lines()
}
