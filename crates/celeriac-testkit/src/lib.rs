//! Conformance suites for celeriac: prove that a broker, a result backend, a store of schedules or a serializer of your own does what every other one does.
//!
//! Part of [celeriac](https://docs.rs/celeriac); a dev-dependency of those who write such things. It knows the traits, and no
//! implementation of them.
//!
//! # Examples
//! A test file for a broker, here the in-memory one. Every behaviour becomes a `#[test]` of its own; needs no runtime of yours.
//! ```
//! use std::sync::Arc;
//! use celeriac_broker::Broker;
//! use celeriac_memory::MemoryStore;
//!
//! mod my_broker {
//!     # use super::*;
//!     celeriac_testkit::broker_conformance!(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Broker> });
//! }
//! # fn main() { celeriac_testkit::broker::check(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Broker> }, "an_acked_message_is_gone") }
//! ```
//! [`backend_conformance!`], [`schedule_conformance!`] and [`serializer_conformance!`] do the same for the others.
//!
//! # Writing your own
//! 1. Implement the traits: [`Broker`], [`Consumer`] and [`Settle`] of `celeriac-broker`, [`ResultBackend`] and [`Watch`] of
//!    `celeriac-backend`, [`ScheduleStore`] of `celeriac-schedule`, or [`Serializer`] of `celeriac-serializer`. Their pages are the contract; the suites hold you to it and to nothing
//!    else. The page of `celeriac-broker` has a skeleton, `examples/custom_broker` is the shortest complete broker.
//! 2. Say in `capabilities` what you cannot do. Behaviours that need it print `skipped: ... needs capability ...`, also when tests pass,
//!    and you are held to refusing it as `Unsupported` instead.
//! 3. Write the test file above. The closure opens a handle: on a new store, or on one that others use at the same time, for all queues,
//!    exchanges and task ids of the suites are unique.
//! 4. Implement [`BrokerHarness`], [`BackendHarness`] or [`ScheduleHarness`] to have the rest tested: `reopen` gives a second handle on the same store, as
//!    another process would have, and shows what survives; `backend` pairs a broker with the result backend on its store; `now` and `pass`
//!    move a clock by hand, such as [`ManualClock`], and save the waiting. Hand the macro the function that makes the harness:
//!    `broker_conformance!(MyHarness::new)`.
//! 5. Run them on every wrapper of yours too: whatever forwards a trait can forget a method.
//!
//! A failing behaviour prints the contract it broke, in words, before the assertion. [`broker::BEHAVIOURS`], [`backend::BEHAVIOURS`],
//! [`schedule::BEHAVIOURS`] and [`serializer::BEHAVIOURS`] list all of them.
//!
//! # Real servers
//! With the feature `servers`, the module `server` starts real ones for a test, Redis and RabbitMQ, each in a process of its own: to be killed,
//! halted and started again, with passwords, TLS, replicas and sentinels. They have to be installed. The module `proxy` breaks connections to them
//! between any two commands or frames, or in the middle of one.
//!
//! [`BackendHarness`]: backend::BackendHarness
//! [`Broker`]: celeriac_broker::Broker
//! [`BrokerHarness`]: broker::BrokerHarness
//! [`Consumer`]: celeriac_broker::Consumer
//! [`ResultBackend`]: celeriac_backend::ResultBackend
//! [`ScheduleHarness`]: schedule::ScheduleHarness
//! [`ScheduleStore`]: celeriac_schedule::ScheduleStore
//! [`Serializer`]: celeriac_serializer::Serializer
//! [`Settle`]: celeriac_broker::Settle
//! [`Watch`]: celeriac_backend::Watch

pub mod backend;
pub mod broker;
mod clock;
#[cfg(all(feature = "servers", unix))]
pub mod proxy;
pub mod schedule;
pub mod serializer;
#[cfg(all(feature = "servers", unix))]
pub mod server;
pub mod suite;
mod wait;

pub use clock::ManualClock;
pub use wait::{PATIENCE, eventually, soon, unique};
