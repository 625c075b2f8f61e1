//! `list`: what is in the store.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use vortex_plugins::registry::{ListEntry, PluginName, Status};

use crate::cli::Options;
use crate::exit::Exit;
use crate::store::{hook_types, trust_cell, trust_json};
use crate::table::{BAD, Cell, DOUBTFUL, Table};
use crate::ui::Ui;

/// List every version in the store, good or bad
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only versions of this plugin
    name: Option<PluginName>,
}

impl List {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let mut entries = {
            let _spinner = ui.spinner("reading the store");
            options.registry()?.list()?
        };
        if let Some(name) = &self.name {
            entries.retain(|entry| entry.name.as_ref() == Some(name));
        }
        show(&entries, ui)?;
        Ok(Exit::Done)
    }
}

/// Shows entries of a store, one a line.
pub(crate) fn show(entries: &[ListEntry], ui: &Ui) -> Result<()> {
    ui.result(
        || Value::Array(entries.iter().map(entry_json).collect()),
        || {
            if entries.is_empty() {
                return "no plugins are installed\n".to_owned();
            }
            let mut table = Table::with_head(&["NAME", "VERSION", "HOOKS", "STATUS"]);
            for entry in entries {
                let (hooks, status) = match &entry.status {
                    Status::Intact { manifest, trust } => (hook_types(manifest), trust_cell(trust)),
                    Status::Corrupt { reason } => {
                        (String::new(), Cell::new(reason.to_string(), BAD))
                    }
                    _ => (String::new(), Cell::new("no plugin, ignored", DOUBTFUL)),
                };
                let path = || entry.path.display().to_string();
                let (name, version) = match (&entry.name, &entry.version) {
                    (Some(name), Some(version)) => (name.to_string(), version.to_string()),
                    _ => (path(), String::new()),
                };
                table.row([name.into(), version.into(), hooks.into(), status]);
            }
            table.lines()
        },
    )
}

/// One entry for machines.
pub(crate) fn entry_json(entry: &ListEntry) -> Value {
    let mut value = json!({
        "path": entry.path.to_string_lossy(),
        "name": entry.name,
        "version": entry.version,
    });
    let rest = match &entry.status {
        Status::Intact { manifest, trust } => json!({
            "status": "intact",
            "trust": trust_json(trust),
            "description": manifest.description,
            "hook_types": manifest.hook_types,
            "checksum": manifest.checksum,
        }),
        Status::Corrupt { reason } => json!({ "status": "corrupt", "reason": reason.to_string() }),
        _ => json!({ "status": "foreign" }),
    };
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        value.extend(rest);
    }
    value
}
