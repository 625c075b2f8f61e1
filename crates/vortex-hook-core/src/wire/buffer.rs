//! Buffers that are used again.

use std::cell::Cell;
use std::ops::Deref;

use super::cursor::Cursor;

/// Encoded bytes, whose memory the thread's next encoding takes over.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// What is behind the encoded bytes is of earlier encodings, or zero.
    bytes: Vec<u8>,
    len: usize,
}

/// A buffer that grew past this many bytes is not kept.
const MAX_KEPT: usize = 256 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    /// What `encode` writes, which takes about `len` bytes. It is called again with
    /// more room when it returns `None`.
    #[inline]
    pub(super) fn of(len: usize, encode: impl Fn(Cursor<'_>) -> Option<Cursor<'_>>) -> Self {
        let mut bytes = SPARE.take();
        loop {
            if let Some(left) = encode(Cursor::new(&mut bytes)).map(|out| out.left()) {
                let len = bytes.len() - left;
                return Self { bytes, len };
            }
            let more = (2 * bytes.len()).max(len).max(2048);
            bytes.resize(more, 0);
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self {
            bytes: self.to_vec(),
            len: self.len,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if (1..=MAX_KEPT).contains(&bytes.capacity()) {
            // A thread that is about to end keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}
