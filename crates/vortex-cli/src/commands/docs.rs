//! `completions` and `man`: what shells and readers of manuals want.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::ui::Ui;

/// Print a completion script for a shell
///
/// For bash, for instance: vortex-plugin completions bash > /etc/bash_completion.d/vortex-plugin
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, ui: &Ui) -> Result<Exit> {
        let mut script = Vec::new();
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        ui.print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}

/// Write the manual pages
///
/// Prints the main page in roff, or writes a page for every command into a directory.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The directory for the pages
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, ui: &Ui) -> Result<Exit> {
        let command = Cli::command();
        match self.output {
            Some(dir) => {
                std::fs::create_dir_all(&dir)
                    .and_then(|()| clap_mangen::generate_to(command, &dir))
                    .with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page)?;
                ui.print(&String::from_utf8_lossy(&page))?;
            }
        }
        Ok(Exit::Done)
    }
}
