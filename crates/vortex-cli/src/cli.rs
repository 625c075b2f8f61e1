//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::commands::Command;
use crate::table::{HEAD, PLAIN};
use crate::ui::Color;

const STYLES: clap::builder::Styles = clap::builder::Styles::styled()
    .header(HEAD)
    .usage(HEAD)
    .literal(anstyle::AnsiColor::Green.on_default())
    .placeholder(PLAIN);

const AFTER_HELP: &str = "\
Exit codes:
  0  done; with `run`: the plugin allowed
  1  something else failed: a file, the system, a version that is there already
  2  the arguments, or a file that they name, cannot be used
  3  refused for want of trust: unsigned, untrusted, revoked, no usable fleet index
  4  the plugin is not installed, or not in the OCI registry
  5  the plugin is damaged or was tampered with
  6  the plugin cannot run, or failed
  7  the plugin ran and denied

Environment:
  VORTEX_PLUGIN_DIR     the plugin store, unless --store is given
  VORTEX_PLUGIN_POLICY  the policy file, unless --policy or --trust is given
  NO_COLOR              no colours";

/// Keys, signatures, stores, policies and test runs of gateway plugins
#[derive(Debug, Parser)]
#[command(name = "vortex-plugin", version, styles = STYLES, after_help = AFTER_HELP)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,

    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = false
    )]
    pub(crate) color: Color,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What most commands work with.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The plugin store
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,

    /// The policy file (TOML) that says who is trusted for what
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "trust")]
    pub(crate) policy: Option<PathBuf>,

    /// Trust this public key for every plugin, in place of a policy; may be given several times
    #[arg(long, global = true, value_name = "KEY.pub")]
    pub(crate) trust: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
