//! Conformance suites for celeriac.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "x")]

pub mod broker;
mod clock;
mod suite;
mod wait;

pub use clock::ManualClock;
pub use wait::{eventually, unique};
