//! Input frames, written: by the JSON ABI, and by the tests of a plugin.

use crate::bytes::copy;
use crate::input::{HAS_BODY, HAS_HEADERS, HEAD, RECORD};
use crate::{Error, Phase};

/// What an input frame says, to be written in the tests of a plugin as the host
/// writes it, byte for byte.
///
/// ```
/// use vortex_plugin_sdk::{Input, InputFrame, Phase};
///
/// let mut buffer = [0; 512];
/// let length = InputFrame {
///     phase: Phase::PostResponse,
///     status: 200,
///     body: Some(b"hello"),
///     body_len: 5,
///     ..InputFrame::default()
/// }
/// .write(&mut buffer)?;
/// let input = Input::parse(&buffer[..length])?;
/// assert_eq!((input.status(), input.body()), (200, Some(&b"hello"[..])));
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct InputFrame<'a> {
    /// When the hook is asked.
    pub phase: Phase,
    /// The status of the response; 0 where there is none.
    pub status: u16,
    /// The method.
    pub method: &'a str,
    /// The path, percent-decoded.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: &'a str,
    /// The scheme.
    pub scheme: &'a str,
    /// The authority.
    pub authority: &'a str,
    /// The address of the client.
    pub remote: &'a str,
    /// The name of the gateway's route.
    pub route: &'a str,
    /// Names in lower case and values, the values of a name one after the other.
    pub headers: Option<&'a [(&'a str, &'a [u8])]>,
    /// The body's first 65,536 bytes at most.
    pub body: Option<&'a [u8]>,
    /// The length of the whole body in bytes.
    pub body_len: u64,
    /// What the operator configured the plugin with.
    pub config: &'a [u8],
    /// What the plugin left in an earlier phase.
    pub context: &'a [u8],
}

impl InputFrame<'_> {
    /// Writes the frame to the beginning of `buffer` and returns its length in
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when it exceeds the buffer.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.write_all(buffer).ok_or(Error::Full)
    }

    fn write_all(&self, buffer: &mut [u8]) -> Option<usize> {
        let headers = self.headers.unwrap_or_default();
        let mut writer = Writer::new(buffer, headers.len())?;
        for (at, (name, value)) in headers.iter().enumerate() {
            let at = HEAD + at * RECORD;
            writer.field(at, name.as_bytes())?;
            writer.field(at + 8, value)?;
        }
        let texts = [
            self.method,
            self.path,
            self.query,
            self.scheme,
            self.authority,
            self.remote,
            self.route,
        ];
        for (at, text) in texts.into_iter().enumerate() {
            writer.field(24 + at * 8, text.as_bytes())?;
        }
        writer.field(80, self.body.unwrap_or_default())?;
        writer.field(88, self.config)?;
        writer.field(96, self.context)?;
        writer.finish(&Head {
            phase: self.phase,
            has_headers: self.headers.is_some(),
            has_body: self.body.is_some(),
            status: self.status,
            headers: headers.len(),
            body_len: self.body_len,
        })
    }
}

/// The numbers of an input frame.
pub(crate) struct Head {
    pub(crate) phase: Phase,
    pub(crate) has_headers: bool,
    pub(crate) has_body: bool,
    pub(crate) status: u16,
    pub(crate) headers: usize,
    pub(crate) body_len: u64,
}

/// An input frame of which the records stand at the front and the bytes that
/// they name follow. Everything is `None` once the buffer is full.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    end: usize,
}

impl<'b> Writer<'b> {
    /// A frame with room for the records of so many headers, all zero.
    pub(crate) fn new(buffer: &'b mut [u8], headers: usize) -> Option<Self> {
        let end = headers.checked_mul(RECORD)?.checked_add(HEAD)?;
        buffer.get_mut(..end)?.fill(0);
        Some(Self { buffer, end })
    }

    /// Where the next bytes go.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    #[inline(never)]
    pub(crate) fn push(&mut self, byte: u8) -> Option<()> {
        *self.buffer.get_mut(self.end)? = byte;
        self.end += 1;
        Some(())
    }

    #[inline(never)]
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        copy(self.buffer.get_mut(self.end..)?, bytes)?;
        self.end += bytes.len();
        Some(())
    }

    /// Writes the span at `at` of what was written since `start`.
    #[inline(never)]
    pub(crate) fn close(&mut self, at: usize, start: usize) -> Option<()> {
        if start == self.end {
            return Some(());
        }
        let length = u32::try_from(self.end - start).ok()?;
        self.put(at, &u32::try_from(start).ok()?.to_le_bytes())?;
        self.put(at + 4, &length.to_le_bytes())
    }

    fn field(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        let start = self.end;
        self.extend(bytes)?;
        self.close(at, start)
    }

    #[inline(never)]
    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        copy(self.buffer.get_mut(at..)?, bytes)
    }

    /// The bytes written since `start`.
    pub(crate) fn since(&mut self, start: usize) -> Option<&mut [u8]> {
        self.buffer.get_mut(start..self.end)
    }

    /// Writes the numbers and returns the frame's length.
    pub(crate) fn finish(mut self, head: &Head) -> Option<usize> {
        let headers = HAS_HEADERS * u8::from(head.has_headers);
        let flags = headers | (HAS_BODY * u8::from(head.has_body));
        self.put(0, &u32::try_from(self.end).ok()?.to_le_bytes())?;
        self.put(4, &[2, 0, head.phase as u8, flags])?;
        self.put(8, &head.status.to_le_bytes())?;
        self.put(12, &u32::try_from(head.headers).ok()?.to_le_bytes())?;
        self.put(16, &head.body_len.to_le_bytes())?;
        Some(self.end)
    }
}
