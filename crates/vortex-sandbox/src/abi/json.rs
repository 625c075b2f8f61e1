//! ABI 1: JSON in, JSON out, as the Go system speaks it.
//!
//! The guest exports `memory`, `alloc(i32) -> i32` and `handle(i32, i32) -> i64`.
//! The host asks `alloc` for room, writes the input there, and calls `handle`
//! with pointer and length; the result is the answer's pointer in its high half
//! and its length in the low one. The answer may lie where the input was, or
//! overlap it: it is read when `handle` has returned.

use wasmer::{Store, TypedFunction};

use super::Function;
use super::guest_memory::GuestRange;
use crate::instance::guest::{CallFailure, Running};
use crate::{RuntimeConfig, SandboxError};

pub(super) const FUNCTIONS: [Function; 2] = [
    ("alloc", &["i32"], &["i32"]),
    ("handle", &["i32", "i32"], &["i64"]),
];

/// The functions of an instance.
#[derive(Debug)]
pub(crate) struct Exports {
    alloc: TypedFunction<i32, i32>,
    handle: TypedFunction<(i32, i32), i64>,
}

impl Exports {
    pub(crate) fn of(exports: &wasmer::Exports, store: &Store) -> Option<Self> {
        Some(Self {
            alloc: exports.get_typed_function(store, "alloc").ok()?,
            handle: exports.get_typed_function(store, "handle").ok()?,
        })
    }

    /// One call; returns where the guest's answer is, which nobody has looked at yet.
    pub(crate) fn call(
        &self,
        running: &mut Running<'_>,
        input: &[u8],
        config: &RuntimeConfig,
    ) -> Result<GuestRange, CallFailure> {
        // An input is at most some hundred KiB: a body of 64 KiB and what a gateway
        // lets through as headers. One that no i32 can count fits into no guest either.
        let input_len = i32::try_from(input.len()).unwrap_or(i32::MAX);
        let ptr = self.alloc.call(running.store, input_len)?;
        let room = GuestRange {
            export: "alloc",
            ptr: ptr.cast_unsigned(),
            len: input_len.cast_unsigned(),
        }
        .check(running.memory_len())?;
        match running.bytes_mut(room.ptr, room.len) {
            Some(bytes) if bytes.len() == input.len() => bytes.copy_from_slice(input),
            _ => return Err(room.inaccessible(running.memory_len()).into()),
        }
        let packed = self.handle.call(running.store, ptr, input_len)?;
        let answer = GuestRange::from_packed("handle", packed);
        if answer.len as usize > config.output_bytes {
            return Err(SandboxError::OutputTooLarge {
                len: answer.len as usize,
                max: config.output_bytes,
            }
            .into());
        }
        Ok(answer.check(running.memory_len())?)
    }
}
