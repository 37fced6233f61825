//! Counts the allocations of a task, of all threads: `allocations SYSTEM URL FEW MANY`. The speed bench runs it.
//!
//! A program of its own, because counting makes each allocation dearer.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// So far. What grows in place, or is moved because it grows, is one more.
fn allocations() -> usize {
    let stats = COUNTED.stats();
    stats.allocations + stats.reallocations
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let words = std::env::args().skip(1).collect();
    // On the runtime's own threads, as everything else.
    if tokio::spawn(celeriac_benches::measure::allocations::count(words, allocations)).await.is_err() {
        std::process::exit(1);
    }
}
