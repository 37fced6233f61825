//! What must hold when brokers hang, formats panic, results are refused and leases are lost.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use celeriac_broker::{
    Broker, Capabilities, ConsumeOptions, Consumer, Delivery, DeliveryTag, Outgoing, QueueSpec, Receipt, Settle,
    Settlement,
};
use celeriac_consumer::{TaskError, Tasks};
use celeriac_core::{ContentType, Error, Message, Properties, QueueName, Result, StoreId, TaskState};
use celeriac_memory::{MemoryConfig, MemoryStore};
use celeriac_producer::{ProducerConfig, signature};
use celeriac_serializer::{Compression, ContentEncoding, Json, Serializer, Serializers, Visit};

use crate::support::{Bench, failed, output, probe, slots, soon};
use crate::wrappers::{Flaky, Log};

task!(async Quick(_cx) -> i64 { Ok(1) });
task!(#[acks_late = false] async Once(cx) -> i64 {
    probe(cx).tell("runs");
    probe(cx).pass().await;
    Ok(1)
});
task!(#[acks_late = false] async OnceCounted(cx) -> u32 {
    probe(cx).tell("runs");
    Ok(cx.delivery_count().unwrap_or(0))
});
task!(async FailsAtLength(_cx) -> i64 { Err(TaskError::new("x".repeat(5_000))) });
task!(#[track_started = true] async Vanishes(cx) -> i64 {
    probe(cx).pass().await;
    Err(TaskError::ignore())
});

fn tasks() -> Tasks {
    Tasks::new().with::<Quick>().with::<Once>().with::<OnceCounted>().with::<FailsAtLength>().with::<Vanishes>()
}

/// The memory store, but that may hang where it is told to, and may lose leases.
#[derive(Debug)]
struct Hanging {
    store: MemoryStore,
    consume: AtomicBool,
    settle: Arc<AtomicBool>,
    loses: Arc<AtomicBool>,
}

impl Hanging {
    fn new(store: MemoryStore) -> Arc<Self> {
        Arc::new(Self { store, consume: AtomicBool::new(false), settle: Arc::default(), loses: Arc::default() })
    }
}

#[async_trait]
impl Broker for Hanging {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
    fn store_id(&self) -> Option<StoreId> {
        Broker::store_id(&self.store)
    }
    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.store.declare(queue).await
    }
    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.store.publish(batch).await
    }
    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        if self.consume.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let inner = self.store.consume(options).await?;
        Ok(Box::new(HangingConsumer { inner, settle: Arc::clone(&self.settle), loses: Arc::clone(&self.loses) }))
    }
    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        self.store.depth(queue).await
    }
    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.store.purge(queue).await
    }
    async fn close(&self) -> Result<()> {
        Broker::close(&self.store).await
    }
}

#[derive(Debug)]
struct HangingConsumer {
    inner: Box<dyn Consumer>,
    settle: Arc<AtomicBool>,
    loses: Arc<AtomicBool>,
}

#[async_trait]
impl Consumer for HangingConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        let deliveries = self.inner.recv(limit).await?;
        Ok(deliveries
            .into_iter()
            .map(|delivery| {
                let (queue, count) = (delivery.queue.clone(), delivery.delivery_count);
                let (message, receipt) = delivery.split();
                let settle = HangingSettle {
                    receipt: std::sync::Mutex::new(Some(receipt)),
                    hangs: Arc::clone(&self.settle),
                    loses: Arc::clone(&self.loses),
                };
                let receipt = Receipt::new(DeliveryTag(0), Arc::new(settle));
                Delivery::new(message, queue, receipt).counted(count.unwrap_or(1))
            })
            .collect())
    }
    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.cancel().await
    }
}

#[derive(Debug)]
struct HangingSettle {
    receipt: std::sync::Mutex<Option<Receipt>>,
    hangs: Arc<AtomicBool>,
    loses: Arc<AtomicBool>,
}

#[async_trait]
impl Settle for HangingSettle {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let receipt = self.receipt.lock().unwrap().take();
        if self.loses.swap(false, Ordering::SeqCst) {
            // Another has it by now: all is passed over.
            return Ok(());
        }
        let settlement = batch.remove(0);
        receipt.expect("settled once").settle(settlement.verb).await.map(drop)
    }
    fn abandon(&self, _: DeliveryTag) {
        self.receipt.lock().unwrap().take();
    }
}

fn bench_over(broker: Arc<Hanging>) -> Bench {
    let store = broker.store.clone();
    Bench::over(store.clone(), broker, Arc::new(store), ProducerConfig::default())
}

#[tokio::test]
async fn a_worker_whose_broker_does_not_answer_at_the_start_can_be_stopped() {
    let broker = Hanging::new(MemoryStore::new());
    broker.consume.store(true, Ordering::SeqCst);
    let bench = bench_over(broker);
    bench.start(tasks()).shut_down().await;
}

#[tokio::test]
async fn a_worker_whose_broker_does_not_settle_stops_when_it_is_told_twice() {
    let broker = Hanging::new(MemoryStore::new());
    let mut bench = bench_over(Arc::clone(&broker));
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(1);
        config.prefetch = celeriac_consumer::Prefetch::Fixed(3);
    });
    bench.producer.send_batch((0..3).map(|_| signature::<Once, _>(()))).await.unwrap();
    bench.told().await;
    bench.depth_becomes(0).await;
    broker.settle.store(true, Ordering::SeqCst);
    worker.stop.shutdown();
    worker.stop.shutdown();
    worker.stopped().await;
}

#[tokio::test]
async fn an_early_acknowledged_task_does_not_start_once_its_lease_is_lost() {
    let broker = Hanging::new(MemoryStore::new());
    // The first delivery is another's by the time it is acknowledged; here that other hands it back.
    broker.loses.store(true, Ordering::SeqCst);
    let mut bench = bench_over(broker);
    let worker = bench.start_with(tasks(), |config| config.concurrency = slots(1));
    let result = bench.producer.send(signature::<OnceCounted, _>(())).await.unwrap();
    assert_eq!(output(&result).await, 2, "only the second delivery ran");
    assert_eq!(bench.told_so_far(), ["runs"]);
    worker.shut_down().await;
}

#[tokio::test]
async fn an_early_acknowledged_task_that_a_cold_shutdown_drops_ends_as_a_failure() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Once, _>(())).await.unwrap();
    bench.told().await;
    worker.stop.shutdown_cold();
    worker.stopped().await;
    let (class, text) = failed(&result).await;
    assert_eq!(class, "billiard.exceptions.WorkerLostError");
    assert!(text.contains("stopped before the task had ended"), "{text}");
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_failure_too_large_to_be_stored_is_stored_as_one_that_says_so() {
    let store = MemoryStore::with_config(MemoryConfig::new().max_message_bytes(2_000));
    let bench = Bench::over(store.clone(), Arc::new(store.clone()), Arc::new(store), ProducerConfig::default());
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<FailsAtLength, _>(())).await.unwrap();
    assert_eq!(failed(&result).await.0, "celeriac.ResultNotStored");
    worker.shut_down().await;
}

#[tokio::test]
async fn the_record_of_a_task_that_starts_and_leaves_nothing_expires() {
    let store = MemoryStore::new();
    let backend = Flaky::new(store.clone(), Log::default());
    let given = Arc::clone(&backend);
    let bench = Bench::over(store.clone(), Arc::new(store), backend, ProducerConfig::default());
    let worker = bench.start(tasks());
    let sent = bench.producer.send(signature::<Vanishes, _>(())).await.unwrap();
    // The task waits until its start is stored, so that there is a record for certain.
    celeriac_testkit::eventually(crate::support::DEADLINE, async || {
        given.given.lock().unwrap().iter().any(|record| record.meta.state == TaskState::Started)
    })
    .await;
    bench.open(1);
    worker.shut_down().await;
    assert_eq!(bench.meta(sent.id()).await.map(|meta| meta.state), Some(TaskState::Started), "nothing took its place");
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    assert!(given.given.lock().unwrap().iter().all(|record| record.expires == Some(day)));
}

/// A format whose reader has a bug.
#[derive(Debug)]
struct Buggy;

impl Serializer for Buggy {
    fn name(&self) -> &str {
        "buggy"
    }
    fn content_type(&self) -> ContentType {
        ContentType::from_static("application/x-buggy")
    }
    fn content_encoding(&self) -> ContentEncoding {
        ContentEncoding::Utf8
    }
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
        Json.encode(value, out)
    }
    #[expect(clippy::panic_in_result_fn, reason = "it is the bug")]
    fn decode(&self, _: &[u8], _: Visit<'_>) -> Result<()> {
        panic!("a bug in the format")
    }
}

#[tokio::test]
async fn a_format_that_panics_costs_no_slot() {
    let bench = Bench::new();
    let serializers = Serializers::new().register(Arc::new(Buggy)).accept(["json", "buggy"]).unwrap();
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(1);
        config.serializers = serializers;
    });
    for _ in 0..3 {
        let properties =
            Properties { content_type: Some(ContentType::from_static("application/x-buggy")), ..Properties::default() };
        // Of protocol 1: its body is read by the slot itself.
        let message = Message { properties, body: "{}".into(), ..Message::default() };
        bench.store.publish(vec![Outgoing::new(message, &QueueName::DEFAULT)]).await.unwrap();
    }
    assert_eq!(output(&bench.producer.send(signature::<Quick, _>(())).await.unwrap()).await, 1);
    assert_eq!(bench.depth().await, 0);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_compressed_message_of_protocol_1_is_read() {
    let bench = Bench::new();
    let worker = bench.start(tasks());
    let body = Compression::Zlib.compress(br#"{"task": "Quick", "id": "old", "args": [], "kwargs": {}}"#).unwrap();
    let mut message = Message { body: body.into(), ..Message::default() };
    message.properties.content_type = Some(ContentType::JSON);
    message.headers.set_extra("compression", "application/x-gzip");
    bench.store.publish(vec![Outgoing::new(message, &QueueName::DEFAULT)]).await.unwrap();
    let meta = bench.ended(&"old".parse().unwrap()).await;
    assert_eq!(meta.state, TaskState::Success);
    worker.shut_down().await;
}

/// A backend's panic must not leave a worker that looks alive and does nothing.
#[tokio::test]
async fn a_worker_whose_backend_panics_ends_with_an_error() {
    #[derive(Debug)]
    struct Panics(MemoryStore);

    #[async_trait]
    impl celeriac_backend::ResultBackend for Panics {
        fn capabilities(&self) -> celeriac_backend::BackendCapabilities {
            celeriac_backend::ResultBackend::capabilities(&self.0)
        }
        async fn store(&self, _: Vec<celeriac_core::StoreResult>) -> Result<()> {
            panic!("a bug in the backend")
        }
        async fn fetch(&self, ids: &[celeriac_core::TaskId]) -> Result<Vec<Option<celeriac_core::TaskMeta>>> {
            self.0.fetch(ids).await
        }
        async fn watch(&self, id: &celeriac_core::TaskId) -> Result<Box<dyn celeriac_backend::Watch>> {
            self.0.watch(id).await
        }
        async fn forget(&self, ids: &[celeriac_core::TaskId]) -> Result<()> {
            self.0.forget(ids).await
        }
        async fn sweep(&self) -> Result<u64> {
            self.0.sweep().await
        }
        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }

    let store = MemoryStore::new();
    let backend = Arc::new(Panics(store.clone()));
    let bench = Bench::over(store.clone(), Arc::new(store), backend, ProducerConfig::default());
    let worker = celeriac_consumer::Worker::builder(bench.producer.clone(), tasks()).build().unwrap();
    let running = tokio::spawn(worker.run());
    bench.producer.send(signature::<Quick, _>(())).await.unwrap();
    let error: Error = soon(running).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("broke down"), "{error}");
    assert_eq!(bench.depth().await, 1, "the message is handed back");
}
