//! From wasmer's errors to ours.

use wasmer::RuntimeError;
use wasmer_types::TrapCode;

/// What ended a guest's execution, before it is known why.
#[derive(Debug)]
pub(crate) enum TrapKind {
    StackOverflow,
    /// An access that faulted: out of bounds, an abort, or a safepoint taken away.
    Fault,
    Other(String),
}

impl TrapKind {
    pub(crate) fn of(error: &RuntimeError) -> Self {
        match error.clone().to_trap() {
            Some(TrapCode::StackOverflow) => Self::StackOverflow,
            Some(TrapCode::HeapAccessOutOfBounds) => Self::Fault,
            Some(code) => Self::Other(code.message().to_owned()),
            None => Self::Other(error.message()),
        }
    }
}
