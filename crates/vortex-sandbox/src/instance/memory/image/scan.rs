//! Which pages of a private mapping have been written to: Linux's `PAGEMAP_SCAN`
//! (6.7 and later; `Documentation/admin-guide/mm/pagemap.rst` of the kernel).
#![allow(unsafe_code, reason = "asks the kernel by ioctl")]

use std::fs::File;
use std::mem;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use super::host_page;

/// The most ranges that are told apart.
const MAX_RANGES: usize = 16;

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// The page table of this process; `None` where there is no `/proc`.
static PAGEMAP: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/pagemap").ok());

/// Ranges of pages, in bytes from the start of the memory.
pub(super) struct Written {
    base: usize,
    regions: [PageRegion; MAX_RANGES],
    count: usize,
}

impl Written {
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.regions
            .iter()
            .take(self.count)
            .map(|region| region.start as usize - self.base..region.end as usize - self.base)
    }
}

/// The pages among `len` bytes at `base` that are copies of this process's own.
/// `None` when they are `MAX` or more, or too scattered, or the kernel does not say.
pub(super) fn written_pages<const MAX: usize>(base: usize, len: usize) -> Option<Written> {
    let pagemap = PAGEMAP.as_ref()?;
    let mut written = Written {
        base,
        regions: [PageRegion::default(); MAX_RANGES],
        count: 0,
    };
    let mut arguments = ScanArguments {
        size: mem::size_of::<ScanArguments>() as u64,
        start: base as u64,
        end: (base + len) as u64,
        vec: written.regions.as_mut_ptr() as u64,
        vec_len: MAX_RANGES as u64,
        max_pages: MAX as u64,
        // There, or in swap, but neither the file's own page nor the page of zeros.
        category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_PRESENT,
        ..ScanArguments::default()
    };
    // SAFETY: the kernel reads and writes `arguments`, whose size it is told, and
    // writes at most `vec_len` regions, for which there is room; both live on.
    let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
    written.count = usize::try_from(count).ok()?;
    // Stopped early: there may be more than it tells.
    if arguments.walk_end != arguments.end {
        return None;
    }
    let pages: usize = written
        .ranges()
        .map(|range| range.len() / host_page())
        .sum();
    (pages < MAX).then_some(written)
}
