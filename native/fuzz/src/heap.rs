//! How much a call allocates at most: a counter in front of the system's allocator.
//!
//! Counted for each thread alone, so tests may run side by side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes held, and the most that were held, since `peak_of` began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(more: usize, less: usize) {
    // Absent while a thread ends; then nobody measures.
    let _ = HELD.try_with(|cell| {
        let (held, peak) = cell.get();
        let held = held
            .saturating_add_unsigned(more)
            .saturating_sub_unsigned(less);
        cell.set((held, peak.max(held)));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches one
// thread-local cell, which needs no allocation.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        System.dealloc(place, layout);
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new stand side by side while the bytes are copied.
        count(size, 0);
        count(0, layout.size());
        System.realloc(place, layout, size)
    }
}

/// What `call` returns, and the most bytes that it held at one time.
pub fn peak_of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    HELD.with(|cell| cell.set((0, 0)));
    let result = call();
    let (_, peak) = HELD.with(Cell::get);
    (result, usize::try_from(peak).unwrap_or_default())
}

/// Run `call` on an input of `bytes` bytes: it may hold `base + each * bytes` at one time.
pub fn bounded<T>(base: usize, each: usize, bytes: usize, call: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(call);
    let limit = base + each * bytes;
    assert!(
        peak <= limit,
        "{peak} bytes held for {bytes}, at most {limit} allowed"
    );
    result
}
