//! What the command can do, a file for each.

mod docs;
mod fleet;
mod index;
mod info;
mod inspect;
mod install;
mod keygen;
mod list;
mod policy;
mod remove;
mod run;
mod sign;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::Options;
use crate::exit::Exit;
use crate::ui::Ui;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Keygen(keygen::Keygen),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Install(install::Install),
    List(list::List),
    Info(info::Info),
    Remove(remove::Remove),
    Run(run::Run),
    Inspect(inspect::Inspect),
    /// Look at policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make, take over and look at fleet indexes: what is revoked everywhere
    #[command(subcommand)]
    Index(index::Command),
    Push(fleet::Push),
    Pull(fleet::Pull),
    Completions(docs::Completions),
    Man(docs::Man),
}

/// Does what the command says.
pub(crate) fn run(command: Command, options: &Options, ui: &Ui) -> Result<Exit> {
    match command {
        Command::Keygen(command) => command.run(ui),
        Command::Sign(command) => command.run(ui),
        Command::Verify(command) => command.run(options, ui),
        Command::Install(command) => command.run(options, ui),
        Command::List(command) => command.run(options, ui),
        Command::Info(command) => command.run(options, ui),
        Command::Remove(command) => command.run(options, ui),
        Command::Run(command) => command.run(options, ui),
        Command::Inspect(command) => command.run(options, ui),
        Command::Policy(command) => command.run(options, ui),
        Command::Index(command) => command.run(options, ui),
        Command::Push(command) => command.run(options, ui),
        Command::Pull(command) => command.run(ui),
        Command::Completions(command) => command.run(ui),
        Command::Man(command) => command.run(ui),
    }
}
