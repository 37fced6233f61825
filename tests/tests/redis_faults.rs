//! The connections to Redis are cut at every point there is: no task is lost, and none runs twice that need not.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test tells its figures, and may fail")]

use std::sync::Arc;
use std::time::Duration;

use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::RedisServer;
use celeriac_tests::redis::Keys;
use celeriac_tests::runs::Runs;
use celeriac_tests::scenario::{self, COUNTDOWN, SECOND_TIME, TASKS, all};

/// So many scenarios are under way at a time.
const AT_ONCE: usize = 8;

/// How long the countdown is.
const LATER: Duration = Duration::from_millis(100);

type Point = (&'static str, fn(u64) -> Cut);

const POINTS: [Point; 5] = [
    ("before", Cut::before),
    ("inside", Cut::inside),
    ("before the reply to", Cut::before_reply),
    ("inside the reply to", Cut::inside_reply),
    ("after the reply to", Cut::after_reply),
];

/// What must not be: a message that was delivered twice, or one task sent twice of which it was known that it had come.
fn repeated(runs: &Runs, may_be_sent_twice: bool) -> Option<String> {
    let wrong = (0..TASKS).filter(|n| {
        let (times, spare) = (runs.of(*n), u32::from(*n == SECOND_TIME));
        let most = if may_be_sent_twice && *n != COUNTDOWN { 2 } else { 1 };
        times.redelivered > spare || times.all > most + spare
    });
    let wrong: Vec<_> = wrong.map(|n| (n, runs.of(n))).collect();
    (!wrong.is_empty()).then(|| format!("these ran again: {wrong:?}"))
}

/// The names of the commands of an undisturbed scenario.
async fn undisturbed(server: &RedisServer, options: &str) -> Vec<String> {
    let proxy = FaultProxy::start(server.address()).await;
    let runs = scenario::run(&Keys::new(server, proxy.address(), options, "calm."), 1, LATER).await.unwrap();
    assert_eq!(repeated(&runs, false), None);
    proxy.names()
}

/// Cuts a connection, or all of them, at a point of the `nth` command.
async fn cut(
    server: Arc<RedisServer>,
    options: &'static str,
    (what, cut): Point,
    nth: u64,
    everywhere: bool,
) -> Result<(), String> {
    let proxy = FaultProxy::start(server.address()).await;
    let cut = cut(nth);
    proxy.cut_at(if everywhere { cut.everywhere() } else { cut });
    let prefix = format!("{}.{nth}.", what.replace(' ', "-"));
    let outcome = scenario::run(&Keys::new(&server, proxy.address(), options, &prefix), 1, LATER).await;
    let wrong = match outcome {
        // Of plain messages that are under way when the connection is lost nobody knows whether they have come: they are sent again.
        Ok(runs) => repeated(&runs, true),
        Err(wrong) => Some(wrong),
    };
    let names = proxy.names();
    let name = usize::try_from(nth).ok().and_then(|nth| names.get(nth - 1)).map_or("nothing", String::as_str);
    wrong.map_or(Ok(()), |wrong| Err(format!("cut {what} command {nth}, {name}, everywhere: {everywhere}: {wrong}")))
}

/// Cuts at every point of every command.
async fn cut_at_all_points(options: &'static str, points: &[Point], everywhere: bool) {
    let server = Arc::new(RedisServer::start().await);
    let names = undisturbed(&server, options).await;
    let last = names.len() as u64 + 5;
    let cuts = (1..=last).flat_map(|nth| points.iter().map(move |point| (nth, *point)));
    all(AT_ONCE, cuts.map(|(nth, point)| cut(Arc::clone(&server), options, point, nth, everywhere))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_any_point_of_any_command_loses_and_repeats_nothing() {
    cut_at_all_points("", &POINTS, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_of_all_connections_at_once_loses_and_repeats_nothing() {
    cut_at_all_points("", &POINTS[..3], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_in_the_older_protocol_loses_and_repeats_nothing() {
    cut_at_all_points("&protocol=resp2", &POINTS[..3], false).await;
}

/// Cuts connections at random points, and has the server forget its scripts now and then.
async fn cut_at_random(server: Arc<RedisServer>, seed: u64, per_mille: u32) -> Result<(), String> {
    let proxy = FaultProxy::start(server.address()).await;
    proxy.cut_randomly(seed, per_mille);
    if seed.is_multiple_of(10) {
        server.command(&["SCRIPT", "FLUSH"]).await;
    }
    let options = if (seed / 8).is_multiple_of(2) { "" } else { "&protocol=resp2" };
    // Every other one beside another worker, which may take for lost what is only late.
    let workers = if (seed / 4).is_multiple_of(2) { 1 } else { 2 };
    let prefix = format!("random.{seed}.");
    let outcome = scenario::run(&Keys::new(&server, proxy.address(), options, &prefix), workers, LATER).await;
    outcome.map(drop).map_err(|wrong| format!("seed {seed}, {per_mille} in a thousand, {} cuts: {wrong}", proxy.cuts()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_at_random_lose_nothing() {
    let server = Arc::new(RedisServer::start().await);
    let chances = [10, 30, 60, 100];
    let runs = (1..=200).zip(chances.into_iter().cycle());
    all(AT_ONCE, runs.map(|(seed, per_mille)| cut_at_random(Arc::clone(&server), seed, per_mille))).await;
}
