//! What a hook is asked about.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use crate::{HookType, wire};

/// One request, response or connection, as a hook sees it.
///
/// It borrows what it can: a gateway makes one from the parts it has, without
/// copying headers or body. What sandboxed plugins read, JSON or frame, is
/// written once per input, however many plugins read it.
///
/// ```
/// use vortex_hook_core::{HookInput, HookType};
///
/// let request = http::Request::get("/a%20b?q=1").header("x-api-key", "k").body(())?;
/// let input = HookInput::from_request(HookType::PreRequest, &request)
///     .with_remote("203.0.113.7:51514")
///     .with_route("api");
/// assert_eq!(input.path(), "/a b");
/// assert!(input.to_json().starts_with(br#"{"type":"pre_request","method":"GET""#));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HookInput<'a> {
    pub(crate) hook_type: Option<HookType>,
    pub(crate) method: Option<Cow<'a, Method>>,
    pub(crate) path: Cow<'a, str>,
    /// What says query, scheme and authority where they were not set: most hooks ask
    /// for none of them.
    uri: Option<&'a Uri>,
    query: Option<Cow<'a, str>>,
    scheme: Option<Cow<'a, str>>,
    authority: Option<Cow<'a, str>>,
    status: Option<StatusCode>,
    pub(crate) headers: Option<Cow<'a, HeaderMap>>,
    pub(crate) body: Option<Cow<'a, [u8]>>,
    body_len: u64,
    pub(crate) remote: Cow<'a, str>,
    pub(crate) route: Cow<'a, str>,
    json: OnceLock<wire::Buffer>,
    frame: OnceLock<wire::FrameHead>,
}

impl<'a> HookInput<'a> {
    /// The most bytes of a body that a hook sees; the rest is cut off.
    pub const MAX_BODY: usize = 64 * 1024;

    /// An input of one type with nothing in it yet.
    #[must_use]
    #[inline]
    pub fn new(hook_type: HookType) -> Self {
        Self {
            hook_type: Some(hook_type),
            ..Self::default()
        }
    }

    /// Method, target and headers of a request, borrowed.
    ///
    /// The path is percent-decoded, as Go's `URL.Path` is, so that a plugin
    /// that guards `/admin` is not passed by `/%61dmin`. JSON has neither query,
    /// scheme nor authority.
    #[must_use]
    #[inline]
    pub fn from_request<B>(hook_type: HookType, request: &'a Request<B>) -> Self {
        let uri = request.uri();
        Self {
            hook_type: Some(hook_type),
            method: Some(Cow::Borrowed(request.method())),
            path: decoded(uri.path()),
            uri: Some(uri),
            headers: Some(Cow::Borrowed(request.headers())),
            ..Self::default()
        }
    }

    /// Sets the method.
    #[must_use]
    #[inline]
    pub fn with_method(self, method: &'a Method) -> Self {
        Self {
            method: Some(Cow::Borrowed(method)),
            ..self.changed()
        }
    }

    /// Sets the path, percent-decoded and without the query.
    #[must_use]
    #[inline]
    pub fn with_path(self, path: impl Into<Cow<'a, str>>) -> Self {
        Self {
            path: path.into(),
            ..self.changed()
        }
    }

    /// Sets the query, as in the request and without the question mark.
    #[must_use]
    #[inline]
    pub fn with_query(self, query: impl Into<Cow<'a, str>>) -> Self {
        Self {
            query: Some(query.into()),
            ..self.changed()
        }
    }

    /// Sets the scheme, such as `https`.
    #[must_use]
    #[inline]
    pub fn with_scheme(self, scheme: impl Into<Cow<'a, str>>) -> Self {
        Self {
            scheme: Some(scheme.into()),
            ..self.changed()
        }
    }

    /// Sets the authority of the request target; where it is empty, plugins see
    /// the `host` header's.
    #[must_use]
    #[inline]
    pub fn with_authority(self, authority: impl Into<Cow<'a, str>>) -> Self {
        Self {
            authority: Some(authority.into()),
            ..self.changed()
        }
    }

    /// Sets the status of the response, for `post_response`.
    #[must_use]
    #[inline]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self {
            status: Some(status),
            ..self.changed()
        }
    }

    /// Sets the headers: those of the request, or of the response in `post_response`.
    #[must_use]
    #[inline]
    pub fn with_headers(self, headers: &'a HeaderMap) -> Self {
        Self {
            headers: Some(Cow::Borrowed(headers)),
            ..self.changed()
        }
    }

    /// Sets the body, cut to the first [`HookInput::MAX_BODY`] bytes; its length is kept.
    #[must_use]
    #[inline]
    pub fn with_body(self, body: &'a [u8]) -> Self {
        Self {
            body: Some(Cow::Borrowed(&body[..body.len().min(Self::MAX_BODY)])),
            body_len: body.len() as u64,
            ..self.changed()
        }
    }

    /// Sets the length in bytes of the whole body, for a gateway that knows it and
    /// has not the whole body at hand; set it after the body.
    #[must_use]
    #[inline]
    pub fn with_body_len(self, len: u64) -> Self {
        Self {
            body_len: len.max(self.body().map_or(0, <[u8]>::len) as u64),
            ..self.changed()
        }
    }

    pub(crate) fn with_owned_body(mut self, mut body: Vec<u8>) -> Self {
        self.body_len = body.len() as u64;
        body.truncate(Self::MAX_BODY);
        self.body = Some(Cow::Owned(body));
        self.changed()
    }

    /// Sets the client's address, `ip:port` or `[ip]:port`; format it once per connection.
    #[must_use]
    #[inline]
    pub fn with_remote(self, remote: impl Into<Cow<'a, str>>) -> Self {
        Self {
            remote: remote.into(),
            ..self.changed()
        }
    }

    /// Sets the name of the gateway's route.
    #[must_use]
    #[inline]
    pub fn with_route(self, route: impl Into<Cow<'a, str>>) -> Self {
        Self {
            route: route.into(),
            ..self.changed()
        }
    }

    /// The input with everything that it borrows copied.
    #[must_use]
    pub fn into_owned(self) -> HookInput<'static> {
        let owned = |text: &str| Some(Cow::Owned(text.to_owned()));
        HookInput {
            uri: None,
            query: owned(self.query()),
            scheme: owned(self.scheme()),
            authority: owned(self.authority()),
            hook_type: self.hook_type,
            method: self.method.map(|m| Cow::Owned(m.into_owned())),
            path: Cow::Owned(self.path.into_owned()),
            status: self.status,
            headers: self.headers.map(|h| Cow::Owned(h.into_owned())),
            body: self.body.map(|b| Cow::Owned(b.into_owned())),
            body_len: self.body_len,
            remote: Cow::Owned(self.remote.into_owned()),
            route: Cow::Owned(self.route.into_owned()),
            json: self.json,
            frame: self.frame,
        }
    }

    /// The hook type; `None` only for the default value and for JSON with an empty type.
    #[must_use]
    pub fn hook_type(&self) -> Option<HookType> {
        self.hook_type
    }

    /// The method, where there is a request.
    #[must_use]
    pub fn method(&self) -> Option<&Method> {
        self.method.as_deref()
    }

    /// The path, empty where there is no request.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query, empty where there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        match &self.query {
            Some(query) => query,
            None => self.uri.and_then(Uri::query).unwrap_or_default(),
        }
    }

    /// The scheme, empty where unknown.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match &self.scheme {
            Some(scheme) => scheme,
            None => self.uri.and_then(Uri::scheme_str).unwrap_or_default(),
        }
    }

    /// The authority of the request target, empty where it has none.
    #[must_use]
    pub fn authority(&self) -> &str {
        match &self.authority {
            Some(authority) => authority,
            None => self
                .uri
                .and_then(Uri::authority)
                .map_or("", Authority::as_str),
        }
    }

    /// The status of the response, in `post_response`.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// The headers, where there are any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_deref()
    }

    /// The first [`HookInput::MAX_BODY`] bytes of the body, where there is one.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// The length in bytes of the whole body, as far as it is known.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.body_len
    }

    /// The client's address, empty where unknown.
    #[must_use]
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// The name of the gateway's route, empty where there is none.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The input in JSON as the Go system writes it: header names in canonical
    /// MIME case, the body in base64, bytes that are no UTF-8 as U+FFFD.
    ///
    /// Written at the first call and kept.
    pub fn to_json(&self) -> &[u8] {
        self.json.get_or_init(|| wire::encode_input(self))
    }

    /// What every frame of this input begins with; written at the first call and kept.
    pub(crate) fn frame_head(&self) -> &[u8] {
        self.frame.get_or_init(|| wire::encode_frame_head(self))
    }

    /// A changed input forgets what was encoded of what it was.
    #[inline(always)]
    fn changed(self) -> Self {
        Self {
            json: OnceLock::new(),
            frame: OnceLock::new(),
            ..self
        }
    }
}

/// A path without its percent-encoding.
fn decoded(path: &str) -> Cow<'_, str> {
    if !wire::contains(path.as_bytes(), b'%') {
        return Cow::Borrowed(path);
    }
    let path = percent_decode_str(path);
    match path.clone().decode_utf8() {
        Ok(path) => path,
        Err(_) => Cow::Owned(wire::lossy(&Cow::from(path)).into_owned()),
    }
}
