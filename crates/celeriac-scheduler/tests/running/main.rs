//! Schedulers that run, in virtual time: hours pass in milliseconds, and every wait is exact.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod catching_up;
mod changing;
mod declaring;
mod failing;
mod holding;
mod leading;
mod ticking;
mod world;
