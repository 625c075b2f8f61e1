//! What outlives one phase of a request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request with its response: what plugins keep from one phase of it to the next.
///
/// A plugin that speaks the frame ABI may leave some bytes in `pre_request` and
/// finds them in `post_response`, if the gateway hands the same exchange to both
/// runs with [`HookContext::with_exchange`](crate::HookContext::with_exchange).
/// Without one they are dropped.
///
/// ```
/// use std::sync::Arc;
/// use vortex_hook_core::{Exchange, HookContext};
///
/// let exchange = Arc::new(Exchange::new());
/// let before = HookContext::new().with_exchange(Arc::clone(&exchange));
/// assert!(before.exchange().is_some_and(|e| e.keep("timer", b"12:00")));
///
/// let after = HookContext::new().with_exchange(exchange);
/// assert_eq!(after.exchange().and_then(|e| e.kept("timer")), Some(b"12:00".to_vec()));
/// ```
#[derive(Debug, Default)]
pub struct Exchange {
    kept: Mutex<HashMap<String, Vec<u8>>>,
}

impl Exchange {
    /// The most bytes that a plugin may keep.
    pub const MAX_BYTES: usize = 4096;
    /// The most plugins that may keep something.
    pub const MAX_KEEPERS: usize = 256;

    /// An exchange in which nothing is kept yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a plugin of this name has kept.
    #[must_use]
    pub fn kept(&self, plugin: &str) -> Option<Vec<u8>> {
        self.lock().get(plugin).cloned()
    }

    /// Keeps `bytes` for a plugin, in place of what it kept before.
    ///
    /// Returns `false` and changes nothing when there are more than
    /// [`Exchange::MAX_BYTES`], or [`Exchange::MAX_KEEPERS`] others keep something.
    pub fn keep(&self, plugin: &str, bytes: &[u8]) -> bool {
        let mut kept = self.lock();
        let has_room = kept.len() < Self::MAX_KEEPERS || kept.contains_key(plugin);
        if bytes.len() > Self::MAX_BYTES || !has_room {
            return false;
        }
        kept.insert(plugin.to_owned(), bytes.to_vec());
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        // Nothing panics under this lock, so a poisoned one guards sound data.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
