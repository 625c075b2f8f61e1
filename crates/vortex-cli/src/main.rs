//! `vortex-plugin`: keys, signatures, stores, policies and test runs of gateway plugins.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments on arguments are what `--help` says"
)]

mod cli;
mod commands;
mod escape;
mod exit;
mod files;
mod http_request;
mod store;
mod table;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ui = ui::Ui::new(cli.json, cli.color);
    match commands::run(cli.command, &cli.options, &ui) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error, &cli.options, &ui).into(),
    }
}
