//! The connections to RabbitMQ are cut at every point there is: no task is lost.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_tests::rabbit::Queue;
use celeriac_tests::runs::Runs;
use celeriac_tests::scenario::{self, SECOND_TIME, TASKS, all};
use tokio::sync::OnceCell;

/// So many scenarios are under way at a time.
const AT_ONCE: usize = 16;

/// How long the countdown is: waited for by the worker.
const SOON: Duration = Duration::from_millis(100);
/// And long enough to be waited for in the queues of the delay.
const LATER: Duration = Duration::from_millis(1_050);

/// What a cut is called, and where it is made.
type Point = (&'static str, fn(u64) -> Cut);

/// The server of all tests of this process.
async fn vhost() -> Vhost<'static> {
    static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
    SERVER.get_or_init(RabbitServer::start).await.vhost().await
}

fn site(vhost: &Vhost<'static>, proxy: &FaultProxy, options: &str, name: &str) -> Queue<'static> {
    Queue::new(vhost, format!("{}?{options}", vhost.url_at(proxy.address())), name)
}

/// What must not be: a task that was sent or delivered more often than once for each connection that was lost.
fn repeated(runs: &Runs, cuts: u32) -> Option<String> {
    let most = |n: u64| 1 + cuts + u32::from(n == SECOND_TIME);
    let wrong: Vec<_> = (0..TASKS).filter(|n| runs.of(*n).all > most(*n)).map(|n| (n, runs.of(n))).collect();
    (!wrong.is_empty()).then(|| format!("these ran again: {wrong:?}"))
}

/// The names of the frames of an undisturbed scenario, the client's and the server's.
async fn undisturbed(vhost: &Vhost<'static>) -> (Vec<String>, Vec<String>) {
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    let runs = scenario::run(&site(vhost, &proxy, "", "calm"), 1, SOON).await.unwrap();
    assert_eq!(repeated(&runs, 0), None);
    (proxy.names(), proxy.replies())
}

/// Cuts a connection at the `nth` frame.
async fn cut(vhost: Vhost<'static>, what: &'static str, cut: Cut, nth: u64) -> Result<(), String> {
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    proxy.cut_at(cut);
    let name = format!("{what} {nth}");
    let outcome = scenario::run(&site(&vhost, &proxy, "", &name), 1, SOON).await;
    let wrong = match outcome {
        Ok(runs) => repeated(&runs, 1),
        Err(wrong) => Some(wrong),
    };
    let names = if what.ends_with("reply") { proxy.replies() } else { proxy.names() };
    let frame = usize::try_from(nth).ok().and_then(|nth| names.get(nth - 1)).map_or("nothing", String::as_str);
    wrong.map_or(Ok(()), |wrong| Err(format!("cut {name}, {frame}: {wrong}")))
}

/// Cuts at the first point of every frame, and at the second of every other one.
async fn cut_at_all(vhost: &Vhost<'static>, frames: usize, points: [Point; 2]) {
    let points = |nth: u64| points.into_iter().take(if nth.is_multiple_of(2) { 2 } else { 1 });
    let cuts = (1..=frames as u64 + 5).flat_map(|nth| points(nth).map(move |point| (nth, point)));
    all(AT_ONCE, cuts.map(|(nth, (what, point))| cut(vhost.clone(), what, point(nth), nth))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_any_frame_of_the_clients_loses_nothing() {
    let vhost = vhost().await;
    let (frames, _) = undisturbed(&vhost).await;
    cut_at_all(&vhost, frames.len(), [("before", Cut::before), ("inside", Cut::inside)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_any_frame_of_the_servers_loses_nothing() {
    let vhost = vhost().await;
    let (_, frames) = undisturbed(&vhost).await;
    cut_at_all(&vhost, frames.len(), [("before reply", Cut::before_reply), ("inside reply", Cut::inside_reply)]).await;
}

/// Cuts connections at random points; every other time beside a second worker.
async fn cut_at_random(vhost: Vhost<'static>, seed: u64, per_mille: u32) -> Result<(), String> {
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    proxy.cut_randomly(seed, per_mille);
    let workers = if seed.is_multiple_of(2) { 1 } else { 2 };
    // The delay's own queues are the same for all of them: of one type.
    let kind = if (seed / 8).is_multiple_of(2) { "classic" } else { "quorum" };
    let site = site(&vhost, &proxy, &format!("queue_type={kind}&delay_queue_type=classic"), &format!("random {seed}"));
    let outcome = scenario::run_but_for_copies(&site, workers, LATER).await;
    outcome.map(drop).map_err(|wrong| format!("seed {seed}, {per_mille} in a thousand, {} cuts: {wrong}", proxy.cuts()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_at_random_lose_nothing() {
    let vhost = vhost().await;
    let chances = [3, 6, 9, 12];
    let runs = (1..=100).zip(chances.into_iter().cycle());
    all(AT_ONCE, runs.map(|(seed, per_mille)| cut_at_random(vhost.clone(), seed, per_mille))).await;
}
