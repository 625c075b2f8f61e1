//! What can go wrong in a hook and in a chain.

use std::error::Error;
use std::fmt;

/// A hook's failure: any error, with its sources kept.
///
/// ```
/// use vortex_hook_core::HookError;
///
/// let error = HookError::new("the allow list is empty");
/// assert_eq!(error.to_string(), "the allow list is empty");
/// ```
#[derive(Debug)]
pub struct HookError(Box<dyn Error + Send + Sync>);

impl HookError {
    /// Wraps an error or a message.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The wrapped error, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for HookError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Why a chain gave no output. Each of these is a denial: a gateway answers
/// with an error of its own and lets nothing through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A hook failed whose registration does not say that failures are skipped.
    #[error("hook `{hook}` failed")]
    Hook {
        /// The name of its registration.
        hook: String,
        /// What it failed with.
        #[source]
        source: HookError,
    },
    /// The input names no hook type, so no hook can be chosen.
    #[error("the hook input has no type: make it with `HookInput::new`")]
    NoHookType,
    /// The context's deadline passed before every hook had run.
    #[error("the deadline passed before hook `{hook}` could run")]
    DeadlineExceeded {
        /// The first hook that did not run.
        hook: String,
    },
    /// The context was cancelled before every hook had run.
    #[error("cancelled before hook `{hook}` had answered")]
    Cancelled {
        /// The first hook that did not answer.
        hook: String,
    },
}

/// Why bytes are no hook input or output.
#[derive(Debug, thiserror::Error)]
#[error("invalid {what}: {detail}")]
pub struct DecodeError {
    what: &'static str,
    detail: String,
}

/// Why there is no frame of an input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is larger than the room for it.
    #[error("an input frame of {len} bytes exceeds the plugin's input buffer of {max} bytes")]
    InputTooLarge {
        /// Length of the frame, in bytes.
        len: usize,
        /// What there is room for, in bytes.
        max: usize,
    },
    /// The input names no hook type, which a frame must.
    #[error("the hook input has no type: make it with `HookInput::new`")]
    NoHookType,
}

impl DecodeError {
    /// The most characters of a message: a plugin decides what stands in it
    /// and must not fill the log.
    const MAX_DETAIL: usize = 256;

    pub(crate) fn new(what: &'static str, error: &serde_json::Error) -> Self {
        Self::detailed(what, error.to_string())
    }

    #[cold]
    pub(crate) fn frame(rule: fmt::Arguments<'_>) -> Self {
        Self::detailed("output frame", rule.to_string())
    }

    fn detailed(what: &'static str, mut detail: String) -> Self {
        if let Some((end, _)) = detail.char_indices().nth(Self::MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { what, detail }
    }
}
