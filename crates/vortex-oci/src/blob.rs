//! How a module is downloaded: bounded, resumed, and compared with its digest.

use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use vortex_registry::Digest;

use crate::artifact::Description;
use crate::error::OciError;
use crate::partial::Partial;
use crate::session::Session;

const WHAT: &str = "the module";

impl Session<'_> {
    /// Completes what has been received of a module, and returns all of it.
    ///
    /// A failure leaves what was received for the next attempt, also one at
    /// another source, unless it turned out to be wrong.
    pub(crate) async fn fetch_module(
        &mut self,
        module: &Description,
        partial: &mut Partial,
        attempts: u32,
    ) -> Result<Vec<u8>, OciError> {
        // What another source or process has left may be the part that is wrong.
        let mut is_own = partial.len() == 0;
        loop {
            let fetched = self.fetch_missing(module, partial, attempts).await;
            partial.flush().await?;
            fetched?;
            let bytes = partial.contents().await?;
            let (bytes, actual) = off_thread("hashing the module", move || {
                let actual = Digest::of(&bytes);
                (bytes, actual)
            })
            .await?;
            if actual == module.checksum {
                return Ok(bytes);
            }
            partial.clear().await?;
            if is_own {
                return Err(OciError::Digest {
                    host: self.host().to_owned(),
                    what: WHAT,
                    expected: module.checksum,
                    actual,
                });
            }
            is_own = true;
        }
    }

    async fn fetch_missing(
        &mut self,
        module: &Description,
        partial: &mut Partial,
        attempts: u32,
    ) -> Result<(), OciError> {
        let mut attempt = 1;
        loop {
            match self.fetch_some(module, partial).await {
                Err(error) if error.is_transient() && attempt < attempts => {
                    tracing::debug!(host = self.host(), attempt, %error, "the download is continued");
                    crate::retry::pause(attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// One request for all that is missing.
    async fn fetch_some(
        &mut self,
        module: &Description,
        partial: &mut Partial,
    ) -> Result<(), OciError> {
        if partial.len() > module.size {
            partial.clear().await?;
        }
        if partial.len() == module.size {
            return Ok(());
        }
        let offset = partial.len();
        let action = "the request for the module";
        let path = format!("blobs/sha256:{}", module.checksum);
        let mut request = self.request(Method::GET, &path)?;
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-")).map_err(|error| {
                OciError::malformed(self.host(), "the range of a request", error.to_string())
            })?;
            request.headers.insert(RANGE, range);
        }
        let response = self.send(request).await?;
        match response.status() {
            // All of it, which the server may always send.
            StatusCode::OK => partial.clear().await?,
            StatusCode::PARTIAL_CONTENT if offset > 0 => {
                check_range(self.host(), &response, offset, module.size)?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                partial.clear().await?;
                return Err(self.truncated(module, partial));
            }
            StatusCode::NOT_FOUND => {
                return Err(OciError::NotFound {
                    reference: format!("{}@sha256:{}", self.repository, module.checksum),
                    host: self.host().to_owned(),
                });
            }
            _ => return Err(self.failure(action, response).await),
        }
        self.receive(module, partial, response).await
    }

    async fn receive(
        &self,
        module: &Description,
        partial: &mut Partial,
        mut response: Response,
    ) -> Result<(), OciError> {
        loop {
            let received = self.http.within_stall(self.host(), response.chunk());
            let Some(chunk) = received.await? else {
                break;
            };
            if partial.len() + chunk.len() as u64 > module.size {
                return Err(OciError::malformed(
                    self.host(),
                    WHAT,
                    format!("it is longer than the {} bytes announced", module.size),
                ));
            }
            partial.append(&chunk).await?;
            if let Some(progress) = &self.http.progress {
                (progress.0)(partial.len(), module.size);
            }
        }
        if partial.len() == module.size {
            return Ok(());
        }
        Err(self.truncated(module, partial))
    }

    fn truncated(&self, module: &Description, partial: &Partial) -> OciError {
        OciError::Truncated {
            host: self.host().to_owned(),
            what: WHAT,
            received: partial.len(),
            expected: module.size,
        }
    }
}

/// Checks that a part begins where the last one ended (RFC 9110 §14.4).
fn check_range(host: &str, response: &Response, offset: u64, size: u64) -> Result<(), OciError> {
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let fits = range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split_once('/'))
        .is_some_and(|(part, total)| {
            let begins = part.split('-').next().and_then(|start| start.parse().ok());
            begins == Some(offset) && (total == "*" || total.parse() == Ok(size))
        });
    if fits {
        return Ok(());
    }
    Err(OciError::malformed(
        host,
        WHAT,
        format!("another part was sent than the one from byte {offset}: {range:?}"),
    ))
}

/// Does what takes long without keeping other tasks from running.
pub(crate) async fn off_thread<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OciError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| OciError::Interrupted { action })
}
