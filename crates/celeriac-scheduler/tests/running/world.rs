//! A clock that goes with the runtime's and can be set, a dispatcher that keeps what it is told, and a store that can be taken away.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use celeriac_broker::{Broker as _, ConsumeOptions, Outgoing};
use celeriac_core::{Clock, EntryName, Error, Message, QueueName, Result, Signature, StoreId, TaskId, Timestamp};
use celeriac_memory::MemoryStore;
use celeriac_schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, StoredEntry, Term,
};
use celeriac_scheduler::{Dispatch, Entries, Entry, Scheduler, SchedulerHandle, Tick, async_trait};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A clock that goes as the runtime's does, from 2026-11-22 on, until it is set.
#[derive(Debug)]
pub(crate) struct WallClock {
    begun: Instant,
    shift: AtomicI64,
    /// How often it was looked at.
    pub(crate) looks: AtomicI64,
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let start = "2026-11-22T00:00:00Z".parse::<Timestamp>().unwrap() + self.begun.elapsed();
        Timestamp::from_micros(start.as_micros() + self.shift.load(Ordering::Relaxed))
    }
}

impl WallClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), shift: AtomicI64::new(0), looks: AtomicI64::new(0) })
    }

    /// Sets the clock forward, as it is when the machine has slept. Nobody is told.
    pub(crate) fn forward(&self, by: Duration) {
        self.shift.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn back(&self, by: Duration) {
        self.shift.fetch_sub(i64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

/// A tick that was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) due: Timestamp,
    pub(crate) id: TaskId,
    pub(crate) late: Duration,
    pub(crate) count: u64,
    pub(crate) at: Timestamp,
}

/// Keeps what it is to send, and fails as it is told.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Arc<WallClock>,
    pub(crate) sent: Mutex<Vec<Sent>>,
    /// Entries that cannot be sent for now.
    pub(crate) away: Mutex<HashSet<String>>,
    pub(crate) attempts: Mutex<Vec<TaskId>>,
    /// An entry that is put, changed, whenever its tick is sent.
    pub(crate) changes: Mutex<Option<(Entries, Entry)>>,
    /// Whether every task that was sent runs still.
    pub(crate) running: AtomicBool,
}

#[async_trait]
impl Dispatch for Recorder {
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
        let one = |tick: &Tick| {
            self.attempts.lock().unwrap().push(tick.id.clone());
            if self.away.lock().unwrap().contains(tick.entry.name.as_str()) {
                return Err(Error::unavailable("send", "away"));
            }
            if tick.entry.task.task == "unknown" {
                return Err(Error::new(celeriac_core::ErrorKind::NotFound, "send", "no such task"));
            }
            let Tick { entry, due, late, id, count, .. } = tick.clone();
            let at = self.clock.now();
            self.sent.lock().unwrap().push(Sent { name: entry.name.to_string(), due, id, late, count, at });
            Ok(())
        };
        let results = ticks.iter().map(one).collect();
        let changes = self.changes.lock().unwrap().clone();
        if let Some((entries, entry)) = changes
            && ticks.iter().any(|tick| tick.entry.name == entry.name)
        {
            let count = u64::try_from(self.attempts.lock().unwrap().len()).unwrap();
            entries.put(&entry.deadline(Duration::from_secs(60 + count))).await.unwrap();
        }
        results
    }

    async fn unfinished(&self, ids: &[TaskId]) -> Result<Vec<bool>> {
        let attempts = self.attempts.lock().unwrap();
        assert!(ids.iter().all(|id| attempts.contains(id)), "only what was sent is asked for");
        Ok(vec![self.running.load(Ordering::Relaxed); ids.len()])
    }
}

/// Publishes with the step.
#[derive(Debug)]
pub(crate) struct Publisher(pub(crate) MemoryStore);

pub(crate) fn ticks() -> QueueName {
    QueueName::from_static("ticks")
}

#[async_trait]
impl Dispatch for Publisher {
    async fn send(&self, _: &[Tick]) -> Vec<Result<()>> {
        unreachable!("the store publishes")
    }

    fn store_id(&self) -> Option<StoreId> {
        ScheduleStore::store_id(&self.0)
    }

    fn messages(&self, tick: &Tick) -> Result<Vec<Outgoing>> {
        let body = format!("{} {}", tick.entry.name, tick.due);
        Ok(vec![Outgoing::new(Message { body: body.into(), ..Message::default() }, &ticks())])
    }
}

/// The bodies of all messages, in order.
pub(crate) async fn published(store: &MemoryStore) -> Vec<String> {
    let count = usize::try_from(store.depth(&ticks()).await.unwrap()).unwrap();
    let Some(count) = NonZeroUsize::new(count) else { return Vec::new() };
    let mut consumer = store.consume(ConsumeOptions::new([ticks()])).await.unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < count.get() {
        for delivery in consumer.recv(count).await.unwrap() {
            bodies.push(String::from_utf8(delivery.message.body.to_vec()).unwrap());
            delivery.ack().await.unwrap();
        }
    }
    bodies
}

/// How a store fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Weather {
    Fine,
    /// Every call fails.
    Away,
    /// Every call hangs, until the weather changes.
    Frozen,
    /// Steps are taken, but the answer is lost.
    Deaf,
    /// Each step takes five milliseconds.
    Slow,
}

/// A handle on a store, for one scheduler, that fails as it is told.
#[derive(Debug, Clone)]
pub(crate) struct Flaky {
    store: MemoryStore,
    weather: Arc<tokio::sync::watch::Sender<Weather>>,
}

impl Flaky {
    pub(crate) fn new(store: &MemoryStore) -> Self {
        Self { store: store.connect(), weather: Arc::new(tokio::sync::watch::Sender::new(Weather::Fine)) }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    async fn pass(&self) -> Result<()> {
        let mut weather = self.weather.subscribe();
        let now = *weather.wait_for(|weather| *weather != Weather::Frozen).await.unwrap();
        if now == Weather::Away { Err(Error::unavailable("ask", "the store is away")) } else { Ok(()) }
    }
}

#[async_trait]
impl ScheduleStore for Flaky {
    fn capabilities(&self) -> ScheduleCapabilities {
        ScheduleStore::capabilities(&self.store)
    }

    fn store_id(&self) -> Option<StoreId> {
        ScheduleStore::store_id(&self.store)
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        self.pass().await?;
        self.store.put(name, definition, condition).await
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        self.pass().await?;
        self.store.remove(name).await
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.pass().await?;
        self.store.get(name).await
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        self.pass().await?;
        self.store.list(after, limit).await
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        self.pass().await?;
        self.store.changes(since, limit).await
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        self.pass().await?;
        // As with every store that is not in memory, there is never an answer at once.
        tokio::task::yield_now().await;
        self.store.changed(since).await
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        self.pass().await?;
        self.store.lead(who, lease).await
    }

    async fn resign(&self, term: Term) -> Result<()> {
        self.pass().await?;
        self.store.resign(term).await
    }

    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        self.pass().await?;
        if *self.weather.borrow() == Weather::Slow {
            tokio::time::sleep(Duration::from_millis(5)).await; // wait: a slow store takes its time
        }
        let advance = self.store.advance(term, steps).await;
        let is_deaf = *self.weather.borrow() == Weather::Deaf;
        if is_deaf { Err(Error::unavailable("ask", "the answer is lost")) } else { advance }
    }

    async fn close(&self) -> Result<()> {
        ScheduleStore::close(&self.store).await
    }
}

pub(crate) fn name(name: &str) -> EntryName {
    EntryName::new(name.to_owned()).unwrap()
}

pub(crate) fn entry(entry: &str, schedule: &str) -> Entry {
    Entry::new(name(entry), schedule.parse().unwrap(), Signature::named("shop.task"))
}

/// One store, and a scheduler with a recorder.
pub(crate) struct World {
    pub(crate) clock: Arc<WallClock>,
    pub(crate) store: MemoryStore,
    pub(crate) flaky: Flaky,
    pub(crate) entries: Entries,
    pub(crate) recorder: Arc<Recorder>,
    running: Option<(SchedulerHandle, JoinHandle<Result<()>>)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = WallClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let recorder = Recorder {
            clock: clock.clone(),
            sent: Mutex::default(),
            away: Mutex::default(),
            attempts: Mutex::default(),
            changes: Mutex::default(),
            running: AtomicBool::new(false),
        };
        Self {
            entries: Entries::new(Arc::new(store.clone())).clock(clock.clone()),
            flaky: Flaky::new(&store),
            recorder: Arc::new(recorder),
            clock,
            store,
            running: None,
        }
    }

    pub(crate) async fn with(entries: &[Entry]) -> Self {
        let mut world = Self::new();
        world.entries.put_all(entries).await.unwrap();
        world.start();
        world
    }

    pub(crate) fn start(&mut self) {
        self.start_with(Duration::from_secs(10));
    }

    pub(crate) fn start_with(&mut self, lease: Duration) {
        let scheduler = Scheduler::builder(Arc::new(self.flaky.clone()), self.recorder.clone());
        let scheduler = scheduler.clock(self.clock.clone()).lease(lease).build().unwrap();
        self.running = Some((scheduler.handle(), tokio::spawn(scheduler.run())));
    }

    pub(crate) async fn stop(&mut self) {
        let (handle, running) = self.running.take().unwrap();
        handle.stop();
        running.await.unwrap().unwrap();
    }

    /// Lets so much time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // wait: time is virtual here
    }

    /// What was sent since the last call.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.recorder.sent.lock().unwrap())
    }

    /// The times of day at which what was sent since the last call was due.
    pub(crate) fn dues(&self) -> Vec<String> {
        self.sent().iter().map(|sent| sent.due.to_string()[11..19].to_owned()).collect()
    }
}
