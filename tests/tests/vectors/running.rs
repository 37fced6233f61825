//! A worker over the memory broker that knows the tasks of the captured messages.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend as _;
use celeriac_broker::{Broker as _, Destination, Outgoing};
use celeriac_consumer::{Arguments, Define, ShutdownHandle, Task, TaskContext, TaskOptions, TaskResult, Tasks, Worker};
use celeriac_core::{Message, QueueName, TaskFailure, TaskId, TaskMeta, TaskState, Value};
use celeriac_memory::MemoryStore;
use celeriac_producer::Producer;
use celeriac_serializer::{Json, Serializer as _};
use celeriac_testkit::ManualClock;

/// No captured message takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

struct Add;

impl Define for Add {
    const NAME: &'static str = "wire.add";
    const PARAMETERS: &'static [&'static str] = &["x", "y"];
    type Output = i64;
    fn options() -> TaskOptions {
        TaskOptions::default()
    }
}

impl Task for Add {
    const BLOCKING: bool = false;
    async fn run<'a>(_: &'a TaskContext, mut args: Arguments<'a>) -> TaskResult<i64> {
        let (x, y): (i64, i64) = (args.required("x")?, args.required("y")?);
        args.finish()?;
        Ok(x + y)
    }
}

/// A time when every captured message is past its ETA and its expiry.
fn later() -> ManualClock {
    ManualClock::at("2031-01-01T00:00:00+00:00".parse().unwrap())
}

/// A running worker.
pub(crate) struct Running {
    pub(crate) store: MemoryStore,
    pub(crate) stop: ShutdownHandle,
    worker: tokio::task::JoinHandle<celeriac_core::Result<()>>,
}

impl Running {
    pub(crate) fn start() -> Self {
        let store = MemoryStore::new();
        let producer = Producer::builder(Arc::new(store.clone())).backend(Arc::new(store.clone())).build().unwrap();
        let worker = Worker::builder(producer, Tasks::new().with::<Add>()).clock(Arc::new(later())).build().unwrap();
        Self { store, stop: worker.handle(), worker: tokio::spawn(worker.run()) }
    }

    pub(crate) async fn publish(&self, message: Message) {
        let outgoing = Outgoing::new(message, Destination::queue(&QueueName::DEFAULT));
        self.store.publish(vec![outgoing]).await.unwrap();
    }

    /// The final record of a task.
    pub(crate) async fn ended(&self, id: &str) -> TaskMeta {
        let mut watch = self.store.watch(&TaskId::new(id.to_owned()).unwrap()).await.unwrap();
        let ended = async {
            loop {
                let meta = watch.next().await.unwrap();
                if meta.state.is_ready() {
                    return meta;
                }
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("task `{id}` did not end"))
    }

    /// A good task still runs; it is also the signal that everything before it has been looked at.
    pub(crate) async fn still_works(&self) {
        let good = crate::captured::Captured::named("amqp_task_messages", "basic_args");
        let id = good.headers["id"].as_str().unwrap().to_owned();
        self.store.forget(&[TaskId::new(id.clone()).unwrap()]).await.unwrap();
        self.publish(good.message).await;
        let meta = self.ended(&id).await;
        assert_eq!(result(&meta), Value::from(5), "{meta:?}");
    }

    /// Stops the worker; everything it had in hand was settled, and no message is left.
    pub(crate) async fn stop(self) {
        self.stop.shutdown();
        tokio::time::timeout(DEADLINE, self.worker).await.expect("the worker stops").unwrap().unwrap();
        assert_eq!(self.store.purge(&QueueName::DEFAULT).await.unwrap(), 0, "messages were left");
    }
}

/// The stored result or exception object.
pub(crate) fn result(meta: &TaskMeta) -> Value {
    meta.result.as_ref().map(|payload| Json.decode_value(&payload.data).unwrap()).unwrap_or_default()
}

/// The stored failure.
pub(crate) fn failure(meta: &TaskMeta) -> TaskFailure {
    assert!(matches!(meta.state, TaskState::Failure | TaskState::Revoked), "{meta:?}");
    TaskFailure::from_value(result(meta))
}
