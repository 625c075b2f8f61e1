//! Input frames, read where they lie.

use crate::Error;
use crate::bytes::same_ignoring_case;

/// The size of the fixed part of an input frame, in bytes.
pub(crate) const HEAD: usize = 104;

/// The size of a header's record, in bytes.
pub(crate) const RECORD: usize = 16;

/// The flag that says that there are headers.
pub(crate) const HAS_HEADERS: u8 = 1;

/// The flag that says that there is a body.
pub(crate) const HAS_BODY: u8 = 2;

/// When a hook is asked.
///
/// ```
/// use vortex_plugin_sdk::Phase;
///
/// assert_eq!(Phase::from_name(b"post_response"), Some(Phase::PostResponse));
/// assert_eq!(Phase::OnClose.name(), "on_close");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Before the request is passed on.
    #[default]
    PreRequest = 0,
    /// When the response is there.
    PostResponse = 1,
    /// When a client has connected.
    OnConnect = 2,
    /// When a connection has ended.
    OnClose = 3,
}

impl Phase {
    const ALL: [Self; 4] = [
        Self::PreRequest,
        Self::PostResponse,
        Self::OnConnect,
        Self::OnClose,
    ];

    /// The name that operators and the JSON ABI know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreRequest => "pre_request",
            Self::PostResponse => "post_response",
            Self::OnConnect => "on_connect",
            Self::OnClose => "on_close",
        }
    }

    /// The phase of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let named = |phase: &Self| phase.name().as_bytes() == name;
        Self::ALL.into_iter().find(named)
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A field of text. Each has a method of [`Input`] too, which gives it as a
/// `str`; [`Input::raw`] gives the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Field {
    /// The method of the request.
    Method = 24,
    /// The path, percent-decoded.
    Path = 32,
    /// The query as in the request, without the question mark.
    Query = 40,
    /// The scheme.
    Scheme = 48,
    /// The authority.
    Authority = 56,
    /// The address of the client.
    Remote = 64,
    /// The name of the gateway's route.
    Route = 72,
}

/// What a hook is asked: an input frame that is read where it lies.
///
/// Reading a field costs a few loads; nothing is copied or parsed. Whatever is
/// unknown or does not apply is empty, and so is a span that reaches outside
/// the frame, which no host writes.
///
/// ```
/// use vortex_plugin_sdk::{Input, InputFrame, Phase};
///
/// let mut buffer = [0; 1024];
/// let length = InputFrame {
///     method: "GET",
///     path: "/orders",
///     headers: Some(&[("accept", b"text/html"), ("x-api-key", b"k-1")]),
///     ..InputFrame::default()
/// }
/// .write(&mut buffer)?;
///
/// let input = Input::parse(&buffer[..length])?;
/// assert_eq!(input.phase(), Phase::PreRequest);
/// assert_eq!((input.method(), input.path()), ("GET", "/orders"));
/// assert_eq!(input.header("X-Api-Key"), Some(&b"k-1"[..]));
/// assert_eq!(input.body(), None);
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    frame: &'a [u8],
    head: &'a [u8; HEAD],
    records: &'a [[u8; RECORD]],
    phase: Phase,
}

impl<'a> Input<'a> {
    /// Reads a frame: the whole of it, no byte more.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when length, version or phase are not what
    /// `docs/abi-frame.md` says, or the headers exceed the frame.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, Error> {
        Self::read(frame).ok_or(Error::Malformed)
    }

    #[inline]
    fn read(frame: &'a [u8]) -> Option<Self> {
        let (head, rest) = frame.split_first_chunk::<HEAD>()?;
        let version = u16::from_le_bytes([head[4], head[5]]);
        if word(head, 0) as usize != frame.len() || version != 2 {
            return None;
        }
        Some(Self {
            frame,
            head,
            records: rest.as_chunks().0.get(..word(head, 12) as usize)?,
            phase: Phase::from_number(head[6])?,
        })
    }

    /// When the hook is asked.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The status of the response; 0 where there is none.
    #[inline]
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::from_le_bytes([self.head[8], self.head[9]])
    }

    /// The method as in the request, `GET`.
    #[inline]
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.text(Field::Method)
    }

    /// The path, percent-decoded.
    #[inline]
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.text(Field::Path)
    }

    /// The query as in the request, without the question mark.
    ///
    /// Empty when it is not UTF-8, as every text is: a plugin that refuses by
    /// query asks [`raw`](Self::raw).
    #[inline]
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.text(Field::Query)
    }

    /// The scheme, `https`.
    #[inline]
    #[must_use]
    pub fn scheme(&self) -> &'a str {
        self.text(Field::Scheme)
    }

    /// The authority, of the request target or of the `host` header.
    #[inline]
    #[must_use]
    pub fn authority(&self) -> &'a str {
        self.text(Field::Authority)
    }

    /// The address of the client, `ip:port` or `[ip]:port`.
    #[inline]
    #[must_use]
    pub fn remote(&self) -> &'a str {
        self.text(Field::Remote)
    }

    /// The name of the gateway's route.
    #[inline]
    #[must_use]
    pub fn route(&self) -> &'a str {
        self.text(Field::Route)
    }

    /// The bytes of a text, UTF-8 or not.
    ///
    /// ```
    /// # use vortex_plugin_sdk::{Field, Input, InputFrame};
    /// # let mut buffer = [0; 256];
    /// # let frame = InputFrame { query: "page=2", ..InputFrame::default() };
    /// # let length = frame.write(&mut buffer)?;
    /// # let input = Input::parse(&buffer[..length])?;
    /// assert_eq!(input.raw(Field::Query), b"page=2");
    /// # Ok::<(), vortex_plugin_sdk::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn raw(&self, field: Field) -> &'a [u8] {
        self.span(field as usize)
    }

    /// Whether there are headers: a connection has none, a request without any
    /// has an empty list.
    #[inline]
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.head[7] & HAS_HEADERS != 0
    }

    /// Every header with its name in lower case, a header with several values
    /// once for each.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            frame: self.frame,
            records: self.records.iter(),
        }
    }

    /// The first value of a header, whatever the case of its name.
    #[inline]
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.header_values(name).next()
    }

    /// Every value of a header, whatever the case of its name.
    ///
    /// ```
    /// # use vortex_plugin_sdk::{Input, InputFrame};
    /// # let mut buffer = [0; 256];
    /// # let headers = [("via", &b"a"[..]), ("via", b"b")];
    /// # let frame = InputFrame { headers: Some(&headers), ..InputFrame::default() };
    /// # let length = frame.write(&mut buffer)?;
    /// # let input = Input::parse(&buffer[..length])?;
    /// assert!(input.header_values("via").eq([b"a", b"b"]));
    /// # Ok::<(), vortex_plugin_sdk::Error>(())
    /// ```
    #[inline]
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.values_of(name.as_bytes())
    }

    #[inline]
    pub(crate) fn values_of<'n>(
        &self,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let Self { frame, records, .. } = *self;
        records.iter().filter_map(move |record| {
            // Most names are told apart by their length, which lies in the record.
            let found = word(record, 4) as usize == name.len()
                && same_ignoring_case(span(frame, record, 0), name);
            found.then(|| span(frame, record, 8))
        })
    }

    /// The body's first 65,536 bytes at most, if the host has a body to show.
    #[inline]
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        (self.head[7] & HAS_BODY != 0).then(|| self.span(80))
    }

    /// The length of the whole body in bytes, as far as the host knows it.
    #[inline]
    #[must_use]
    pub fn body_len(&self) -> u64 {
        u64::from(word(self.head, 16)) | u64::from(word(self.head, 20)) << 32
    }

    /// What the operator configured this plugin with.
    #[inline]
    #[must_use]
    pub fn config(&self) -> &'a [u8] {
        self.span(88)
    }

    /// What this plugin left in an earlier phase of this request.
    #[inline]
    #[must_use]
    pub fn context(&self) -> &'a [u8] {
        self.span(96)
    }

    #[inline]
    fn text(&self, field: Field) -> &'a str {
        core::str::from_utf8(self.raw(field)).unwrap_or_default()
    }

    #[inline]
    fn span(&self, at: usize) -> &'a [u8] {
        span(self.frame, self.head, at)
    }
}

/// The headers of an [`Input`] in their order, each as its name in lower case
/// and its value.
///
/// ```
/// # use vortex_plugin_sdk::{Input, InputFrame};
/// # let mut buffer = [0; 256];
/// # let headers = [("accept", &b"*/*"[..]), ("host", b"example.com")];
/// # let frame = InputFrame { headers: Some(&headers), ..InputFrame::default() };
/// # let length = frame.write(&mut buffer)?;
/// # let input = Input::parse(&buffer[..length])?;
/// let longest = input.headers().max_by_key(|(_, value)| value.len());
/// assert_eq!(longest, Some(("host", &b"example.com"[..])));
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    frame: &'a [u8],
    records: core::slice::Iter<'a, [u8; RECORD]>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        let name = core::str::from_utf8(span(self.frame, record, 0)).unwrap_or_default();
        Some((name, span(self.frame, record, 8)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The integer at `at`, which lies inside: 0 where it does not.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

/// The span at `at` of a record; empty where it reaches outside the frame.
#[inline]
pub(crate) fn span<'a>(frame: &'a [u8], record: &[u8], at: usize) -> &'a [u8] {
    let (start, length) = (word(record, at) as usize, word(record, at + 4) as usize);
    let rest = frame.get(start..).unwrap_or_default();
    rest.get(..length).unwrap_or_default()
}
