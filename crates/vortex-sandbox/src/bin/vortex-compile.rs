//! Compiles one module and ends: see `CompilerProcess`. Nobody starts it by hand.
#![allow(
    unsafe_code,
    reason = "tells the end of memory from other ends, which only an allocator can"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;

/// The system's allocator, which ends the process when there is no memory left.
struct Bounded;

// SAFETY: every call is handed to the system's allocator as it is, and what that
// returns is handed back; a null pointer, for which there is no answer, ends the
// process instead.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is handed on.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is handed on.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is handed on.
        or_end(unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(block, layout) }
    }
}

fn or_end(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        // SAFETY: ends the process without running anything that might allocate.
        unsafe { libc::_exit(vortex_sandbox::COMPILER_OUT_OF_MEMORY.into()) }
    }
    block
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn main() -> ExitCode {
    vortex_sandbox::compiler_main()
}
