//! Rust and Python on one RabbitMQ: what either of them sends, the other works, and both read the results.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod results;
mod support;
#[path = "../redis_interop/tasks.rs"]
mod tasks;
