//! Bytes into a slice, one string after the other.
//!
//! Nearly all that is encoded are strings of some ten bytes, for which a call of
//! `memcpy` and a look at each single byte cost more than the copy itself. Here
//! they are copied and looked at in pieces of a fixed size, which fit into
//! registers: two that overlap do for every length between one piece and two.

use super::word::{all, canonical, load_short, special, store_short};

/// The part of a slice that is not written to yet.
///
/// Whatever writes takes the cursor and returns the next one, or `None` where there
/// is not enough room: so it stays in registers too.
pub(super) struct Cursor<'b>(&'b mut [u8]);

impl<'b> Cursor<'b> {
    #[inline(always)]
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self(out)
    }

    /// How many bytes may still be written.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next `len` bytes, to be written to.
    #[inline(always)]
    pub(super) fn take(self, len: usize) -> Option<(&'b mut [u8], Self)> {
        let (taken, rest) = self.0.split_at_mut_checked(len)?;
        Some((taken, Self(rest)))
    }

    /// The next bytes, whose number is known when this is compiled.
    #[inline(always)]
    pub(super) fn take_chunk<const N: usize>(self) -> Option<(&'b mut [u8; N], Self)> {
        let (taken, rest) = self.0.split_first_chunk_mut()?;
        Some((taken, Self(rest)))
    }

    /// Writes bytes whose number is known when this is compiled.
    #[inline(always)]
    pub(super) fn put<const N: usize>(self, bytes: &[u8; N]) -> Option<Self> {
        let (to, rest) = self.take_chunk()?;
        *to = *bytes;
        Some(rest)
    }

    /// Writes `bytes`.
    #[inline(always)]
    pub(super) fn copy(self, bytes: &[u8]) -> Option<Self> {
        let (to, rest) = self.take(bytes.len())?;
        copy(bytes, to);
        Some(rest)
    }

    /// Writes `bytes` if all of them mean themselves in a string of JSON, and lets
    /// `otherwise` write them if not.
    #[inline(always)]
    pub(super) fn copy_plain(
        self,
        bytes: &[u8],
        otherwise: impl FnOnce(Self) -> Option<Self>,
    ) -> Option<Self> {
        let to = self.0.get_mut(..bytes.len())?;
        if copy_plain(bytes, to) {
            self.take(bytes.len()).map(|(_, rest)| rest)
        } else {
            otherwise(self)
        }
    }

    /// Writes a header name, which is ASCII in lower case, in canonical MIME case: the
    /// first letter and each after a hyphen in upper case (Go,
    /// `textproto.CanonicalMIMEHeaderKey`).
    #[inline(always)]
    pub(super) fn copy_canonical(self, name: &[u8]) -> Option<Self> {
        let (to, rest) = self.take(name.len())?;
        copy_canonical(name, to);
        Some(rest)
    }
}

/// Copies `from` to `to`, which is as long.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        0..8 => store_short(load_short(from), to),
        8..16 => copy_ends::<8>(from, to),
        16..32 => copy_ends::<16>(from, to),
        32..64 => copy_ends::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes, of at least as many.
#[inline(always)]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk(), to.last_chunk_mut::<N>()) {
        *to = *from;
    }
}

/// Copies `from` to `to`, which is as long; see [`Cursor::copy_plain`].
#[inline(always)]
fn copy_plain(from: &[u8], to: &mut [u8]) -> bool {
    let found = match from.len() {
        0..8 => {
            let short = load_short(from);
            store_short(short, to);
            // Where there is no byte, a space does no harm.
            special(short | all(b' ') << (8 * from.len()))
        }
        8..16 => {
            copy_ends::<8>(from, to);
            special_ends::<8>(from)
        }
        16..32 => {
            copy_ends::<16>(from, to);
            special_ends::<16>(from)
        }
        _ => {
            to.copy_from_slice(from);
            special_long(from)
        }
    };
    found & all(0x80) == 0
}

/// [`special`] of the first and the last `N` bytes, of at least as many.
#[inline(always)]
fn special_ends<const N: usize>(bytes: &[u8]) -> u64 {
    let ends = [bytes.first_chunk::<N>(), bytes.last_chunk::<N>()];
    let words = ends.into_iter().flatten().flat_map(|end| end.as_chunks().0);
    words.fold(0, |found, word| found | special(u64::from_le_bytes(*word)))
}

/// [`special`] of all bytes, of at least 16.
#[inline(never)]
fn special_long(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks().0.iter().chain(bytes.last_chunk());
    words.fold(0, |found, word| found | special(u64::from_le_bytes(*word)))
}

/// See [`Cursor::copy_canonical`].
#[inline(always)]
fn copy_canonical(name: &[u8], to: &mut [u8]) {
    let len = name.len();
    // What is before the first byte is taken for a hyphen.
    let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) else {
        return store_short(canonical(load_short(name), b'-'), to);
    };
    let before_last = if len == 8 { b'-' } else { name[len - 9] };
    if let Some(to) = to.first_chunk_mut() {
        *to = canonical(u64::from_le_bytes(*first), b'-').to_le_bytes();
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = canonical(u64::from_le_bytes(*last), before_last).to_le_bytes();
    }
    if len > 16 {
        copy_canonical_middle(name, to);
    }
}

/// All but the first eight bytes, and at most the last eight.
#[inline(never)]
fn copy_canonical_middle(name: &[u8], to: &mut [u8]) {
    let (from, to) = (name.as_chunks().0, to.as_chunks_mut().0);
    for ((piece, before), to) in from[1..].iter().zip(from).zip(&mut to[1..]) {
        *to = canonical(u64::from_le_bytes(*piece), before[7]).to_le_bytes();
    }
}
