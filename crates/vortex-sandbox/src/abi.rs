//! How host and guest talk.

pub(crate) mod frame;
pub(crate) mod guest_memory;
pub(crate) mod json;

use crate::SandboxError;
use crate::module::validate::{ExportType, require};

/// The languages that a hook may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    Json,
    Frame,
}

impl Abi {
    /// What a module with these exports speaks: frames where it says so, else JSON.
    pub(crate) fn of(exports: &[(String, ExportType)]) -> Result<Self, SandboxError> {
        let speaks_frames = exports.iter().any(|(name, _)| name == frame::MARKER);
        let (abi, functions) = if speaks_frames {
            (Self::Frame, &frame::FUNCTIONS)
        } else {
            (Self::Json, &json::FUNCTIONS)
        };
        require(exports, "memory", &ExportType::Memory)?;
        for (export, params, results) in functions {
            let names = |types: &[&str]| types.iter().map(ToString::to_string).collect();
            let expected = ExportType::Function {
                params: names(params),
                results: names(results),
            };
            require(exports, export, &expected)?;
        }
        Ok(abi)
    }
}

/// The name, parameters and results of a function that an ABI asks for.
type Function = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);
