//! Rust and Python on one Redis: what either of them sends, the other works, and both read the results.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod agreement;
#[path = "../interop/beats.rs"]
mod beats;
mod beside;
#[path = "../interop/both_work.rs"]
mod both_work;
mod canvas;
mod deaths;
mod delays;
#[path = "../interop/exchanges.rs"]
mod exchanges;
#[path = "../interop/expiry.rs"]
mod expiry;
#[path = "../interop/formats.rs"]
mod formats;
#[path = "../interop/pair.rs"]
mod pair;
mod priorities;
#[path = "../interop/python_sends.rs"]
mod python_sends;
mod results;
#[path = "../interop/runs.rs"]
mod runs;
#[path = "../interop/rust_sends.rs"]
mod rust_sends;
mod shutdown;
mod support;
#[path = "../interop/tasks.rs"]
mod tasks;
mod times;
mod together;
mod visibility;
