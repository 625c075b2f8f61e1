//! What a hook is asked about.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::{HeaderMap, Method, Request};
use percent_encoding::percent_decode_str;

use crate::{HookType, wire};

/// One request, response or connection, as a hook sees it.
///
/// It borrows what it can: a gateway makes one from the parts it has, without
/// copying headers or body. The JSON that sandboxed plugins read is written
/// once per input, however many plugins read it.
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
    pub(crate) headers: Option<Cow<'a, HeaderMap>>,
    pub(crate) body: Option<Cow<'a, [u8]>>,
    pub(crate) remote: Cow<'a, str>,
    pub(crate) route: Cow<'a, str>,
    json: OnceLock<Vec<u8>>,
}

impl<'a> HookInput<'a> {
    /// The most bytes of a body that a hook sees; the rest is cut off.
    pub const MAX_BODY: usize = 64 * 1024;

    /// An input of one type with nothing in it yet.
    #[must_use]
    pub fn new(hook_type: HookType) -> Self {
        Self {
            hook_type: Some(hook_type),
            ..Self::default()
        }
    }

    /// Method, path and headers of a request, borrowed.
    ///
    /// The path is percent-decoded, as Go's `URL.Path` is, so that a plugin
    /// that guards `/admin` is not passed by `/%61dmin`; the query is not in it.
    #[must_use]
    pub fn from_request<B>(hook_type: HookType, request: &'a Request<B>) -> Self {
        let path = percent_decode_str(request.uri().path());
        let path = match path.clone().decode_utf8() {
            Ok(path) => path,
            Err(_) => Cow::Owned(wire::lossy(&Cow::from(path)).into_owned()),
        };
        Self::new(hook_type)
            .with_method(request.method())
            .with_path(path)
            .with_headers(request.headers())
    }

    /// Sets the method.
    #[must_use]
    pub fn with_method(mut self, method: &'a Method) -> Self {
        self.method = Some(Cow::Borrowed(method));
        self.changed()
    }

    /// Sets the path, percent-decoded and without the query.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<Cow<'a, str>>) -> Self {
        self.path = path.into();
        self.changed()
    }

    /// Sets the headers: those of the request, or of the response in `post_response`.
    #[must_use]
    pub fn with_headers(mut self, headers: &'a HeaderMap) -> Self {
        self.headers = Some(Cow::Borrowed(headers));
        self.changed()
    }

    /// Sets the body, cut to the first [`HookInput::MAX_BODY`] bytes.
    #[must_use]
    pub fn with_body(mut self, body: &'a [u8]) -> Self {
        self.body = Some(Cow::Borrowed(&body[..body.len().min(Self::MAX_BODY)]));
        self.changed()
    }

    /// Sets the client's address, `ip:port` or `[ip]:port`; format it once per connection.
    #[must_use]
    pub fn with_remote(mut self, remote: impl Into<Cow<'a, str>>) -> Self {
        self.remote = remote.into();
        self.changed()
    }

    /// Sets the name of the gateway's route.
    #[must_use]
    pub fn with_route(mut self, route: impl Into<Cow<'a, str>>) -> Self {
        self.route = route.into();
        self.changed()
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

    /// A changed input forgets the JSON of what it was.
    fn changed(mut self) -> Self {
        self.json = OnceLock::new();
        self
    }
}
