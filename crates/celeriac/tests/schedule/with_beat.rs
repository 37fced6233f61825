//! Beats that run beside workers.

use celeriac::ErrorKind;
use celeriac::prelude::*;

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
    // The other's beat leads from now on, though the first worker runs its slow task for long yet.
    let second = Working::of(app().await.worker().with_beat());
    first.0.shutdown();
    pass(2.minutes()).await;
    assert!(!first.1.is_finished());
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
