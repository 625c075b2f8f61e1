//! How the command ends, for scripts and for people.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use vortex_plugins::hook_core::DecodeError;
use vortex_plugins::oci::OciError;
use vortex_plugins::registry::{IndexDefect, RegistryError};
use vortex_plugins::{HostError, SandboxError};

use crate::cli::Options;
use crate::ui::Ui;

/// What each exit code means; `--help` and `docs/cli.md` say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; the plugin allowed.
    Done = 0,
    /// Something else failed: a file, the system, a conflict.
    Failed = 1,
    /// The arguments, or a file that they name, cannot be used.
    Usage = 2,
    /// Refused for want of trust.
    Refused = 3,
    /// The plugin is not installed, or not in the OCI registry.
    NotFound = 4,
    /// The plugin is damaged or was tampered with.
    Corrupt = 5,
    /// The plugin cannot run, or failed.
    PluginFailed = 6,
    /// The plugin ran and denied.
    Denied = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Something was asked for that makes no sense.
#[derive(Debug)]
struct UsageError(String);

/// An error for something that makes no sense.
pub(crate) fn usage_error(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Says what went wrong, and returns the exit code that stands for it.
pub(crate) fn report(error: &anyhow::Error, options: &Options, ui: &Ui) -> Exit {
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_broken_pipe) {
        // Whoever reads has read enough.
        return Exit::Done;
    }
    let exit = exit_of(error);
    let hint = hint_of(error, options);
    ui.error(exit as u8, &format!("{error:#}"), hint.as_deref());
    exit
}

fn exit_of(error: &anyhow::Error) -> Exit {
    let known = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<RegistryError>() {
            return Some(exit_of_registry(error));
        }
        if let Some(error) = cause.downcast_ref::<SandboxError>() {
            return Some(exit_of_sandbox(error));
        }
        // Of other errors of the host, the cause says more.
        if let Some(HostError::Abi { .. } | HostError::NoHookTypes { .. }) = cause.downcast_ref() {
            return Some(Exit::PluginFailed);
        }
        if let Some(error) = cause.downcast_ref::<OciError>() {
            return Some(exit_of_oci(error));
        }
        let is_usage = cause.is::<UsageError>() || cause.is::<DecodeError>();
        is_usage.then_some(Exit::Usage)
    });
    known.unwrap_or(Exit::Failed)
}

fn exit_of_registry(error: &RegistryError) -> Exit {
    match error {
        RegistryError::InvalidName { .. }
        | RegistryError::InvalidVersion { .. }
        | RegistryError::InvalidSelector { .. }
        | RegistryError::InvalidPattern { .. }
        | RegistryError::InvalidPolicy { .. }
        | RegistryError::InvalidDigest { .. }
        | RegistryError::InvalidKey { .. }
        | RegistryError::KeyFilePermissions { .. }
        | RegistryError::SignerCount { .. } => Exit::Usage,
        RegistryError::Unsigned { .. }
        | RegistryError::UntrustedKey { .. }
        | RegistryError::Refused { .. }
        | RegistryError::Index { .. }
        | RegistryError::PolicyForbids { .. } => Exit::Refused,
        RegistryError::NotFound { .. } => Exit::NotFound,
        RegistryError::Corrupt { .. } => Exit::Corrupt,
        _ => Exit::Failed,
    }
}

fn exit_of_sandbox(error: &SandboxError) -> Exit {
    match error {
        SandboxError::Config { .. } => Exit::Usage,
        SandboxError::AddressSpace { .. } | SandboxError::Watchdog { .. } => Exit::Failed,
        _ => Exit::PluginFailed,
    }
}

fn exit_of_oci(error: &OciError) -> Exit {
    match error {
        OciError::Registry(error) => exit_of_registry(error),
        OciError::InvalidReference { .. }
        | OciError::Setup { .. }
        | OciError::Unpublishable { .. } => Exit::Usage,
        OciError::WrongPlugin { .. } => Exit::Refused,
        OciError::Digest { .. } => Exit::Corrupt,
        error if error.is_not_found() => Exit::NotFound,
        // Whatever the sources were refused for counts more than those that did not answer.
        OciError::Sources { failures, .. } => failures
            .iter()
            .map(exit_of_oci)
            .max_by_key(|exit| *exit as u8)
            .unwrap_or(Exit::Failed),
        _ => Exit::Failed,
    }
}

/// What to do about it, where the message itself does not say.
fn hint_of(error: &anyhow::Error, options: &Options) -> Option<String> {
    error.chain().find_map(|cause| {
        let registry = cause.downcast_ref::<RegistryError>();
        let registry = registry.or(match cause.downcast_ref::<OciError>() {
            Some(OciError::Registry(error)) => Some(error),
            _ => None,
        });
        let sandbox = cause.downcast_ref::<SandboxError>();
        registry
            .and_then(|error| hint_of_registry(error, options))
            .or_else(|| sandbox.and_then(hint_of_sandbox))
    })
}

fn hint_of_registry(error: &RegistryError, options: &Options) -> Option<String> {
    Some(match error {
        RegistryError::Unsigned { .. }
        | RegistryError::UntrustedKey { .. }
        | RegistryError::Refused { .. }
        | RegistryError::Index { .. }
            if !options.says_who_is_trusted() =>
        {
            "nobody is trusted, since there is no policy: give --policy FILE or --trust KEY.pub, \
             or set VORTEX_PLUGIN_POLICY"
                .to_owned()
        }
        RegistryError::Index { defect } => match **defect {
            IndexDefect::Missing | IndexDefect::Freeze { .. } => {
                "get a newer index from who signs it and run `vortex-plugin index update FILE`"
            }
            IndexDefect::NoKeys => "name the keys under [index] in the policy",
            IndexDefect::Rollback { .. } | IndexDefect::Equivocation { .. } => {
                "the index in force stays; ask who signs it which one is right"
            }
            _ => return None,
        }
        .to_owned(),
        RegistryError::NotFound { name, .. } if Path::new(name.as_str()).is_file() => {
            format!("there is a file of that name: write ./{name} to mean it")
        }
        RegistryError::NotFound { .. } => "`vortex-plugin list` shows what is installed".to_owned(),
        RegistryError::Corrupt { name, version, .. } => format!(
            "do not run it; if it is installed, `vortex-plugin remove {name}@{version}` and \
             install it again from its source"
        ),
        RegistryError::ReadOnly { .. } => {
            "run this as the user that owns the store, or name another one with --store".to_owned()
        }
        _ => return None,
    })
}

fn hint_of_sandbox(error: &SandboxError) -> Option<String> {
    let raise = |option: &str| {
        Some(format!(
            "raise it with {option}, if the plugin may use more"
        ))
    };
    match error {
        SandboxError::CpuBudget { .. } => raise("--cpu-time"),
        SandboxError::WallLimit { .. } => raise("--wall-time"),
        SandboxError::MemoryLimit { .. } => raise("--memory"),
        SandboxError::FuelExhausted { .. } => raise("--fuel"),
        SandboxError::StackOverflow { .. } => raise("--stack"),
        SandboxError::OutputTooLarge { .. } => raise("--output"),
        SandboxError::InvalidModule { .. }
        | SandboxError::ModuleLimit { .. }
        | SandboxError::RefusedOperator { .. }
        | SandboxError::Imports { .. }
        | SandboxError::ReservedExport { .. }
        | SandboxError::MissingExport { .. }
        | SandboxError::MistypedExport { .. } => {
            Some("`vortex-plugin inspect FILE` shows all that is wrong with a module".to_owned())
        }
        _ => None,
    }
}
