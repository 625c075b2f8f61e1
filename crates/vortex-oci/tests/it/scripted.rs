//! A server that does as it is told, however bad.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use vortex_registry::{Digest, PluginManifest};

/// What the server does with a body after its first bytes.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// Ends it as announced.
    End,
    /// Breaks the connection.
    Break,
    /// Sends nothing more and keeps the connection.
    Hang,
    /// Sends a byte now and then, for ever.
    Trickle,
    /// Sends kilobytes for ever.
    Flood,
}

/// A body in the making.
pub(crate) struct Script {
    first: Option<Bytes>,
    then: Then,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.then {
            Then::End => Poll::Ready(None),
            Then::Break => {
                // Only after what was sent before has left.
                if self.sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(std::io::ErrorKind::BrokenPipe.into())))
            }
            Then::Hang => Poll::Pending,
            Then::Trickle => {
                if self.sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = Box::pin(tokio::time::sleep(Duration::from_millis(20)));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
            }
            Then::Flood => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 4096]))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.then) {
            (Some(first), Then::End) => SizeHint::with_exact(first.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

pub(crate) type Answer = Response<Script>;

/// An answer with a status, headers and a body.
pub(crate) fn answer(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    then: Then,
) -> Answer {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let script = Script {
        first: Some(body.into()),
        then,
        sleep: Box::pin(tokio::time::sleep(Duration::from_millis(50))),
    };
    builder.body(script).unwrap()
}

pub(crate) fn status(status: u16) -> Answer {
    answer(status, &[], "", Then::End)
}

/// A request that has come in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    /// Where the part begins that is asked for.
    pub(crate) fn range_start(&self) -> usize {
        self.header("range").map_or(0, |range| {
            let start = range.strip_prefix("bytes=").unwrap();
            start.strip_suffix('-').unwrap().parse().unwrap()
        })
    }
}

/// The server. It ends with the runtime of the test.
pub(crate) struct Server {
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one that answers with what the function makes of each request
    /// and of how many there were before it.
    pub(crate) async fn start(
        respond: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (respond, log) = (Arc::new(respond), Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body
                            .collect()
                            .await
                            .map(|b| b.to_bytes())
                            .unwrap_or_default();
                        let seen = Seen {
                            method: head.method.to_string(),
                            path: head.uri.to_string(),
                            headers: head.headers,
                            body: String::from_utf8_lossy(&body).into_owned(),
                        };
                        let before = {
                            let mut log = log.lock().unwrap();
                            log.push(seen.clone());
                            log.len() - 1
                        };
                        Ok::<_, Infallible>(respond(&seen, before))
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A connection that breaks is what some scripts are about.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { host, seen }
    }

    /// A server that gives out one plugin and does it right.
    pub(crate) async fn of(shelf: Shelf) -> Self {
        Self::start(move |seen, _| shelf.serve(seen)).await
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Every request for a blob so far.
    pub(crate) fn blobs(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(Seen::is_blob);
        seen
    }
}

/// The media type of the manifests that a shelf has.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// One plugin as a registry has it.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) manifest: String,
    pub(crate) wasm: Bytes,
}

impl Shelf {
    /// Laid out by hand, as the crate's documentation says.
    pub(crate) fn new(plugin: &PluginManifest, wasm: &[u8]) -> Self {
        let config = Digest::of(b"{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": format!("sha256:{config}"),
                "size": 2,
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": format!("sha256:{}", plugin.checksum),
                "size": wasm.len(),
                "annotations": { "org.opencontainers.image.title": "plugin.wasm" },
            }],
            "annotations": {
                "org.opencontainers.image.title": plugin.name,
                "org.opencontainers.image.version": plugin.version,
                "org.opencontainers.image.description": plugin.description,
                "io.github.vortex-gateway.plugin.hook-types":
                    serde_json::to_string(&plugin.hook_types).unwrap(),
                "io.github.vortex-gateway.plugin.signature": plugin.signature,
            },
        });
        Self {
            manifest: manifest.to_string(),
            wasm: Bytes::copy_from_slice(wasm),
        }
    }

    /// The same with another text in the manifest, which must be there.
    pub(crate) fn edited(&self, from: &str, to: &str) -> Self {
        let manifest = self.manifest.replace(from, to);
        assert_ne!(manifest, self.manifest, "{from} is not in the manifest");
        let wasm = self.wasm.clone();
        Self { manifest, wasm }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.manifest.as_bytes())
    }

    pub(crate) fn serve(&self, seen: &Seen) -> Answer {
        if !seen.is_blob() {
            return self.serve_manifest();
        }
        self.serve_blob(seen, usize::MAX, Then::End)
    }

    pub(crate) fn serve_manifest(&self) -> Answer {
        let headers = [("content-type", MANIFEST_TYPE)];
        answer(200, &headers, self.manifest.clone(), Then::End)
    }

    /// Up to `len` bytes of what is asked for, and then something else.
    pub(crate) fn serve_blob(&self, seen: &Seen, len: usize, then: Then) -> Answer {
        let start = seen.range_start();
        let rest = self.wasm.slice(start.min(self.wasm.len())..);
        let part = rest.slice(..len.min(rest.len()));
        if start == 0 {
            return answer(200, &[], part, then);
        }
        let last = self.wasm.len() - 1;
        let range = format!("bytes {start}-{last}/{}", self.wasm.len());
        answer(206, &[("content-range", &range)], part, then)
    }
}
