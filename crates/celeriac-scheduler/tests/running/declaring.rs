//! What the code declares, and what people do to it at run time.

use std::sync::Arc;

use celeriac_core::{ErrorKind, Result};
use celeriac_schedule::{Condition, Revision, ScheduleStore as _};
use celeriac_scheduler::{Entries, Entry, Scheduler, Units as _};

use crate::world::{Weather, World, entry, name};

/// All changes of the store so far.
async fn revision(world: &World) -> Revision {
    let stored = world.store.list(None, std::num::NonZeroUsize::MAX).await.unwrap();
    stored.iter().map(|entry| entry.revision).max().unwrap_or_default()
}

async fn declare(world: &World, entries: &[Entry]) -> Result<()> {
    world.entries.declare("shop", entries).await
}

#[tokio::test(start_paused = true)]
async fn what_vanishes_from_the_code_is_removed_and_what_others_added_stays() {
    let world = World::new();
    world.entries.put(&entry("by-hand", "every 1h")).await.unwrap();
    world.entries.declare("office", &[entry("theirs", "every 1h")]).await.unwrap();
    declare(&world, &[entry("a", "every 1h"), entry("b", "every 1h")]).await.unwrap();
    assert_eq!(world.entries.get(&name("a")).await.unwrap().unwrap().entry.owner.as_deref(), Some("shop"));
    declare(&world, &[entry("b", "every 2h")]).await.unwrap();
    let listed = world.entries.list(None, std::num::NonZeroUsize::MAX).await.unwrap();
    let listed: Vec<String> = listed
        .into_iter()
        .map(|(_, known)| known.unwrap().entry)
        .map(|entry| format!("{} {}", entry.name, entry.schedule))
        .collect();
    assert_eq!(listed, ["b every 2h", "by-hand every 1h", "theirs every 1h"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_as_declared_is_not_written() {
    let world = World::new();
    let entries = [entry("a", "every 1h").jitter(std::time::Duration::from_micros(1500)), entry("b", "every 1h")];
    declare(&world, &entries).await.unwrap();
    let before = revision(&world).await;
    world.pass(1.hours()).await;
    declare(&world, &entries).await.unwrap();
    assert_eq!(revision(&world).await, before);
}

#[tokio::test(start_paused = true)]
async fn the_code_wins_and_what_was_paused_stays_so_until_the_code_decides_otherwise() {
    let world = World::new();
    let code = entry("a", "every 1h");
    declare(&world, std::slice::from_ref(&code)).await.unwrap();
    let is_enabled = async || world.entries.get(&name("a")).await.unwrap().unwrap().entry.enabled;
    world.entries.enable(&name("a"), false).await.unwrap();
    declare(&world, std::slice::from_ref(&code)).await.unwrap();
    assert!(!is_enabled().await);
    declare(&world, &[entry("a", "every 2h")]).await.unwrap();
    let known = world.entries.get(&name("a")).await.unwrap().unwrap();
    assert_eq!((known.entry.enabled, known.entry.schedule.to_string()), (false, "every 2h".to_owned()));
    // A change by hand that keeps the owner keeps what it declared.
    world.entries.put(&known.entry.clone().deadline(1.hours())).await.unwrap();
    declare(&world, std::slice::from_ref(&code)).await.unwrap();
    let known = world.entries.get(&name("a")).await.unwrap().unwrap().entry;
    assert_eq!((known.enabled, known.deadline), (false, None));

    declare(&world, &[code.clone().enabled(false)]).await.unwrap();
    declare(&world, std::slice::from_ref(&code)).await.unwrap();
    assert!(is_enabled().await, "the code said no, and says yes now");
    declare(&world, &[code.clone().enabled(false)]).await.unwrap();
    assert!(!is_enabled().await);
    world.entries.enable(&name("a"), true).await.unwrap();
    declare(&world, &[code.enabled(false)]).await.unwrap();
    assert!(is_enabled().await, "decided at run time");
}

#[tokio::test(start_paused = true)]
async fn an_entry_added_by_hand_is_taken_over_by_the_code_that_declares_its_name() {
    let world = World::new();
    world.entries.put(&entry("a", "every 1h").enabled(false)).await.unwrap();
    declare(&world, &[entry("a", "every 2h")]).await.unwrap();
    let known = world.entries.get(&name("a")).await.unwrap().unwrap().entry;
    assert_eq!((known.owner.as_deref(), known.enabled), (Some("shop"), false), "paused by hand");
    // Put by hand again, it is nobody's.
    world.entries.put(&entry("a", "every 3h")).await.unwrap();
    declare(&world, &[]).await.unwrap();
    assert_eq!(world.entries.get(&name("a")).await.unwrap().unwrap().entry.schedule.to_string(), "every 3h");
}

#[tokio::test(start_paused = true)]
async fn two_owners_of_one_name_are_told_and_nothing_is_written() {
    let world = World::new();
    declare(&world, &[entry("a", "every 1h")]).await.unwrap();
    let before = revision(&world).await;
    let theirs = [entry("b", "every 1h"), entry("a", "every 2h")];
    let error = world.entries.declare("office", &theirs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("entry `a`: name: `shop` declares an entry of that name"), "{error}");
    let twice = [entry("b", "every 1h"), entry("b", "every 2h")];
    assert!(declare(&world, &twice).await.unwrap_err().message().starts_with("entry `b`: name: two"));
    assert_eq!(revision(&world).await, before);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_another_version_is_left_alone_and_the_others_are_declared() {
    for strange in [
        r#"{"v":2,"schedule":"every 10m","owner":"shop"}"#,
        r#"{"v":2,"schedule":"every 10m","owner":3}"#,
        r#"{"v":2,"schedule":"every 10m"}"#,
        "[",
    ] {
        let world = World::new();
        world.store.put(&name("strange"), strange.into(), Condition::Always).await.unwrap();
        declare(&world, &[entry("strange", "every 1h"), entry("a", "every 1h")]).await.unwrap();
        declare(&world, &[entry("a", "every 2h")]).await.unwrap();
        assert_eq!(world.store.get(&name("strange")).await.unwrap().unwrap().definition, strange);
        assert_eq!(world.entries.get(&name("a")).await.unwrap().unwrap().entry.schedule.to_string(), "every 2h");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_another_version_that_is_another_owners_is_told_and_nothing_is_written() {
    let world = World::new();
    let theirs = r#"{"v":2,"schedule":"every 10m","owner":"office"}"#;
    world.store.put(&name("strange"), theirs.into(), Condition::Always).await.unwrap();
    let before = revision(&world).await;
    let error = declare(&world, &[entry("a", "every 1h"), entry("strange", "every 1h")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("entry `strange`: name: `office` declares an entry of that name"), "{error}");
    assert_eq!(revision(&world).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_declares_as_soon_as_its_store_is_there_and_goes_on() {
    let mut world = World::new();
    world.start();
    world.pass(1.seconds()).await;
    world.flaky.set(Weather::Away);
    let store = Arc::new(world.flaky.clone());
    let second = Scheduler::builder(store, world.recorder.clone()).clock(world.clock.clone());
    let second = second.declaring("shop", vec![entry("a", "every 10m")]).build().unwrap();
    let (stop, running) = (second.handle(), tokio::spawn(second.run()));
    world.pass(1.seconds()).await;
    world.flaky.set(Weather::Frozen);
    world.pass(1.minutes()).await;
    world.flaky.set(Weather::Fine);
    world.pass(25.minutes()).await;
    assert_eq!(world.sent().len(), 2, "the one that leads sends what the other has declared");
    stop.stop();
    running.await.unwrap().unwrap();
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_of_another_owner_ends_with_what_is_wrong() {
    let world = World::new();
    declare(&world, &[entry("a", "every 1h")]).await.unwrap();
    let scheduler = || Scheduler::builder(Arc::new(world.flaky.clone()), world.recorder.clone());
    let other = scheduler().declaring("office", vec![entry("a", "every 1h")]).build().unwrap();
    assert_eq!(other.run().await.unwrap_err().kind(), ErrorKind::Config);
    let jitter = entry("a", "every 1h").jitter(2.days());
    assert!(
        scheduler().declaring("shop", vec![jitter]).build().unwrap_err().message().starts_with("entry `a`: jitter")
    );
    let entries = Entries::new(Arc::new(world.flaky.clone()));
    assert_eq!(entries.get(&name("a")).await.unwrap().unwrap().entry.owner.as_deref(), Some("shop"));
}
