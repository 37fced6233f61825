//! Three beats on one store, whose leader is killed or halted again and again: every tick is sent once, and none is missed.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac_testkit::server::RedisServer;
use celeriac_tests::Place;
use celeriac_tests::beats::Beats;

const BEATER: &str = env!("CARGO_BIN_EXE_beater");
const KILLS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_file_each_tick_is_sent_once_while_leaders_are_killed() {
    let place = Place::new();
    let mut beats = Beats::start(BEATER, &place.url()).await;
    beats.kill_leaders(KILLS).await;
    beats.each_second_came_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_each_tick_is_sent_once_while_leaders_are_killed() {
    let server = RedisServer::start().await;
    let mut beats = Beats::start(BEATER, &server.url()).await;
    beats.kill_leaders(KILLS).await;
    beats.each_second_came_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_file_a_leader_that_was_halted_sends_nothing_when_it_wakes() {
    let place = Place::new();
    let mut beats = Beats::start(BEATER, &place.url()).await;
    beats.halt_leader().await;
    beats.each_second_came_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_a_leader_that_was_halted_sends_nothing_when_it_wakes() {
    let server = RedisServer::start().await;
    let mut beats = Beats::start(BEATER, &server.url()).await;
    beats.halt_leader().await;
    beats.each_second_came_once().await;
}
