//! What is said of an entry holds in bad times too: while the store is away, the clock is wrong, much was missed, or others are in trouble.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_core::{Error, ErrorKind, Result, TaskId};
use celeriac_memory::MemoryConfig;
use celeriac_scheduler::{CatchUp, Dispatch, Entries, Scheduler, SchedulerHandle, Tick, Units as _, async_trait};
use tokio::task::JoinHandle;

use crate::world::{Publisher, Recorder, WallClock, Weather, World, entry, published};

/// A scheduler whose store publishes.
fn publishing(world: &World) -> (SchedulerHandle, JoinHandle<Result<()>>) {
    let publisher = Arc::new(Publisher(world.store.clone()));
    let scheduler = Scheduler::builder(Arc::new(world.flaky.clone()), publisher);
    let scheduler = scheduler.clock(world.clock.clone()).build().unwrap();
    (scheduler.handle(), tokio::spawn(scheduler.run()))
}

#[tokio::test(start_paused = true)]
async fn a_time_that_a_wrong_clock_has_shown_before_is_sent_once_when_it_comes() {
    for atomic in [false, true] {
        let mut world = World::with(&[entry("daily", "crontab 0 10 * * *"), entry("often", "every 1h")]).await;
        if atomic {
            world.stop().await;
            publishing(&world);
        }
        world.pass(1.hours()).await;
        world.clock.forward(9.hours() + 1.days());
        world.pass(10.seconds()).await;
        world.clock.back(1.days());
        world.pass(10.seconds()).await;
        world.sent();
        published(&world.store).await;
        let looks = world.clock.looks.load(Ordering::Relaxed);
        world.pass(1.days()).await;
        let sent = world.sent().iter().filter(|sent| sent.name == "daily").count();
        let out = published(&world.store).await.iter().filter(|body| body.starts_with("daily")).count();
        assert_eq!(sent + out, 1, "by a store that publishes: {atomic}");
        let looks = world.clock.looks.load(Ordering::Relaxed) - looks;
        assert!(looks < 200_000, "it looked at the clock {looks} times in a day");
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_that_became_too_late_while_the_store_was_away_are_not_sent() {
    let entries = [
        entry("limited", "crontab 0 * * * *").deadline(1.minutes()),
        entry("skips", "crontab 0 * * * *").catch_up(CatchUp::Skip),
        entry("once", "crontab 0,30 * * * *"),
    ];
    for atomic in [false, true] {
        for weather in [Weather::Away, Weather::Frozen] {
            let mut world = World::with(&entries).await;
            if atomic {
                world.stop().await;
                publishing(&world);
            }
            world.pass(29.minutes() + 55.seconds()).await;
            world.flaky.set(weather);
            world.pass(100.minutes()).await;
            // Where nothing is written first, what is due while the lease is sure to last is sent.
            assert!(world.sent().iter().all(|sent| sent.late < 1.seconds()), "{weather:?}");
            world.flaky.set(Weather::Fine);
            world.pass(20.seconds()).await;
            let mut sent: Vec<String> = world.sent().iter().map(|sent| format!("{} {}", sent.name, sent.due)).collect();
            sent.extend(published(&world.store).await);
            let late: Vec<&String> = sent.iter().filter(|sent| !sent.starts_with("once 2026-11-22T02:00")).collect();
            assert_eq!(late, Vec::<&String>::new(), "{weather:?}, by a store that publishes: {atomic}");
            assert_eq!(sent.len(), 1, "{weather:?}, by a store that publishes: {atomic}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_all_that_was_missed_only_one_is_sent_if_they_may_not_overlap() {
    for (schedule, limit) in [("every 1h", 30.minutes()), ("crontab 0 * * * *", 2.hours())] {
        let missed = entry("alone", schedule).catch_up(CatchUp::All).no_overlap(limit);
        let mut world = World::with(&[missed]).await;
        world.recorder.running.store(true, Ordering::Relaxed);
        world.stop().await;
        world.pass(20.hours() + 1.seconds()).await;
        world.start();
        world.pass(10.seconds()).await;
        assert_eq!(world.sent().len(), 1, "{schedule}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_alone_for_as_long_as_said_from_when_it_was_sent() {
    let mut world = World::with(&[entry("daily", "crontab 0 0 * * *").no_overlap(12.hours())]).await;
    world.recorder.running.store(true, Ordering::Relaxed);
    world.stop().await;
    world.pass(44.hours()).await;
    world.start();
    world.pass(5.hours()).await;
    assert_eq!(world.sent().len(), 1, "20 hours late; the next one is due 4 hours later");
    world.pass(24.hours()).await;
    assert_eq!(world.sent().len(), 1, "that is long enough");
}

#[tokio::test(start_paused = true)]
async fn a_change_comes_through_while_much_is_missed() {
    let mut world = World::with(&[entry("all", "every 1s").catch_up(CatchUp::All)]).await;
    world.stop().await;
    world.pass(10.hours()).await;
    world.flaky.set(Weather::Slow);
    world.start();
    world.pass(1.seconds()).await;
    world.entries.put(&entry("new", "every 1s")).await.unwrap();
    world.pass(100.seconds()).await;
    let sent = world.sent();
    let new = sent.iter().filter(|sent| sent.name == "new").count();
    assert!(sent.len() - new > 5_000, "there is always something due: {}", sent.len());
    assert!(new > 95, "{new} of 100");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_sent_while_its_entry_changes_brings_back_nothing_that_is_past() {
    let world = World::with(&[entry("x", "crontab 0 * * * *").catch_up(CatchUp::All)]).await;
    world.recorder.away.lock().unwrap().insert("x".to_owned());
    world.pass(110.minutes()).await;
    let often = entry("x", "crontab * * * * *").catch_up(CatchUp::All);
    *world.recorder.changes.lock().unwrap() = Some((world.entries.clone(), often));
    world.recorder.away.lock().unwrap().clear();
    world.pass(5.seconds()).await;
    assert_eq!(world.dues(), ["01:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_a_queue_at_once_is_published_bit_by_bit() {
    let clock = WallClock::new();
    let store = MemoryConfig::new().clock(clock.clone()).max_queue_length(5).open();
    let entries = Entries::new(Arc::new(store.clone())).clock(clock.clone());
    entries.put(&entry("all", "every 1s").catch_up(CatchUp::All)).await.unwrap();
    tokio::time::sleep(200.seconds()).await; // wait: time is virtual here
    let scheduler = Scheduler::builder(Arc::new(store.clone()), Arc::new(Publisher(store.clone())));
    let running = tokio::spawn(scheduler.clock(clock).build().unwrap().run());
    let mut count = 0;
    for _ in 0..1_000 {
        tokio::time::sleep(10.seconds()).await; // wait: time is virtual here
        count += published(&store).await.len();
    }
    running.abort();
    assert!(count > 2_000, "only {count}");
}

/// A result backend that hangs.
#[derive(Debug)]
struct Hangs(Arc<Recorder>);

#[async_trait]
impl Dispatch for Hangs {
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
        self.0.send(ticks).await
    }

    async fn unfinished(&self, _: &[TaskId]) -> Result<Vec<bool>> {
        tokio::time::sleep(10.seconds()).await; // wait: time is virtual here
        Err(Error::new(ErrorKind::Timeout, "ask", "away"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_backend_that_hangs_holds_up_others_by_a_second_at_most() {
    let world = World::new();
    let alone = entry("alone", "every 1m").no_overlap(1.hours());
    world.entries.put_all(&[alone, entry("other", "every 1s").catch_up(CatchUp::All)]).await.unwrap();
    let scheduler = Scheduler::builder(Arc::new(world.flaky.clone()), Arc::new(Hangs(world.recorder.clone())));
    let running = tokio::spawn(scheduler.clock(world.clock.clone()).build().unwrap().run());
    world.pass(300.seconds()).await;
    running.abort();
    let late: Vec<Duration> = world.sent().iter().filter(|sent| sent.name == "other").map(|sent| sent.late).collect();
    assert!(late.len() >= 298, "{}", late.len());
    assert!(late.iter().all(|late| *late < Duration::from_millis(1_100)), "{:?}", late.iter().max());
}
