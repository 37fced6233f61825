//! Where an app keeps its schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac::memory::MemoryStore;
use celeriac::prelude::*;
use celeriac::schedule::ScheduleStore;
use celeriac::{AppBuilder, ErrorKind, System};

use crate::world::{Working, World, note, pass};

/// An app whose broker keeps no schedules, as RabbitMQ does not.
fn without() -> AppBuilder {
    App::builder("shop")
        .read_env(false)
        .scheme("rabbit", |_| async {
            let store = Arc::new(MemoryStore::new());
            Ok(System::new().broker(store.clone()).backend(store))
        })
        .broker_url("rabbit://")
        .schedule("often", every(1.minutes()), note::s("often".to_owned()))
}

#[tokio::test]
async fn a_broker_that_keeps_no_schedules_is_told_with_what_to_set() {
    let app = without().build().await.unwrap();
    let errors = [
        app.beat().build().unwrap_err(),
        app.beat().run().await.unwrap_err(),
        app.schedule().unwrap_err(),
        app.worker().with_beat().build().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config);
        for what in ["`schedule_url`", "CELERIAC_SCHEDULE_URL", "`schedule_store`"] {
            assert!(error.message().contains(what), "{error}");
        }
    }
    app.worker().build().unwrap();
}

#[tokio::test]
async fn the_store_of_results_keeps_the_schedule_where_the_broker_does_not() {
    let app = without().result_backend("memory://").build().await.unwrap();
    app.beat().build().unwrap();
}

#[tokio::test]
async fn a_store_or_a_url_given_wins() {
    let store = MemoryStore::new();
    let app = without().schedule_store(Arc::new(store.clone())).schedule_url("nowhere://").build().await.unwrap();
    let beat = app.beat().build().unwrap();
    let stop = beat.handle();
    let running = tokio::spawn(beat.run());
    while store.list(None, std::num::NonZeroUsize::MIN).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.stop();
    running.await.unwrap().unwrap();
    app.close().await.unwrap();
    assert!(app.schedule().unwrap().get(&crate::world::name("often")).await.is_err(), "closed with the app");
    let named = without().schedule_url("memory://schedule").build().await.unwrap();
    named.beat().build().unwrap();
    let error = without().schedule_url("rabbit://elsewhere").build().await.unwrap_err();
    assert!(error.message().contains("keeps no schedules"), "{error}");
}

#[tokio::test]
async fn a_system_of_three_roles_is_opened_once() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let app = App::builder("shop")
        .read_env(false)
        .scheme("all", move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let store = Arc::new(MemoryStore::new());
            async { Ok(System::new().broker(store.clone()).backend(store.clone()).schedule(store)) }
        })
        .broker_url("all://here")
        .result_backend("all://here")
        .schedule_url("all://here");
    let app = app.build().await.unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    assert_eq!(app.broker().store_id(), app.backend().unwrap().store_id());
}

#[tokio::test(start_paused = true)]
async fn with_store_and_broker_apart_a_tick_that_can_never_be_sent_harms_no_other() {
    let world = World::new();
    let broker = celeriac::memory::MemoryConfig::new().clock(Arc::clone(&world.clock)).max_message_bytes(2_000).open();
    let app = world
        .app()
        .broker(Arc::new(broker.clone()))
        .schedule("a-fine", every(1.minutes()), note::s("a".to_owned()))
        .schedule("huge", every(1.minutes()), note::s("x".repeat(5_000)))
        .schedule("z-fine", every(1.minutes()), note::s("z".to_owned()))
        .schedule_store(Arc::new(world.store.connect()))
        .backend(Arc::new(world.store.connect()))
        .build()
        .await
        .unwrap();
    assert_ne!(app.broker().store_id(), ScheduleStore::store_id(&world.store));
    let working = Working::of(app.worker().with_beat());
    pass(200.seconds()).await;
    let mut whats: Vec<(String, String)> = world.runs().into_iter().map(|run| (run.at, run.what)).collect();
    whats.sort();
    // What was published before the batch failed is published again, under the same id.
    whats.dedup();
    let expected = ["1", "2", "3"].map(|minute| ["a", "z"].map(|what| (format!("00:0{minute}:00"), what.to_owned())));
    assert_eq!(whats, expected.concat());
    working.stop().await;
}
