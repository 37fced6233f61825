//! Real servers for tests: each in a process, a folder and on ports of its own, and gone with the test.
//!
//! Needs the feature `servers`, and Unix. Nothing is installed from here: a test whose server is missing fails, and names
//! `cargo xtask setup`, which installs it.

mod node;
mod patience;
mod port;
mod process;
mod rabbit;
mod redis;
mod tls;
mod url;

pub(crate) use patience::Patience;
pub(crate) use port::Port;
pub use process::Process;
pub use rabbit::{Permissions, QueueInfo, RabbitBuilder, RabbitServer, Vhost};
pub use redis::{Fsync, RawRedis, RedisBuilder, RedisSentinel, RedisServer, Reply, SentinelBuilder};
pub use tls::{Certificates, ClientCertificate};
