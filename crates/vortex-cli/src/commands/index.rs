//! `index`: the fleet index.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use vortex_plugins::registry::{Digest, FleetIndex, KeyId, PluginVersion, PrivateKey, Registry};

use crate::cli::Options;
use crate::exit::{Exit, usage_error};
use crate::files;
use crate::store::{date, now};
use crate::table::{Cell, DOUBTFUL, Table};
use crate::ui::Ui;

/// The largest index file read, in bytes: what a store takes, and a byte to notice more.
const MAX_INDEX: u64 = (4 << 20) + 1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Make(Make),
    Update(Update),
    Show(Show),
}

impl Command {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        match self {
            Self::Make(command) => command.run(options, ui),
            Self::Update(command) => command.run(options, ui),
            Self::Show(command) => command.run(options, ui),
        }
    }
}

/// Make and sign a fleet index
///
/// An index holds all that is revoked, not just what is new: with --extend it begins with what
/// the store's index has, under the next number.
#[derive(Args, Debug)]
pub(crate) struct Make {
    /// The file to write
    file: PathBuf,

    /// A private key to sign with; may be given several times
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<PathBuf>,

    /// Its number, higher than that of any before
    #[arg(long, value_name = "NUMBER", required_unless_present = "extend")]
    seq: Option<u64>,

    /// How long it is valid from now on, such as 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = humantime::parse_duration)]
    valid_for: Duration,

    /// Begin with what the index in the store revokes
    #[arg(long)]
    extend: bool,

    /// Revoke a version; each of these may be given several times
    #[arg(long, value_name = "NAME@VERSION")]
    revoke: Vec<PluginVersion>,

    /// Revoke a key, by its id
    #[arg(long, value_name = "KEY-ID")]
    revoke_key: Vec<KeyId>,

    /// Deny a module under whatever name, by its SHA-256
    #[arg(long, value_name = "SHA-256")]
    deny: Vec<Digest>,

    /// Let no version of a plugin run that is lower than this
    #[arg(long, value_name = "NAME@VERSION")]
    minimum: Vec<PluginVersion>,

    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
}

impl Make {
    fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        files::check_free(&self.file, self.force)?;
        let issued_at = now();
        let expires = issued_at.saturating_add(self.valid_for.as_secs());
        let base = match self.extend {
            true => options.registry()?.index()?,
            false => None,
        };
        let next = base.as_ref().map_or(1, |index| index.seq.saturating_add(1));
        let seq = self.seq.unwrap_or(next);
        if let Some(base) = &base
            && seq <= base.seq
        {
            return Err(usage_error(format!(
                "--seq is {seq}, and the index in the store has number {}: give a higher one",
                base.seq
            )));
        }
        let mut index = FleetIndex::new(seq, issued_at, expires);
        if let Some(base) = base {
            index.revocations = base.revocations;
        }
        let revocations = &mut index.revocations;
        revocations.versions.extend(self.revoke);
        revocations.keys.extend(self.revoke_key);
        revocations.digests.extend(self.deny);
        for PluginVersion { name, version } in self.minimum {
            revocations.minimum_versions.insert(name, version);
        }
        let keys: Result<Vec<_>, _> = self.key.iter().map(PrivateKey::read_pem_file).collect();
        let keys = keys?;
        let bytes = index.sign(&keys.iter().collect::<Vec<_>>())?;
        files::write(&self.file, &bytes, self.force)?;
        show(&index, ui)?;
        Ok(Exit::Done)
    }
}

/// Take over a newer fleet index into the store
///
/// From then on every gateway on the store applies it. An older one, or another one of the
/// same number, is refused.
#[derive(Args, Debug)]
pub(crate) struct Update {
    /// The index; `-` reads standard input
    file: PathBuf,
}

impl Update {
    fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let bytes = files::read(&self.file, MAX_INDEX)?;
        let registry = options.registry()?;
        registry.update_index(&bytes)?;
        show_in_force(&registry, ui)
    }
}

/// Show the fleet index in force
#[derive(Args, Debug)]
pub(crate) struct Show {}

impl Show {
    fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        show_in_force(&options.registry()?, ui)
    }
}

fn show_in_force(registry: &Registry, ui: &Ui) -> Result<Exit> {
    match registry.index()? {
        Some(index) => show(&index, ui)?,
        None => ui.result(|| Value::Null, || "no fleet index is in force\n".to_owned())?,
    }
    Ok(Exit::Done)
}

fn show(index: &FleetIndex, ui: &Ui) -> Result<()> {
    let revoked = &index.revocations;
    ui.result(
        || {
            json!({
                "seq": index.seq, "issued_at": index.issued_at, "expires": index.expires,
                "revoked": {
                    "keys": revoked.keys, "digests": revoked.digests, "versions": revoked.versions,
                    "minimum_versions": revoked.minimum_versions,
                },
            })
        },
        || {
            let mut table = Table::default();
            table.field("number", index.seq.to_string());
            table.field("issued", date(index.issued_at));
            let expired = index.expires <= now();
            let expires = date(index.expires);
            table.field(
                "expires",
                match expired {
                    true => Cell::new(format!("{expires} (out of date)"), DOUBTFUL),
                    false => expires.into(),
                },
            );
            for version in &revoked.versions {
                table.field("revoked version", version.to_string());
            }
            for key in &revoked.keys {
                table.field("revoked key", key.to_string());
            }
            for digest in &revoked.digests {
                table.field("denied module", digest.to_string());
            }
            for (name, version) in &revoked.minimum_versions {
                table.field("minimum", format!("{name} {version}"));
            }
            table.lines()
        },
    )
}
