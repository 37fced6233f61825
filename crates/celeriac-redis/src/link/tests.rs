//! Tests of the link against servers.
#![allow(clippy::unwrap_used, reason = "in helpers, too, it is the test that fails")]

use std::time::{Duration, Instant};

use celeriac_core::ErrorKind;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RedisServer, Reply};
use deadpool_redis::redis;
use tokio::task::JoinSet;

use super::*;
use crate::config::{Protocol, RedisConfig};
use crate::testing::{command, config, leader, link, link_to, soon, until};

fn both(url: &str) -> [RedisConfig; 2] {
    [Protocol::Resp3, Protocol::Resp2].map(|protocol| config(url).protocol(protocol))
}

fn through(proxy: &FaultProxy) -> RedisConfig {
    config(&format!("redis://127.0.0.1:{}", proxy.port()))
}

async fn kill_clients(server: &RedisServer) {
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
}

#[tokio::test]
async fn answers_go_to_those_who_asked() {
    let server = RedisServer::start().await;
    for config in both(&server.url()) {
        let link = link(config);
        let mut asking = JoinSet::new();
        for number in 0..500_i64 {
            let link = link.clone();
            asking
                .spawn(async move { (number, link.query("echo", &command(&format!("ECHO {number}"))).await.unwrap()) });
        }
        while let Some(answer) = asking.join_next().await {
            let (number, value) = answer.unwrap();
            assert_eq!(value, Value::BulkString(number.to_string().into_bytes()));
        }
    }
    assert_eq!(server.command(&["CLIENT", "LIST"]).await.text().matches("name=celeriac").count(), 0);
}

#[tokio::test]
async fn a_connection_that_comes_up_after_the_closing_is_closed() {
    let server = RedisServer::start().await;
    let link = link(config(&server.url()));
    let live = link.live("ping").await.unwrap();
    link.close();
    assert!(link.shared.up(live).is_none());
    assert!(link.shared.lock().live.is_none());
    until(async || !server.command(&["CLIENT", "LIST"]).await.text().contains("name=celeriac")).await;
}

#[tokio::test]
async fn calls_wait_for_a_server_that_comes_late() {
    let server = RedisServer::start().await;
    server.kill();
    for config in both(&server.url()) {
        let link = link(config);
        let mut waiting = JoinSet::new();
        for _ in 0..20 {
            let link = link.clone();
            waiting.spawn(async move { link.query("ping", &command("PING")).await.map(drop) });
        }
        while link.shared.lock().dial.is_none() {
            tokio::task::yield_now().await;
        }
        server.restart().await;
        for answer in soon(waiting.join_all()).await {
            answer.unwrap();
        }
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_outlive_a_server_that_is_killed_under_them() {
    let server = RedisServer::start().await;
    for config in both(&server.url()) {
        let link = link(config);
        let mut calling = JoinSet::new();
        for caller in 0..16 {
            let link = link.clone();
            calling.spawn(async move {
                for round in 0..200 {
                    link.query("set", &command(&format!("SET {caller} {round}"))).await.unwrap();
                }
            });
        }
        for _ in 0..3 {
            until(async || server.command(&["DBSIZE"]).await != Reply::Integer(0) || calling.is_empty()).await;
            server.kill();
            server.restart().await;
        }
        soon(calling.join_all()).await;
    }
}

#[tokio::test]
async fn a_command_under_way_when_the_connection_is_lost_is_left_open() {
    let server = RedisServer::start().await;
    for config in both(&server.url()) {
        let link = link(config);
        link.connected("open").await.unwrap();
        let waiting = {
            let link = link.clone();
            tokio::spawn(async move { link.attempt("wait", &command("BLPOP nothing 0")).await })
        };
        until(async || server.command(&["INFO", "clients"]).await.text().contains("blocked_clients:1")).await;
        kill_clients(&server).await;
        assert!(matches!(soon(waiting).await.unwrap(), Err(Fault::Broken(error)) if error.is_retryable()));
        assert_eq!(link.attempt("ping", &command("PING")).await.unwrap(), Value::SimpleString("PONG".to_owned()));
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_while_nobody_uses_it_is_noticed() {
    let server = RedisServer::start().await;
    let link = link_to(&server);
    link.connected("open").await.unwrap();
    let before = link.shared.lock().live.clone().unwrap();
    kill_clients(&server).await;
    until(async || before.lost.load(Ordering::Relaxed)).await;
    // One attempt suffices.
    link.attempt("ping", &command("PING")).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_broke_does_not_take_the_next_one_with_it() {
    let server = RedisServer::start().await;
    let link = link_to(&server);
    link.connected("open").await.unwrap();
    let old = link.shared.lock().live.clone().unwrap();
    kill_clients(&server).await;
    until(async || old.lost.load(Ordering::Relaxed)).await;
    link.query("ping", &command("PING")).await.unwrap();
    let fresh = link.shared.lock().live.clone().unwrap();
    let broken = redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    link.given_up(&old, fault("ping", &broken, None));
    assert!(!fresh.lost.load(Ordering::Relaxed));
    assert!(matches!(link.shared.present("ping"), Ok(Present::Live(live)) if Arc::ptr_eq(&live.lost, &fresh.lost)));
}

#[tokio::test]
async fn a_command_is_repeated_wherever_the_connection_is_cut() {
    let server = RedisServer::start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let proxy = FaultProxy::start(server.address()).await;
        let greeting = {
            link(through(&proxy).protocol(protocol)).connected("open").await.unwrap();
            proxy.commands()
        };
        for number in 1..=greeting + 1 {
            for cut in [Cut::before, Cut::inside, Cut::before_reply, Cut::inside_reply, Cut::after_reply] {
                let link = link(through(&proxy).protocol(protocol));
                proxy.cut_at(cut(number));
                let value = soon(link.query("set", &command("SET key value"))).await.unwrap();
                assert_eq!(value, Value::Okay, "cut at command {number}");
                proxy.heal().await;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_left() {
    let server = RedisServer::start().await;
    let link = link(config(&server.url()).response_timeout(Duration::from_millis(50)));
    link.connected("open").await.unwrap();
    server.pause();
    let fault = soon(link.attempt("ping", &command("PING"))).await.unwrap_err();
    assert!(matches!(&fault, Fault::Broken(error) if error.to_string().contains("`response_timeout`")), "{fault:?}");
    server.resume();
    soon(link.query("ping", &command("PING"))).await.unwrap();
}

#[tokio::test]
async fn opening_gives_up_after_its_time_but_tries_once() {
    let server = RedisServer::start().await;
    server.kill();
    let began = Instant::now();
    let error =
        link(config(&server.url()).startup_timeout(Duration::from_millis(100))).connected("open").await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(
        error.is_retryable()
            && error.to_string().contains("cannot reach Redis at")
            && error.to_string().contains("`startup_timeout`")
    );
    assert!(error.report().contains("refused"), "{}", error.report());
    link(config(&server.url()).startup_timeout(Duration::ZERO)).connected("open").await.unwrap_err();
    server.restart().await;
    link(config(&server.url()).startup_timeout(Duration::ZERO)).connected("open").await.unwrap();
}

#[tokio::test]
async fn opening_fails_at_once_where_waiting_will_not_help() {
    let server = RedisServer::builder().password("secret").start().await;
    let began = Instant::now();
    let wrong = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let error = link(config(&wrong).startup_timeout(Duration::from_secs(600))).connected("open").await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Config, "open"));
    assert!(began.elapsed() < Duration::from_secs(300));
}

#[tokio::test]
async fn a_password_that_was_changed_ends_what_waits_and_what_comes_later_tries_anew() {
    let server = RedisServer::builder().password("secret").start().await;
    for config in both(&server.url()) {
        let link = link(config);
        link.connected("open").await.unwrap();
        let mut admin = server.connect().await.unwrap();
        admin.command(&["AUTH", "secret"]).await.unwrap();
        admin.command(&["CONFIG", "SET", "requirepass", "changed"]).await.unwrap();
        admin.command(&["CLIENT", "KILL", "SKIPME", "yes"]).await.unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let link = link.clone();
            waiting.spawn(async move { link.query("ping", &command("PING")).await.map(drop).unwrap_err() });
        }
        for error in soon(waiting.join_all()).await {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(!error.report().contains("secret"), "{error}");
        }
        admin.command(&["CONFIG", "SET", "requirepass", "secret"]).await.unwrap();
        link.query("ping", &command("PING")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_the_primary() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let link = link(config(&format!("{};{}", first.url(), second.url())));
    link.query("set", &command("SET key first")).await.unwrap();
    first.command(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]).await;
    soon(link.query("set", &command("SET key second"))).await.unwrap();
    assert_eq!(second.command(&["GET", "key"]).await.text(), "second");
}

#[tokio::test]
async fn a_replica_that_does_not_say_so_is_reported_in_the_end() {
    let primary = leader().start().await;
    let user = "user worker on >pw ~* +@all -role";
    let replica = RedisServer::builder().config(user).replica_of(&primary).start().await;
    let link = link(config(&replica.url_as("worker", "pw")));
    let fault = link.attempt("set", &command("SET key value")).await.unwrap_err();
    assert!(matches!(&fault, Fault::NotSent(error) if error.is_retryable()), "{fault:?}");
    let error = soon(link.query("set", &command("SET key value"))).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("the server is a replica"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_busy_is_waited_for() {
    let server = RedisServer::builder().config("lua-time-limit 1").start().await;
    let mut hog = server.connect().await.unwrap();
    hog.send(&["EVAL", "while true do end", "0"]).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    while !matches!(admin.command(&["PING"]).await.unwrap(), Reply::Error(text) if text.starts_with("BUSY")) {}
    let link = link_to(&server);
    assert!(matches!(link.attempt("set", &command("SET key value")).await, Err(Fault::Busy(_))));
    let waiting = tokio::spawn(async move { link.query("set", &command("SET key value")).await });
    admin.command(&["SCRIPT", "KILL"]).await.unwrap();
    soon(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_server_refuses_names_the_thing() {
    let server = RedisServer::builder().user("worker", "pw", "~allowed +@all").start().await;
    let link = link_to(&server);
    link.query("set", &command("SET text value")).await.unwrap();
    let error = link.query("push", &command("LPUSH text value")).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("key `text` holds another type"),
        "{error}"
    );
    let error = link.query("call", &command("NOSUCH secret")).await.unwrap_err();
    assert!(error.to_string().contains("no command `NOSUCH`") && !error.report().contains("secret"), "{error}");

    let narrow = crate::testing::link(config(&server.url_as("worker", "pw")));
    let error = narrow.query("get", &command("GET forbidden")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("`ACL SETUSER ... ~*`"), "{error}");

    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = link.query("set", &command("SET more value")).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("`maxmemory`"), "{error}");
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_to_is_named() {
    let server = RedisServer::builder().config("enable-protected-configs yes").start().await;
    let link = link_to(&server);
    link.query("set", &command("SET key value")).await.unwrap();
    let folder = server.folder().join("gone");
    std::fs::create_dir(&folder).unwrap();
    server.command(&["CONFIG", "SET", "dir", &folder.display().to_string()]).await;
    server.command(&["CONFIG", "SET", "save", "1 1"]).await;
    std::fs::remove_dir(&folder).unwrap();
    until(async || {
        server.command(&["BGSAVE"]).await;
        server.command(&["INFO", "persistence"]).await.text().contains("rdb_last_bgsave_status:err")
    })
    .await;
    let error = link.query("set", &command("SET key value")).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("cannot write to its disk"), "{error}");
}

#[tokio::test]
async fn scripts_are_called_by_name_and_given_again_where_they_were_forgotten() {
    let server = RedisServer::start().await;
    let link = link_to(&server);
    let mut call = script::TEST.call();
    call.arg(0).arg("hello");
    let hello = Value::BulkString(b"hello".to_vec());
    assert_eq!(link.attempt("call", &call).await.unwrap(), hello);
    for _ in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(link.attempt("call", &call).await.unwrap(), hello);
    }
    server.command(&["SCRIPT", "FLUSH"]).await;
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INCR").arg("counter").add_command(call.clone()).cmd("INCR").arg("counter").add_command(call);
    let values = link.attempt_pipeline("call", &pipeline).await.unwrap();
    assert_eq!(values, [Value::Int(1), hello.clone(), Value::Int(2), hello]);
}

#[tokio::test]
async fn several_commands_are_answered_in_their_order() {
    let server = RedisServer::start().await;
    let link = link_to(&server);
    let mut pipeline = Pipeline::new();
    pipeline.cmd("SET").arg("a").arg(1).cmd("INCR").arg("a").cmd("GET").arg("a");
    let expected = [Value::Okay, Value::Int(2), Value::BulkString(b"2".to_vec())];
    assert_eq!(link.pipeline("several", &pipeline).await.unwrap(), expected);
    assert_eq!(link.pipeline("several", &Pipeline::new()).await.unwrap(), []);
}

#[tokio::test]
async fn the_command_of_several_that_fails_is_named() {
    let server = RedisServer::builder().user("worker", "pw", "~* +@all -set").start().await;
    let link = link_to(&server);
    let mut pipeline = Pipeline::new();
    pipeline
        .cmd("SET")
        .arg("text")
        .arg("value")
        .cmd("LPUSH")
        .arg("text")
        .arg("value")
        .cmd("SET")
        .arg("later")
        .arg("value");
    let error = link.pipeline("several", &pipeline).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("key `text` holds another type"),
        "{error}"
    );
    assert_eq!(server.command(&["DEL", "later"]).await, Reply::Integer(1));

    let narrow = crate::testing::link(config(&server.url_as("worker", "pw")));
    let error = soon(narrow.pipeline("several", &pipeline)).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("lacks a permission to run a command"),
        "{error}"
    );
}

#[tokio::test]
async fn several_commands_to_a_busy_server_surely_did_not_happen() {
    let server = leader().start().await;
    let replica = RedisServer::builder().config("user worker on >pw ~* +@all -role").replica_of(&server).start().await;
    let link = link(config(&replica.url_as("worker", "pw")));
    let mut writes = Pipeline::new();
    writes.cmd("SET").arg("a").arg(1).cmd("SET").arg("b").arg(1);
    assert!(matches!(link.attempt_pipeline("several", &writes).await, Err(Fault::NotSent(_))));
    let mut mixed = Pipeline::new();
    mixed.cmd("GET").arg("a").cmd("SET").arg("a").arg(1);
    assert!(matches!(link.attempt_pipeline("several", &mixed).await, Err(Fault::Broken(_))));
}

#[tokio::test]
async fn closing_ends_every_call() {
    let (server, gone) = (RedisServer::start().await, RedisServer::start().await);
    gone.kill();
    let closed = |error: &Error| error.kind() == ErrorKind::Unavailable && error.to_string().contains("closed");
    for config in both(&server.url()).into_iter().chain(both(&gone.url())) {
        let link = link(config);
        let (other, opening) = (link.clone(), link.clone());
        let waiting = tokio::spawn(async move { other.query("wait", &command("BLPOP nothing 0")).await });
        let opening = tokio::spawn(async move { opening.connected("open").await });
        while link.shared.lock().dial.is_none() && link.shared.lock().live.is_none() {
            tokio::task::yield_now().await;
        }
        link.close();
        assert!(closed(&soon(waiting).await.unwrap().unwrap_err()));
        if let Err(error) = soon(opening).await.unwrap() {
            assert!(closed(&error), "{error}");
        }
        assert!(closed(&link.query("ping", &command("PING")).await.unwrap_err()));
        assert!(closed(&link.connected("open").await.unwrap_err()));
    }
    until(async || server.command(&["CLIENT", "LIST"]).await.text().matches("name=celeriac").count() == 0).await;
}

#[tokio::test]
async fn callers_who_give_up_disturb_nobody() {
    let server = RedisServer::start().await;
    let link = link_to(&server);
    let mut asking = JoinSet::new();
    for number in 0..200_u64 {
        let link = link.clone();
        asking.spawn(async move {
            let echo = command(&format!("ECHO {number}"));
            let asked = link.query("echo", &echo);
            if number % 2 == 0 {
                let _ = tokio::time::timeout(Duration::from_micros(number * 10), asked).await;
            } else {
                assert_eq!(asked.await.unwrap(), Value::BulkString(number.to_string().into_bytes()));
            }
        });
    }
    soon(asking.join_all()).await;
    assert_eq!(server.command(&["CLIENT", "LIST"]).await.text().matches("name=celeriac").count(), 1);
}

#[tokio::test]
async fn dialling_ends_when_nobody_waits_and_begins_again_with_the_next() {
    let server = RedisServer::start().await;
    server.kill();
    let link = link_to(&server);
    tokio::time::timeout(Duration::from_millis(20), link.query("ping", &command("PING"))).await.unwrap_err();
    until(async || link.shared.lock().dial.is_none()).await;
    server.restart().await;
    soon(link.query("ping", &command("PING"))).await.unwrap();
}

#[test]
fn another_runtime_takes_over_from_one_that_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (home, first) = (runtime(), runtime());
    let server = home.block_on(RedisServer::start());
    for config in both(&server.url()) {
        let link = link(config);
        let gone = runtime();
        gone.block_on(link.query("ping", &command("PING"))).unwrap();
        drop(gone);
        first.block_on(async { soon(link.query("ping", &command("PING"))).await }).unwrap();
    }
    // It dials when its runtime ends, while another one's caller waits for that.
    server.kill();
    let link = link_to(&server);
    let gone = runtime();
    let ping = command("PING");
    gone.block_on(async { tokio::time::timeout(Duration::from_millis(50), link.query("ping", &ping)).await })
        .unwrap_err();
    let other = link.clone();
    let waiting = first.spawn(async move { other.query("ping", &command("PING")).await });
    drop(gone);
    home.block_on(server.restart());
    first.block_on(async { soon(waiting).await }).unwrap().unwrap();
}

#[tokio::test]
async fn one_connection_is_made_for_all_who_wait() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let link = link(through(&proxy));
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let link = link.clone();
        asking.spawn(async move { link.query("ping", redis::cmd("PING").arg("x")).await.unwrap() });
    }
    soon(asking.join_all()).await;
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    soon(link.query("ping", &command("PING"))).await.unwrap();
    assert_eq!(proxy.connections(), 2);
}
