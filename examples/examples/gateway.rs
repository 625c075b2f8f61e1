//! A reverse proxy that asks plugins: hyper on both sides, all four hook types.
//!
//! It buffers bodies, to show them to the plugins; a gateway for large bodies
//! would show their first 64 KiB and stream the rest.

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use vortex_plugins::hook_core::HeaderChanges;
use vortex_plugins::registry::PublicKey;
use vortex_plugins::{
    ChainError, ChainOrder, HookChain, HookContext, HookInput, HookOutput, HookType, PluginHost,
    Policy, SandboxError,
};

/// The most bytes of a request's or response's body.
const MAX_BODY: usize = 8 << 20;

/// Headers that a plugin may not change: they say where a message ends and where
/// it goes, and changing them is how requests are smuggled (RFC 9112, section 11.2).
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

struct Gateway {
    chain: Arc<HookChain>,
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: Uri,
}

#[tokio::main]
async fn main() -> Result<()> {
    // The chain logs each hook that ran, and what it said.
    let levels = Targets::new()
        .with_default(Level::INFO)
        .with_target("vortex_hook_core", Level::DEBUG);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(lines)
        .with(levels)
        .init();
    let gateway = Arc::new(Gateway::from_args(std::env::args().skip(1))?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, remote) = listener.accept().await?;
        tokio::spawn(Arc::clone(&gateway).serve(stream, remote));
    }
}

impl Gateway {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (mut store, mut upstream) = (None, None);
        let (mut keys, mut plugins) = (Vec::new(), Vec::new());
        while let Some(option) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--store" => store = Some(value),
                "--upstream" => upstream = Some(value.parse()?),
                "--key" => keys.push(PublicKey::read_pem_file(value)?),
                "--plugin" => plugins.push(value.parse()?),
                _ => bail!("unknown option {option}: use --store, --key, --upstream, --plugin"),
            }
        }
        let host = PluginHost::open(store.context("--store is missing")?, Policy::strict(keys))?;
        Ok(Self {
            chain: host.chain(ChainOrder::Registration, plugins)?,
            client: Client::builder(TokioExecutor::new()).build_http(),
            upstream: upstream.context("--upstream is missing")?,
        })
    }

    /// One connection, from `on_connect` to `on_close`.
    async fn serve(self: Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let remote = remote.to_string();
        let input = HookInput::new(HookType::OnConnect).with_remote(&*remote);
        if self.ask(&input).await.is_ok_and(|output| output.allow) {
            let service = service_fn(|request| self.handle(request, &remote));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection of {remote}: {error}");
            }
        }
        let input = HookInput::new(HookType::OnClose).with_remote(&*remote);
        // Nothing is left to allow or deny.
        let _ = self.ask(&input).await;
    }

    /// Runs the chain and logs why it failed, if it did.
    async fn ask(&self, input: &HookInput<'_>) -> Result<HookOutput, ChainError> {
        let cx = HookContext::new().with_timeout(Duration::from_secs(5));
        let result = self.chain.execute(&cx, input).await;
        if let Err(error) = &result {
            tracing::error!(error = error as &dyn Error, path = input.path(), "denied");
        }
        result
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        remote: &str,
    ) -> Result<Response<Full<Bytes>>, hyper_util::client::legacy::Error> {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE));
        };
        let body = body.to_bytes();
        let mut request = Request::from_parts(parts, Full::new(body.clone()));
        let input = HookInput::from_request(HookType::PreRequest, &request)
            .with_body(&body)
            .with_remote(remote);
        let changes = match self.ask(&input).await {
            Ok(output) if output.allow => output.headers,
            denied => return Ok(deny(denied)),
        };
        change(&changes, request.headers_mut());
        strip(request.headers_mut());
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        match self.to_upstream(request.uri()) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return Ok(answer(StatusCode::BAD_REQUEST)),
        }

        let Ok(response) = self.client.request(request).await else {
            return Ok(answer(StatusCode::BAD_GATEWAY));
        };
        let (mut parts, body) = response.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return Ok(answer(StatusCode::BAD_GATEWAY));
        };
        let body = body.to_bytes();
        let input = HookInput::new(HookType::PostResponse)
            .with_method(&method)
            .with_path(path)
            .with_headers(&parts.headers)
            .with_body(&body)
            .with_remote(remote);
        match self.ask(&input).await {
            Ok(output) if output.allow => {
                change(&output.headers, &mut parts.headers);
                parts.status = output.status.unwrap_or(parts.status);
            }
            denied => return Ok(deny(denied)),
        }
        strip(&mut parts.headers);
        Ok(Response::from_parts(parts, Full::new(body)))
    }

    fn to_upstream(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let mut parts = self.upstream.clone().into_parts();
        parts.path_and_query = uri.path_and_query().cloned();
        Ok(Uri::from_parts(parts)?)
    }
}

/// Carries out what plugins want, but for what frames and routes messages.
fn change(changes: &HeaderChanges, headers: &mut HeaderMap) {
    let mut changed = headers.clone();
    changes.apply(&mut changed);
    for name in FRAMING {
        changed.remove(&name);
        for value in headers.get_all(&name) {
            changed.append(name.clone(), value.clone());
        }
    }
    *headers = changed;
}

/// Removes what concerns one connection alone (RFC 9110, section 7.6.1); hyper
/// writes its own.
fn strip(headers: &mut HeaderMap) {
    for name in FRAMING.iter().filter(|name| **name != header::HOST) {
        headers.remove(name);
    }
}

/// The answer to a request that plugins denied, or could not decide.
fn deny(denied: Result<HookOutput, ChainError>) -> Response<Full<Bytes>> {
    match denied {
        Ok(output) => {
            let mut response = answer(output.deny_status());
            change(&output.headers, response.headers_mut());
            response
        }
        Err(error) => {
            // Enough for a client to tell its own fault from the gateway's, no more.
            let cause = match &error {
                ChainError::Hook { source, .. } => source.downcast_ref(),
                _ => None,
            };
            let reason = match cause {
                Some(SandboxError::CpuBudget { .. }) => "cpu budget",
                Some(SandboxError::Saturated { .. }) => "saturated",
                _ => "plugin failed",
            };
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE);
            let reason = HeaderValue::from_static(reason);
            response.headers_mut().insert("x-denied-because", reason);
            response
        }
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!(
        "{}\n",
        status.canonical_reason().unwrap_or("denied")
    )));
    *response.status_mut() = status;
    response
}
