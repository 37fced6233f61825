//! Entries change: by hand while a beat runs, and in the code between two starts.

use celeriac::prelude::*;
use celeriac::{Entries, Entry};

use crate::world::{Beating, Working, World, name, note, pass};

#[tokio::test(start_paused = true)]
async fn entries_are_paused_changed_added_and_removed_while_beat_and_worker_run() {
    let world = World::new();
    let app = world.app().schedule("often", every(10.minutes()), note::s("often".to_owned()));
    let app = app.build().await.unwrap();
    let (working, beating) = (Working::start(&app), Beating::start(&app));
    let schedule = app.schedule().unwrap();
    pass(15.minutes()).await;
    assert_eq!(world.times("often"), ["00:10:00"]);
    assert!(schedule.enable(&name("often"), false).await.unwrap());
    pass(30.minutes()).await;
    assert!(world.runs().is_empty());
    assert!(schedule.enable(&name("often"), true).await.unwrap());
    pass(11.minutes()).await;
    assert_eq!(world.times("often"), ["00:55:00"]);
    let mut entry = schedule.get(&name("often")).await.unwrap().unwrap().entry;
    entry.schedule = every(2.minutes()).build().unwrap();
    schedule.put(&entry).await.unwrap();
    pass(5.minutes()).await;
    assert_eq!(world.times("often"), ["00:58:00", "01:00:00"], "counted from the change on");
    let call = Signature::named("shop.note").arg("new");
    schedule.put(&Entry::new(name("new"), every(3.minutes()).build().unwrap(), call)).await.unwrap();
    assert!(schedule.remove(&name("often")).await.unwrap());
    pass(4.minutes()).await;
    assert_eq!(world.runs().iter().map(|run| run.what.as_str()).collect::<Vec<_>>(), ["new"]);
    beating.stop().await;
    working.stop().await;
}

async fn listed(schedule: &Entries) -> Vec<(String, String, bool)> {
    let listed = schedule.list(None, std::num::NonZeroUsize::MAX).await.unwrap();
    let entries = listed.into_iter().map(|(_, known)| known.unwrap().entry);
    entries.map(|entry| (entry.name.to_string(), entry.schedule.to_string(), entry.enabled)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_vanished_from_the_code_goes_what_was_paused_stays_paused_and_what_was_added_by_hand_stays() {
    let world = World::new();
    let note = || note::s("x".to_owned());
    let first = world
        .app()
        .schedule("paused", every(10.minutes()), note())
        .schedule("vanishes", every(10.minutes()), note())
        .build()
        .await
        .unwrap();
    let schedule = first.schedule().unwrap();
    assert!(listed(&schedule).await.is_empty(), "an app that is built writes nothing");
    let beating = Beating::start(&first);
    pass(1.minutes()).await;
    schedule.enable(&name("paused"), false).await.unwrap();
    let call = Signature::named("shop.note").arg("by hand");
    schedule.put(&Entry::new(name("by-hand"), every(5.minutes()).build().unwrap(), call)).await.unwrap();
    beating.stop().await;

    let second = world
        .app()
        .schedule("paused", every(20.minutes()), note())
        .schedule("new", every(30.minutes()), note())
        .build()
        .await
        .unwrap();
    let beating = Beating::start(&second);
    pass(1.minutes()).await;
    let expected = [("by-hand", "every 5m", true), ("new", "every 30m", true), ("paused", "every 20m", false)];
    assert_eq!(listed(&schedule).await, expected.map(|(name, text, on)| (name.to_owned(), text.to_owned(), on)));
    beating.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_with_the_same_code_neither_moves_nor_repeats_a_tick() {
    let world = World::new();
    let app = async || {
        let app = world.app().schedule("often", every(10.minutes()), note::s("often".to_owned()));
        app.build().await.unwrap()
    };
    let working = Working::start(&app().await);
    for _ in 0..6 {
        let beating = Beating::start(&app().await);
        pass(6.minutes()).await;
        beating.stop().await;
    }
    assert_eq!(world.times("often"), ["00:10:00", "00:20:00", "00:30:00"]);
    working.stop().await;
}
