//! The schedule of an app: what it declares, its beats beside its workers, and what people change while they run. In virtual time: hours pass in
//! milliseconds, and every wait is exact.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod bad_input;
mod changing;
mod stores;
mod ticking;
mod with_beat;
mod world;
