//! Why a call gives no answer.

use core::fmt;

/// Why a call gives no answer: the host then denies, unless the hook's
/// registration says otherwise.
///
/// ```
/// use vortex_plugin_sdk::{Error, Input, Output};
///
/// fn hook(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
///     // A plugin that cannot read its configuration cannot do its work.
///     let tag = core::str::from_utf8(input.config()).map_err(|_| Error::Failed)?;
///     output.set_header("x-tag", tag)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// What the host gave is no input: a defect of the host.
    Malformed,
    /// The answer exceeds its buffer or a limit of the ABI.
    Full,
    /// The plugin itself says that it has failed.
    Failed,
}

impl Error {
    /// What `vortex_handle` returns for it: a negative number.
    ///
    /// ```
    /// assert_eq!(vortex_plugin_sdk::Error::Full.code(), -2);
    /// ```
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Malformed => -1,
            Self::Full => -2,
            Self::Failed => -3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the input is not what the ABI says",
            Self::Full => "the answer exceeds its buffer or a limit of the ABI",
            Self::Failed => "the plugin has failed",
        })
    }
}

impl core::error::Error for Error {}
