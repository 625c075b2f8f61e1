//! Frames: `docs/abi-frame.md` is their specification.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::Buffer;
use super::cursor::Cursor;
use crate::{
    DecodeError, Exchange, FrameError, HeaderChanges, HookInput, HookOutput, InvalidHeader,
};

const VERSION: u16 = 2;

/// Where the header table of an input frame begins: after the fixed fields.
const INPUT_FIXED: usize = 104;
const INPUT_HEADER: usize = 16;
/// The places of spans that are filled in for each plugin.
const BODY: usize = 80;
const CONFIG: usize = 88;
const CONTEXT: usize = 96;

/// Where the operations of an output frame begin: after the fixed fields.
const OUTPUT_FIXED: usize = 40;
const OPERATION: usize = 20;
const LOG_LINE: usize = 12;

/// Everything of an input frame but body, configuration and context, whose spans
/// are empty in it.
pub(crate) type FrameHead = Buffer;

/// Writes what a frame says of `input` to every plugin.
pub(crate) fn encode_frame_head(input: &HookInput<'_>) -> FrameHead {
    Buffer::of(0, |out| write_head(out, input))
}

fn write_head<'b>(out: Cursor<'b>, input: &HookInput<'_>) -> Option<Cursor<'b>> {
    let len = out.left();
    let count = input.headers().map_or(0, HeaderMap::len);
    let (fixed, out) = out.take_chunk::<INPUT_FIXED>()?;
    let (entries, mut out) = out.take(count * INPUT_HEADER)?;
    *fixed = [0; INPUT_FIXED];
    let mut host: &[u8] = &[];
    if let Some(headers) = input.headers() {
        for ((name, value), entry) in headers.iter().zip(entries.as_chunks_mut().0) {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            *entry = entry_of(len - out.left(), name.len(), value.len());
            out = out.copy(name)?.copy(value)?;
            if name == b"host" && host.is_empty() {
                host = value;
            }
        }
    }
    let authority = match input.authority() {
        "" => host,
        authority => authority.as_bytes(),
    };
    let texts: [(usize, &[u8]); 7] = [
        (24, input.method().map_or("", Method::as_str).as_bytes()),
        (32, input.path().as_bytes()),
        (40, input.query().as_bytes()),
        (48, input.scheme().as_bytes()),
        (56, authority),
        (64, input.remote().as_bytes()),
        (72, input.route().as_bytes()),
    ];
    for (at, text) in texts {
        if !text.is_empty() {
            put_span(fixed, at, len - out.left(), text.len());
            out = out.copy(text)?;
        }
    }
    fixed[4..6].copy_from_slice(&VERSION.to_le_bytes());
    fixed[6] = input.hook_type().map_or(u8::MAX, |phase| phase as u8);
    fixed[7] = u8::from(input.headers().is_some()) | u8::from(input.body().is_some()) << 1;
    let status = input.status().map_or(0, |status| status.as_u16());
    fixed[8..10].copy_from_slice(&status.to_le_bytes());
    put_u32(fixed, 12, count);
    fixed[16..24].copy_from_slice(&input.body_len().to_le_bytes());
    Some(out)
}

/// A line of the table of headers: where the name is, which the value comes after.
fn entry_of(name_at: usize, name_len: usize, value_len: usize) -> [u8; INPUT_HEADER] {
    // An empty span is at offset 0.
    let value_at = if value_len == 0 {
        0
    } else {
        name_at + name_len
    };
    let mut entry = [0; INPUT_HEADER];
    put_span(&mut entry, 0, name_at, name_len);
    put_span(&mut entry, 8, value_at, value_len);
    entry
}

/// The number at `at` was checked to be one of 32 bits, or goes into no memory.
fn put_u32(out: &mut [u8], at: usize, n: usize) {
    out[at..at + 4].copy_from_slice(&(n as u32).to_le_bytes());
}

fn put_span(out: &mut [u8], at: usize, offset: usize, len: usize) {
    put_u32(out, at, offset);
    put_u32(out, at + 4, len);
}

impl HookInput<'_> {
    /// Writes the input frame for one plugin to the start of `out` and returns its
    /// length in bytes (`docs/abi-frame.md`).
    ///
    /// What every plugin gets is encoded at the first call and kept; the body is
    /// copied straight from where it is. `config` is the operator's configuration
    /// for the plugin, `context` what it left in an earlier phase of the request.
    ///
    /// ```
    /// use vortex_hook_core::{HookInput, HookType};
    ///
    /// let request = http::Request::get("https://example.com/?q=1").body(())?;
    /// let input = HookInput::from_request(HookType::PreRequest, &request);
    /// let mut frame = [0; 256];
    /// let len = input.write_frame(&mut frame, b"limit = 3", b"")?;
    /// assert!(frame[..len].ends_with(b"limit = 3"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FrameError`] when the input has no type, or the frame does not fit.
    pub fn write_frame(
        &self,
        out: &mut [u8],
        config: &[u8],
        context: &[u8],
    ) -> Result<usize, FrameError> {
        if self.hook_type().is_none() {
            return Err(FrameError::NoHookType);
        }
        let head = self.frame_head();
        let parts = [
            (BODY, self.body().unwrap_or_default()),
            (CONFIG, config),
            (CONTEXT, context),
        ];
        let len = head.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>();
        let max = out.len();
        let out = out
            .get_mut(..len)
            .filter(|_| u32::try_from(len).is_ok())
            .ok_or(FrameError::InputTooLarge { len, max })?;
        out[..head.len()].copy_from_slice(head);
        put_u32(out, 0, len);
        let mut end = head.len();
        for (at, part) in parts {
            if !part.is_empty() {
                put_span(out, at, end, part.len());
                out[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
        }
        Ok(len)
    }
}

/// What a plugin answers in a frame.
///
/// ```
/// use vortex_hook_core::{FrameOutput, HookOutput};
///
/// let mut frame = [0; 40];
/// (frame[0], frame[4]) = (40, 2);
/// assert_eq!(FrameOutput::read(&frame)?.output, HookOutput::allow());
/// # Ok::<(), vortex_hook_core::DecodeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameOutput {
    /// The decision.
    pub output: HookOutput,
    /// What the plugin keeps for a later phase of the request; `None` leaves what it kept.
    pub context: Option<Vec<u8>>,
    /// What it wants logged.
    pub logs: Vec<LogLine>,
}

/// A line that a plugin wants logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The text, as the plugin chose it: control characters must be escaped by who prints it.
    pub text: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// The plugin has failed at something.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Something of interest to an operator.
    Information,
    /// Something of interest to the plugin's author.
    Debug,
    /// Everything else.
    Trace,
}

impl FrameOutput {
    /// The most header operations in a frame.
    pub const MAX_OPERATIONS: usize = 1024;
    /// The most log lines in a frame.
    pub const MAX_LOG_LINES: usize = 64;
    /// The longest log line, in bytes.
    pub const MAX_LOG_BYTES: usize = 1024;

    /// Reads an output frame, of which every offset, length and name is checked.
    ///
    /// # Errors
    ///
    /// Which rule of `docs/abi-frame.md` the frame breaks.
    pub fn read(frame: &[u8]) -> Result<Self, DecodeError> {
        Frame(frame).read()
    }
}

struct Frame<'f>(&'f [u8]);

/// The rule that a frame breaks.
macro_rules! broken {
    ($($rule:tt)+) => {
        DecodeError::frame(format_args!($($rule)+))
    };
}

impl<'f> Frame<'f> {
    fn read(&self) -> Result<FrameOutput, DecodeError> {
        let bytes = self.0;
        let Some(fixed) = bytes.first_chunk::<OUTPUT_FIXED>() else {
            return Err(broken!("{} bytes are less than 40", bytes.len()));
        };
        if u32_at(fixed, 0) != bytes.len() {
            let said = u32_at(fixed, 0);
            return Err(broken!("its length is {}, not {said}", bytes.len()));
        }
        if u16_at(fixed, 4) != VERSION {
            return Err(broken!("version {}, not {VERSION}", u16_at(fixed, 4)));
        }
        let (verdict, flags) = (fixed[6], fixed[7]);
        if verdict > 1 {
            return Err(broken!("verdict {verdict} is neither 0 nor 1"));
        }
        if flags > 3 || u16_at(fixed, 10) != 0 || u32_at(fixed, 20) != 0 {
            return Err(broken!("a reserved flag or field is not zero"));
        }
        let status = match u16_at(fixed, 8) {
            0 => None,
            code @ 100..=999 => StatusCode::from_u16(code).ok(),
            code => return Err(broken!("status {code} is outside 100–999")),
        };
        let (operations, logs) = (u32_at(fixed, 12), u32_at(fixed, 16));
        if operations > FrameOutput::MAX_OPERATIONS {
            return Err(broken!(
                "{operations} header operations are more than 1,024"
            ));
        }
        if logs > FrameOutput::MAX_LOG_LINES {
            return Err(broken!("{logs} log lines are more than 64"));
        }
        let tables = bytes[OUTPUT_FIXED..].split_at_checked(operations * OPERATION);
        let tables = tables.and_then(|(operations, rest)| {
            let logs = rest.get(..logs * LOG_LINE)?;
            Some((operations.as_chunks().0, logs.as_chunks().0))
        });
        let Some((operations, logs)) = tables else {
            return Err(broken!("its operations and log lines reach past its end"));
        };
        let mut headers = HeaderChanges::with_capacity(operations.len());
        for operation in operations {
            self.operation(operation, &mut headers)?;
        }
        let (body, context) = (
            self.span(fixed, 24, "body")?,
            self.span(fixed, 32, "context")?,
        );
        let body = (flags & 1 != 0).then_some(body);
        let context = (flags & 2 != 0).then_some(context);
        if let Some(context) = context.filter(|c| c.len() > Exchange::MAX_BYTES) {
            return Err(broken!("{} bytes of context exceed 4,096", context.len()));
        }
        let mut lines = Vec::new();
        for line in logs {
            lines.push(self.log_line(line)?);
        }
        Ok(FrameOutput {
            output: HookOutput {
                allow: verdict == 0,
                modified: !headers.is_empty(),
                headers,
                status,
                body: body.map(Bytes::copy_from_slice),
            },
            context: context.map(<[u8]>::to_vec),
            logs: lines,
        })
    }

    #[inline]
    fn operation(
        &self,
        operation: &[u8; OPERATION],
        headers: &mut HeaderChanges,
    ) -> Result<(), DecodeError> {
        let name = self.span(operation, 4, "header name")?;
        let value = self.span(operation, 12, "header value")?;
        let name = HeaderName::from_bytes(name).map_err(|_| {
            let name = String::from_utf8_lossy(name).into_owned();
            broken!("{}", InvalidHeader::Name { name })
        })?;
        let fits = match u32_at(operation, 0) {
            kind @ (0 | 1) => {
                let value = HeaderValue::from_bytes(value)
                    .map_err(|_| broken!("{}", InvalidHeader::Value { name: name.clone() }))?;
                match kind {
                    0 => headers.insert(name, value),
                    _ => headers.append(name, value),
                }
            }
            2 if value.is_empty() => headers.set(name, Vec::new()),
            2 => return Err(broken!("header `{name}` is removed with a value")),
            kind => return Err(broken!("header operation {kind} is unknown")),
        };
        if fits {
            Ok(())
        } else {
            Err(broken!("{}", InvalidHeader::TooMany))
        }
    }

    fn log_line(&self, line: &[u8; LOG_LINE]) -> Result<LogLine, DecodeError> {
        let level = match u32_at(line, 0) {
            0 => LogLevel::Error,
            1 => LogLevel::Warning,
            2 => LogLevel::Information,
            3 => LogLevel::Debug,
            4 => LogLevel::Trace,
            level => return Err(broken!("log level {level} is unknown")),
        };
        let text = self.span(line, 4, "log line")?;
        if text.len() > FrameOutput::MAX_LOG_BYTES {
            return Err(broken!("a log line of {} bytes exceeds 1,024", text.len()));
        }
        Ok(LogLine {
            level,
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    /// The bytes of the frame that the span at `at` names.
    #[inline]
    fn span<const N: usize>(
        &self,
        fields: &[u8; N],
        at: usize,
        what: &str,
    ) -> Result<&'f [u8], DecodeError> {
        let (offset, len) = (u32_at(fields, at), u32_at(fields, at + 4));
        offset
            .checked_add(len)
            .and_then(|end| self.0.get(offset..end))
            .ok_or_else(|| broken!("a {what} of {len} bytes at {offset} reaches past its end"))
    }
}

#[inline(always)]
fn u16_at<const N: usize>(fields: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([fields[at], fields[at + 1]])
}

#[inline(always)]
fn u32_at<const N: usize>(fields: &[u8; N], at: usize) -> usize {
    let bytes = [fields[at], fields[at + 1], fields[at + 2], fields[at + 3]];
    u32::from_le_bytes(bytes) as usize
}
