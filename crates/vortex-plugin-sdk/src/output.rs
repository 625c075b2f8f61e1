//! Output frames, written in place.
//!
//! Records stand at the front, the bytes that they name behind them. How many
//! records there will be is not known, so room is kept for a few, and what lies
//! behind moves when more are needed.

use crate::Error;
use crate::bytes::copy;
use crate::input::word;

/// The size of the fixed part of an output frame, in bytes.
pub(crate) const HEAD: usize = 40;

/// The size of a header operation, in bytes.
pub(crate) const OPERATION: usize = 20;

/// The size of a log line's record, in bytes.
pub(crate) const LINE: usize = 12;

/// How many header operations have room before anything moves.
const FIRST_OPERATIONS: usize = 4;

/// How many log lines have room once there is one.
const FIRST_LINES: usize = 4;

const MAX_OPERATIONS: usize = 1024;
const MAX_LINES: usize = 64;
const MAX_LINE: usize = 1024;
const MAX_CONTEXT: usize = 4096;

/// What a header operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Change {
    /// Replaces all values by one.
    Set = 0,
    /// Adds a value.
    Append = 1,
    /// Removes all values.
    Remove = 2,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Level {
    /// Something is broken.
    Error = 0,
    /// Something may be.
    Warning = 1,
    /// What an operator wants to see.
    Info = 2,
    /// What an author wants to see.
    Debug = 3,
    /// Everything else.
    Trace = 4,
}

/// What a hook answers: an output frame that is written in place.
///
/// Without a word it lets the message pass as it is. What is written is
/// carried out in that order. Names have to be tokens and values free of
/// control characters: the host refuses the whole answer otherwise.
///
/// An answer that has not enough room fails the call, whether or not the
/// plugin looks at the error.
///
/// ```
/// use vortex_plugin_sdk::{Answer, Change, Output};
///
/// let mut buffer = [0; 1024];
/// let mut output = Output::new(&mut buffer);
/// output.deny(429);
/// output.set_header("retry-after", "5")?;
/// output.set_body(b"slow down")?;
/// let length = output.finish()?;
///
/// let answer = Answer::parse(&buffer[..length])?;
/// assert_eq!((answer.allow(), answer.status()), (false, 429));
/// assert!(answer.operations().eq([(Change::Set, &b"retry-after"[..], &b"5"[..])]));
/// assert_eq!(answer.body(), Some(&b"slow down"[..]));
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct Output<'a> {
    buffer: &'a mut [u8],
    denies: bool,
    full: bool,
    flags: u8,
    status: u16,
    operations: usize,
    operation_room: usize,
    lines: usize,
    line_room: usize,
    /// Where the next bytes go.
    end: usize,
    body: Span,
    context: Span,
}

/// An offset and a length.
type Span = (u32, u32);

impl<'a> Output<'a> {
    /// An answer that lets the message pass, written to `buffer`. 120 bytes of
    /// it are taken for records before anything is written.
    #[inline]
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            denies: false,
            full: false,
            flags: 0,
            status: 0,
            operations: 0,
            operation_room: FIRST_OPERATIONS,
            lines: 0,
            line_room: 0,
            end: HEAD + FIRST_OPERATIONS * OPERATION,
            body: (0, 0),
            context: (0, 0),
        }
    }

    /// Lets the message pass, which is what an answer does unless told
    /// otherwise.
    #[inline]
    pub fn allow(&mut self) {
        self.denies = false;
        self.status = 0;
    }

    /// Turns the message away with a status of 300 to 999; 0 leaves it to the
    /// host (403).
    #[inline]
    pub fn deny(&mut self, status: u16) {
        self.denies = true;
        self.status = status;
    }

    /// Sets the status, 100 to 999, whatever the verdict.
    #[inline]
    pub fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Replaces all values of a header by one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room, or there are 1,024 operations.
    #[inline]
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.operation(Change::Set, name, value.as_ref())
    }

    /// Adds a value to a header.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room, or there are 1,024 operations.
    #[inline]
    pub fn append_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.operation(Change::Append, name, value.as_ref())
    }

    /// Removes all values of a header.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room, or there are 1,024 operations.
    #[inline]
    pub fn remove_header(&mut self, name: &str) -> Result<(), Error> {
        self.operation(Change::Remove, name, b"")
    }

    /// Sets the body: of the answer when denied, in place of the message's
    /// otherwise. A later one replaces it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room.
    pub fn set_body(&mut self, body: &[u8]) -> Result<(), Error> {
        self.body = self.bytes(body)?;
        self.flags |= 1;
        Ok(())
    }

    /// Leaves at most 4,096 bytes for a later phase of this request. A later
    /// context replaces it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when it is longer, or there is no room.
    pub fn set_context(&mut self, context: &[u8]) -> Result<(), Error> {
        if context.len() > MAX_CONTEXT {
            return Err(self.overflow());
        }
        self.context = self.bytes(context)?;
        self.flags |= 2;
        Ok(())
    }

    /// Writes a line to the host's log, cut to 1,024 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room, or there are 64 lines.
    pub fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        if self.lines == self.line_room {
            self.grow(false)?;
        }
        let text = text.get(..text.floor_char_boundary(MAX_LINE));
        let text = self.bytes(text.unwrap_or_default().as_bytes())?;
        let at = self.lines_at() + self.lines * LINE;
        self.lines += 1;
        self.put(at, u32::from(level as u8));
        self.put_span(at + 4, text);
        Ok(())
    }

    /// Completes the frame and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when something had no room, whoever noticed.
    #[inline]
    pub fn finish(mut self) -> Result<usize, Error> {
        if self.lines > 0 {
            self.move_lines();
        }
        // Without a byte behind them, the frame ends where the records do.
        let mut length = HEAD + self.operations * OPERATION + self.lines * LINE;
        if self.end > self.data_at() {
            length = self.end;
        }
        if self.full || length > self.buffer.len() {
            return Err(Error::Full);
        }
        let Some(head) = self.buffer.first_chunk_mut::<HEAD>() else {
            return Err(Error::Full);
        };
        let words = [
            length as u32,
            2 | u32::from(self.denies) << 16 | u32::from(self.flags) << 24,
            u32::from(self.status),
            self.operations as u32,
            self.lines as u32,
            0,
            self.body.0,
            self.body.1,
            self.context.0,
            self.context.1,
        ];
        let (places, _) = head.as_chunks_mut::<4>();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        Ok(length)
    }

    #[inline]
    fn operation(&mut self, change: Change, name: &str, value: &[u8]) -> Result<(), Error> {
        if self.operations == self.operation_room {
            self.grow(true)?;
        }
        let name = self.bytes(name.as_bytes())?;
        let value = self.bytes(value)?;
        let at = HEAD + self.operations * OPERATION;
        self.operations += 1;
        self.put(at, u32::from(change as u8));
        self.put_span(at + 4, name);
        self.put_span(at + 12, value);
        Ok(())
    }

    /// Writes bytes behind what there is.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Result<Span, Error> {
        if bytes.is_empty() {
            return Ok((0, 0));
        }
        let at = self.end;
        let copied = self.buffer.get_mut(at..).and_then(|to| copy(to, bytes));
        if copied.is_none() {
            return Err(self.overflow());
        }
        self.end = at + bytes.len();
        Ok((at as u32, bytes.len() as u32))
    }

    #[inline]
    fn put(&mut self, at: usize, value: u32) {
        // Every record lies before bytes that have been written, or in room
        // that was checked: nothing is lost here.
        if let Some(place) = self
            .buffer
            .get_mut(at..)
            .and_then(|rest| rest.first_chunk_mut())
        {
            *place = value.to_le_bytes();
        } else {
            self.full = true;
        }
    }

    #[inline]
    fn put_span(&mut self, at: usize, (start, length): Span) {
        self.put(at, start);
        self.put(at + 4, length);
    }

    fn lines_at(&self) -> usize {
        HEAD + self.operation_room * OPERATION
    }

    fn data_at(&self) -> usize {
        self.lines_at() + self.line_room * LINE
    }

    #[cold]
    fn overflow(&mut self) -> Error {
        self.full = true;
        Error::Full
    }

    /// Makes room for more operations, or for more lines.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, operations: bool) -> Result<(), Error> {
        let (from, old) = if operations {
            (self.lines_at(), self.operation_room)
        } else {
            (self.data_at(), self.line_room)
        };
        let (most, size, first) = if operations {
            (MAX_OPERATIONS, OPERATION, FIRST_OPERATIONS)
        } else {
            (MAX_LINES, LINE, FIRST_LINES)
        };
        let new = (old * 4).clamp(first, most);
        let added = (new - old) * size;
        if new == old || self.end + added > self.buffer.len() {
            return Err(self.overflow());
        }
        self.buffer.copy_within(from..self.end, from + added);
        if operations {
            self.operation_room = new;
        } else {
            self.line_room = new;
        }
        self.end += added;
        for at in 0..self.operations {
            let at = HEAD + at * OPERATION;
            self.shift(at + 4, added);
            self.shift(at + 12, added);
        }
        for at in 0..self.lines {
            self.shift(self.lines_at() + at * LINE + 4, added);
        }
        for span in [&mut self.body, &mut self.context] {
            if span.1 > 0 {
                span.0 += added as u32;
            }
        }
        Ok(())
    }

    /// Adds to the offset of a span that is not empty.
    fn shift(&mut self, at: usize, added: usize) {
        if word(self.buffer, at + 4) > 0 {
            let start = word(self.buffer, at) + added as u32;
            self.put(at, start);
        }
    }

    /// Moves the lines to where the operations end.
    #[cold]
    #[inline(never)]
    fn move_lines(&mut self) {
        let from = self.lines_at();
        let lines = from..from + self.lines * LINE;
        let to = HEAD + self.operations * OPERATION;
        if lines.end <= self.buffer.len() {
            self.buffer.copy_within(lines, to);
        } else {
            self.full = true;
        }
    }
}
