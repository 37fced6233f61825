//! Rust and Python on one Redis: what either of them sends, the other works, and both read the results.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod agreement;
mod canvas;
mod deaths;
mod delays;
mod formats;
mod priorities;
mod python_sends;
mod rust_sends;
mod shutdown;
mod support;
mod tasks;
mod times;
mod together;
mod visibility;
