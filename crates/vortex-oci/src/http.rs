//! Requests to a host, within the rules on where they may go.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Response, Url};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;
use tokio::sync::OnceCell;

use crate::error::{OciError, printable};
use crate::reference::is_loopback_url;

/// How often a request is redirected at most.
pub(crate) const MAX_REDIRECTS: usize = 3;

/// Who is told how many bytes of a module have arrived, and of how many.
#[derive(Clone)]
pub(crate) struct Progress(pub(crate) Arc<dyn Fn(u64, u64) + Send + Sync>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// The two ways to send a request, and how long each may take.
#[derive(Debug)]
pub(crate) struct Http {
    /// Who is told how much of a module has arrived.
    pub(crate) progress: Option<Progress>,
    plain: Client,
    /// Made when first used: reading the system's certificates takes a while,
    /// and a machine without any can still speak to itself.
    tls: OnceCell<Client>,
    /// The same without a proxy, for this machine.
    tls_here: OnceCell<Client>,
    roots: Vec<CertificateDer<'static>>,
    connect_limit: Duration,
    pub(crate) stall_limit: Duration,
}

impl Http {
    pub(crate) fn new(
        roots: Vec<CertificateDer<'static>>,
        connect_limit: Duration,
        stall_limit: Duration,
    ) -> Result<Self, OciError> {
        let config = tls_config()
            .map_err(setup)?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let plain = builder(connect_limit)
            // reqwest wants a TLS configuration; this one trusts nobody.
            .tls_backend_preconfigured(config)
            // A proxy would see what plain HTTP to this machine keeps on it.
            .no_proxy()
            // Whatever a resolver says, this is this machine.
            .resolve_to_addrs(
                "localhost",
                &[
                    ([127, 0, 0, 1], 0).into(),
                    ([0, 0, 0, 0, 0, 0, 0, 1], 0).into(),
                ],
            )
            .build()
            .map_err(setup)?;
        Ok(Self {
            plain,
            progress: None,
            tls: OnceCell::new(),
            tls_here: OnceCell::new(),
            roots,
            connect_limit,
            stall_limit,
        })
    }

    pub(crate) async fn client(&self, url: &Url) -> Result<&Client, OciError> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        let is_here = is_loopback_url(url);
        let cell = if is_here { &self.tls_here } else { &self.tls };
        let make = async || {
            let provider = Arc::new(ring::default_provider());
            let verifier =
                Verifier::new_with_extra_roots(self.roots.clone(), provider).map_err(setup)?;
            let config = tls_config()
                .map_err(setup)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            let client = builder(self.connect_limit)
                .https_only(true)
                .tls_backend_preconfigured(config);
            let client = if is_here { client.no_proxy() } else { client };
            client.build().map_err(setup)
        };
        cell.get_or_try_init(make).await
    }

    /// Waits for something that the server sends, but not for ever.
    pub(crate) async fn within_stall<T>(
        &self,
        host: &str,
        waiting: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, OciError> {
        match tokio::time::timeout(self.stall_limit, waiting).await {
            Ok(Ok(received)) => Ok(received),
            Ok(Err(error)) => Err(transport(host, error)),
            Err(_) => Err(OciError::Stalled {
                host: host.to_owned(),
                limit: self.stall_limit,
            }),
        }
    }

    /// Reads a body of at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        host: &str,
        what: &'static str,
        limit: u64,
        mut response: Response,
    ) -> Result<Vec<u8>, OciError> {
        let too_large = || OciError::TooLarge {
            host: host.to_owned(),
            what,
            limit,
        };
        let announced = response.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.within_stall(host, response.chunk()).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn tls_config() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

fn builder(connect_limit: Duration) -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("vortex-oci/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_limit)
        // Each redirect is judged, and none gets credentials.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
}

fn setup(error: impl std::error::Error) -> OciError {
    let cause = error.source().map(|cause| format!(": {cause}"));
    OciError::Setup {
        reason: format!("{error}{}", cause.unwrap_or_default()),
    }
}

pub(crate) fn transport(host: &str, error: reqwest::Error) -> OciError {
    OciError::Transport {
        host: host.to_owned(),
        // A query may hold a signature that is as good as a password.
        source: error.without_url().into(),
    }
}

/// Whether two URLs name the same server by the same scheme.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Checks where a registry at `base` sends its client: to itself, or to
/// another host over HTTPS. From elsewhere there is no way to this machine, and
/// plain HTTP leads to no other host, unless all of it is on this machine.
pub(crate) fn check_target(host: &str, base: &Url, target: &Url) -> Result<(), OciError> {
    let refused = |reason| OciError::Redirect {
        host: host.to_owned(),
        location: printable(&target.origin().ascii_serialization()),
        reason,
    };
    if !target.username().is_empty() || target.password().is_some() {
        return Err(refused("the URL holds credentials"));
    }
    let (from_here, to_here) = (is_loopback_url(base), is_loopback_url(target));
    match target.scheme() {
        _ if same_origin(base, target) => Ok(()),
        "https" | "http" if to_here && !from_here => {
            Err(refused("a registry elsewhere must not reach this machine"))
        }
        "https" => Ok(()),
        "http" if to_here && from_here => Ok(()),
        "http" => Err(refused("plain HTTP is for loopback")),
        _ => Err(refused("it is neither HTTPS nor HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_by_where_they_are() {
        let local = "http://127.0.0.1:5000";
        let lan = "http://registry.lan:5000";
        let remote = "https://registry.example.com";
        for (base, target, allowed) in [
            (remote, "https://registry.example.com/x", true),
            (remote, "https://registry.example.com:443/x", true),
            (remote, "https://cdn.example.net/x?signature=y", true),
            (remote, "http://registry.example.com/x", false),
            (remote, "http://cdn.example.net/x", false),
            (remote, "http://127.0.0.1/x", false),
            (remote, "https://127.0.0.1/x", false),
            (remote, "https://localhost:8443/x", false),
            (remote, "https://user:pw@cdn.example.net/x", false),
            (remote, "https://user@registry.example.com/x", false),
            (remote, "file:///etc/passwd", false),
            (remote, "ftp://cdn.example.net/x", false),
            (lan, "http://registry.lan:5000/x", true),
            (lan, "http://registry.lan:5001/x", false),
            (lan, "https://cdn.example.net/x", true),
            (lan, "http://127.0.0.1:5000/x", false),
            (local, "http://127.0.0.1:5000/x", true),
            (local, "http://127.0.0.1:5001/x", true),
            (local, "http://localhost:5001/x", true),
            (local, "http://[::1]:5001/x", true),
            (local, "http://registry.lan/x", false),
            (local, "https://cdn.example.net/x", true),
        ] {
            let [base, url] = [base, target].map(|url| Url::parse(url).unwrap());
            assert_eq!(
                check_target("host", &base, &url).is_ok(),
                allowed,
                "{base} to {target}"
            );
        }
    }
}
