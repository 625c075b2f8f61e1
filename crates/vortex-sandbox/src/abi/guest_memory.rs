//! Ranges of guest memory that the guest names: checked before they are used.

use crate::SandboxError;

/// A pointer and a length, as an export of the guest returned them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestRange {
    pub(crate) export: &'static str,
    pub(crate) ptr: u32,
    pub(crate) len: u32,
}

impl GuestRange {
    /// The range that an `i64` names, pointer in the high half, length in the low.
    pub(crate) fn from_packed(export: &'static str, packed: i64) -> Self {
        let bits = u64::from_ne_bytes(packed.to_ne_bytes());
        Self {
            export,
            ptr: (bits >> 32) as u32,
            len: bits as u32,
        }
    }

    /// For a range that was checked and yet could not be accessed.
    pub(crate) fn inaccessible(self, memory: usize) -> SandboxError {
        self.bad(memory, "not accessible")
    }

    fn bad(self, memory: usize, why: &'static str) -> SandboxError {
        SandboxError::BadPointer {
            export: self.export,
            ptr: self.ptr,
            len: self.len,
            memory,
            why,
        }
    }

    /// Refuses a range that is empty, at address zero, or not wholly inside of
    /// `memory` bytes.
    pub(crate) fn check(self, memory: usize) -> Result<Self, SandboxError> {
        let end = u64::from(self.ptr) + u64::from(self.len);
        let why = if self.len == 0 {
            "empty"
        } else if self.ptr == 0 {
            "the null pointer"
        } else if end > memory as u64 {
            "past the end of its memory"
        } else {
            return Ok(self);
        };
        Err(self.bad(memory, why))
    }
}
