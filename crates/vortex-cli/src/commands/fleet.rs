//! `push`, `pull`, and `install` from an OCI registry.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vortex_plugins::oci::{Client, OciError, Reference};
use vortex_plugins::registry::PluginManifest;

use super::install::in_words;
use crate::cli::Options;
use crate::exit::{Exit, usage_error};
use crate::files;
use crate::store::{Target, hook_types};
use crate::table::{Cell, DOUBTFUL, GOOD, Table};
use crate::ui::{Spinner, Ui};

/// The largest file of certificates read, in bytes.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// How to reach an OCI registry.
#[derive(Args, Debug)]
#[command(next_help_heading = "OCI registry")]
pub(super) struct Oci {
    /// A mirror of the registry, asked before it; may be given several times
    #[arg(long, value_name = "HOST")]
    mirror: Vec<String>,

    /// Speak HTTP without TLS, and send no credentials. Within this machine that is so anyway
    #[arg(long)]
    plain_http: bool,

    /// Trust the certificates in this PEM file for TLS, besides the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Oci {
    fn client(&self, reference: &Reference, ui: &Ui, doing: &str) -> Result<(Client, Spinner)> {
        let host = reference.host();
        let (spinner, told) = ui.download(&format!("{doing} {reference}"));
        let mut client = Client::builder().on_progress(told);
        for mirror in &self.mirror {
            client = client.mirror(host, mirror)?;
        }
        if self.plain_http {
            for host in self.mirror.iter().map(String::as_str).chain([host]) {
                client = client.plain_http(host)?;
            }
        }
        if let Some(file) = &self.ca {
            client = client.root_certificates(&files::read(file, MAX_CERTIFICATES)?)?;
        }
        Ok((client.build()?, spinner))
    }
}

/// Waits for an exchange with a registry.
fn wait<T>(exchange: impl Future<Output = Result<T, OciError>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    Ok(runtime.block_on(exchange)?)
}

/// Reads a reference, with or without `oci://` before it.
fn parse_reference(text: &str) -> Result<Reference, OciError> {
    Reference::parse(text.strip_prefix("oci://").unwrap_or(text))
}

/// The reference that the source of an installation is, unless it is a file.
pub(super) fn reference_of(source: &Path) -> Result<Option<Reference>> {
    let Some(text) = source.to_str() else {
        return Ok(None);
    };
    if text.starts_with("oci://") {
        return Ok(Some(parse_reference(text)?));
    }
    Ok(match source.exists() {
        true => None,
        false => Reference::parse(text).ok(),
    })
}

/// Pulls a plugin version into the store, if the policy admits it.
pub(super) fn install(
    reference: &Reference,
    oci: &Oci,
    options: &Options,
    ui: &Ui,
) -> Result<Exit> {
    let registry = options.registry()?;
    let (client, spinner) = oci.client(reference, ui, "pulling")?;
    let installed = wait(client.pull_into(&registry, reference))?;
    drop(spinner);
    let (word, style) = in_words(installed.outcome);
    let store = registry.path().display().to_string();
    ui.result(
        || {
            json!({
                "outcome": word.replace(' ', "_"), "store": store,
                "name": installed.name, "version": installed.version,
                "digest": installed.digest,
            })
        },
        || {
            let mut table = Table::default();
            table.field(
                "plugin",
                format!("{} {}", installed.name, installed.version),
            );
            table.field("outcome", Cell::new(word, style));
            table.field("from", reference.to_string());
            table.field("store", store.clone());
            table.lines()
        },
    )?;
    Ok(Exit::Done)
}

/// Push a plugin to an OCI registry
///
/// Prints the digest under which it can be pulled and which no one can move. A version that is
/// there already with other contents is never replaced. Credentials come from the Docker config.
#[derive(Args, Debug)]
pub(crate) struct Push {
    /// NAME@VERSION in the store, or a path to a module (with a slash or a dot)
    #[arg(value_name = "PLUGIN")]
    target: Target,

    /// HOST[:PORT]/REPOSITORY:VERSION, where the repository ends with the plugin's name
    #[arg(value_parser = parse_reference)]
    reference: Reference,

    /// The manifest of the module. `manifest.json` beside it, if left out
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    #[command(flatten)]
    oci: Oci,
}

impl Push {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let (manifest, wasm) = self.read(options)?;
        if !manifest.is_signed() {
            ui.note("the plugin is unsigned: no strict policy will let it in");
        }
        let (client, spinner) = self.oci.client(&self.reference, ui, "pushing")?;
        let digest = wait(client.push(&self.reference, &manifest, &wasm))?;
        drop(spinner);
        let pinned = self.reference.pinned(digest).to_string();
        ui.result(
            || {
                json!({
                    "name": manifest.name, "version": manifest.version,
                    "digest": digest, "reference": pinned,
                })
            },
            || {
                let mut table = Table::default();
                table.field("plugin", format!("{} {}", manifest.name, manifest.version));
                table.field("outcome", Cell::new("pushed", GOOD));
                table.field("reference", pinned.clone());
                table.lines()
            },
        )?;
        Ok(Exit::Done)
    }

    fn read(&self, options: &Options) -> Result<(PluginManifest, Vec<u8>)> {
        match &self.target {
            Target::Installed(_) if self.manifest.is_some() => Err(usage_error(
                "--manifest is for a file, not for a plugin in the store",
            )),
            Target::Installed(reference) => {
                let registry = options.registry()?;
                let plugin = registry.get(reference.name(), reference.version())?;
                Ok((plugin.manifest().clone(), plugin.into_wasm()))
            }
            Target::File(path) => {
                let manifest = self.manifest.clone();
                let manifest = manifest.unwrap_or_else(|| files::manifest_beside(path));
                Ok((files::read_manifest(&manifest)?, files::read_wasm(path)?))
            }
        }
    }
}

/// Pull a plugin from an OCI registry into a directory
///
/// Writes plugin.wasm and manifest.json. Whether they may run is decided when they are
/// installed; `install` pulls into the store at once.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// HOST[:PORT]/REPOSITORY[:VERSION][@sha256:DIGEST]
    #[arg(value_parser = parse_reference)]
    reference: Reference,

    /// The directory, which is made if it is not there. The plugin's name, if left out
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Replace files that are there already
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    oci: Oci,
}

impl Pull {
    pub(crate) fn run(self, ui: &Ui) -> Result<Exit> {
        let directory = self.output.clone();
        let directory = directory.unwrap_or_else(|| self.reference.plugin().as_str().into());
        let (wasm_file, manifest_file) = (
            directory.join("plugin.wasm"),
            directory.join("manifest.json"),
        );
        for file in [&wasm_file, &manifest_file] {
            files::check_free(file, self.force)?;
        }
        let (client, spinner) = self.oci.client(&self.reference, ui, "pulling")?;
        let pulled = wait(client.pull(&self.reference))?;
        drop(spinner);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let manifest = pulled.manifest();
        files::write(&wasm_file, pulled.wasm(), self.force)?;
        files::write(
            &manifest_file,
            &serde_json::to_vec_pretty(manifest)?,
            self.force,
        )?;
        let shown = directory.display().to_string();
        ui.result(
            || {
                json!({
                    "name": manifest.name, "version": manifest.version, "directory": shown,
                    "digest": pulled.digest(), "checksum": manifest.checksum,
                })
            },
            || {
                let mut table = Table::default();
                table.field("plugin", format!("{} {}", manifest.name, manifest.version));
                table.field("verdict", Cell::new("not verified yet", DOUBTFUL));
                table.field("hooks", hook_types(manifest));
                table.field("digest", format!("sha256:{}", pulled.digest()));
                table.field("directory", shown.clone());
                table.lines()
            },
        )?;
        Ok(Exit::Done)
    }
}
