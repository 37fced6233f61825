//! The proxy: connections break exactly where they should, and nowhere else.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::{Duration, Instant};

use celeriac_testkit::eventually;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RawRedis, RedisServer, Reply};

const SOON: Duration = Duration::from_secs(30);

async fn pair() -> (RedisServer, FaultProxy) {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    (server, proxy)
}

async fn client(proxy: &FaultProxy) -> RawRedis {
    RawRedis::connect(proxy.address()).await.unwrap()
}

#[tokio::test]
async fn a_healthy_proxy_passes_everything_and_counts_it() {
    let (server, proxy) = pair().await;
    let (mut one, mut other) = (client(&proxy).await, client(&proxy).await);
    let large = "x".repeat(1 << 20);
    assert_eq!(one.command(&["set", "a", &large]).await.unwrap().text(), "OK");
    assert_eq!(other.command(&["get", "a"]).await.unwrap().text(), large);
    for _ in 0..100 {
        one.send(&["incr", "n"]).await.unwrap();
    }
    for n in 1..=100 {
        assert_eq!(one.reply().await.unwrap(), Reply::Integer(n));
    }
    assert_eq!(server.command(&["GET", "n"]).await.text(), "100");
    assert_eq!((proxy.commands(), proxy.connections(), proxy.open(), proxy.cuts()), (102, 2, 2, 0));
    assert_eq!(proxy.names()[..3], ["SET", "GET", "INCR"]);
    assert!(proxy.bytes() > 2 << 20);
    drop(one);
    eventually(SOON, async || proxy.open() == 1).await;
}

#[tokio::test]
async fn a_connection_is_cut_at_each_point_of_each_command() {
    let (server, proxy) = pair().await;
    // What a cut at a command leaves: whether the server has done it, and whether the client knows.
    type At = fn(u64) -> Cut;
    let points: [(At, bool, bool); 6] = [
        (Cut::before, false, false),
        (Cut::inside, false, false),
        (Cut::after, true, false),
        (Cut::before_reply, true, false),
        (Cut::inside_reply, true, false),
        (Cut::after_reply, true, true),
    ];
    let mut cuts = 0;
    for (at, done, known) in points {
        for nth in 1..=4 {
            server.command(&["FLUSHALL"]).await;
            let mut client = client(&proxy).await;
            let cut = at(nth);
            let order = format!("{cut:?}");
            proxy.cut_at(cut);
            let mut replies = 0;
            while let Ok(reply) = client.command(&["INCR", "n"]).await {
                replies += 1;
                assert_eq!(reply, Reply::Integer(replies), "{order}");
            }
            let nth = i64::try_from(nth).unwrap();
            assert_eq!(replies, if known { nth } else { nth - 1 }, "{order}");
            let counted = if done { nth } else { nth - 1 };
            eventually(SOON, async || server.command(&["GET", "n"]).await.text().parse().unwrap_or(0) == counted).await;
            cuts += 1;
            assert_eq!(proxy.cuts(), cuts, "{order}");
        }
    }
}

#[tokio::test]
async fn what_was_sent_ahead_of_a_cut_command_is_done() {
    let (server, proxy) = pair().await;
    let mut client = client(&proxy).await;
    proxy.cut_at(Cut::before(50));
    for _ in 0..50 {
        client.send(&["INCR", "n"]).await.unwrap();
    }
    while client.reply().await.is_ok() {}
    eventually(SOON, async || server.command(&["GET", "n"]).await.text() == "49").await;
}

#[tokio::test]
async fn a_cut_can_wait_for_a_name_and_can_take_all_connections() {
    let (server, proxy) = pair().await;
    let (mut one, mut other) = (client(&proxy).await, client(&proxy).await);
    proxy.cut_at(Cut::before(2).of("incr").everywhere());
    for command in ["PING", "INCR", "PING"] {
        let words = if command == "PING" { vec!["PING"] } else { vec!["INCR", "n"] };
        assert!(one.command(&words).await.is_ok() && proxy.cuts() == 0);
    }
    assert!(one.command(&["INCR", "n"]).await.is_err());
    assert!(other.command(&["PING"]).await.is_err());
    assert_eq!((proxy.cuts(), proxy.open()), (2, 0));
    assert_eq!(server.command(&["GET", "n"]).await.text(), "1");
    assert!(client(&proxy).await.command(&["INCR", "n"]).await.is_ok());
}

#[tokio::test]
async fn what_is_pushed_is_nobodys_reply() {
    for version in ["2", "3"] {
        let (server, proxy) = pair().await;
        let mut client = client(&proxy).await;
        client.command(&["HELLO", version]).await.unwrap();
        assert_eq!(client.command(&["SUBSCRIBE", "a", "b"]).await.unwrap().texts(), ["subscribe", "a", "1"]);
        assert_eq!(client.reply().await.unwrap().texts(), ["subscribe", "b", "2"]);
        proxy.cut_at(Cut::before_reply(1).of("PING"));
        for message in ["1", "2", "3"] {
            server.command(&["PUBLISH", "b", message]).await;
            assert_eq!(client.reply().await.unwrap().texts(), ["message", "b", message]);
        }
        assert_eq!(proxy.cuts(), 0);
        assert!(client.command(&["PING"]).await.is_err());
        assert_eq!(proxy.cuts(), 1);
    }
}

#[tokio::test]
async fn random_cuts_repeat_with_their_seed() {
    async fn run(seed: u64) -> Vec<usize> {
        let (_server, proxy) = pair().await;
        proxy.cut_randomly(seed, 100);
        let mut redis = client(&proxy).await;
        let mut broken = Vec::new();
        for n in 0..200 {
            if redis.command(&["INCR", "n"]).await.is_err() {
                broken.push(n);
                redis = client(&proxy).await;
            }
        }
        assert!(proxy.cuts() >= broken.len() as u64);
        proxy.heal().await;
        let mut redis = client(&proxy).await;
        for _ in 0..200 {
            redis.command(&["PING"]).await.unwrap();
        }
        broken
    }
    let (first, again, other) = tokio::join!(run(1), run(1), run(2));
    assert!((5..50).contains(&first.len()), "{first:?}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[tokio::test]
async fn connections_are_refused_until_it_is_healed() {
    let (_server, proxy) = pair().await;
    let mut standing = client(&proxy).await;
    standing.command(&["PING"]).await.unwrap();
    proxy.refuse().await;
    proxy.refuse().await;
    assert!(RawRedis::connect(proxy.address()).await.is_err());
    assert_eq!(standing.command(&["PING"]).await.unwrap().text(), "PONG");
    proxy.cut();
    assert!(standing.command(&["PING"]).await.is_err());
    proxy.heal().await;
    assert_eq!(client(&proxy).await.command(&["PING"]).await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn a_black_hole_says_nothing_until_it_is_healed() {
    let (server, proxy) = pair().await;
    let mut standing = client(&proxy).await;
    standing.command(&["PING"]).await.unwrap();
    proxy.black_hole();
    let mut fresh = client(&proxy).await;
    standing.send(&["SET", "a", "b"]).await.unwrap();
    fresh.send(&["SET", "a", "b"]).await.unwrap();
    {
        let (one, other) = (std::pin::pin!(standing.reply()), std::pin::pin!(fresh.reply()));
        let either = async {
            tokio::select! { reply = one => reply, reply = other => reply }
        };
        assert!(tokio::time::timeout(Duration::from_millis(50), either).await.is_err());
    }
    assert_eq!(server.command(&["DBSIZE"]).await, Reply::Integer(0));
    proxy.heal().await;
    assert!(standing.reply().await.is_err() && fresh.reply().await.is_err());
    assert_eq!(client(&proxy).await.command(&["PING"]).await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn what_passes_can_be_late_and_in_pieces() {
    let (_server, proxy) = pair().await;
    let mut client = client(&proxy).await;
    proxy.split(1);
    let value = "x".repeat(3000);
    client.command(&["SET", "a", &value]).await.unwrap();
    assert_eq!(client.command(&["GET", "a"]).await.unwrap().text(), value);
    proxy.delay(Duration::from_millis(30));
    let sent = Instant::now();
    client.command(&["PING"]).await.unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(60));
    proxy.heal().await;
    client.command(&["PING"]).await.unwrap();
}

#[tokio::test]
async fn a_server_may_come_back_behind_it_or_be_another() {
    let (server, proxy) = pair().await;
    let mut redis = client(&proxy).await;
    redis.command(&["PING"]).await.unwrap();
    server.kill();
    assert!(redis.command(&["PING"]).await.is_err());
    // It accepts, but has nobody to pass anything on to.
    assert!(client(&proxy).await.command(&["PING"]).await.is_err());
    server.restart().await;
    assert_eq!(client(&proxy).await.command(&["PING"]).await.unwrap().text(), "PONG");

    let other = RedisServer::start().await;
    other.command(&["SET", "who", "other"]).await;
    proxy.set_upstream(other.address());
    assert_eq!(client(&proxy).await.command(&["GET", "who"]).await.unwrap().text(), "other");
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn a_protocol_that_it_does_not_know_passes_piece_by_piece() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start_opaque(server.address()).await;
    let mut client = client(&proxy).await;
    client.command(&["INCR", "n"]).await.unwrap();
    proxy.cut_at(Cut::before_reply(1));
    assert!(client.command(&["INCR", "n"]).await.is_err());
    assert_eq!(server.command(&["GET", "n"]).await.text(), "2");
    assert_eq!((proxy.commands(), proxy.cuts()), (2, 1));
}

#[tokio::test]
async fn what_is_no_amqp_passes_a_proxy_for_it() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start_amqp(server.address()).await;
    let mut client = client(&proxy).await;
    for n in 1..=3 {
        assert_eq!(client.command(&["INCR", "n"]).await.unwrap(), Reply::Integer(n));
    }
    assert_eq!((proxy.names(), proxy.replies()), (vec![String::new(); 3], vec![String::new(); 3]));
}
