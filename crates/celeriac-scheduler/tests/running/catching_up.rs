//! Ticks that were missed, and clocks that are set.

use std::time::Duration;

use celeriac_scheduler::{CatchUp, Units as _};

use crate::world::{World, entry};

fn policies() -> [celeriac_scheduler::Entry; 3] {
    [
        entry("all", "crontab 0 * * * *").catch_up(CatchUp::All),
        entry("once", "crontab 0 * * * *"),
        entry("skip", "crontab 0 * * * *").catch_up(CatchUp::Skip),
    ]
}

/// Name and hour of what was sent, and its delay in minutes, sorted.
fn told(world: &World) -> Vec<String> {
    let shown = |sent: crate::world::Sent| {
        format!("{} {} {}", sent.name, &sent.due.to_string()[11..13], sent.late.as_secs() / 60)
    };
    let mut told: Vec<String> = world.sent().into_iter().map(shown).collect();
    told.sort();
    told
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_missed_ticks_go_by_their_policy() {
    let mut world = World::with(&policies()).await;
    world.pass(30.minutes()).await;
    world.stop().await;
    world.pass(3.hours()).await;
    world.start();
    world.pass(1.minutes()).await;
    assert_eq!(told(&world), ["all 01 150", "all 02 90", "all 03 30", "once 03 30"]);
    world.pass(30.minutes()).await;
    assert_eq!(told(&world), ["all 04 0", "once 04 0", "skip 04 0"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_late_by_more_than_its_deadline_is_not_sent() {
    let mut world = World::with(&policies().map(|entry| entry.deadline(100.minutes()))).await;
    world.stop().await;
    world.pass(210.minutes()).await;
    world.start();
    world.pass(1.minutes()).await;
    assert_eq!(told(&world), ["all 02 90", "all 03 30", "once 03 30"]);
    world.stop().await;
    world.entries.put_all(&policies().map(|entry| entry.deadline(20.minutes()))).await.unwrap();
    world.pass(1.hours()).await;
    world.start();
    world.pass(1.minutes()).await;
    assert!(told(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn thousands_of_missed_ticks_are_sent_in_order() {
    let mut world = World::with(&[entry("all", "every 1s").catch_up(CatchUp::All)]).await;
    world.pass(Duration::from_millis(1_500)).await;
    world.stop().await;
    world.pass(2.hours()).await;
    world.start();
    world.pass(Duration::from_millis(100)).await;
    let sent = world.sent();
    assert_eq!(sent.len(), 7_201);
    assert!(sent.windows(2).all(|pair| pair[0].due + 1.seconds() == pair[1].due), "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn when_the_clock_is_set_forward_or_the_machine_slept_ticks_count_as_missed() {
    let world = World::with(&policies()).await;
    world.pass(30.minutes()).await;
    world.clock.forward(3.hours());
    world.pass(4.seconds()).await;
    assert_eq!(told(&world), ["all 01 150", "all 02 90", "all 03 30", "once 03 30"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_clock_is_set_back_a_little_no_tick_comes_twice() {
    let world = World::with(&policies()).await;
    world.pass(70.minutes()).await;
    assert_eq!(told(&world), ["all 01 0", "once 01 0", "skip 01 0"]);
    world.clock.back(1.hours());
    world.pass(105.minutes()).await;
    assert!(told(&world).is_empty(), "01:00 was sent before, and 02:00 has not come yet");
    world.pass(10.minutes()).await;
    assert_eq!(told(&world), ["all 02 0", "once 02 0", "skip 02 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_years_ahead_silences_nothing_when_it_is_set_right() {
    let mut world = World::with(&policies()).await;
    world.pass(30.minutes()).await;
    world.clock.forward(3_650.days());
    world.pass(1.hours()).await;
    assert!(world.sent().len() > 3_650 * 24, "all, once and skip took it for true");
    world.clock.back(3_650.days());
    world.pass(1.hours()).await;
    assert_eq!(told(&world), ["all 02 0", "once 02 0", "skip 02 0"]);
    // Also for one that starts only then.
    world.clock.forward(20.days());
    world.pass(1.hours()).await;
    world.sent();
    world.stop().await;
    world.clock.back(20.days());
    world.start();
    world.pass(1.hours()).await;
    assert_eq!(told(&world), ["all 04 0", "once 04 0", "skip 04 0"]);
}
