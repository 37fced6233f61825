//! Consuming from a real RabbitMQ: what is on the way, and what becomes of it when something is lost.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod cost;
mod failover;
mod long;
mod losses;
mod prefetch;
mod refusals;
mod support;
mod tags;
