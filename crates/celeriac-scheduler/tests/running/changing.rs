//! Entries change while a scheduler runs.

use std::time::Duration;

use celeriac_core::ErrorKind;
use celeriac_schedule::{Condition, ScheduleStore as _};
use celeriac_scheduler::{CatchUp, Units as _};

use crate::world::{Weather, World, entry, name};

#[tokio::test(start_paused = true)]
async fn entries_are_added_changed_and_removed_while_it_runs() {
    let world = World::with(&[entry("yearly", "crontab 0 0 1 1 *")]).await;
    world.pass(1.hours()).await;
    assert!(world.entries.add(&entry("often", "every 10m")).await.unwrap());
    assert!(!world.entries.add(&entry("often", "every 1s")).await.unwrap(), "it is there");
    world.pass(25.minutes()).await;
    assert_eq!(world.dues(), ["01:10:00", "01:20:00"]);
    // From now on: the last time stays the one that it is counted from.
    world.entries.put(&entry("often", "crontab */2 * * * *")).await.unwrap();
    world.pass(4.minutes()).await;
    assert_eq!(world.dues(), ["01:26:00", "01:28:00"]);
    assert!(world.entries.remove(&name("often")).await.unwrap());
    world.pass(1.hours()).await;
    assert!(world.dues().is_empty());
    assert!(!world.entries.remove(&name("often")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_becomes_due_while_an_entry_is_paused_is_never_sent() {
    let world = World::with(&[entry("hourly", "crontab 0 * * * *")]).await;
    world.pass(90.minutes()).await;
    assert_eq!(world.dues(), ["01:00:00"]);
    assert!(world.entries.enable(&name("hourly"), false).await.unwrap());
    assert_eq!(world.entries.get(&name("hourly")).await.unwrap().unwrap().next, None);
    world.pass(3.hours()).await;
    assert!(world.entries.enable(&name("hourly"), true).await.unwrap());
    world.pass(1.hours()).await;
    assert_eq!(world.dues(), ["05:00:00"]);
    assert!(!world.entries.enable(&name("daily"), true).await.unwrap(), "there is no such entry");
    let known = world.entries.get(&name("hourly")).await.unwrap().unwrap();
    assert_eq!(known.count, 2, "what was done stays known");
}

#[tokio::test(start_paused = true)]
async fn putting_the_same_again_changes_nothing() {
    let mut world = World::with(&[entry("often", "every 1h")]).await;
    world.pass(30.minutes()).await;
    world.entries.put_all(&[entry("often", "every 1h")]).await.unwrap();
    world.stop().await;
    world.entries.put_all(&[entry("often", "every 1h")]).await.unwrap();
    world.start();
    world.pass(45.minutes()).await;
    assert_eq!(world.dues(), ["01:00:00"]);
    // A field beside the schedule leaves the count of time alone.
    world.entries.put(&entry("often", "every 1h").deadline(1.minutes())).await.unwrap();
    world.pass(1.hours()).await;
    assert_eq!(world.dues(), ["02:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_another_version_is_told_and_disturbs_no_other() {
    let world = World::with(&[entry("fine", "every 10m"), entry("strange", "every 10m")]).await;
    let later = r#"{"v":2,"schedule":"every 10m"}"#;
    world.store.put(&name("strange"), later.into(), Condition::Always).await.unwrap();
    world.pass(15.minutes()).await;
    assert_eq!(world.sent().iter().map(|sent| sent.name.clone()).collect::<Vec<_>>(), ["fine"]);
    let error = world.entries.get(&name("strange")).await.unwrap_err();
    assert!(error.message().starts_with("entry `strange`: v: written as version 2"), "{error}");
    let listed = world.entries.list(None, std::num::NonZeroUsize::MIN.saturating_add(9)).await.unwrap();
    let listed: Vec<(&str, bool)> = listed.iter().map(|(name, known)| (name.as_str(), known.is_ok())).collect();
    assert_eq!(listed, [("fine", true), ("strange", false)]);
    world.entries.remove(&name("strange")).await.unwrap();
    world.entries.put(&entry("strange", "every 10m")).await.unwrap();
    world.pass(11.minutes()).await;
    assert_eq!(world.dues().len(), 2, "written anew it is as any other");
}

#[tokio::test(start_paused = true)]
async fn entries_are_listed_page_by_page_also_behind_one_that_cannot_be_read() {
    let world = World::new();
    for letter in ["a", "c", "d"] {
        world.entries.put(&entry(letter, "every 10m")).await.unwrap();
    }
    world.store.put(&name("b"), "[".into(), Condition::Always).await.unwrap();
    let two = std::num::NonZeroUsize::MIN.saturating_add(1);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = world.entries.list(after.as_ref(), two).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page.iter().map(|(name, known)| (name.to_string(), known.is_ok())));
    }
    let expected = [("a", true), ("b", false), ("c", true), ("d", true)];
    assert_eq!(listed, expected.map(|(name, is_ok)| (name.to_owned(), is_ok)));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_another_version_is_not_written_over() {
    let world = World::new();
    let later = r#"{"v":2,"schedule":"every 10m"}"#;
    world.store.put(&name("strange"), later.into(), Condition::Always).await.unwrap();
    let strange = entry("strange", "every 10m");
    let put = world.entries.put(&strange).await;
    let add = world.entries.add(&strange).await.map(drop);
    let enable = world.entries.enable(&name("strange"), true).await.map(drop);
    for (outcome, kind) in [(put, ErrorKind::Config), (add, ErrorKind::Config), (enable, ErrorKind::Malformed)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.message().starts_with("entry `strange`: v: written as version 2"), "{error}");
        assert_eq!(kind == ErrorKind::Config, error.message().ends_with("; remove it first"), "{error}");
    }
    assert_eq!(world.store.get(&name("strange")).await.unwrap().unwrap().definition, later);
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_entry_changes_while_it_is_sent_is_sent_once() {
    let changing = entry("changing", "every 10s");
    let world = World::with(std::slice::from_ref(&changing)).await;
    *world.recorder.changes.lock().unwrap() = Some((world.entries.clone(), changing));
    world.pass(35.seconds()).await;
    assert_eq!(world.dues(), ["00:00:10", "00:00:20", "00:00:30"]);
    assert_eq!(world.entries.get(&name("changing")).await.unwrap().unwrap().count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_noticed_also_when_there_is_always_something_due() {
    let world = World::with(&[entry("flood", "every 1ms").catch_up(CatchUp::All)]).await;
    world.flaky.set(Weather::Slow);
    world.pass(1.seconds()).await;
    assert!(world.sent().len() > 100);
    world.entries.remove(&name("flood")).await.unwrap();
    world.pass(Duration::from_millis(20)).await;
    world.sent();
    world.pass(1.seconds()).await;
    assert_eq!(world.sent(), []);
}

#[tokio::test(start_paused = true)]
async fn when_the_store_has_forgotten_what_was_removed_all_entries_are_read_again() {
    let world = World::with(&[entry("goes", "every 1m"), entry("stays", "every 1m")]).await;
    world.pass(90.seconds()).await;
    assert_eq!(world.sent().len(), 2);
    // Without a pause, so that the scheduler sees none of it before all of it.
    world.entries.remove(&name("goes")).await.unwrap();
    for number in 0..10_001 {
        let passing = name(&format!("passing-{number}"));
        world.store.put(&passing, "".into(), Condition::Always).await.unwrap();
        world.store.remove(&passing).await.unwrap();
    }
    world.entries.put(&entry("comes", "every 1m")).await.unwrap();
    world.pass(61.seconds()).await;
    let mut names: Vec<String> = world.sent().into_iter().map(|sent| sent.name).collect();
    names.sort();
    assert_eq!(names, ["comes", "stays"]);
}
