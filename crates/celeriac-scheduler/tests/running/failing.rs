//! Brokers, stores and tasks that fail.

use std::time::Duration;

use celeriac_core::Signature;
use celeriac_scheduler::{CatchUp, Scheduler, Units as _};

use crate::world::{Weather, World, entry, name};

#[tokio::test(start_paused = true)]
async fn a_tick_that_cannot_be_sent_is_tried_again_under_its_id_and_others_do_not_wait() {
    let world = World::with(&[entry("away", "every 1m").catch_up(CatchUp::All), entry("fine", "every 1m")]).await;
    world.recorder.away.lock().unwrap().insert("away".to_owned());
    world.pass(210.seconds()).await;
    let sent = world.sent();
    assert_eq!(sent.iter().map(|sent| sent.name.as_str()).collect::<Vec<_>>(), ["fine"; 3]);
    let mut attempts = world.recorder.attempts.lock().unwrap().clone();
    attempts.retain(|id| sent.iter().all(|sent| sent.id != *id));
    // Of all that wait in order, only the first is tried; the pauses grow to five seconds.
    assert!((30..40).contains(&attempts.len()), "{} attempts", attempts.len());
    attempts.dedup();
    assert_eq!(attempts.len(), 1);
    world.recorder.away.lock().unwrap().clear();
    world.pass(6.seconds()).await;
    let sent = world.sent();
    assert_eq!(sent.len(), 3, "no tick is lost");
    assert!(attempts.contains(&sent[0].id) && sent.is_sorted_by_key(|sent| sent.due));
    assert!(sent[0].late > 120.seconds(), "and how late they are is told");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_can_never_be_sent_is_passed_over() {
    let mut unknown = entry("unknown", "every 1m");
    unknown.task = Signature::named("unknown");
    let world = World::with(&[unknown, entry("fine", "every 1m")]).await;
    world.pass(150.seconds()).await;
    assert_eq!(world.sent().len(), 2);
    assert_eq!(world.recorder.attempts.lock().unwrap().len(), 4, "each is tried once");
    let known = world.entries.get(&name("unknown")).await.unwrap().unwrap();
    assert_eq!((known.count, known.last_sent), (0, None), "it was never sent");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_no_tick_is_lost() {
    let world = World::with(&[entry("all", "every 10s").catch_up(CatchUp::All)]).await;
    for weather in [Weather::Away, Weather::Frozen] {
        world.pass(25.seconds()).await;
        world.flaky.set(weather);
        world.pass(70.seconds()).await;
        world.flaky.set(Weather::Fine);
        world.pass(25.seconds()).await;
    }
    world.pass(1.seconds()).await;
    let mut sent = world.sent();
    // One may have been sent and not been written down: it comes again under its id.
    sent.dedup_by_key(|sent| sent.id.clone());
    assert_eq!(sent.len(), 24);
    assert!(sent.windows(2).all(|pair| pair[0].due + 10.seconds() == pair[1].due), "each, in order");
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_step_was_taken_though_the_answer_was_lost_is_sent_once() {
    let world = World::with(&[entry("all", "every 10s").catch_up(CatchUp::All)]).await;
    world.pass(25.seconds()).await;
    world.flaky.set(Weather::Deaf);
    world.pass(20.seconds()).await;
    world.flaky.set(Weather::Fine);
    world.pass(20.seconds()).await;
    let sent = world.sent();
    assert_eq!(sent.len(), 6);
    assert!(sent.windows(2).all(|pair| pair[0].due + 10.seconds() == pair[1].due), "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_stops_while_the_store_is_away() {
    let mut world = World::with(&[entry("often", "every 10s")]).await;
    world.pass(15.seconds()).await;
    world.flaky.set(Weather::Away);
    world.pass(1.minutes()).await;
    tokio::time::timeout(20.seconds(), world.stop()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_stops_while_its_lease_cannot_be_renewed() {
    let mut world = World::with(&[entry("often", "every 10s")]).await;
    world.pass(11.seconds()).await;
    world.flaky.set(Weather::Frozen);
    world.pass(1.minutes()).await;
    tokio::time::timeout(20.seconds(), world.stop()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_too_short_is_refused() {
    let world = World::new();
    let builder = Scheduler::builder(std::sync::Arc::new(world.store.clone()), world.recorder.clone());
    let error = builder.lease(Duration::from_millis(10)).build().unwrap_err();
    assert_eq!(error.message(), "lease `10ms`: must be 300ms at least");
}
