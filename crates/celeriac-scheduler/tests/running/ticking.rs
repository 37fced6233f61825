//! Ticks come when they are due.

use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_core::Timestamp;
use celeriac_scheduler::{Entries, Entry, Units as _};

use crate::world::{World, entry, name};

#[tokio::test(start_paused = true)]
async fn for_a_year_every_tick_is_sent_once_when_it_is_due() {
    let entries = [
        entry("every", "every 7h"),
        entry("hourly", "crontab 30 * * * * [Europe/Berlin]"),
        entry("nightly", "crontab 30 2 * * * [Europe/Berlin]"),
        entry("office", "crontab 0 9-17/4 * * mon-fri [America/New_York]"),
        entry("yearly", "crontab 0 0 1 jan * [Pacific/Apia]"),
        entry("sun", "solar sunset 52.52 13.405"),
        entry("once", "once 2027-03-28T02:30 [Europe/Berlin]"),
        entry("never", "once 2026-01-01T00:00"),
    ];
    let mut world = World::new();
    let start = celeriac_core::Clock::now(&*world.clock);
    world.entries.put_all(&entries).await.unwrap();
    world.start_with(1.days());
    world.pass(365.days()).await;
    let end = start + 365.days();
    let mut expected: Vec<(Timestamp, String)> = Vec::new();
    for entry in &entries {
        let times = entry.schedule.upcoming(start).take_while(|time| *time <= end);
        expected.extend(times.map(|time| (time, entry.name.to_string())));
    }
    expected.sort();
    let sent = world.sent();
    for one in &sent {
        assert!(one.at.since(one.due) < Duration::from_millis(2) && one.late < Duration::from_millis(2), "{one:?}");
    }
    let mut sent: Vec<(Timestamp, String)> = sent.into_iter().map(|sent| (sent.due, sent.name)).collect();
    sent.sort();
    assert!(sent.len() > 10_000);
    assert_eq!(sent, expected);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_known_and_ids_are_derived_from_entry_and_time() {
    let mut world = World::with(&[entry("one", "every 10m"), entry("two", "every 10m")]).await;
    world.pass(35.minutes()).await;
    let sent = world.sent();
    let known = world.entries.get(&name("two")).await.unwrap().unwrap();
    let last = sent.iter().rfind(|sent| sent.name == "two").unwrap();
    assert_eq!((known.count, known.last, known.last_sent), (3, Some(last.due), Some(last.due)));
    assert_eq!((known.last_task.as_ref(), known.next), (Some(&last.id), Some(last.due + 10.minutes())));
    assert_eq!(sent.iter().map(|sent| sent.count).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    let mut ids: Vec<_> = sent.iter().map(|sent| sent.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 6, "no two ticks have one id");
    assert!(ids.is_sorted_by_key(|id| id[..13].to_owned()), "they sort by their times");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_ticks_and_is_the_same_for_everyone() {
    let spread = |name: &str| entry(name, "crontab 0 * * * *").jitter(10.minutes());
    let world = World::with(&[spread("one"), spread("two")]).await;
    world.pass(1.days()).await;
    let sent = world.sent();
    assert_eq!(sent.len(), 46 + 2 * usize::from(sent.len() > 47));
    let delays: Vec<u64> = sent.iter().map(|sent| sent.at.since(sent.due).as_secs()).collect();
    assert!(delays.iter().all(|delay| *delay <= 600), "{delays:?}");
    assert!(delays.iter().filter(|delay| **delay > 300).count() > 12, "{delays:?}");
    assert!(delays.iter().filter(|delay| **delay < 300).count() > 12, "{delays:?}");
    assert!(sent.iter().all(|sent| sent.late < Duration::from_millis(2)), "a tick with its jitter is not late");
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_skipped_while_the_last_task_is_unfinished() {
    let mut world = World::with(&[entry("alone", "every 10m").no_overlap(1.hours())]).await;
    world.recorder.running.store(true, Ordering::Relaxed);
    world.pass(45.minutes()).await;
    assert_eq!(world.dues(), ["00:10:00"]);
    // Also when its schedule changes, and when another leads.
    world.entries.put(&entry("alone", "every 5m").no_overlap(1.hours())).await.unwrap();
    world.stop().await;
    world.start();
    world.pass(12.minutes()).await;
    assert!(world.dues().is_empty());
    world.recorder.running.store(false, Ordering::Relaxed);
    world.pass(6.minutes()).await;
    assert_eq!(world.dues(), ["01:00:00"]);
    // A task that is never heard of again is not waited for for ever.
    world.recorder.running.store(true, Ordering::Relaxed);
    world.pass(65.minutes()).await;
    assert_eq!(world.dues(), ["02:05:00"]);
}

#[tokio::test(start_paused = true)]
async fn two_entries_of_one_name_and_fields_that_cannot_be_are_refused() {
    let world = World::new();
    let refused = async |entries: &[Entry]| world.entries.put_all(entries).await.unwrap_err().message().to_owned();
    let twice = [entry("one", "every 1h"), entry("two", "every 1h"), entry("one", "every 2h")];
    assert_eq!(refused(&twice).await, "entry `one`: name: two entries have it");
    let jitter = [entry("one", "every 1h"), entry("two", "every 1h").jitter(25.hours())];
    assert_eq!(refused(&jitter).await, "entry `two`: jitter: must be a day at most");
    let deadline = [entry("one", "every 1h").deadline(Duration::ZERO)];
    assert!(refused(&deadline).await.starts_with("entry `one`: deadline: "));
    let none = world.entries.list(None, std::num::NonZeroUsize::MIN).await.unwrap();
    assert!(none.is_empty(), "of entries that are refused together none is put");
    let _: &Entries = &world.entries;
}

#[tokio::test(start_paused = true)]
async fn an_idle_scheduler_wakes_only_to_renew_its_lease() {
    let world = World::with(&[entry("yearly", "crontab 0 0 1 1 *")]).await;
    world.pass(1.minutes()).await;
    let before = world.clock.looks.load(Ordering::Relaxed);
    world.pass(1.hours()).await;
    let looks = world.clock.looks.load(Ordering::Relaxed) - before;
    // By the lease, the store and the plan, 1,080 times.
    assert!((1_080..8 * 1_080).contains(&looks), "{looks}");
}
