//! A conversation with one host about one repository.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::challenge::Challenge;
use crate::credentials::{Credential, DockerConfig};
use crate::endpoint::Endpoint;
use crate::error::{OciError, printable};
use crate::http::{Http, MAX_REDIRECTS, check_target, same_origin};

/// The largest answer of a token service read, in bytes.
const MAX_TOKEN_LEN: u64 = 64 * 1024;

/// How much is read of what a server says about an error, in bytes.
const MAX_ERROR_LEN: u64 = 4096;

/// How often one conversation fetches a new token, since tokens expire.
const MAX_LOGINS: usize = 4;

/// What a conversation needs the right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

impl Access {
    const fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// One request, which may have to be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) http: &'a Http,
    pub(crate) endpoint: Endpoint,
    pub(crate) repository: &'a str,
    access: Access,
    credentials: &'a DockerConfig,
    authorization: Option<HeaderValue>,
    logins: usize,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Zeroizing<String>,
    #[serde(default)]
    access_token: Zeroizing<String>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        http: &'a Http,
        endpoint: Endpoint,
        repository: &'a str,
        access: Access,
        credentials: &'a DockerConfig,
    ) -> Self {
        Self {
            http,
            endpoint,
            repository,
            access,
            credentials,
            authorization: None,
            logins: 0,
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// A request for a path in the repository, such as `manifests/1.2.3`.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<Request, OciError> {
        let path = format!("v2/{}/{path}", self.repository);
        let url = self.endpoint.base.join(&path).map_err(|error| {
            OciError::malformed(self.host(), "the URL of a request", error.to_string())
        })?;
        Ok(Request {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
    }

    /// Sends a request, logs in when asked to, and follows redirects of `GET`s.
    ///
    /// The answer may have any status but 401 and those that redirect a `GET`.
    pub(crate) async fn send(&mut self, mut request: Request) -> Result<Response, OciError> {
        let mut redirects = 0;
        let mut logged_in = false;
        loop {
            check_target(self.host(), &self.endpoint.base, &request.url)?;
            let is_home = same_origin(&self.endpoint.base, &request.url);
            let response = self.send_once(&request, is_home).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                // Who asks elsewhere for credentials than at home gets none.
                if !is_home || logged_in {
                    return Err(self.unauthorized(match is_home {
                        true => "the credentials in the Docker config are not accepted",
                        false => "the host that it redirects to asks for credentials",
                    }));
                }
                self.log_in(&response).await?;
                logged_in = true;
                continue;
            }
            let is_get = matches!(request.method, Method::GET | Method::HEAD);
            if is_get && response.status().is_redirection() {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(OciError::Redirect {
                        host: self.host().to_owned(),
                        location: request.url.origin().ascii_serialization(),
                        reason: "there are too many redirects in a row",
                    });
                }
                request.url = self.location(&request.url, &response)?;
                continue;
            }
            return Ok(response);
        }
    }

    /// Where an answer sends its reader.
    pub(crate) fn location(&self, from: &Url, response: &Response) -> Result<Url, OciError> {
        let location = response.headers().get(LOCATION);
        location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| from.join(location).ok())
            .ok_or_else(|| {
                OciError::malformed(self.host(), "an answer", "it has no usable Location")
            })
    }

    async fn send_once(&self, request: &Request, is_home: bool) -> Result<Response, OciError> {
        let client = self.http.client(&request.url).await?;
        let mut sent = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if is_home && let Some(authorization) = &self.authorization {
            sent = sent.header(AUTHORIZATION, authorization.clone());
        }
        let uploads = !request.body.is_empty();
        if uploads || request.method == Method::POST {
            sent = sent.body(request.body.clone());
        }
        if uploads {
            // The server is silent while it receives; the deadline bounds that.
            let host = self.host();
            return sent
                .send()
                .await
                .map_err(|error| crate::http::transport(host, error));
        }
        self.http.within_stall(self.host(), sent.send()).await
    }

    /// The error for an answer that is no success.
    pub(crate) async fn failure(&self, action: &'static str, response: Response) -> OciError {
        let status = response.status().as_u16();
        let read = self
            .http
            .read(self.host(), "an error message", MAX_ERROR_LEN, response);
        let body = read.await.unwrap_or_default();
        OciError::Status {
            host: self.host().to_owned(),
            action,
            status,
            message: printable(&String::from_utf8_lossy(&body)),
        }
    }

    fn unauthorized(&self, reason: &'static str) -> OciError {
        OciError::Unauthorized {
            host: self.host().to_owned(),
            reason,
        }
    }

    /// Does what the endpoint asks for to be let in.
    async fn log_in(&mut self, response: &Response) -> Result<(), OciError> {
        self.logins += 1;
        if self.logins > MAX_LOGINS {
            return Err(self.unauthorized("it asks for credentials again and again"));
        }
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .take(8)
            .filter_map(|header| header.to_str().ok())
            .flat_map(Challenge::read)
            .collect();
        let credential = self.credentials.lookup(self.host()).await?;
        if credential.is_some() && !self.endpoint.is_confidential() {
            return Err(OciError::InsecureCredentials {
                host: self.host().to_owned(),
            });
        }
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        if let Some((realm, service)) = bearer {
            let token = self.fetch_token(realm, service.as_deref(), credential);
            self.authorization = Some(token.await?);
            return Ok(());
        }
        if !challenges.contains(&Challenge::Basic) {
            return Err(self.unauthorized("it offers neither Basic nor Bearer authentication"));
        }
        match credential {
            Some(Credential::Password { user, password }) => {
                self.authorization = Some(self.basic(&user, &password)?);
                Ok(())
            }
            Some(Credential::IdentityToken(_)) => {
                Err(self.unauthorized("the Docker config has a token and it wants a password"))
            }
            None => Err(self.unauthorized("the Docker config has no credentials for it")),
        }
    }

    /// Fetches a token for this repository and access alone, whatever else the
    /// registry suggests. The realm is the registry's own choice, made over a
    /// connection that could ask for the password itself.
    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        credential: Option<Credential>,
    ) -> Result<HeaderValue, OciError> {
        let url = Url::parse(realm)
            .map_err(|_| OciError::malformed(self.host(), "the realm", "it is no URL"))?;
        check_target(self.host(), &self.endpoint.base, &url)?;
        let scope = format!("repository:{}:{}", self.repository, self.access.actions());
        let parameters: Vec<_> = [("service", service), ("scope", Some(scope.as_str()))]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let client = self.http.client(&url).await?;
        let request = match credential {
            Some(Credential::IdentityToken(token)) => {
                let mut form = Url::parse("form:").map_err(|_| self.unauthorized("no form"))?;
                form.query_pairs_mut()
                    .extend_pairs(&parameters)
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "vortex")
                    .append_pair("refresh_token", &token);
                client
                    .post(url)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            other => {
                let mut url = url;
                url.query_pairs_mut().extend_pairs(&parameters);
                let request = client.get(url);
                match other {
                    Some(Credential::Password { user, password }) => {
                        request.header(AUTHORIZATION, self.basic(&user, &password)?)
                    }
                    _ => request,
                }
            }
        };
        let response = self.http.within_stall(self.host(), request.send()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.unauthorized("its token service refuses the Docker config's word"));
            }
            _ => return Err(self.failure("a request for a token", response).await),
        }
        let body = self
            .http
            .read(self.host(), "a token", MAX_TOKEN_LEN, response)
            .await?;
        let body = Zeroizing::new(body);
        let malformed = |reason| OciError::malformed(self.host(), "a token", reason);
        // The parser's own words may quote the token.
        let token: Token =
            serde_json::from_slice(&body).map_err(|_| malformed("it is not the JSON expected"))?;
        let token = match token.token.is_empty() {
            true => token.access_token,
            false => token.token,
        };
        if token.is_empty() {
            return Err(malformed("there is none in the answer"));
        }
        sensitive(&format!("Bearer {}", *token))
            .ok_or_else(|| malformed("it has characters that no header may have"))
    }

    fn basic(&self, user: &str, password: &str) -> Result<HeaderValue, OciError> {
        let pair = Zeroizing::new(format!("{user}:{password}"));
        sensitive(&format!("Basic {}", STANDARD.encode(pair.as_bytes())))
            .ok_or_else(|| self.unauthorized("the credentials are no header"))
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_credentials_go_over_plain_http_to_another_machine() {
        let http = Http::new(Vec::new(), Duration::from_secs(1), Duration::from_secs(1)).unwrap();
        let config: DockerConfig = serde_json::from_str(
            r#"{"auths": {"registry.lan": {"username": "user", "password": "secret"}}}"#,
        )
        .unwrap();
        for challenge in [
            "Basic realm=\"x\"",
            "Bearer realm=\"http://192.0.2.1/token\"",
        ] {
            for plain in [true, false] {
                let endpoint = Endpoint::new("registry.lan", plain, false).unwrap();
                let mut session = Session::new(&http, endpoint, "redirect", Access::Pull, &config);
                let asked = hyper::Response::builder()
                    .status(401)
                    .header(WWW_AUTHENTICATE, challenge)
                    .body("")
                    .unwrap();
                let done = session.log_in(&asked.into()).await;
                let refused = matches!(done, Err(OciError::InsecureCredentials { .. }));
                assert_eq!(refused, plain, "{challenge}: {done:?}");
                assert_eq!(
                    session.authorization.is_some(),
                    !plain && challenge.starts_with("Basic")
                );
            }
        }
    }
}
