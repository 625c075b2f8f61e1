//! How a plugin version gets into an OCI registry.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use vortex_registry::{Digest, PluginManifest};

use crate::artifact::{Artifact, MANIFEST_TYPE, MAX_MANIFEST_LEN};
use crate::client::Client;
use crate::error::OciError;
use crate::pull::MANIFEST_ACTION;
use crate::reference::Reference;
use crate::session::{Access, Session};

impl Client {
    /// Pushes a plugin version under its version as the tag, and returns the digest of its OCI
    /// manifest, which pins it (see [`Reference::pinned`]).
    ///
    /// What the registry has already is not sent again, and a version that is there with the same
    /// contents is no error. Mirrors are not pushed to. Whether it is signed, and by whom, is
    /// for those to judge who pull it.
    ///
    /// ```no_run
    /// # use vortex_oci::{Client, OciError, Reference};
    /// # use vortex_registry::Verified;
    /// # async fn push(plugin: &Verified) -> Result<(), OciError> {
    /// let reference = Reference::parse("registry.example.com/team/redirect:1.2.3")?;
    /// let client = Client::builder().build()?;
    /// let digest = client.push(&reference, plugin.manifest(), plugin.wasm()).await?;
    /// println!("{}", reference.pinned(digest));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OciError::Unpublishable`] when the reference has no version or a digest, when name or
    /// version are not those of the manifest, or when the manifest describes another module.
    /// [`OciError::AlreadyPublished`] when the version is there with other contents.
    /// [`OciError::TooLarge`], [`OciError::Deadline`], and what a server or network is at fault for.
    pub async fn push(
        &self,
        reference: &Reference,
        manifest: &PluginManifest,
        wasm: &[u8],
    ) -> Result<Digest, OciError> {
        let unpublishable = |reason: String| OciError::Unpublishable {
            reference: reference.to_string(),
            reason,
        };
        if reference.digest().is_some() {
            return Err(unpublishable(
                "a digest follows from what is pushed: leave it out".to_owned(),
            ));
        }
        if *reference.plugin() != manifest.name || reference.version() != Some(&manifest.version) {
            return Err(unpublishable(format!(
                "the plugin is {} {}, and repository and tag must say so",
                manifest.name, manifest.version
            )));
        }
        let actual = Digest::of(wasm);
        if actual != manifest.checksum {
            return Err(unpublishable(format!(
                "the module has the checksum {actual}, the manifest says {}",
                manifest.checksum
            )));
        }
        let too_large = |what, limit| OciError::TooLarge {
            host: reference.host().to_owned(),
            what,
            limit,
        };
        let max_wasm = self.settings.max_wasm;
        if wasm.len() as u64 > max_wasm {
            return Err(too_large("the module to be pushed", max_wasm));
        }
        let artifact = Artifact::new(manifest, wasm.len())
            .map_err(|error| unpublishable(error.to_string()))?;
        if artifact.manifest.len() as u64 > MAX_MANIFEST_LEN {
            return Err(too_large("the manifest to be pushed", MAX_MANIFEST_LEN));
        }
        let wasm = Bytes::copy_from_slice(wasm);
        let work = async {
            let mut attempt = 1;
            loop {
                let mut session = self.session(reference.host(), reference, Access::Push)?;
                match session.push_all(reference, &artifact, actual, &wasm).await {
                    Err(error) if error.is_transient() && attempt < self.settings.attempts => {
                        tracing::debug!(%reference, attempt, %error, "the push is tried again");
                        crate::retry::pause(attempt).await;
                        attempt += 1;
                    }
                    done => return done.map(|()| artifact.manifest_digest),
                }
            }
        };
        self.within_deadline(reference, work).await
    }
}

impl Session<'_> {
    async fn push_all(
        &mut self,
        reference: &Reference,
        artifact: &Artifact,
        wasm_digest: Digest,
        wasm: &Bytes,
    ) -> Result<(), OciError> {
        match self.published(reference).await? {
            Some(existing) if existing == artifact.manifest_digest => return Ok(()),
            Some(existing) => {
                return Err(OciError::AlreadyPublished {
                    reference: reference.to_string(),
                    existing,
                });
            }
            None => {}
        }
        self.push_blob(wasm_digest, wasm).await?;
        self.push_blob(artifact.config_digest, &artifact.config)
            .await?;
        // Last, so that nobody finds a manifest without its blobs.
        let action = "the upload of the manifest";
        let path = format!("manifests/{}", reference.selector());
        let mut request = self.request(Method::PUT, &path)?;
        request
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(MANIFEST_TYPE));
        request.body = artifact.manifest.clone();
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.failure(action, response).await),
        }
    }

    /// The digest of what stands under the tag.
    async fn published(&mut self, reference: &Reference) -> Result<Option<Digest>, OciError> {
        let response = self.ask_for_manifest(reference).await?;
        match response.status() {
            StatusCode::OK => {
                let what = "the manifest that is there";
                let read = self
                    .http
                    .read(self.host(), what, MAX_MANIFEST_LEN, response);
                Ok(Some(Digest::of(&read.await?)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failure(MANIFEST_ACTION, response).await),
        }
    }

    async fn push_blob(&mut self, digest: Digest, bytes: &Bytes) -> Result<(), OciError> {
        let action = "the upload of a blob";
        let head = self.request(Method::HEAD, &format!("blobs/sha256:{digest}"))?;
        if self.send(head).await?.status() == StatusCode::OK {
            return Ok(());
        }
        let begin = self.request(Method::POST, "blobs/uploads/")?;
        let begun_at = begin.url.clone();
        let response = self.send(begin).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.failure(action, response).await);
        }
        let mut url = self.location(&begun_at, &response)?;
        url.query_pairs_mut()
            .append_pair("digest", &format!("sha256:{digest}"));
        let mut upload = self.request(Method::PUT, "blobs/uploads/")?;
        upload.url = url;
        upload.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        upload.body = bytes.clone();
        let response = self.send(upload).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.failure(action, response).await),
        }
    }
}
