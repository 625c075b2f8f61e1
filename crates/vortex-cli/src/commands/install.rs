//! `install`: a plugin into the store.

use std::path::PathBuf;

use anstyle::Style;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use vortex_plugins::registry::InstallOutcome;

use super::fleet::{self, Oci};
use crate::cli::Options;
use crate::exit::Exit;
use crate::files;
use crate::store::hook_types;
use crate::table::{Cell, GOOD, PLAIN, Table};
use crate::ui::Ui;

/// Install a plugin, if the policy admits it
///
/// The source is a module with its manifest, or a plugin version in an OCI registry.
/// Nothing is changed unless the plugin is intact and signed as the policy asks. Installing
/// what is installed already changes nothing and is no error.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// The module, or a directory with plugin.wasm and manifest.json, or an OCI reference:
    /// HOST[:PORT]/REPOSITORY[:VERSION][@sha256:DIGEST], with oci:// before it if wanted
    #[arg(value_name = "SOURCE")]
    source: PathBuf,

    /// Its manifest. `manifest.json` beside it, if left out
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    #[command(flatten)]
    oci: Oci,
}

impl Install {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        if let Some(reference) = fleet::reference_of(&self.source)? {
            return fleet::install(&reference, &self.oci, options, ui);
        }
        let wasm_file = if self.source.is_dir() {
            self.source.join("plugin.wasm")
        } else {
            self.source
        };
        let manifest_file = self.manifest;
        let manifest_file = manifest_file.unwrap_or_else(|| files::manifest_beside(&wasm_file));
        let registry = options.registry()?;
        let wasm = files::read_wasm(&wasm_file)?;
        let manifest = files::read_manifest(&manifest_file)?;
        let outcome = {
            let _spinner = ui.spinner("installing");
            registry.install(&manifest, &wasm)?
        };
        let (word, style) = in_words(outcome);
        let store = registry.path().display().to_string();
        ui.result(
            || {
                json!({
                    "outcome": word.replace(' ', "_"), "store": store,
                    "name": manifest.name, "version": manifest.version,
                    "checksum": manifest.checksum,
                })
            },
            || {
                let mut table = Table::default();
                table.field("plugin", format!("{} {}", manifest.name, manifest.version));
                table.field("outcome", Cell::new(word, style));
                table.field("hooks", hook_types(&manifest));
                table.field("store", store.clone());
                table.lines()
            },
        )?;
        Ok(Exit::Done)
    }
}

/// What has come of an installation, and how that looks.
pub(super) fn in_words(outcome: InstallOutcome) -> (&'static str, Style) {
    match outcome {
        InstallOutcome::Installed => ("installed", GOOD),
        InstallOutcome::AlreadyInstalled => ("already installed", PLAIN),
    }
}
