//! Output frames, read again: by the JSON ABI, and by the tests of a plugin.

use crate::Error;
use crate::input::{span, word};
use crate::output::{Change, HEAD, LINE, Level, OPERATION};

/// What a hook has answered: an output frame, read where it lies.
///
/// It serves the tests of a plugin. It reads the layout and no more; the host
/// also refuses what breaks another rule of `docs/abi-frame.md`.
///
/// ```
/// use vortex_plugin_sdk::{Answer, Error, Input, InputFrame, Output, call};
///
/// fn hook(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
///     if input.header("x-api-key").is_none() {
///         output.deny(401);
///     }
///     Ok(())
/// }
///
/// let (mut input, mut output) = ([0; 512], [0; 512]);
/// let length = InputFrame::default().write(&mut input)?;
/// let length = call(&input[..length], &mut output, hook)?;
/// assert_eq!(Answer::parse(&output[..length])?.status(), 401);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    frame: &'a [u8],
    operations: &'a [[u8; OPERATION]],
    lines: &'a [[u8; LINE]],
}

impl<'a> Answer<'a> {
    /// Reads a frame: the whole of it, no byte more.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when its length or version is wrong, its records
    /// exceed it, or a record is of no known kind.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Error> {
        Self::read(frame).ok_or(Error::Malformed)
    }

    fn read(frame: &'a [u8]) -> Option<Self> {
        let rest = frame.get(HEAD..)?;
        if word(frame, 0) as usize != frame.len() || word(frame, 4) & 0xFFFF != 2 {
            return None;
        }
        let operations = rest.as_chunks().0.get(..word(frame, 12) as usize)?;
        let rest = rest.get(operations.as_flattened().len()..)?;
        let lines = rest.as_chunks().0.get(..word(frame, 16) as usize)?;
        let known = operations.iter().all(|record| change(record).is_some())
            && lines.iter().all(|record| level(record).is_some());
        known.then_some(Self {
            frame,
            operations,
            lines,
        })
    }

    /// Whether the message may pass.
    #[must_use]
    pub fn allow(&self) -> bool {
        self.frame.get(6) == Some(&0)
    }

    /// The status; 0 for none.
    #[must_use]
    pub fn status(&self) -> u16 {
        word(self.frame, 8) as u16
    }

    /// The header operations in order: what is done, the name and the value.
    pub fn operations(
        &self,
    ) -> impl ExactSizeIterator<Item = (Change, &'a [u8], &'a [u8])> + Clone + use<'a> {
        let frame = self.frame;
        self.operations.iter().map(move |record| {
            // Every kind has been checked.
            let change = change(record).unwrap_or(Change::Remove);
            (change, span(frame, record, 4), span(frame, record, 12))
        })
    }

    /// The log lines in order.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (Level, &'a [u8])> + Clone + use<'a> {
        let frame = self.frame;
        self.lines.iter().map(move |record| {
            let level = level(record).unwrap_or(Level::Error);
            (level, span(frame, record, 4))
        })
    }

    /// The body, if there is one.
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        (self.flags() & 1 != 0).then(|| span(self.frame, self.frame, 24))
    }

    /// The context, if there is one.
    #[must_use]
    pub fn context(&self) -> Option<&'a [u8]> {
        (self.flags() & 2 != 0).then(|| span(self.frame, self.frame, 32))
    }

    fn flags(&self) -> u8 {
        self.frame.get(7).copied().unwrap_or_default()
    }
}

fn change(record: &[u8; OPERATION]) -> Option<Change> {
    let changes = [Change::Set, Change::Append, Change::Remove];
    changes.get(word(record, 0) as usize).copied()
}

fn level(record: &[u8; LINE]) -> Option<Level> {
    let levels = [
        Level::Error,
        Level::Warning,
        Level::Info,
        Level::Debug,
        Level::Trace,
    ];
    levels.get(word(record, 0) as usize).copied()
}
