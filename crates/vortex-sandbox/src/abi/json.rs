//! ABI 1: JSON in, JSON out, as the Go system speaks it.
//!
//! The guest exports `memory`, `alloc(i32) -> i32` and `handle(i32, i32) -> i64`.
//! The host asks `alloc` for room, writes the input there, and calls `handle`
//! with pointer and length; the result is the answer's pointer in its high half
//! and its length in the low one. The answer may lie where the input was, or
//! overlap it: it is read when `handle` has returned.

use wasmer::Store;

use super::Function;
use super::guest_memory::GuestRange;
use crate::instance::running::{CallFailure, Entry, Running};
use crate::{RuntimeConfig, SandboxError};

pub(super) const FUNCTIONS: [Function; 2] = [
    ("alloc", &["i32"], &["i32"]),
    ("handle", &["i32", "i32"], &["i64"]),
];

/// The functions of an instance.
#[derive(Debug)]
pub(crate) struct Exports {
    alloc: Entry<i32, i32>,
    handle: Entry<(i32, i32), i64>,
}

impl Exports {
    pub(crate) fn of(exports: &wasmer::Exports, store: &mut Store) -> Option<Self> {
        Some(Self {
            alloc: Entry::of(exports, store, "alloc")?,
            handle: Entry::of(exports, store, "handle")?,
        })
    }

    /// One call; returns where the guest's answer is, which nobody has looked at yet.
    pub(crate) fn call(
        &self,
        running: &mut Running<'_>,
        input: &[u8],
        config: &RuntimeConfig,
    ) -> Result<GuestRange, CallFailure> {
        let packed = running.exchange(&self.alloc, &self.handle, input)?;
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
