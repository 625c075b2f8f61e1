//! ABI 1: JSON in, JSON out, as the Go system speaks it.
//!
//! The guest exports `memory`, `alloc(i32) -> i32` and `handle(i32, i32) -> i64`.
//! The host asks `alloc` for room, writes the input there, and calls `handle`
//! with pointer and length; the result is the answer's pointer in its high half
//! and its length in the low one. The answer may lie where the input was, or
//! overlap it: it is read when `handle` has returned.

use super::guest_memory::GuestRange;
use crate::instance::guest::{CallFailure, Running};
use crate::module::validate::{ExportType, require};
use crate::{RuntimeConfig, SandboxError};

/// Checks that a module speaks this ABI.
pub(crate) fn check_exports(exports: &[(String, ExportType)]) -> Result<(), SandboxError> {
    let function = |params: &[&str], results: &[&str]| ExportType::Function {
        params: params.iter().map(ToString::to_string).collect(),
        results: results.iter().map(ToString::to_string).collect(),
    };
    for (export, expected) in [
        ("memory", ExportType::Memory),
        ("alloc", function(&["i32"], &["i32"])),
        ("handle", function(&["i32", "i32"], &["i64"])),
    ] {
        require(exports, export, &expected)?;
    }
    Ok(())
}

/// One call: the guest's answer to `input`, as bytes that nobody has looked at yet.
pub(crate) fn call(
    running: &mut Running<'_>,
    input: &[u8],
    config: &RuntimeConfig,
) -> Result<Vec<u8>, CallFailure> {
    // An input is at most some hundred KiB: a body of 64 KiB and what a gateway
    // lets through as headers. One that no i32 can count fits into no guest either.
    let input_len = i32::try_from(input.len()).unwrap_or(i32::MAX);
    let Some(exports) = running.guest.json_exports() else {
        return Err(CallFailure::Sandbox(SandboxError::MissingExport {
            export: "handle".to_owned(),
            expected: "the JSON ABI".to_owned(),
        }));
    };
    let ptr = exports.alloc.call(running, input_len)?;
    let room = GuestRange {
        export: "alloc",
        ptr: ptr.cast_unsigned(),
        len: input_len.cast_unsigned(),
    }
    .check(running.guest.memory_len())?;
    if !running.guest.write(room.ptr, input) {
        return Err(bad_memory(room, running).into());
    }
    let packed = exports.handle.call(running, ptr, input_len)?;
    let answer = GuestRange::from_packed("handle", packed);
    if answer.len as usize > config.output_bytes {
        return Err(SandboxError::OutputTooLarge {
            len: answer.len as usize,
            max: config.output_bytes,
        }
        .into());
    }
    let answer = answer.check(running.guest.memory_len())?;
    running
        .guest
        .read(answer.ptr, answer.len)
        .ok_or_else(|| bad_memory(answer, running).into())
}

/// For a range that was checked and yet could not be accessed.
fn bad_memory(range: GuestRange, running: &Running<'_>) -> SandboxError {
    SandboxError::BadPointer {
        export: range.export,
        ptr: range.ptr,
        len: range.len,
        memory: running.guest.memory_len(),
        why: "not accessible",
    }
}
