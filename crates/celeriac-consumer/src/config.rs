//! How a worker works.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_core::QueueName;
use celeriac_serializer::Serializers;

/// How many tasks a worker holds ready beyond those that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefetch {
    /// As many as it will run within about 50 ms at the rate it has lately shown, but at most this many. Slow tasks are not hoarded, fast ones
    /// come in large batches.
    Adaptive(usize),
    /// Always this many. 0 fetches a task only when a slot is free.
    Fixed(usize),
}

impl Prefetch {
    /// The most tasks that are ever held ready.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Adaptive(most) | Self::Fixed(most) => most,
        }
    }
}

/// How a worker works. Everything has a default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// Whether messages are acknowledged after the task, for tasks that do not say. Default: yes, so that a crash repeats a task and never
    /// loses it. (Celery's default is no.)
    pub acks_late: bool,
    /// How many tasks run at once. Default: the number of CPUs.
    pub concurrency: NonZeroUsize,
    /// The most tasks with a later ETA that are held in memory, on brokers that cannot keep them. Default: 1,000; while so many are held nothing
    /// is fetched; what is in hand by then may still be added.
    pub eta_limit: usize,
    /// Whether results are left out, for tasks and calls that do not say. Default: no.
    pub ignore_result: bool,
    /// The largest body that is read, in bytes, compressed or not. Default: 64 MiB.
    pub max_body_bytes: usize,
    /// The largest result that is stored, in bytes; a larger one is stored as a failure. Default: 64 MiB.
    pub max_result_bytes: usize,
    /// The worker's name, as others see it. Default: `celery@<host>`.
    pub name: String,
    /// How many tasks are held ready. Default: adaptive, at most 4,096.
    pub prefetch: Prefetch,
    /// The queues to work on. Default: `celery`.
    pub queues: Vec<QueueName>,
    /// How long results are kept, for tasks that do not say; for ever when `None`. Default: a day.
    pub result_expires: Option<Duration>,
    /// Whether results bear the task's name, arguments, worker, retries and queue. Default: no.
    pub result_extended: bool,
    /// The format of results, by name. Default: `json`.
    pub result_serializer: Cow<'static, str>,
    /// The formats that there are, and those that are accepted.
    pub serializers: Serializers,
    /// How long a warm shutdown waits for what runs before it turns cold; for ever when `None`. Default: for ever.
    pub shutdown_timeout: Option<Duration>,
    /// Whether failures are stored even if the result is ignored. Default: no.
    pub store_errors_even_if_ignored: bool,
    /// Whether state `STARTED` is stored, for tasks that do not say. Default: no.
    pub track_started: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            acks_late: true,
            concurrency: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            eta_limit: 1_000,
            ignore_result: false,
            max_body_bytes: 64 * 1024 * 1024,
            max_result_bytes: 64 * 1024 * 1024,
            name: format!("celery@{}", celeriac_producer::hostname()),
            prefetch: Prefetch::Adaptive(4_096),
            queues: vec![QueueName::DEFAULT],
            result_expires: Some(Duration::from_secs(24 * 60 * 60)),
            result_extended: false,
            result_serializer: Cow::Borrowed("json"),
            serializers: Serializers::new(),
            shutdown_timeout: None,
            store_errors_even_if_ignored: false,
            track_started: false,
        }
    }
}
