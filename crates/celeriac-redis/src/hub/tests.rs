//! Tests of the hub against servers.
#![allow(clippy::unwrap_used, reason = "in helpers, too, it is the test that fails")]

use std::time::Duration;

use celeriac_core::ErrorKind;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RedisServer, Reply};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::config::{Protocol, RedisConfig};
use crate::testing::{command, config, endpoint, link_to, soon, until};

mod looks;

/// What an ear hears, `None` for that it resumed.
type Heard = mpsc::UnboundedReceiver<Option<(String, Vec<u8>)>>;

struct Listener(mpsc::UnboundedSender<Option<(String, Vec<u8>)>>);

impl Ear for Listener {
    fn heard(&self, channel: &[u8], payload: Vec<u8>) {
        let _ = self.0.send(Some((String::from_utf8(channel.to_vec()).unwrap(), payload)));
    }

    fn resumed(&self) {
        let _ = self.0.send(None);
    }
}

fn ear() -> (Arc<dyn Ear>, Heard) {
    let (says, hears) = mpsc::unbounded_channel();
    (Arc::new(Listener(says)), hears)
}

fn names(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn hub(config: RedisConfig) -> Arc<Hub> {
    Hub::new(endpoint(config))
}

fn both(server: &RedisServer) -> [RedisConfig; 2] {
    [Protocol::Resp3, Protocol::Resp2].map(|protocol| config(&server.url()).protocol(protocol))
}

fn through(proxy: &FaultProxy, protocol: Protocol) -> RedisConfig {
    config(&format!("redis://127.0.0.1:{}", proxy.port())).protocol(protocol)
}

async fn publish(server: &RedisServer, channel: &str, payload: &str) {
    server.command(&["PUBLISH", channel, payload]).await;
}

/// The next that is heard, whatever was resumed before.
async fn next(heard: &mut Heard) -> (String, String) {
    loop {
        if let Some((channel, payload)) = soon(heard.recv()).await.unwrap() {
            return (channel, String::from_utf8(payload).unwrap());
        }
    }
}

async fn resumed(heard: &mut Heard) {
    while soon(heard.recv()).await.unwrap().is_some() {}
}

async fn kill_clients(server: &RedisServer) {
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]).await;
}

async fn listeners(server: &RedisServer, channel: &str) -> String {
    server.command(&["PUBSUB", "NUMSUB", channel]).await.texts().pop().unwrap()
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[tokio::test]
async fn ears_hear_what_is_published_to_their_channels_and_patterns() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let (one, mut hears_one) = ear();
        let (other, mut hears_other) = ear();
        let (all, mut hears_all) = ear();
        let _one = hub.subscribe("test", names(&["a", "b"]), one).await.unwrap();
        let _other = hub.subscribe("test", names(&["b"]), other).await.unwrap();
        let _all = hub.psubscribe("test", names(&["[ab]", "c.*"]), all).await.unwrap();
        for (channel, payload) in [("a", "1"), ("b", "2"), ("c.d", "3"), ("d", "4")] {
            publish(&server, channel, payload).await;
        }
        let bytes = [0, 255, b'\r', b'\n'];
        link_to(&server).query("test", redis::cmd("PUBLISH").arg("a").arg(&bytes)).await.unwrap();
        assert_eq!(next(&mut hears_one).await, pair("a", "1"));
        assert_eq!(next(&mut hears_one).await, pair("b", "2"));
        assert_eq!(soon(hears_one.recv()).await.unwrap(), Some(("a".to_owned(), bytes.to_vec())));
        assert_eq!(next(&mut hears_other).await, pair("b", "2"));
        for (channel, payload) in [("a", "1"), ("b", "2"), ("c.d", "3")] {
            assert_eq!(next(&mut hears_all).await, pair(channel, payload));
        }
        assert!(hears_other.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_channel_is_left_when_its_last_subscription_is_dropped() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let (ear, mut heard) = ear();
        let one = hub.subscribe("test", names(&["news"]), Arc::clone(&ear)).await.unwrap();
        let other = hub.subscribe("test", names(&["news"]), ear).await.unwrap();
        assert_eq!(listeners(&server, "news").await, "1");
        drop(one);
        publish(&server, "news", "hello").await;
        assert_eq!(next(&mut heard).await, pair("news", "hello"));
        drop(other);
        until(async || listeners(&server, "news").await == "0").await;
        assert!(hub.shared.lock().channels.entries.is_empty());
        // The ear is gone with it.
        assert!(soon(heard.recv()).await.is_none());
    }
}

#[tokio::test]
async fn a_channel_that_is_left_and_taken_again_at_once_is_not_lost() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        for round in 0..300 {
            let (ear, mut heard) = ear();
            let subscription = hub.subscribe("test", names(&["news"]), ear).await.unwrap();
            if round % 3 == 0 {
                // With it the unsubscription of the round before goes out.
                let (other, _) = self::ear();
                drop(hub.subscribe("test", names(&["other"]), other).await.unwrap());
            }
            publish(&server, "news", &round.to_string()).await;
            assert_eq!(next(&mut heard).await, pair("news", &round.to_string()));
            drop(subscription);
        }
    }
}

#[tokio::test]
async fn many_subscriptions_at_once_take_few_commands() {
    let server = RedisServer::start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let proxy = FaultProxy::start(server.address()).await;
        let hub = hub(through(&proxy, protocol));
        let (silent, _heard) = ear();
        let _kept = hub.subscribe("test", names(&["first"]), silent).await.unwrap();
        let before = proxy.commands();
        let mut subscribing = JoinSet::new();
        for number in 0..1000 {
            let hub = Arc::clone(&hub);
            subscribing.spawn(async move {
                let (ear, heard) = ear();
                (hub.subscribe("test", names(&[&format!("channel {number}")]), ear).await.unwrap(), heard)
            });
        }
        let subscribed = soon(subscribing.join_all()).await;
        assert_eq!(server.command(&["PUBSUB", "CHANNELS"]).await.texts().len(), 1001);
        drop(subscribed);
        until(async || server.command(&["PUBSUB", "CHANNELS"]).await.texts().len() == 1).await;
        let commands = proxy.commands() - before;
        assert!(commands < 50, "{commands} commands: {:?}", proxy.names());
    }
}

#[tokio::test]
async fn ears_are_told_when_the_connection_was_lost_and_miss_nothing_after_that() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let (one, mut hears_one) = ear();
        let (all, mut hears_all) = ear();
        let _one = hub.subscribe("test", names(&["a", "b"]), one).await.unwrap();
        let _all = hub.psubscribe("test", names(&["?"]), all).await.unwrap();
        assert!(hears_one.try_recv().is_err() && hears_all.try_recv().is_err());
        for round in 0..20 {
            kill_clients(&server).await;
            resumed(&mut hears_one).await;
            publish(&server, "b", &round.to_string()).await;
            assert_eq!(soon(hears_one.recv()).await.unwrap(), Some(("b".to_owned(), round.to_string().into_bytes())));
            resumed(&mut hears_all).await;
            assert_eq!(next(&mut hears_all).await, pair("b", &round.to_string()));
        }
    }
}

#[tokio::test]
async fn subscriptions_outlive_the_server() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let (ear, mut heard) = ear();
        let _kept = hub.subscribe("test", names(&["news"]), ear).await.unwrap();
        server.kill();
        let late = {
            let (hub, (ear, heard)) = (Arc::clone(&hub), self::ear());
            tokio::spawn(async move { (hub.subscribe("test", names(&["late"]), ear).await.unwrap(), heard) })
        };
        server.restart().await;
        resumed(&mut heard).await;
        let (_late, mut hears_late) = soon(late).await.unwrap();
        publish(&server, "news", "hello").await;
        publish(&server, "late", "hello").await;
        assert_eq!(next(&mut heard).await, pair("news", "hello"));
        assert_eq!(next(&mut hears_late).await, pair("late", "hello"));
    }
}

#[tokio::test]
async fn a_subscription_is_made_wherever_the_connection_is_cut() {
    let server = RedisServer::start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let proxy = FaultProxy::start(server.address()).await;
        let greeting = {
            let (hub, (ear, _)) = (hub(through(&proxy, protocol)), ear());
            hub.subscribe("test", names(&["a", "b"]), ear).await.unwrap();
            proxy.commands()
        };
        for number in 1..=greeting {
            for cut in [Cut::before, Cut::inside, Cut::before_reply, Cut::inside_reply, Cut::after_reply] {
                let (hub, (ear, mut heard)) = (hub(through(&proxy, protocol)), ear());
                proxy.cut_at(cut(number));
                let _kept = soon(hub.subscribe("test", names(&["a", "b"]), ear)).await.unwrap();
                // Lost as soon as it was made, it is made again.
                until(async || {
                    publish(&server, "b", "hello").await;
                    !heard.is_empty()
                })
                .await;
                assert_eq!(next(&mut heard).await, pair("b", "hello"), "cut at command {number}");
                proxy.heal().await;
            }
        }
    }
}

#[tokio::test]
async fn what_access_control_forbids_is_said_to_who_asks_for_it_alone() {
    let rules = "~allowed* resetchannels &allowed* +@all";
    let server = RedisServer::builder().user("narrow", "pw", rules).start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let hub = hub(config(&server.url_as("narrow", "pw")).protocol(protocol));
        let mut subscribing = JoinSet::new();
        for name in ["allowed 1", "forbidden", "allowed 2"] {
            let hub = Arc::clone(&hub);
            subscribing.spawn(async move { (name, hub.subscribe("test", names(&[name]), ear().0).await) });
        }
        while let Some(subscribed) = soon(subscribing.join_next()).await {
            match subscribed.unwrap() {
                ("forbidden", Ok(_)) => panic!("it is forbidden"),
                ("forbidden", Err(error)) => {
                    assert!(
                        error.kind() == ErrorKind::Config && error.to_string().contains("`ACL SETUSER ... &*`"),
                        "{error}"
                    );
                }
                (name, subscribed) => drop(subscribed.unwrap_or_else(|error| panic!("{name}: {error}"))),
            }
        }
        let error = hub.look("test", &names(&["forbidden"]), &Arc::default()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("`ACL SETUSER ... ~*`"), "{error}");
        assert_eq!(hub.look("test", &names(&["allowed"]), &Arc::default()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn wrong_credentials_are_said_to_all_who_wait_and_tried_anew() {
    let server = RedisServer::builder().password("secret").start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let hub = hub(config(&format!("redis://:changed@127.0.0.1:{}", server.port())).protocol(protocol));
        for _ in 0..2 {
            let subscribed = soon(hub.subscribe("test", names(&["news"]), ear().0)).await;
            assert_eq!(subscribed.map(drop).unwrap_err().kind(), ErrorKind::Config);
            let looked = soon(hub.look("test", &names(&["list"]), &Arc::default())).await;
            assert_eq!(looked.unwrap_err().kind(), ErrorKind::Config);
        }
        let mut admin = server.connect().await.unwrap();
        admin.command(&["AUTH", "secret"]).await.unwrap();
        admin.command(&["CONFIG", "SET", "requirepass", "changed"]).await.unwrap();
        soon(hub.subscribe("test", names(&["news"]), ear().0)).await.map(drop).unwrap();
        soon(hub.look("test", &names(&["list"]), &Arc::default())).await.unwrap();
        admin.command(&["CONFIG", "SET", "requirepass", "secret"]).await.unwrap();
    }
}

#[tokio::test]
async fn closing_ends_everything() {
    let (server, gone) = (RedisServer::start().await, RedisServer::start().await);
    gone.kill();
    let closed = |error: &Error| error.is_retryable() && error.to_string().contains("closed");
    for config in both(&server) {
        let hub = hub(config);
        let (ear, mut heard) = ear();
        let subscription = hub.subscribe("test", names(&["news"]), ear).await.unwrap();
        let bell = Arc::new(Notify::new());
        hub.look("test", &names(&["list"]), &bell).await.unwrap();
        hub.close();
        soon(bell.notified()).await;
        assert!(soon(heard.recv()).await.is_none());
        assert!(closed(&hub.subscribe("test", names(&["news"]), self::ear().0).await.map(drop).unwrap_err()));
        assert!(closed(&hub.look("test", &names(&["list"]), &bell).await.unwrap_err()));
        drop(subscription);
        until(async || !server.command(&["CLIENT", "LIST"]).await.text().contains("name=celeriac")).await;
    }
    for config in both(&gone) {
        let hub = hub(config);
        let (one, other) = (Arc::clone(&hub), Arc::clone(&hub));
        let subscribing = tokio::spawn(async move { one.subscribe("test", names(&["news"]), ear().0).await.map(drop) });
        let looking = tokio::spawn(async move { other.look("test", &names(&["list"]), &Arc::default()).await });
        until(async || hub.shared.lock().running).await;
        hub.close();
        assert!(closed(&soon(subscribing).await.unwrap().unwrap_err()));
        assert!(closed(&soon(looking).await.unwrap().unwrap_err()));
    }
}

#[tokio::test]
async fn a_hub_that_is_dropped_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let _kept = hub.subscribe("test", names(&["news"]), ear().0).await.unwrap();
        hub.look("test", &names(&["list"]), &Arc::new(Notify::new())).await.unwrap();
        drop(hub);
        until(async || !server.command(&["CLIENT", "LIST"]).await.text().contains("name=celeriac")).await;
    }
}

#[test]
fn another_runtime_takes_over_from_one_that_has_ended() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (home, first) = (runtime(), runtime());
    let server = home.block_on(RedisServer::start());
    for config in both(&server) {
        let (hub, bell) = (hub(config), Arc::new(Notify::new()));
        // The first runtime has the connection, the second one an ear.
        let (early, late) = (ear(), ear());
        let _early = first.block_on(hub.subscribe("test", names(&["early"]), early.0)).unwrap();
        let gone = runtime();
        let ended = runtime();
        let (other, mut hears_other) = ear();
        let _other = ended.block_on(hub.subscribe("test", names(&["other"]), other)).unwrap();
        drop(ended);
        let _late = gone.block_on(hub.subscribe("test", names(&["late"]), late.0)).unwrap();
        gone.block_on(hub.look("test", &names(&["list"]), &bell)).unwrap();
        let mut hears_early = early.1;
        drop(gone);
        home.block_on(async {
            publish(&server, "early", "1").await;
            assert_eq!(next(&mut hears_early).await, pair("early", "1"));
            publish(&server, "other", "1").await;
            assert_eq!(next(&mut hears_other).await, pair("other", "1"));
        });
    }
    for config in both(&server) {
        let hub = hub(config);
        let gone = runtime();
        let (ear, mut heard) = ear();
        let (other, mut hears_other) = self::ear();
        let bell = Arc::new(Notify::new());
        let _kept = gone.block_on(hub.subscribe("test", names(&["news"]), ear)).unwrap();
        gone.block_on(hub.look("test", &names(&["list"]), &bell)).unwrap();
        let _other = first.block_on(hub.subscribe("test", names(&["other"]), other)).unwrap();
        drop(gone);
        home.block_on(async {
            soon(bell.notified()).await;
            resumed(&mut heard).await;
            resumed(&mut hears_other).await;
            publish(&server, "news", "1").await;
            publish(&server, "other", "1").await;
            assert_eq!(next(&mut heard).await, pair("news", "1"));
            assert_eq!(next(&mut hears_other).await, pair("other", "1"));
            assert_eq!(hub.look("test", &names(&["list"]), &bell).await.unwrap(), 0);
            server.command(&["LPUSH", "list", "1"]).await;
            soon(bell.notified()).await;
            server.command(&["DEL", "list"]).await;
        });
    }
}

#[tokio::test]
async fn callers_who_give_up_leave_no_ear_behind() {
    let server = RedisServer::start().await;
    server.kill();
    let hub = hub(config(&server.url()));
    let (ear, mut heard) = ear();
    tokio::time::timeout(Duration::from_millis(20), hub.subscribe("test", names(&["news"]), ear))
        .await
        .map(drop)
        .unwrap_err();
    assert!(soon(heard.recv()).await.is_none());
    server.restart().await;
    let _kept = soon(hub.subscribe("test", names(&["other"]), self::ear().0)).await.unwrap();
    until(async || server.command(&["PUBSUB", "CHANNELS"]).await.texts() == ["other"]).await;
    assert_eq!(hub.shared.lock().channels.entries.len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config.response_timeout(Duration::from_millis(100)));
        let (ear, mut heard) = ear();
        let _kept = hub.subscribe("test", names(&["news"]), ear).await.unwrap();
        server.pause();
        until(async || !hub.shared.lock().channels.entries.values().any(|entry| entry.known)).await;
        server.resume();
        resumed(&mut heard).await;
        publish(&server, "news", "hello").await;
        assert_eq!(next(&mut heard).await, pair("news", "hello"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscription_hears_or_is_told_that_it_did_not_while_connections_break() {
    let server = RedisServer::start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let proxy = FaultProxy::start(server.address()).await;
        let (hub, link) = (hub(through(&proxy, protocol)), link_to(&server));
        proxy.cut_randomly(11, 100);
        let mut callers = JoinSet::new();
        for caller in 0..16 {
            let (hub, link) = (Arc::clone(&hub), link.clone());
            callers.spawn(async move {
                for round in 0..40 {
                    let (ear, mut heard) = ear();
                    // Some channels of their own, and some that others come and go at.
                    let channel = match round % 2 {
                        0 => format!("channel {caller} {round}"),
                        _ => format!("channel {}", caller % 3),
                    };
                    let _kept = soon(hub.subscribe("test", names(&[&channel]), ear)).await.unwrap();
                    let payload = format!("{caller} {round}");
                    loop {
                        link.query("test", redis::cmd("PUBLISH").arg(&channel).arg(&payload)).await.unwrap();
                        let mut said = soon(heard.recv()).await.unwrap();
                        // Those of others.
                        while said.as_ref().is_some_and(|(_, said)| *said != payload.as_bytes()) {
                            said = soon(heard.recv()).await.unwrap();
                        }
                        if said.is_some() {
                            break;
                        }
                    }
                }
            });
        }
        soon(callers.join_all()).await;
        assert!(proxy.cuts() > 0);
    }
}
