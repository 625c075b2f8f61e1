//! `sign`: a manifest for a module, with signatures.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vortex_plugins::HookType;
use vortex_plugins::registry::{PluginManifest, PluginName, PrivateKey, Release, Sbom, Version};
use vortex_plugins::sandbox::{Inspection, RuntimeConfig};

use super::inspect::{Abi, abi_of};
use crate::exit::{Exit, usage_error};
use crate::files;
use crate::store::{brief, date, hook_types};
use crate::table::Table;
use crate::ui::Ui;

/// Describe a module in a manifest and sign it
///
/// What the manifest says (name, version, hooks, description) comes from the options, or from
/// an existing manifest, such as one of the Go system, with --manifest.
#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// The module
    #[arg(value_name = "PLUGIN.wasm")]
    wasm: PathBuf,

    /// A private key to sign with; may be given several times
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<PathBuf>,

    /// The plugin's name: lower-case words joined by `-`
    #[arg(long, required_unless_present = "manifest")]
    name: Option<PluginName>,

    /// Its version (SemVer 2.0.0)
    #[arg(long, value_name = "VERSION", required_unless_present = "manifest")]
    version: Option<Version>,

    /// When it runs: pre_request, post_response, on_connect, on_close, separated by commas
    #[arg(
        long,
        value_name = "TYPES",
        value_delimiter = ',',
        required_unless_present = "manifest"
    )]
    hooks: Vec<HookType>,

    /// What it does, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Take name, version, hooks and description from this manifest; other options count more
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// The binary interface: 1 is JSON, 2 is frames. As the module's exports say, if left out
    #[arg(long)]
    abi: Option<u32>,

    /// The number of the release, which grows with each. The time of the release, if left out
    #[arg(long, value_name = "NUMBER")]
    seq: Option<u64>,

    /// When it is released, such as 2026-01-31T12:00:00Z. Now, if left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    released_at: Option<SystemTime>,

    /// A bill of materials (CycloneDX or SPDX 2, in JSON) whose digest is signed with it
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,

    /// Where to write the manifest. `manifest.json` beside the module, if left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace a manifest that is there already
    #[arg(long)]
    force: bool,
}

impl Sign {
    pub(crate) fn run(self, ui: &Ui) -> Result<Exit> {
        let output = self.output.clone();
        let output = output.unwrap_or_else(|| files::manifest_beside(&self.wasm));
        files::check_free(&output, self.force)?;
        let wasm = files::read_wasm(&self.wasm)?;
        let inspection = Inspection::of(&wasm, &RuntimeConfig::default());
        let abi = self.abi.unwrap_or(match abi_of(&inspection) {
            Ok(Abi::Frames) => 2,
            _ => 1,
        });
        if let Some(finding) = inspection.findings.first() {
            ui.note(&format!(
                "gateways with the default limits will not run it: {finding}"
            ));
        } else if let Err(missing) = abi_of(&inspection) {
            ui.note(&format!("gateways will not run it: {missing}"));
        }
        let manifest = self.describe(&wasm)?;
        let released_at = self.released_at.unwrap_or_else(SystemTime::now);
        let released_at = released_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| usage_error("--released-at lies before 1970"))?
            .as_secs();
        let release = Release {
            abi,
            seq: self.seq.unwrap_or(released_at),
            released_at,
        };
        let keys: Result<Vec<_>, _> = self.key.iter().map(PrivateKey::read_pem_file).collect();
        let keys = keys?;
        let signing: Vec<_> = keys.iter().collect();
        let sbom = self.sbom.as_ref().map(Sbom::read_file).transpose()?;
        let manifest = match sbom {
            Some(sbom) => manifest.sign_with_sbom(&wasm, release, sbom, &signing)?,
            None => manifest.sign(&wasm, release, &signing)?,
        };
        files::write(&output, &serde_json::to_vec_pretty(&manifest)?, self.force)?;

        let mut signers: Vec<_> = keys.iter().map(|key| key.public_key().key_id()).collect();
        signers.sort();
        signers.dedup();
        let shown = output.display().to_string();
        ui.result(
            || {
                json!({
                    "name": manifest.name, "version": manifest.version, "manifest": shown,
                    "hook_types": manifest.hook_types, "checksum": manifest.checksum,
                    "size": wasm.len(), "abi": release.abi, "seq": release.seq,
                    "released_at": release.released_at, "signers": signers,
                    "sbom": sbom,
                })
            },
            || {
                let mut table = Table::default();
                table.field("plugin", format!("{} {}", manifest.name, manifest.version));
                table.field("hooks", hook_types(&manifest));
                table.field("sha256", manifest.checksum.to_string());
                table.field(
                    "released",
                    format!("{}, number {}", date(release.released_at), release.seq),
                );
                if let Some(sbom) = sbom {
                    table.field("sbom", format!("{} {}", sbom.format(), sbom.digest()));
                }
                let signers: Vec<_> = signers.iter().map(brief).collect();
                table.field("signed by", signers.join(", "));
                table.field("manifest", shown.clone());
                table.lines()
            },
        )?;
        Ok(Exit::Done)
    }

    /// What the manifest is to say, without a signature.
    fn describe(&self, wasm: &[u8]) -> Result<PluginManifest> {
        let given = self
            .manifest
            .as_deref()
            .map(files::read_manifest)
            .transpose()?;
        let mut base = match (given, &self.name, &self.version) {
            (Some(manifest), _, _) => manifest,
            (None, Some(name), Some(version)) => {
                PluginManifest::new(name.clone(), version.clone(), [], wasm)
            }
            // The parser of the command line asks for both.
            (None, _, _) => {
                return Err(usage_error("give --name and --version, or --manifest"));
            }
        };
        if let Some(name) = &self.name {
            base.name = name.clone();
        }
        if let Some(version) = &self.version {
            base.version = version.clone();
        }
        if !self.hooks.is_empty() {
            base.hook_types.clone_from(&self.hooks);
        }
        if let Some(description) = &self.description {
            base.description.clone_from(description);
        }
        Ok(base)
    }
}
