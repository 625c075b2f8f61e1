//! `info`: all about one version.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use serde_json::json;
use vortex_plugins::PluginRef;
use vortex_plugins::registry::{
    ListEntry, PluginManifest, RegistryError, Status, Trust, VersionSelector,
};

use super::list;
use crate::cli::Options;
use crate::exit::Exit;
use crate::store::{brief_ids, date, hook_types, trust_cell};
use crate::table::Table;
use crate::ui::Ui;

/// Show all about one installed version, trusted or not
#[derive(Args, Debug)]
pub(crate) struct Info {
    /// NAME, NAME@VERSION or NAME@REQUIREMENT
    plugin: PluginRef,
}

impl Info {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let registry = options.registry()?;
        let entries = registry.list()?;
        let mut candidates: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.name.as_ref() == Some(self.plugin.name()))
            .filter(|entry| fits(entry, self.plugin.version()))
            .collect();
        candidates.sort_by(|a, b| a.version.cmp(&b.version));
        let Some(entry) = candidates.pop() else {
            return Err(RegistryError::NotFound {
                name: self.plugin.name().clone(),
                version: self.plugin.version().clone(),
            }
            .into());
        };
        match entry.status {
            Status::Corrupt { reason } => Err((*reason).into()),
            Status::Intact {
                ref manifest,
                ref trust,
            } => {
                let path = registry.path().join(&entry.path);
                let size = std::fs::metadata(path.join("plugin.wasm")).map(|file| file.len());
                ui.result(
                    || {
                        let mut value = list::entry_json(&entry);
                        value["size"] = size.as_ref().ok().copied().into();
                        if let Trust::Signed { statement, .. } = trust {
                            let release = statement.release();
                            value["abi"] = release.abi.into();
                            value["seq"] = release.seq.into();
                            value["released_at"] = release.released_at.into();
                            value["sbom"] = json!(statement.sbom());
                        }
                        value
                    },
                    || {
                        let mut table = table_of(manifest, trust);
                        if let Ok(size) = &size {
                            table.field("size", format!("{size} bytes ({})", ByteSize(*size)));
                        }
                        table.field("path", path.display().to_string());
                        table.lines()
                    },
                )?;
                Ok(Exit::Done)
            }
            // What has a name and a version is one of the two.
            _ => Ok(Exit::Failed),
        }
    }
}

/// Whether the selector may mean this version, as [`VersionSelector`] says.
fn fits(entry: &ListEntry, selector: &VersionSelector) -> bool {
    entry
        .version
        .as_ref()
        .is_some_and(|version| match selector {
            VersionSelector::Latest => version.pre.is_empty(),
            VersionSelector::Exact(exact) => version == exact,
            VersionSelector::Matching(requirement) => requirement.matches(version),
        })
}

fn table_of(manifest: &PluginManifest, trust: &Trust) -> Table {
    let mut table = Table::default();
    table.field("plugin", format!("{} {}", manifest.name, manifest.version));
    if !manifest.description.is_empty() {
        table.field("description", &manifest.description);
    }
    table.field("hooks", hook_types(manifest));
    table.field("trust", trust_cell(trust));
    if let Trust::Signed { signers, statement } = trust {
        let release = statement.release();
        table.field("signed by", brief_ids(signers));
        table.field(
            "released",
            format!("{}, number {}", date(release.released_at), release.seq),
        );
        table.field("abi", release.abi.to_string());
        if let Some(sbom) = statement.sbom() {
            table.field("sbom", format!("{} {}", sbom.format(), sbom.digest()));
        }
    }
    table.field("sha256", manifest.checksum.to_string());
    table
}
