//! `keygen`: a pair of keys.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use vortex_plugins::registry::PrivateKey;

use crate::exit::Exit;
use crate::files::directory_of;
use crate::table::{HEAD, Table};
use crate::ui::Ui;

/// Make a key pair that signs plugins and fleet indexes (Ed25519)
///
/// Writes NAME.key, the private key, which its owner alone can read and which must stay
/// secret, and NAME.pub, the public key, which whoever trusts the signatures needs.
#[derive(Args, Debug)]
pub(crate) struct Keygen {
    /// The path of both files, without their endings
    name: PathBuf,

    /// Replace key files that are there already. What the old key signed stays signed, but
    /// nobody can sign with it any more
    #[arg(long)]
    force: bool,
}

impl Keygen {
    pub(crate) fn run(self, ui: &Ui) -> Result<Exit> {
        let (private_file, public_file) = (
            with_ending(&self.name, "key"),
            with_ending(&self.name, "pub"),
        );
        for file in [&private_file, &public_file] {
            if !self.force && file.symlink_metadata().is_ok() {
                bail!(
                    "{} is there already: choose another name, or give --force to lose the old key",
                    file.display()
                );
            }
        }
        let key = PrivateKey::generate()?;
        let public_key = key.public_key();
        if self.force {
            // Written aside and moved, so that at no time there is half a key.
            let aside = tempfile::tempdir_in(directory_of(&self.name))
                .with_context(|| format!("cannot write beside {}", self.name.display()))?;
            let (new_private, new_public) = (aside.path().join("key"), aside.path().join("pub"));
            key.write_pem_file(&new_private)?;
            public_key.write_pem_file(&new_public)?;
            for (from, to) in [(&new_private, &private_file), (&new_public, &public_file)] {
                std::fs::rename(from, to)
                    .with_context(|| format!("cannot replace {}", to.display()))?;
            }
        } else {
            key.write_pem_file(&private_file)?;
            if let Err(error) = public_key.write_pem_file(&public_file) {
                // Half a pair would stand in the way of the next attempt.
                let _ = std::fs::remove_file(&private_file);
                return Err(error.into());
            }
        }
        let key_id = public_key.key_id().to_string();
        let show = |path: &Path| path.display().to_string();
        ui.result(
            || json!({ "key_id": key_id, "private_key": show(&private_file), "public_key": show(&public_file) }),
            || {
                let mut table = Table::default();
                table.field("key id", crate::table::Cell::new(&key_id, HEAD));
                table.field("private key", show(&private_file) + "  (keep it secret)");
                table.field("public key", show(&public_file));
                table.lines()
            },
        )?;
        Ok(Exit::Done)
    }
}

/// The path with an ending put behind it, whatever dots the name has.
fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    PathBuf::from(path)
}
