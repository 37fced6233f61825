//! Beats that run beside workers.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac::core::EntryName;
use celeriac::memory::MemoryStore;
use celeriac::prelude::*;
use celeriac::schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, StoredEntry, Term,
    async_trait,
};
use celeriac::{ErrorKind, Result};

use crate::world::{Working, World, note, pass, slow};

#[tokio::test(start_paused = true)]
async fn three_workers_with_beats_run_each_tick_once_whichever_stops() {
    let world = World::new();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let app = world.app().schedule("often", every(1.minutes()), note::s("often".to_owned()));
        workers.push(Working::of(app.build().await.unwrap().worker().with_beat()));
        pass(1.seconds()).await;
    }
    pass(10.minutes()).await;
    // The first one leads.
    workers.remove(0).stop().await;
    pass(10.minutes()).await;
    workers.remove(0).stop().await;
    pass(10.minutes()).await;
    let expected: Vec<String> = (1..=30).map(|minute| format!("00:{minute:02}:00")).collect();
    assert_eq!(world.times("often"), expected);
    workers.remove(0).stop().await;
}

/// A store that is far away: to resign takes a second.
#[derive(Debug)]
struct Far(MemoryStore);

#[async_trait]
impl ScheduleStore for Far {
    fn capabilities(&self) -> ScheduleCapabilities {
        ScheduleStore::capabilities(&self.0)
    }
    async fn put(&self, name: &EntryName, definition: bytes::Bytes, condition: Condition) -> Result<Put> {
        self.0.put(name, definition, condition).await
    }
    async fn remove(&self, name: &EntryName) -> Result<bool> {
        self.0.remove(name).await
    }
    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.0.get(name).await
    }
    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        self.0.list(after, limit).await
    }
    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        self.0.changes(since, limit).await
    }
    async fn changed(&self, since: Revision) -> Result<()> {
        self.0.changed(since).await
    }
    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        self.0.lead(who, lease).await
    }
    async fn resign(&self, term: Term) -> Result<()> {
        pass(1.seconds()).await;
        self.0.resign(term).await
    }
    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        self.0.advance(term, steps).await
    }
    async fn close(&self) -> Result<()> {
        ScheduleStore::close(&self.0).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_has_handed_on_the_lead() {
    let world = World::new();
    let app = world.app().schedule_store(Arc::new(Far(world.store.connect())));
    let app = app.schedule("often", every(1.minutes()), note::s("often".to_owned())).build().await.unwrap();
    let working = Working::of(app.worker().with_beat());
    pass(90.seconds()).await;
    leader(&world).await;
    working.stop().await;
    assert!(matches!(world.store.lead("next", 1.seconds()).await.unwrap(), Lead::Leading(_)));
    assert_eq!(world.times("often"), ["00:01:00"]);
}

/// Who leads.
async fn leader(world: &World) -> String {
    match world.store.lead("nobody", 1.seconds()).await.unwrap() {
        Lead::Led { by, .. } => by,
        Lead::Leading(_) => panic!("no beat leads"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_beat_stops_at_once_while_its_worker_finishes_what_runs() {
    let world = World::new();
    let app = async || {
        let app = world.app().schedule("slow", every(30.minutes()), slow::s("slow".to_owned()));
        app.schedule("often", every(1.minutes()), note::s("often".to_owned())).build().await.unwrap()
    };
    let first = Working::of(app().await.worker().with_beat());
    pass(31.minutes() + 30.seconds()).await;
    world.runs();
    let second = Working::of(app().await.worker().with_beat());
    pass(1.seconds()).await;
    let before = leader(&world).await;
    first.0.shutdown();
    pass(1.seconds()).await;
    assert_ne!(leader(&world).await, before, "the other's beat");
    pass(2.minutes()).await;
    assert!(!first.1.is_finished(), "it runs its slow task");
    assert_eq!(world.times("often"), ["00:32:00", "00:33:00"]);
    pass(25.minutes()).await;
    assert!(first.1.is_finished());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cold_shutdown_waits_for_neither() {
    let world = World::new();
    let app = world.app().schedule("slow", every(1.minutes()), slow::s("slow".to_owned()));
    let working = Working::of(app.build().await.unwrap().worker().with_beat());
    pass(90.seconds()).await;
    let before = world.clock.now();
    working.0.shutdown_cold();
    working.1.await.unwrap().unwrap();
    assert!(world.clock.now().since(before) < 3.seconds());
}

#[tokio::test(start_paused = true)]
async fn what_waiting_cannot_cure_ends_the_worker_with_that_error() {
    let world = World::new();
    let theirs = world.app_of("office").schedule("often", every(1.minutes()), note::s("theirs".to_owned()));
    let theirs = theirs.build().await.unwrap();
    let theirs = Working::of(theirs.worker().with_beat());
    pass(1.seconds()).await;
    let ours = world.app().schedule("often", every(1.minutes()), note::s("ours".to_owned())).build().await.unwrap();
    let error = ours.worker().with_beat().build().unwrap().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("entry `often`: name: `office` declares an entry of that name"), "{error}");
    theirs.stop().await;
}
