//! Short copies and comparisons, in words.
//!
//! A copy of a length that is not known compiles to `memory.copy`, and in a
//! sandbox that is a call of the host, which costs more than everything else a
//! small plugin does. Loops are no way out, for the compiler recognises them.
//! So short lengths are done in words that overlap.

/// Up to this length in bytes, a copy is done here.
const SHORT: usize = 64;

/// The first `8 × N` bytes as words.
fn first<const N: usize>(bytes: &[u8]) -> Option<&[[u8; 8]; N]> {
    bytes.as_chunks::<8>().0.first_chunk()
}

/// The last `8 × N` bytes as words.
fn last<const N: usize>(bytes: &[u8]) -> Option<&[[u8; 8]; N]> {
    bytes.as_rchunks::<8>().1.last_chunk()
}

/// Copies `from` to the beginning of `to`; `None` when there is no room.
#[inline]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) -> Option<()> {
    let to = to.get_mut(..from.len())?;
    let length = from.len();
    if length > SHORT {
        to.copy_from_slice(from);
    } else if length > 32 {
        copy_4(to.as_chunks_mut().0.first_chunk_mut()?, first(from)?);
        copy_4(to.as_rchunks_mut().1.last_chunk_mut()?, last(from)?);
    } else if length > 16 {
        copy_2(to.as_chunks_mut().0.first_chunk_mut()?, first(from)?);
        copy_2(to.as_rchunks_mut().1.last_chunk_mut()?, last(from)?);
    } else if length >= 8 {
        *to.first_chunk_mut::<8>()? = *from.first_chunk()?;
        *to.last_chunk_mut::<8>()? = *from.last_chunk()?;
    } else if length >= 4 {
        *to.first_chunk_mut::<4>()? = *from.first_chunk()?;
        *to.last_chunk_mut::<4>()? = *from.last_chunk()?;
    } else if length > 0 {
        *to.first_mut()? = *from.first()?;
        *to.get_mut(length / 2)? = *from.get(length / 2)?;
        *to.last_mut()? = *from.last()?;
    }
    Some(())
}

fn copy_2(to: &mut [[u8; 8]; 2], from: &[[u8; 8]; 2]) {
    to[0] = from[0];
    to[1] = from[1];
}

fn copy_4(to: &mut [[u8; 8]; 4], from: &[[u8; 8]; 4]) {
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
}

/// Whether two byte strings are the same, in words: what `==` does, without
/// its call of a function that compares byte by byte.
///
/// ```
/// assert!(vortex_plugin_sdk::same(b"k-demo-123", b"k-demo-123"));
/// assert!(!vortex_plugin_sdk::same(b"k-demo-123", b"k-demo-124"));
/// ```
#[inline]
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && compare(a, b, |word| word).unwrap_or(false)
}

/// Whether two byte strings are the same without regard to the case of ASCII
/// letters.
#[inline]
pub(crate) fn same_ignoring_case(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && compare(a, b, lower).unwrap_or(false)
}

/// Compares two byte strings of one length word by word, each word mapped.
#[inline]
fn compare(a: &[u8], b: &[u8], map: impl Fn(u64) -> u64) -> Option<bool> {
    let differ =
        |a: &[u8; 8], b: &[u8; 8]| map(u64::from_le_bytes(*a)) ^ map(u64::from_le_bytes(*b));
    let small = |b: &[u8; 4]| map(u64::from(u32::from_le_bytes(*b)));
    let length = a.len();
    Some(if length >= 8 {
        let mut words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
        words.all(|(a, b)| differ(a, b) == 0) && differ(a.last_chunk()?, b.last_chunk()?) == 0
    } else if length >= 4 {
        small(a.first_chunk()?) == small(b.first_chunk()?)
            && small(a.last_chunk()?) == small(b.last_chunk()?)
    } else if length > 0 {
        let few = |bytes: &[u8]| {
            let [first, middle, last] = [0, length / 2, length - 1];
            Some(map(u64::from(u32::from_le_bytes([
                *bytes.get(first)?,
                *bytes.get(middle)?,
                *bytes.get(last)?,
                0,
            ]))))
        };
        few(a)? == few(b)?
    } else {
        true
    })
}

/// Eight bytes with their ASCII letters in lower case.
#[inline]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // No sum carries into the next byte: each is 7 bits and less than 0x40.
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let past_z = low + (0x7F - b'Z' as u64) * ONES;
    let letters = (from_a ^ past_z) & !word & HIGH;
    word | (letters >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from place to place.
    fn pattern<const N: usize>() -> [u8; N] {
        core::array::from_fn(|at| (at * 7 + 1) as u8)
    }

    #[test]
    fn every_length_is_copied_whole_and_no_further() {
        let from = pattern::<300>();
        for length in 0..=300 {
            let mut to = [0xEE; 301];
            assert_eq!(copy(&mut to, &from[..length]), Some(()));
            assert_eq!(to[..length], from[..length], "{length}");
            assert!(to[length..].iter().all(|byte| *byte == 0xEE), "{length}");
        }
        assert_eq!(copy(&mut [0; 9], &from[..10]), None);
    }

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let a = pattern::<70>();
        for length in 0..=70 {
            assert!(same(&a[..length], &a[..length]));
            for at in 0..length {
                let mut b = a;
                b[at] ^= 1;
                assert!(!same(&a[..length], &b[..length]), "{length}, {at}");
            }
            assert_eq!(length == 69, same(&a[..length], &a[..69]));
        }
    }

    #[test]
    fn case_is_that_of_ascii_letters_alone() {
        for length in [1, 2, 3, 4, 7, 8, 9, 16, 17, 33] {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let (mut a, mut b) = ([b'-'; 33], [b'-'; 33]);
                    a[at] = byte;
                    b[at] = byte.to_ascii_lowercase();
                    assert!(same_ignoring_case(&a[..length], &b[..length]));
                    b[at] = byte ^ 0x20;
                    assert_eq!(
                        same_ignoring_case(&a[..length], &b[..length]),
                        byte.is_ascii_alphabetic(),
                        "{byte:#x} at {at} of {length}"
                    );
                }
            }
        }
    }
}
