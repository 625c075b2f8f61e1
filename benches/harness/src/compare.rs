//! Timing pieces of code against each other.

use std::time::Instant;

use anyhow::{Result, ensure};

/// A piece of code to be timed: one call of what is measured.
pub type Piece<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Nanoseconds per call of each piece: the minimum over `rounds`.
///
/// A round runs `batch` calls of each piece, one piece after the other, so that
/// whatever slows the machine down for a while hits all of them. A batch should
/// take less than a time slice: then some rounds are undisturbed.
///
/// # Errors
///
/// If a piece fails, or there is nothing to measure.
pub fn minima<const N: usize>(
    rounds: u32,
    batch: u32,
    mut pieces: [Piece<'_>; N],
) -> Result<[f64; N]> {
    ensure!(rounds > 0 && batch > 0, "nothing to measure");
    let mut minima = [f64::INFINITY; N];
    for _ in 0..rounds {
        for (piece, minimum) in pieces.iter_mut().zip(&mut minima) {
            let start = Instant::now();
            for _ in 0..batch {
                piece()?;
            }
            let nanos = start.elapsed().as_nanos() as f64 / f64::from(batch);
            *minimum = minimum.min(nanos);
        }
    }
    Ok(minima)
}
