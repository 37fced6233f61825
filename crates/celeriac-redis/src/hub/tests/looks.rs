//! Tests of looking at keys.

use super::*;

#[tokio::test]
async fn bells_ring_for_every_kind_of_change() {
    let server = RedisServer::start().await;
    let config = config(&server.url()).db(1);
    let (link, hub) = (crate::testing::link(config.clone()), hub(config));
    let keys = vec![b"list".to_vec(), vec![0, 255]];
    for (prepare, change) in [
        ("PING", "LPUSH list 1"),
        ("LPUSH list 1", "LPUSH list 2"),
        ("LPUSH list 1", "RPOP list"),
        ("LPUSH list 1", "DEL list"),
        ("SET list 1", "PEXPIRE list 1"),
        ("SET list 1", "FLUSHALL"),
        ("PING", "EVAL redis.call('LPUSH','list','x') 0"),
    ] {
        link.query("test", &command("FLUSHALL")).await.unwrap();
        link.query("test", redis::cmd("SET").arg(&keys[1]).arg(1)).await.unwrap();
        link.query("test", &command(prepare)).await.unwrap();
        let there = if prepare == "PING" { 1 } else { 2 };
        let bells = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        for bell in bells.iter().chain(&bells) {
            assert_eq!(hub.look("test", &keys, bell).await.unwrap(), there, "{change}");
        }
        link.query("test", &command(change)).await.unwrap();
        for bell in &bells {
            soon(bell.notified()).await;
        }
    }
    let bell = Arc::new(Notify::new());
    link.query("test", &command("FLUSHALL")).await.unwrap();
    assert_eq!(hub.look("test", &keys, &bell).await.unwrap(), 0);
    link.query("test", redis::cmd("SET").arg(&keys[1]).arg(1)).await.unwrap();
    soon(bell.notified()).await;
}

#[tokio::test]
async fn bells_ring_when_the_connection_is_lost() {
    let server = RedisServer::start().await;
    for config in both(&server) {
        let hub = hub(config);
        let bell = Arc::new(Notify::new());
        for _ in 0..10 {
            assert_eq!(soon(hub.look("test", &names(&["list"]), &bell)).await.unwrap(), 0);
            until(async || hub.shared.endpoint.speaks_resp3() || blocked(&server).await == 1).await;
            kill_clients(&server).await;
            soon(bell.notified()).await;
        }
    }
}

#[tokio::test]
async fn no_push_is_slept_through_however_often_the_connection_is_lost() {
    let server = RedisServer::start().await;
    for protocol in [Protocol::Resp3, Protocol::Resp2] {
        let proxy = FaultProxy::start(server.address()).await;
        let hub = hub(through(&proxy, protocol));
        let bell = Arc::new(Notify::new());
        proxy.cut_randomly(7, 30);
        for _ in 0..100 {
            // A bell that rang too often is looked after once more.
            while soon(hub.look("test", &names(&["list"]), &bell)).await.unwrap() > 0 {}
            let push = async {
                server.command(&["LPUSH", "list", "1"]).await;
            };
            let cut = async { proxy.cut() };
            tokio::join!(push, cut);
            while soon(async {
                bell.notified().await;
                hub.look("test", &names(&["list"]), &bell).await
            })
            .await
            .unwrap()
                == 0
            {}
            server.command(&["DEL", "list"]).await;
        }
    }
}

async fn blocked(server: &RedisServer) -> usize {
    let info = server.command(&["INFO", "clients"]).await.text();
    info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn without_tracking_lists_are_waited_for_and_stay_as_they_are() {
    let server = RedisServer::builder().user("narrow", "pw", "~* &* +@all -client|tracking").start().await;
    let narrow = config(&server.url_as("narrow", "pw"));
    for config in [narrow, config(&server.url()).protocol(Protocol::Resp2)] {
        let hub = hub(config);
        let keys = names(&["one", "two"]);
        let bells = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        for bell in &bells {
            assert_eq!(hub.look("test", &keys, bell).await.unwrap(), 0);
        }
        until(async || blocked(&server).await == 2).await;
        server.command(&["LPUSH", "two", "a", "b", "c"]).await;
        for bell in &bells {
            soon(bell.notified()).await;
        }
        assert_eq!(server.command(&["LRANGE", "two", "0", "-1"]).await.texts(), ["c", "b", "a"]);
        // One list is waited for still, and the other nobody asks after.
        until(async || blocked(&server).await <= 1).await;

        // What is there already rings too, for who could not take it.
        assert_eq!(hub.look("test", &keys, &bells[0]).await.unwrap(), 1);
        soon(bells[0].notified()).await;
        assert_eq!(server.command(&["LRANGE", "two", "0", "-1"]).await.texts(), ["c", "b", "a"]);
        server.command(&["DEL", "two"]).await;
        hub.close();
        until(async || blocked(&server).await == 0).await;
    }
}

#[tokio::test]
async fn waiting_for_a_list_takes_nothing_from_those_who_pop_it() {
    let server = RedisServer::start().await;
    let hub = hub(config(&server.url()).protocol(Protocol::Resp2));
    let bell = Arc::new(Notify::new());
    let mut popped = Vec::new();
    for number in 0..100 {
        hub.look("test", &names(&["list"]), &bell).await.unwrap();
        // The one waits before the other, or after it.
        let mut popper = server.connect().await.unwrap();
        popper.send(&["BRPOP", "list", "0"]).await.unwrap();
        server.command(&["LPUSH", "list", &number.to_string()]).await;
        popped.push(soon(popper.reply()).await.unwrap().texts()[1].parse::<i32>().unwrap());
    }
    assert_eq!(popped, (0..100).collect::<Vec<_>>());
    assert_eq!(server.command(&["LLEN", "list"]).await, Reply::Integer(0));
}

#[tokio::test]
async fn without_tracking_what_is_no_list_is_left_alone() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let hub = hub(through(&proxy, Protocol::Resp2));
    server.command(&["SET", "list", "text"]).await;
    let bell = Arc::new(Notify::new());
    let asking = async {
        loop {
            hub.look("test", &names(&["list"]), &bell).await.unwrap();
            bell.notified().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(1500), asking).await; // wait: for something that must not happen often
    let asked = proxy.names().iter().filter(|name| *name == "BLMOVE").count();
    assert!((1..5).contains(&asked), "{asked} times");
}
