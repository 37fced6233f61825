//! Conformance suites for celeriac.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "x")]

pub mod backend;
pub mod broker;
mod clock;
pub mod suite;
mod wait;

pub use clock::ManualClock;
pub use wait::{eventually, unique};
