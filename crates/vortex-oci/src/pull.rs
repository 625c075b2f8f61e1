//! How a plugin version comes out of an OCI registry.

use std::fmt;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use vortex_registry::{
    Digest, InstallOutcome, Mode, PluginManifest, PluginName, Registry, RegistryError, Version,
};

use crate::artifact::{Description, MANIFEST_TYPE, MAX_MANIFEST_LEN};
use crate::blob::off_thread;
use crate::client::Client;
use crate::downloads::{Claim, Downloads, POLL};
use crate::error::OciError;
use crate::partial::Partial;
use crate::reference::Reference;
use crate::session::{Access, Session};

/// What has failed when there is no manifest.
pub(crate) const MANIFEST_ACTION: &str = "the request for the manifest";

/// A plugin version as a registry gives it out: complete, and the one asked for
/// by its own account. Nobody has verified the signature yet.
pub struct Pulled {
    manifest: PluginManifest,
    wasm: Vec<u8>,
    digest: Digest,
}

impl Pulled {
    /// What the plugin version says about itself.
    #[must_use]
    pub const fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// The module.
    #[must_use]
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// The digest of the OCI manifest, for [`Reference::pinned`].
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A plugin version that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// What it is called.
    pub name: PluginName,
    /// Its version.
    pub version: Version,
    /// Whether it was there before.
    pub outcome: InstallOutcome,
    /// The digest of the OCI manifest, unless no registry had to be asked.
    pub digest: Option<Digest>,
}

/// What a tag or digest stands for, at one host.
struct Resolved {
    module: Description,
    digest: Digest,
}

impl Client {
    /// Pulls a plugin version into memory, from the first source that serves it.
    ///
    /// Give it to [`Registry::install`] or use [`pull_into`](Self::pull_into): that it has come
    /// from the right place says nothing about who made it.
    ///
    /// # Errors
    ///
    /// The error of the registry where there is no mirror, else [`OciError::Sources`] with one for
    /// each source. [`OciError::Deadline`] when it takes too long.
    pub async fn pull(&self, reference: &Reference) -> Result<Pulled, OciError> {
        let work = self.try_sources(reference, async |host| {
            let mut session = self.session(host, reference, Access::Pull)?;
            let max_wasm = self.settings.max_wasm;
            let attempts = self.settings.attempts;
            let resolved = session.resolve(reference, max_wasm, attempts).await?;
            let mut partial = Partial::Memory(Vec::new());
            let wasm = session
                .fetch_module(&resolved.module, &mut partial, attempts)
                .await?;
            Ok(Pulled {
                manifest: resolved.module.manifest(&wasm),
                wasm,
                digest: resolved.digest,
            })
        });
        self.within_deadline(reference, work).await
    }

    /// Pulls a plugin version into a store, unless it is there already.
    ///
    /// [`Registry::install`] decides whether it may be there. A version never changes, so one that
    /// is installed and in order is not asked for again; only a pinned digest is compared. Of all
    /// processes on a machine that pull the same module into the same store at once, one downloads
    /// it and the others wait. A download that was broken off is continued.
    ///
    /// ```no_run
    /// # use vortex_oci::{Client, OciError, Reference};
    /// # use vortex_registry::Registry;
    /// # async fn pull(registry: &Registry) -> Result<(), OciError> {
    /// let reference = Reference::parse("registry.example.com/team/redirect:1.2.3")?;
    /// let installed = Client::builder().build()?.pull_into(registry, &reference).await?;
    /// assert_eq!(installed.version.to_string(), "1.2.3");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`pull`](Self::pull), and [`OciError::Registry`] when the plugin registry refuses the
    /// version or has another one under the same name, [`OciError::Io`] when the download cannot be
    /// written.
    pub async fn pull_into(
        &self,
        registry: &Registry,
        reference: &Reference,
    ) -> Result<Installed, OciError> {
        let work = async {
            if let (Some(version), None) = (reference.version(), reference.digest())
                && let Some(found) = installed(registry, reference.plugin(), version).await?
            {
                return Ok(present(found, None));
            }
            // Kept from source to source: else those who wait would each try the source that
            // has just failed.
            let mut held = None;
            self.try_sources(reference, async |host| {
                self.pull_from(registry, reference, host, &mut held).await
            })
            .await
        };
        self.within_deadline(reference, work).await
    }

    /// Pulls from one source into a store.
    async fn pull_from(
        &self,
        registry: &Registry,
        reference: &Reference,
        host: &str,
        held: &mut Option<Download>,
    ) -> Result<Installed, OciError> {
        let mut session = self.session(host, reference, Access::Pull)?;
        let max_wasm = self.settings.max_wasm.min(registry.limits().wasm_bytes);
        let attempts = self.settings.attempts;
        let Resolved { module, digest } = session.resolve(reference, max_wasm, attempts).await?;
        if let Some(found) = installed_same(registry, &module).await? {
            return Ok(present(found, Some(digest)));
        }
        let download = match held.take().filter(|held| held.digest == module.checksum) {
            Some(download) => download,
            None => Download::claim(registry, module.checksum).await?,
        };
        let download = held.insert(download);
        // Whoever had the claim before may have installed it.
        if let Some(found) = installed_same(registry, &module).await? {
            download.remove()?;
            return Ok(present(found, Some(digest)));
        }
        let mut partial = download.partial().await?;
        let wasm = session
            .fetch_module(&module, &mut partial, attempts)
            .await?;
        let manifest = module.manifest(&wasm);
        let store = registry.clone();
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        let outcome = off_thread("installing the plugin", move || {
            store.install(&manifest, &wasm)
        })
        .await?;
        // Whatever the verdict, there is nothing to continue.
        if let Some(download) = held.take() {
            download.remove()?;
        }
        Ok(Installed {
            name,
            version,
            outcome: outcome?,
            digest: Some(digest),
        })
    }

    /// Does something with the first source that it works with.
    async fn try_sources<T>(
        &self,
        reference: &Reference,
        mut attempt: impl AsyncFnMut(&str) -> Result<T, OciError>,
    ) -> Result<T, OciError> {
        let mut failures = Vec::new();
        for host in self.sources(reference) {
            match attempt(host).await {
                Ok(done) => return Ok(done),
                Err(error) if error.is_of_source() => {
                    tracing::warn!(%reference, host, %error, "a source does not serve a plugin");
                    failures.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        match <[OciError; 1]>::try_from(failures) {
            Ok([error]) => Err(error),
            Err(failures) => Err(OciError::Sources {
                reference: reference.to_string(),
                failures,
            }),
        }
    }
}

impl Session<'_> {
    /// Fetches the manifest and checks that it is the one asked for.
    async fn resolve(
        &mut self,
        reference: &Reference,
        max_wasm: u64,
        attempts: u32,
    ) -> Result<Resolved, OciError> {
        let mut attempt = 1;
        let json = loop {
            match self.fetch_manifest(reference).await {
                Err(error) if error.is_transient() && attempt < attempts => {
                    crate::retry::pause(attempt).await;
                    attempt += 1;
                }
                done => break done?,
            }
        };
        let digest = Digest::of(&json);
        if let Some(expected) = reference.digest().filter(|pinned| *pinned != digest) {
            return Err(OciError::Digest {
                host: self.host().to_owned(),
                what: "the manifest",
                expected,
                actual: digest,
            });
        }
        let module = Description::read(self.host(), &json, max_wasm)?;
        let is_wrong_version = reference.version().is_some_and(|v| *v != module.version);
        if module.name != *reference.plugin() || is_wrong_version {
            return Err(OciError::WrongPlugin {
                reference: reference.to_string(),
                host: self.host().to_owned(),
                name: module.name,
                version: module.version,
            });
        }
        Ok(Resolved { module, digest })
    }

    /// The answer to a request for what the reference names, whatever its status.
    pub(crate) async fn ask_for_manifest(
        &mut self,
        reference: &Reference,
    ) -> Result<Response, OciError> {
        let path = format!("manifests/{}", reference.selector());
        let mut request = self.request(Method::GET, &path)?;
        request
            .headers
            .insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPE));
        self.send(request).await
    }

    async fn fetch_manifest(&mut self, reference: &Reference) -> Result<Vec<u8>, OciError> {
        let response = self.ask_for_manifest(reference).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(OciError::NotFound {
                    reference: reference.to_string(),
                    host: self.host().to_owned(),
                });
            }
            _ => return Err(self.failure(MANIFEST_ACTION, response).await),
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let essence = content_type
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim();
        if essence != MANIFEST_TYPE {
            let reason = format!("it is a {essence:?}, not a {MANIFEST_TYPE}");
            return Err(OciError::malformed(self.host(), "the manifest", reason));
        }
        self.http
            .read(self.host(), "the manifest", MAX_MANIFEST_LEN, response)
            .await
    }
}

/// A module that this process alone downloads into a store.
struct Download {
    downloads: Downloads,
    claim: Claim,
    digest: Digest,
}

impl Download {
    /// Waits until nobody else downloads it.
    async fn claim(registry: &Registry, digest: Digest) -> Result<Self, OciError> {
        let store = registry.path().to_owned();
        let opened = off_thread("opening the downloads", move || Downloads::open(&store));
        let downloads = opened.await??;
        // Asked for again and again rather than waited for in a thread, which a
        // caller that gives up could not call back.
        loop {
            if let Some(claim) = downloads.try_claim(digest)? {
                return Ok(Self {
                    downloads,
                    claim,
                    digest,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What has been received of it so far.
    async fn partial(&self) -> Result<Partial, OciError> {
        let Claim { file, path, .. } = &self.claim;
        let file = file
            .try_clone()
            .map_err(|error| OciError::io("open", path, error))?;
        Partial::of_file(file, path.clone()).await
    }

    /// Leaves nothing behind.
    fn remove(&self) -> Result<(), OciError> {
        self.downloads.remove(&self.claim)
    }
}

/// The version in the store, if it is there and may be.
async fn installed(
    registry: &Registry,
    name: &PluginName,
    version: &Version,
) -> Result<Option<PluginManifest>, OciError> {
    let (registry, name, selector) = (registry.clone(), name.clone(), version.into());
    let found = off_thread("reading the store", move || {
        match registry.policy().mode() {
            Mode::Strict => registry
                .get(&name, &selector)
                .map(|plugin| plugin.manifest().clone()),
            Mode::Permissive => registry
                .get_permissive(&name, &selector)
                .map(|plugin| plugin.manifest().clone()),
        }
    });
    match found.await? {
        Ok(manifest) => Ok(Some(manifest)),
        Err(RegistryError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The version in the store, if it is the one described.
async fn installed_same(
    registry: &Registry,
    module: &Description,
) -> Result<Option<PluginManifest>, OciError> {
    match installed(registry, &module.name, &module.version).await? {
        Some(found) if !module.is_of(&found) => Err(RegistryError::Conflict {
            name: found.name,
            version: found.version,
        }
        .into()),
        found => Ok(found),
    }
}

fn present(manifest: PluginManifest, digest: Option<Digest>) -> Installed {
    Installed {
        name: manifest.name,
        version: manifest.version,
        outcome: InstallOutcome::AlreadyInstalled,
        digest,
    }
}
