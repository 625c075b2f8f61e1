//! `verify`: would this run?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vortex_plugins::registry::{Registry, RegistryError, Status, Trust, Verified};

use super::list;
use crate::cli::Options;
use crate::exit::{Exit, usage_error};
use crate::files;
use crate::store::{Target, brief, brief_ids, date, hook_types};
use crate::table::{Cell, GOOD, Table};
use crate::ui::Ui;

/// Check that a plugin is intact and signed as the policy asks
///
/// The plugin is one in the store, or a module with its manifest. The exit code says why it is
/// not fit to run.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// NAME or NAME@VERSION in the store, or a path to a module (with a slash or a dot)
    #[arg(value_name = "PLUGIN", required_unless_present = "all")]
    target: Option<Target>,

    /// The manifest of the module. `manifest.json` beside it, if left out
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Check every version in the store, and end with the code of the worst
    #[arg(long, conflicts_with_all = ["target", "manifest"])]
    all: bool,
}

impl Verify {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let Some(target) = self.target else {
            return verify_all(options, ui);
        };
        let verified = match target {
            Target::Installed(_) if self.manifest.is_some() => {
                return Err(usage_error(
                    "--manifest is for a file, not for a plugin in the store",
                ));
            }
            Target::Installed(reference) => {
                let registry = options.registry()?;
                registry.get(reference.name(), reference.version())?
            }
            Target::File(path) => {
                let manifest = self
                    .manifest
                    .unwrap_or_else(|| files::manifest_beside(&path));
                let manifest = files::read_manifest(&manifest)?;
                let wasm = files::read_wasm(&path)?;
                check(options, manifest, wasm)?
            }
        };
        show(&verified, ui)?;
        Ok(Exit::Done)
    }
}

/// Verifies a plugin that is in no store; the fleet index of the store counts, if one is given.
fn check(
    options: &Options,
    manifest: vortex_plugins::registry::PluginManifest,
    wasm: Vec<u8>,
) -> Result<Verified> {
    if options.store().is_ok() {
        return Ok(options.registry()?.check(manifest, wasm)?);
    }
    let empty = tempfile::tempdir()?;
    let registry = Registry::open(empty.path(), options.policy()?)?;
    Ok(registry.check(manifest, wasm)?)
}

fn show(verified: &Verified, ui: &Ui) -> Result<()> {
    let (manifest, release) = (verified.manifest(), verified.statement().release());
    ui.result(
        || {
            json!({
                "name": manifest.name, "version": manifest.version, "trust": "trusted",
                "signers": verified.signers(), "checksum": manifest.checksum,
                "hook_types": manifest.hook_types, "abi": release.abi, "seq": release.seq,
                "released_at": release.released_at,
            })
        },
        || {
            let mut table = Table::default();
            table.field("plugin", format!("{} {}", manifest.name, manifest.version));
            table.field("verdict", Cell::new("intact and trusted", GOOD));
            table.field("signed by", brief_ids(verified.signers()));
            table.field(
                "released",
                format!("{}, number {}", date(release.released_at), release.seq),
            );
            table.field("hooks", hook_types(manifest));
            table.field("sha256", brief(verified.digest()) + "…");
            table.lines()
        },
    )
}

fn verify_all(options: &Options, ui: &Ui) -> Result<Exit> {
    let entries = {
        let _spinner = ui.spinner("verifying every plugin");
        options.registry()?.list()?
    };
    let verdict = |status: &Status| match status {
        Status::Intact {
            trust: Trust::Signed { .. },
            ..
        } => Exit::Done,
        Status::Intact { .. } => Exit::Refused,
        Status::Corrupt { reason } => match **reason {
            RegistryError::Corrupt { .. } => Exit::Corrupt,
            _ => Exit::Failed,
        },
        // Reading ignores it, so that it does no harm.
        _ => Exit::Done,
    };
    list::show(&entries, ui)?;
    let worst = entries.iter().map(|entry| verdict(&entry.status));
    Ok(worst.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Done))
}
