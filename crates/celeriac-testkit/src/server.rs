//! Real servers for tests: each in a process, a folder and on a port of its own, and gone with the test.
//!
//! Needs the feature `servers`, and Unix. Nothing is installed from here: a test whose server is missing fails, and names
//! `cargo xtask setup`, which installs it.

mod node;
mod patience;
mod port;
mod process;
mod redis;
mod resp;
mod sentinel;
mod tls;

pub(crate) use port::Port;
pub use process::Process;
pub use redis::{ClientCertificate, Fsync, RedisBuilder, RedisServer};
pub use resp::{RawRedis, Reply};
pub use sentinel::{RedisSentinel, SentinelBuilder};
pub use tls::Certificates;
