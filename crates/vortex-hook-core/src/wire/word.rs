//! Eight bytes at a time: numbers whose lowest byte is the first one.
//!
//! These read strings without a branch for each byte, wherever the strings may be
//! too short for vectors. Eight findings are the highest bits of the eight bytes.

/// Whether `byte`, which is not zero, is one of `bytes`.
#[inline]
pub(crate) fn contains(bytes: &[u8], byte: u8) -> bool {
    let found = |word: u64| {
        let difference = word ^ all(byte);
        difference.wrapping_sub(all(1)) & !difference & all(0x80)
    };
    match bytes.last_chunk() {
        Some(last) => {
            let words = bytes.as_chunks().0.iter();
            let found = words.fold(found(u64::from_le_bytes(*last)), |all, word| {
                all | found(u64::from_le_bytes(*word))
            });
            found != 0
        }
        None => found(load_short(bytes)) != 0,
    }
}

/// The highest bit of some byte is set if one of the eight bytes does not mean itself
/// in a string of JSON: control characters, `"`, `\`, and what is not ASCII. The
/// lowest of such bits is that of the first such byte.
#[inline(always)]
pub(super) fn special(bytes: u64) -> u64 {
    // Of a byte below 0x80, a difference has its highest bit set only where it is
    // negative, or where the next lower one is; of one above, one of the last two has.
    let control = bytes.wrapping_sub(all(0x20));
    let quote = (bytes ^ all(b'"')).wrapping_sub(all(1));
    let backslash = (bytes ^ all(b'\\')).wrapping_sub(all(1));
    control | quote | backslash
}

/// Eight bytes of a name, the first one lowest, in canonical case; `before` is the
/// byte before them.
#[inline(always)]
pub(super) fn canonical(bytes: u64, before: u8) -> u64 {
    let previous = bytes << 8 | u64::from(before);
    // All bytes are below 0x80, so that none of these sums reaches the next byte.
    let no_hyphen = (previous ^ all(b'-')) + all(0x7F);
    let from_a = bytes + all(0x80 - b'a');
    let past_z = bytes + all(0x7F - b'z');
    let change = from_a & !past_z & !no_hyphen & all(0x80);
    // From 0x80 to 0x20, in which the cases of a letter differ.
    bytes ^ change >> 2
}

/// Eight times `byte`.
pub(super) const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Less than eight bytes as a number, of which the first is the lowest.
#[inline(always)]
pub(super) fn load_short(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        // Where they overlap they are equal.
        return u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4));
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
    }
}

/// Stores what [`load_short`] has loaded of as many bytes.
#[inline(always)]
pub(super) fn store_short(n: u64, to: &mut [u8]) {
    let len = to.len();
    if let Some(first) = to.first_chunk_mut() {
        *first = (n as u32).to_le_bytes();
        if let Some(last) = to.last_chunk_mut() {
            *last = ((n >> (8 * (len - 4))) as u32).to_le_bytes();
        }
        return;
    }
    for (to, byte) in to.iter_mut().zip(n.to_le_bytes()) {
        *to = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_is() {
        for at in 0..8 {
            for byte in 0..=u8::MAX {
                // What follows the first one may be anything.
                for after in [b'a', b'"', 0, 0xFF, 0x21, b']'] {
                    let mut bytes = [b'~'; 8];
                    bytes[at..].fill(after);
                    bytes[at] = byte;
                    let is_special = |b: &u8| !matches!(b, 0x20..0x80) || b"\"\\".contains(b);
                    let found = special(u64::from_le_bytes(bytes)) & all(0x80);
                    let first = (found != 0).then_some(found.trailing_zeros() as usize / 8);
                    assert_eq!(first, bytes.iter().position(is_special), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        for len in 0..40 {
            let mut bytes = vec![b'$'; len];
            assert!(!contains(&bytes, b'%'), "{len}");
            for at in 0..len {
                for other in [0, b'$', b'&', 0xA5, 0xFF] {
                    bytes.fill(other);
                    bytes[at] = b'%';
                    assert!(contains(&bytes, b'%'), "{bytes:?}");
                }
            }
        }
    }
}
