//! `remove`: a version out of the store.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vortex_plugins::registry::{PluginVersion, RegistryError};

use crate::cli::Options;
use crate::exit::Exit;
use crate::ui::Ui;

/// Remove a version from the store, trusted or not, intact or not
///
/// A gateway that runs it goes on running it until it is restarted or replaces it.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Which one, exactly
    #[arg(value_name = "NAME@VERSION")]
    plugin: PluginVersion,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Remove {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let registry = options.registry()?;
        let PluginVersion { name, version } = &self.plugin;
        let path = registry
            .path()
            .join(name.as_str())
            .join(version.to_string());
        if path.symlink_metadata().is_err() {
            return Err(RegistryError::NotFound {
                name: name.clone(),
                version: version.into(),
            }
            .into());
        }
        if !self.yes
            && !ui.confirm(&format!(
                "Remove {} from {}?",
                self.plugin,
                registry.path().display()
            ))?
        {
            ui.note("nothing was removed");
            return Ok(Exit::Failed);
        }
        registry.remove(name, version)?;
        ui.result(
            || json!({ "removed": self.plugin.to_string() }),
            || format!("removed {}\n", self.plugin),
        )?;
        Ok(Exit::Done)
    }
}
