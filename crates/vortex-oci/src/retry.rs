//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest pause before its random part.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Waits 100 ms after the first attempt and twice as long after each further
/// one, and up to as much again at random: a fleet must not come back at once.
pub(crate) async fn pause(attempt: u32) {
    let base = Duration::from_millis(100)
        .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
        .min(MAX_PAUSE);
    let random = RandomState::new().hash_one(attempt) % 1000;
    tokio::time::sleep(base + base.mul_f64(random as f64 / 1000.0)).await;
}
