//! Many schedulers on one store: one leads, and every tick is sent once.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{Result, Timestamp};
use celeriac_memory::MemoryStore;
use celeriac_scheduler::{CatchUp, Entries, Scheduler, SchedulerHandle, Units as _};
use tokio::task::JoinHandle;

use crate::world::{Flaky, Publisher, WallClock, Weather, World, entry, published};

/// A scheduler among many, as a process of its own.
struct Process {
    store: Flaky,
    handle: SchedulerHandle,
    running: JoinHandle<Result<()>>,
}

struct Fleet {
    clock: Arc<WallClock>,
    store: MemoryStore,
}

impl Fleet {
    /// With an entry that comes every second.
    async fn new() -> Self {
        let clock = WallClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let entries = Entries::new(Arc::new(store.clone())).clock(clock.clone());
        entries.put(&entry("second", "every 1s").catch_up(CatchUp::All)).await.unwrap();
        Self { clock, store }
    }

    fn start(&self, name: &str) -> Process {
        let store = Flaky::new(&self.store);
        let dispatch = Arc::new(Publisher(self.store.clone()));
        let builder = Scheduler::builder(Arc::new(store.clone()), dispatch).clock(self.clock.clone());
        let scheduler = builder.lease(3.seconds()).name(name).build().unwrap();
        Process { store, handle: scheduler.handle(), running: tokio::spawn(scheduler.run()) }
    }

    /// Sees to it that every second was sent once, in order; how many.
    async fn seconds(&self) -> usize {
        let bodies = published(&self.store).await;
        let time = |body: &String| body.strip_prefix("second ").unwrap().parse::<Timestamp>().unwrap();
        let times: Vec<Timestamp> = bodies.iter().map(time).collect();
        assert!(times.windows(2).all(|pair| pair[0] + 1.seconds() == pair[1]), "each once, in order: {times:?}");
        times.len()
    }

    /// Who leads: nobody, or the beginning of a name.
    async fn leader(&self) -> Option<String> {
        use celeriac_schedule::{Lead, ScheduleStore};
        match self.store.connect().lead("nobody", Duration::ZERO).await.unwrap() {
            Lead::Led { by, .. } => by.split_once('-').map(|(name, _)| name.to_owned()),
            Lead::Leading(term) => {
                self.store.resign(term).await.unwrap();
                None
            }
        }
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // wait: time is virtual here
}

#[tokio::test(start_paused = true)]
async fn however_often_the_leader_is_killed_every_tick_is_sent_once() {
    let fleet = Fleet::new().await;
    let mut random = fastrand::Rng::with_seed(30);
    let mut processes: Vec<(String, Process)> =
        (0..3).map(|number| (format!("p{number}"), fleet.start(&format!("p{number}")))).collect();
    for round in 0..30 {
        pass(Duration::from_millis(random.u64(1_000..5_000))).await;
        let Some(leader) = fleet.leader().await else { continue };
        if let Some(place) = processes.iter().position(|(name, _)| *name == leader) {
            let (_, killed) = processes.swap_remove(place);
            killed.running.abort();
            let name = format!("again{round}");
            processes.push((name.clone(), fleet.start(&name)));
        }
    }
    pass(10.seconds()).await;
    let now = celeriac_core::Clock::now(&*fleet.clock);
    let passed = now.since("2026-11-22T00:00:00Z".parse().unwrap()).as_secs();
    assert_eq!(fleet.seconds().await as u64, passed, "none is missed");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_leads_as_soon_as_its_lease_has_ended() {
    let fleet = Fleet::new().await;
    let first = fleet.start("first");
    pass(10.seconds()).await;
    let _second = fleet.start("second");
    pass(10.seconds()).await;
    first.running.abort();
    let sent = fleet.seconds().await;
    pass(Duration::from_millis(3_100)).await;
    assert_eq!(fleet.leader().await.as_deref(), Some("second"));
    pass(Duration::from_millis(1_400)).await;
    assert_eq!(sent + fleet.seconds().await, 24);
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_stops_another_leads_at_once() {
    let fleet = Fleet::new().await;
    let first = fleet.start("first");
    pass(1.seconds()).await;
    let _second = fleet.start("second");
    pass(Duration::from_millis(1_500)).await;
    first.handle.stop();
    first.running.await.unwrap().unwrap();
    pass(Duration::from_millis(10)).await;
    assert_eq!(fleet.leader().await.as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_frozen_and_wakes_up_sends_nothing() {
    let fleet = Fleet::new().await;
    let first = fleet.start("first");
    pass(Duration::from_millis(2_500)).await;
    let second = fleet.start("second");
    for _ in 0..20 {
        // In the middle of a step, for the store answers none of its calls any more.
        first.store.set(Weather::Frozen);
        pass(Duration::from_millis(7_300)).await;
        assert_eq!(fleet.leader().await.as_deref(), Some("second"));
        first.store.set(Weather::Fine);
        pass(Duration::from_millis(2_900)).await;
        second.store.set(Weather::Frozen);
        pass(Duration::from_millis(7_700)).await;
        assert_eq!(fleet.leader().await.as_deref(), Some("first"));
        second.store.set(Weather::Fine);
        pass(Duration::from_millis(2_100)).await;
    }
    pass(5.seconds()).await;
    assert_eq!(fleet.seconds().await, 407);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_its_lease_sends_nothing_though_its_broker_is_there() {
    let mut world = World::with(&[entry("second", "every 1s").catch_up(CatchUp::All)]).await;
    world.pass(Duration::from_millis(10_500)).await;
    // From another process, with the same broker.
    let builder = Scheduler::builder(Arc::new(world.store.connect()), world.recorder.clone());
    let second = builder.clock(world.clock.clone()).build().unwrap();
    let (handle, running) = (second.handle(), tokio::spawn(second.run()));
    world.flaky.set(Weather::Frozen);
    world.pass(30.seconds()).await;
    world.flaky.set(Weather::Fine);
    world.pass(30.seconds()).await;
    handle.stop();
    running.await.unwrap().unwrap();
    world.pass(Duration::from_secs(5)).await;
    world.stop().await;
    let mut sent = world.sent();
    let count = sent.len();
    // The one that was sent when the store fell silent was not written down: it comes again, under its id.
    sent.dedup_by_key(|sent| sent.id.clone());
    assert!(count - sent.len() <= 1 && sent.len() == 75, "{count} ticks, {} of them different", sent.len());
    assert!(sent.windows(2).all(|pair| pair[0].due + 1.seconds() == pair[1].due), "each, in order");
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_answer_is_lost_is_published_once() {
    let fleet = Fleet::new().await;
    let process = fleet.start("first");
    for _ in 0..10 {
        pass(Duration::from_millis(2_500)).await;
        process.store.set(Weather::Deaf);
        pass(Duration::from_millis(2_500)).await;
        process.store.set(Weather::Fine);
    }
    pass(Duration::from_millis(5_500)).await;
    assert_eq!(fleet.seconds().await, 55);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_schedulers_stores_and_clocks_every_tick_is_sent_once() {
    let weathers = [Weather::Fine, Weather::Fine, Weather::Away, Weather::Frozen, Weather::Deaf, Weather::Slow];
    for seed in 0..40 {
        let fleet = Fleet::new().await;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut processes: Vec<Process> = (0..3).map(|_| fleet.start("p")).collect();
        for _ in 0..60 {
            pass(Duration::from_millis(random.u64(0..4_000))).await;
            let place = random.usize(0..processes.len());
            match random.u8(0..10) {
                0 => {
                    processes[place].running.abort();
                    processes[place] = fleet.start("p");
                }
                1 => {
                    processes[place].handle.stop();
                    processes[place] = fleet.start("p");
                }
                2 => fleet.clock.forward(Duration::from_millis(random.u64(0..60_000))),
                3 => fleet.clock.back(Duration::from_millis(random.u64(0..60_000))),
                4 => processes[place].handle.wake(),
                _ => processes[place].store.set(weathers[random.usize(0..weathers.len())]),
            }
        }
        processes.iter().for_each(|process| process.store.set(Weather::Fine));
        // Also what the clock was set back by must come again.
        fleet.clock.forward(1.hours());
        pass(20.seconds()).await;
        let now = celeriac_core::Clock::now(&*fleet.clock);
        let passed = now.since("2026-11-22T00:00:00Z".parse().unwrap()).as_secs();
        assert_eq!(fleet.seconds().await as u64, passed, "seed {seed}: none is missed");
        processes.iter().for_each(|process| process.running.abort());
    }
}
