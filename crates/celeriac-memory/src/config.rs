//! The limits and the clock of a store.

use std::sync::Arc;

use celeriac_core::{Clock, SystemClock};

use crate::store::MemoryStore;

/// What a [`MemoryStore`] is made with.
///
/// # Examples
/// ```
/// use celeriac_memory::MemoryConfig;
///
/// let store = MemoryConfig::new().max_queue_length(10_000).open();
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Where the time comes from. Default the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The largest body of a message and the largest stored result, in bytes; larger ones are refused as
    /// [`ErrorKind::TooLarge`](celeriac_core::ErrorKind::TooLarge). Default 64 MiB.
    pub max_message_bytes: usize,
    /// The most messages a queue keeps waiting, due or not; more are refused as
    /// [`ErrorKind::Unavailable`](celeriac_core::ErrorKind::Unavailable). Those that come back are always taken. Default no limit.
    pub max_queue_length: Option<usize>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), max_message_bytes: 64 << 20, max_queue_length: None }
    }
}

impl MemoryConfig {
    /// Everything at its default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where the time comes from; see [`MemoryStore::wake`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the largest body, in bytes.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the most messages that wait in one queue.
    #[must_use]
    pub fn max_queue_length(mut self, messages: usize) -> Self {
        self.max_queue_length = Some(messages);
        self
    }

    /// Opens a new, empty store.
    #[must_use]
    pub fn open(self) -> MemoryStore {
        MemoryStore::with_config(self)
    }
}
