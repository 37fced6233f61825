//! The worker and the producer from end to end, over the memory broker.

#![cfg(test)]

#[macro_use]
mod support;

mod arguments;
mod backends;
mod outcomes;
mod prefetch;
mod results;
mod robust;
mod sending;
mod settling;
mod shutdown;
mod timing;
mod updates;
mod wrappers;
