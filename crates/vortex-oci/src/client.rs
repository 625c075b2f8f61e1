//! The client and how it is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use vortex_registry::Limits;

use crate::credentials::DockerConfig;
use crate::endpoint::Endpoint;
use crate::error::OciError;
use crate::http::{Http, Progress};
use crate::reference::{Reference, parse_host};
use crate::session::{Access, Session};

/// Pushes and pulls. Cheap to clone; clones share their connections.
///
/// ```
/// use std::time::Duration;
/// use vortex_oci::{Client, DockerConfig};
///
/// let client = Client::builder()
///     .docker_config(DockerConfig::empty())
///     .mirror("registry.example.com", "mirror-1.example.net")?
///     .mirror("registry.example.com", "mirror-2.example.net:8443")?
///     .stall_limit(Duration::from_secs(10))
///     .build()?;
/// # Ok::<(), vortex_oci::OciError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) settings: Arc<ClientBuilder>,
    http: Arc<Http>,
    credentials: Arc<DockerConfig>,
}

/// How a [`Client`] is set up.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    mirrors: BTreeMap<String, Vec<String>>,
    plain: BTreeSet<String>,
    tls: BTreeSet<String>,
    credentials: Option<DockerConfig>,
    roots: Vec<CertificateDer<'static>>,
    connect_limit: Duration,
    stall_limit: Duration,
    pub(crate) deadline: Duration,
    pub(crate) attempts: u32,
    pub(crate) max_wasm: u64,
    progress: Option<Progress>,
}

impl Client {
    /// A client with the default limits, which takes its credentials from the Docker config.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            mirrors: BTreeMap::new(),
            plain: BTreeSet::new(),
            tls: BTreeSet::new(),
            credentials: None,
            roots: Vec::new(),
            connect_limit: Duration::from_secs(10),
            stall_limit: Duration::from_secs(30),
            deadline: Duration::from_secs(15 * 60),
            attempts: 4,
            max_wasm: Limits::default().wasm_bytes,
            progress: None,
        }
    }

    /// A conversation with a host about the repository of a reference.
    pub(crate) fn session<'a>(
        &'a self,
        host: &str,
        reference: &'a Reference,
        access: Access,
    ) -> Result<Session<'a>, OciError> {
        let plain = self.settings.plain.contains(host);
        let tls = self.settings.tls.contains(host);
        Ok(Session::new(
            &self.http,
            Endpoint::new(host, plain, tls)?,
            reference.repository(),
            access,
            &self.credentials,
        ))
    }

    /// The hosts to pull from: the mirrors in order, then the registry itself.
    pub(crate) fn sources<'a>(&'a self, reference: &'a Reference) -> Vec<&'a str> {
        let mirrors = self.settings.mirrors.get(reference.host());
        mirrors
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain([reference.host()])
            .collect()
    }

    /// Ends what takes longer than the deadline.
    pub(crate) async fn within_deadline<T>(
        &self,
        reference: &Reference,
        work: impl Future<Output = Result<T, OciError>>,
    ) -> Result<T, OciError> {
        let limit = self.settings.deadline;
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(OciError::Deadline {
                reference: reference.to_string(),
                limit,
            }),
        }
    }
}

impl ClientBuilder {
    /// Pulls what is on `registry` from `mirror` first. Mirrors are asked in the
    /// order in which they are given, the registry itself last. A mirror has the
    /// repositories of its registry under the same paths.
    ///
    /// # Errors
    ///
    /// [`OciError::Setup`] when one of them is no host with an optional port.
    pub fn mirror(mut self, registry: &str, mirror: &str) -> Result<Self, OciError> {
        let (registry, mirror) = (host(registry)?, host(mirror)?);
        self.mirrors.entry(registry).or_default().push(mirror);
        Ok(self)
    }

    /// Speaks plain HTTP to a host that is not this machine.
    ///
    /// Everybody on the way can see and change what is sent. A changed module is
    /// refused as ever, but no credentials are sent there.
    ///
    /// # Errors
    ///
    /// [`OciError::Setup`] when it is no host with an optional port.
    pub fn plain_http(mut self, registry: &str) -> Result<Self, OciError> {
        self.plain.insert(host(registry)?);
        Ok(self)
    }

    /// Speaks HTTPS to a host on this machine, to which it would speak plain HTTP.
    ///
    /// # Errors
    ///
    /// [`OciError::Setup`] when it is no host with an optional port.
    pub fn https(mut self, registry: &str) -> Result<Self, OciError> {
        self.tls.insert(host(registry)?);
        Ok(self)
    }

    /// Trusts the certificates of a PEM file for HTTPS, besides the system's.
    ///
    /// # Errors
    ///
    /// [`OciError::Setup`] when there is none in it, or a broken one.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, OciError> {
        let before = self.roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.roots
                .push(certificate.map_err(|error| OciError::Setup {
                    reason: format!("a root certificate cannot be read: {error}"),
                })?);
        }
        if self.roots.len() == before {
            return Err(OciError::Setup {
                reason: "there is no certificate in the PEM text".to_owned(),
            });
        }
        Ok(self)
    }

    /// Takes credentials from this config. The default is [`DockerConfig::from_env`].
    #[must_use]
    pub fn docker_config(self, config: DockerConfig) -> Self {
        Self {
            credentials: Some(config),
            ..self
        }
    }

    /// How long connecting may take. The default is 10 seconds.
    #[must_use]
    pub fn connect_limit(self, connect_limit: Duration) -> Self {
        Self {
            connect_limit,
            ..self
        }
    }

    /// How long a server may send nothing. The default is 30 seconds.
    #[must_use]
    pub fn stall_limit(self, stall_limit: Duration) -> Self {
        Self {
            stall_limit,
            ..self
        }
    }

    /// How long one push or pull may take in all, with its retries, its mirrors
    /// and its wait for another process that pulls the same. The default is 15 minutes.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// How often a request is sent to one host at most. The default is 4, 0 counts as 1.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// The largest module pulled or pushed, in bytes. The default is that of [`Limits`].
    /// Where a module is pulled into a registry, the registry's own limit holds as well.
    #[must_use]
    pub fn max_wasm_bytes(self, max_wasm: u64) -> Self {
        Self { max_wasm, ..self }
    }

    /// Has `told` called while a module is downloaded, with the number of bytes that are
    /// there, those of an earlier attempt included, and of those that there will be.
    #[must_use]
    pub fn on_progress(self, told: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self {
            progress: Some(Progress(Arc::new(told))),
            ..self
        }
    }

    /// The client.
    ///
    /// # Errors
    ///
    /// [`OciError::Credentials`] when the Docker config cannot be read,
    /// [`OciError::Setup`] when the HTTP client cannot be made.
    pub fn build(mut self) -> Result<Client, OciError> {
        let credentials = match self.credentials.take() {
            Some(credentials) => credentials,
            None => DockerConfig::from_env()?,
        };
        let mut http = Http::new(self.roots.clone(), self.connect_limit, self.stall_limit)?;
        http.progress = self.progress.take();
        Ok(Client {
            settings: Arc::new(self),
            http: Arc::new(http),
            credentials: Arc::new(credentials),
        })
    }
}

fn host(text: &str) -> Result<String, OciError> {
    parse_host(text).map_err(|reason| OciError::Setup {
        reason: format!("{:?}: {reason}", crate::error::excerpt(text)),
    })
}
