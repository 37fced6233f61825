//! Declaring and publishing, on a real server.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;
mod declaring;
mod delays;
mod faults;
mod publishing;
