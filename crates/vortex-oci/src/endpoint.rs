//! Where a registry answers.

use reqwest::Url;

use crate::error::OciError;
use crate::reference::{is_loopback, is_loopback_url};

/// Docker Hub answers under another name than it goes by.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";

/// How to reach a host, and by what name credentials are kept for it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) base: Url,
}

impl Endpoint {
    /// Over plain HTTP to this machine or where `plain` says so, else over HTTPS.
    pub(crate) fn new(host: &str, plain: bool, tls: bool) -> Result<Self, OciError> {
        let scheme = match plain || (is_loopback(host) && !tls) {
            true => "http",
            false => "https",
        };
        let address = if host == DOCKER_HUB {
            DOCKER_HUB_ENDPOINT
        } else {
            host
        };
        let base = Url::parse(&format!("{scheme}://{address}/")).map_err(|error| {
            OciError::malformed(host, "the address of the host", error.to_string())
        })?;
        Ok(Self {
            host: host.to_owned(),
            base,
        })
    }

    /// Whether nobody on the way sees what is sent.
    pub(crate) fn is_confidential(&self) -> bool {
        self.base.scheme() == "https" || is_loopback_url(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_unless_asked_for() {
        for (host, plain, tls, url, confidential) in [
            (
                "registry.example.com",
                false,
                false,
                "https://registry.example.com/",
                true,
            ),
            (
                "registry.example.com:5000",
                true,
                false,
                "http://registry.example.com:5000/",
                false,
            ),
            ("10.0.0.1", false, false, "https://10.0.0.1/", true),
            (
                "127.0.0.1:5000",
                false,
                false,
                "http://127.0.0.1:5000/",
                true,
            ),
            (
                "127.0.0.1:5000",
                false,
                true,
                "https://127.0.0.1:5000/",
                true,
            ),
            ("[::1]:5000", false, false, "http://[::1]:5000/", true),
            ("localhost", false, false, "http://localhost/", true),
            (
                "docker.io",
                false,
                false,
                "https://registry-1.docker.io/",
                true,
            ),
        ] {
            let endpoint = Endpoint::new(host, plain, tls).unwrap();
            assert_eq!(endpoint.base.as_str(), url);
            assert_eq!(endpoint.is_confidential(), confidential, "{host}");
        }
    }
}
