//! The launchers: servers come up alone, keep what they should, and leave nothing behind.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use celeriac_testkit::eventually;
use celeriac_testkit::server::{ClientCertificate, Fsync, RawRedis, RedisSentinel, RedisServer, Reply};
use rustix::process::{Pid, test_kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(30);

fn ok() -> Reply {
    Reply::Status("OK".to_owned())
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn servers_run_side_by_side() {
    let (one, other) = tokio::join!(RedisServer::start(), RedisServer::start());
    assert_eq!(one.command(&["SET", "whose", "one"]).await, ok());
    assert_eq!(other.command(&["GET", "whose"]).await, Reply::Nil);
    let mut by_tcp = RawRedis::connect(one.address()).await.unwrap();
    assert_eq!(by_tcp.command(&["GET", "whose"]).await.unwrap().text(), "one");
    assert_eq!(one.url(), format!("redis://127.0.0.1:{}/0", one.port()));
    assert!(one.url_of(3).ends_with("/3"));
}

#[tokio::test]
async fn a_dropped_server_leaves_neither_a_process_nor_a_folder() {
    let server = RedisServer::start().await;
    let (pid, folder) = (server.pid(), server.folder().to_owned());
    assert!(exists(pid) && folder.exists());
    server.pause();
    drop(server);
    assert!(!exists(pid) && !folder.exists());
}

/// Set in the process of a child.
const CHILD: &str = "CELERIAC_TESTKIT_CHILD";

/// Runs the test `name` again, in a process of its own.
fn child(name: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "").stdout(Stdio::piped()).kill_on_drop(true);
    child
}

#[tokio::test]
async fn a_server_dies_with_the_process_that_started_it() {
    if std::env::var_os(CHILD).is_some() {
        let server = RedisServer::start().await;
        println!("\nserver {} {}", server.address(), server.folder().display());
        return std::future::pending().await;
    }
    let mut child = child("a_server_dies_with_the_process_that_started_it").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (address, folder): (SocketAddr, PathBuf) = loop {
        let line = lines.next_line().await.unwrap().expect("the child starts a server");
        if let Some((address, folder)) = line.strip_prefix("server ").and_then(|line| line.split_once(' ')) {
            break (address.parse().unwrap(), folder.into());
        }
    };
    assert!(RawRedis::connect(address).await.is_ok() && folder.exists());
    child.kill().await.unwrap();
    eventually(SOON, async || RawRedis::connect(address).await.is_err() && !folder.exists()).await;
}

#[tokio::test]
async fn a_test_that_fails_shows_the_log_of_its_server() {
    if std::env::var_os(CHILD).is_some() {
        let _server = RedisServer::start().await;
        panic!("as it must");
    }
    let ended = child("a_test_that_fails_shows_the_log_of_its_server").stderr(Stdio::piped()).output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("Ready to accept connections"), "{said}");
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_what_it_had_acknowledged() {
    let server = RedisServer::builder().append_only(Fsync::Always).start().await;
    let (port, pid) = (server.port(), server.pid());
    for round in 1..=5 {
        assert_eq!(server.command(&["INCR", "rounds"]).await, Reply::Integer(round));
        server.kill();
        assert!(server.connect().await.is_err() && RawRedis::connect(server.address()).await.is_err());
        server.restart().await;
    }
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.command(&["GET", "rounds"]).await.text(), "5");
}

#[tokio::test]
async fn a_server_without_a_file_forgets_when_it_restarts() {
    let server = RedisServer::start().await;
    server.command(&["SET", "a", "b"]).await;
    server.stop().await;
    server.restart().await;
    assert_eq!(server.command(&["DBSIZE"]).await, Reply::Integer(0));
    // One that runs is stopped by itself.
    server.command(&["SET", "a", "b"]).await;
    server.restart().await;
    assert_eq!(server.command(&["DBSIZE"]).await, Reply::Integer(0));
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = RedisServer::start().await;
    let mut connection = RawRedis::connect(server.address()).await.unwrap();
    server.pause();
    connection.send(&["PING"]).await.unwrap();
    {
        let answer = std::pin::pin!(connection.reply());
        assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err());
    }
    server.resume();
    assert_eq!(connection.reply().await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn passwords_users_and_lines_of_configuration_are_heeded() {
    let server = RedisServer::builder()
        .password("s3cret?")
        .user("reader", "p@ss", "~* +get +ping")
        .config("maxmemory 7mb")
        .start()
        .await;
    assert_eq!(server.url(), format!("redis://:s3cret%3F@127.0.0.1:{}/0", server.port()));
    assert_eq!(server.url_as("reader", "p@ss"), format!("redis://reader:p%40ss@127.0.0.1:{}/0", server.port()));
    assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]).await.texts(), ["maxmemory", "7340032"]);

    let mut stranger = RawRedis::connect(server.address()).await.unwrap();
    assert!(stranger.command(&["GET", "a"]).await.unwrap().text().starts_with("NOAUTH"));
    assert_eq!(stranger.command(&["AUTH", "reader", "p@ss"]).await.unwrap(), ok());
    assert_eq!(stranger.command(&["GET", "a"]).await.unwrap(), Reply::Nil);
    assert!(stranger.command(&["SET", "a", "b"]).await.unwrap().text().starts_with("NOPERM"));
    server.restart().await;
    assert_eq!(server.command(&["PING"]).await.text(), "PONG");
}

/// Whether `server` answers a client that trusts the authority of `trusted` and shows the certificate of `shown`.
async fn answers(server: &RedisServer, trusted: &RedisServer, shown: Option<&RedisServer>) -> bool {
    let mut client = Command::new("redis-cli");
    client.args(["--tls", "-h", "127.0.0.1", "-p", &server.port().to_string()]);
    client.arg("--cacert").arg(&trusted.certificates().ca);
    if let Some(files) = shown.map(RedisServer::certificates) {
        client.arg("--cert").arg(&files.client).arg("--key").arg(&files.client_key);
    }
    client.arg("ping").output().await.unwrap().stdout == b"PONG\n"
}

#[tokio::test]
async fn tls_is_spoken_to_those_who_know_the_authority() {
    let open = RedisServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let strict = RedisServer::builder().tls(ClientCertificate::Required).start().await;
    assert!(open.url().starts_with("rediss://"));
    assert!(answers(&open, &open, None).await);
    assert!(!answers(&open, &strict, None).await);
    assert!(!answers(&strict, &strict, None).await);
    assert!(!answers(&strict, &strict, Some(&open)).await);
    assert!(answers(&strict, &strict, Some(&strict)).await);
    strict.restart().await;
    assert!(answers(&strict, &strict, Some(&strict)).await);
}

#[tokio::test]
async fn a_sentinel_makes_the_replica_the_master_when_the_master_is_gone() {
    let master = RedisServer::builder().password("pass").start().await;
    master.command(&["SET", "a", "b"]).await;
    let replica = RedisServer::builder().password("pass").replica_of(&master).start().await;
    assert_eq!(replica.command(&["GET", "a"]).await.text(), "b");
    assert!(replica.command(&["SET", "a", "c"]).await.text().starts_with("READONLY"));

    let sentinel = RedisSentinel::start("tasks", &master, 1).await;
    assert_eq!(sentinel.master().await, master.address());
    sentinel.knows(1, 0).await;
    master.kill();
    eventually(SOON, async || sentinel.master().await == replica.address()).await;
    eventually(SOON, async || replica.command(&["SET", "a", "c"]).await == ok()).await;
    sentinel.restart().await;
    assert_eq!(sentinel.master().await, replica.address());
}

#[tokio::test]
async fn sentinels_ask_for_passwords_and_know_each_others() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder().replica_of(&master).start().await;
    let builder = RedisSentinel::builder("tasks", &master, 1).password("guard?").user(
        "asker",
        "s3cret",
        "+sentinel|get-master-addr-by-name",
    );
    let (one, other) = tokio::join!(builder.clone().start(), builder.start());
    let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tasks"];
    let mut stranger = RawRedis::connect(one.address()).await.unwrap();
    assert!(stranger.command(&ask).await.unwrap().text().starts_with("NOAUTH"));
    assert_eq!(stranger.command(&["AUTH", "asker", "s3cret"]).await.unwrap(), ok());
    assert_eq!(stranger.command(&ask).await.unwrap().texts()[1], master.port().to_string());
    assert!(stranger.command(&["SENTINEL", "MASTERS"]).await.unwrap().text().starts_with("NOPERM"));

    one.knows(1, 1).await;
    other.knows(1, 1).await;
    master.kill();
    // Both have to vote for it.
    eventually(SOON, async || one.master().await == replica.address()).await;
    eventually(SOON, async || other.master().await == replica.address()).await;
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let start = tokio::spawn(RedisServer::builder().config("no-such-option 1").start());
    let panic = start.await.unwrap_err().into_panic();
    assert!(panic.downcast_ref::<String>().unwrap().contains("no-such-option"));
}
