//! Buffers that are used again.

use std::cell::Cell;
use std::ops::Deref;

/// Encoded bytes, whose memory the thread's next encoding takes over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer(pub(super) Vec<u8>);

/// A buffer that grew past this many bytes is not kept.
const MAX_KEPT: usize = 256 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    /// An empty buffer.
    pub(super) fn take() -> Self {
        Self(SPARE.take())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if (1..=MAX_KEPT).contains(&bytes.capacity()) {
            bytes.clear();
            // A thread that is about to end keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}
