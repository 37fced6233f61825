//! The launcher of RabbitMQ: servers come up alone, keep what they should, and leave nothing behind.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use celeriac_testkit::eventually;
use celeriac_testkit::server::{ClientCertificate, Permissions, RabbitServer, Vhost};
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Event};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

/// A virtual host of the server that all tests share which leave it as it is.
async fn vhost() -> Vhost<'static> {
    RabbitServer::shared().await.vhost().await
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

/// A channel that confirms, with a durable queue `q`.
async fn channel(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(&channel, FieldTable::default()).await;
    channel
}

async fn declare(channel: &Channel, arguments: FieldTable) {
    channel.queue_declare("q".into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Sends a persistent message to `q`, and waits until it is confirmed.
async fn publish(channel: &Channel, body: &[u8]) -> lapin::Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm =
        channel.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), body, properties).await?;
    assert!(confirm.await?.is_ack());
    Ok(())
}

/// The command lines of the processes that have the folder in theirs, or in their environment.
#[cfg(target_os = "linux")]
fn processes(folder: &Path) -> Vec<String> {
    let named = |entry: std::fs::DirEntry| {
        let read = |file| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let (environment, line) = (read("environ"), read("cmdline"));
        let both = String::from_utf8_lossy(&[environment, line.clone()].concat()).into_owned();
        both.contains(folder.to_str().unwrap()).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| named(entry.unwrap())).collect()
}

#[tokio::test]
async fn messages_are_kept_counted_and_delivered() {
    let vhost = vhost().await;
    assert_eq!(vhost.url(), format!("amqp://guest:guest@127.0.0.1:{}/{}", vhost.server().port(), vhost.name()));
    let connection = connect(&vhost.url()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    assert_eq!(vhost.queue_info("q").await, None);
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-priority".into(), AMQPValue::ShortShortUInt(9));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("dëad €".into()));
    declare(&channel, arguments).await;
    for body in [b"a", b"b", b"c"] {
        publish(&channel, body).await.unwrap();
    }
    let info = vhost.queue_info("q").await.unwrap();
    assert_eq!((info.ready, info.unacked, info.consumers), (3, 0, 0));
    let arguments: Vec<(&str, &str)> = info.arguments.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(arguments, [("x-dead-letter-exchange", "dëad €"), ("x-max-priority", "9")]);

    let consume = channel.basic_consume("q".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = consume.await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    assert_eq!(first.data, b"a");
    first.ack(BasicAckOptions::default()).await.unwrap();
    eventually(SOON, async || {
        let info = vhost.queue_info("q").await.unwrap();
        (info.ready, info.unacked, info.consumers) == (0, 2, 1)
    })
    .await;
}

#[tokio::test]
async fn virtual_hosts_do_not_see_each_other() {
    let (one, other) = (vhost().await, vhost().await);
    let connection = connect(&one.url()).await.unwrap();
    channel(&connection).await;
    assert!(one.queue_info("q").await.is_some() && other.queue_info("q").await.is_none());
    let odd = one.server().add_vhost("a/b \"ü\"").await;
    assert!(odd.url().ends_with("/a%2Fb%20%22%C3%BC%22"));
    let connection = connect(&odd.url()).await.unwrap();
    channel(&connection).await;
    assert!(odd.queue_info("q").await.is_some());
    let default = one.server().default_vhost();
    assert!(default.url().ends_with("/%2F") && default.queue_info("q").await.is_none());
    connect(&default.url()).await.unwrap();
}

#[tokio::test]
async fn users_do_what_they_may() {
    let vhost = vhost().await;
    let permissions = Permissions { configure: "^mine", write: ".*", read: "" };
    vhost.add_user("narrow", "p@ss/", permissions).await;
    assert!(connect(&vhost.url_as("narrow", "other")).await.is_err());
    assert!(connect(&vhost.server().url_as("narrow", "p@ss/")).await.is_err());
    let connection = connect(&vhost.url_as("narrow", "p@ss/")).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let declare = |queue: &'static str| {
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default())
    };
    declare("mine").await.unwrap();
    let refused = declare("yours").await.unwrap_err().to_string();
    assert!(refused.contains("ACCESS"), "{refused}");
}

#[tokio::test]
async fn the_server_evaluates_erlang_and_obeys_rabbitmqctl() {
    let vhost = vhost().await;
    let server = vhost.server();
    assert_eq!(server.eval("X = 20, {X + 1, \"a\", byte_size(<<\"é €\"/utf8>>)}").await, "{21,\"a\",6}");
    let all = join_all((0..50).map(|n| async move { server.eval(&n.to_string()).await == n.to_string() })).await;
    assert_eq!(all, [true; 50]);
    assert!(server.ctl(&["list_users"]).await.lines().any(|user| user == "guest\t[administrator]"));
    assert!(server.ctl(&["list_vhosts"]).await.lines().any(|name| name == vhost.name()));
    for (broken, reason) in [("1 / 0", "badarith"), ("1 /", "syntax error")] {
        let vhost = vhost.clone();
        let panic = tokio::spawn(async move { vhost.server().eval(broken).await }).await.unwrap_err().into_panic();
        assert!(panic.downcast_ref::<String>().unwrap().contains(reason), "{broken}");
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_what_it_had_confirmed() {
    let server = RabbitServer::builder().config("heartbeat = 7").start().await;
    let (port, pid) = (server.port(), server.pid());
    let vhost = server.vhost().await;
    for round in 1..=2 {
        let connection = connect(&vhost.url()).await.unwrap();
        assert_eq!(connection.configuration().heartbeat(), 7);
        let channel = channel(&connection).await;
        publish(&channel, b"kept").await.unwrap();
        if round == 1 {
            server.kill();
        } else {
            server.stop().await;
        }
        assert!(TcpStream::connect(server.address()).await.is_err());
        server.restart().await;
        assert_eq!(vhost.queue_info("q").await.unwrap().ready, round);
    }
    // One that runs is stopped by itself.
    server.restart().await;
    assert_eq!(vhost.queue_info("q").await.unwrap().ready, 2);
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
}

// /proc tells what runs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn servers_run_side_by_side_and_leave_neither_processes_nor_folders() {
    let (one, other) = tokio::join!(RabbitServer::start(), RabbitServer::start());
    let connection = connect(&one.url()).await.unwrap();
    channel(&connection).await;
    assert!(one.default_vhost().queue_info("q").await.is_some());
    assert!(other.default_vhost().queue_info("q").await.is_none());
    let folders = [one.folder().to_owned(), other.folder().to_owned()];
    let of_one = processes(&folders[0]);
    assert!(of_one.iter().any(|line| line.contains("beam")), "{of_one:?}");
    assert!(!of_one.iter().any(|line| line.contains("epmd -")), "{of_one:?}");
    // A server that is halted is gone as well.
    one.pause();
    drop((one, other));
    for folder in folders {
        assert!(!folder.exists());
        // Its helpers end by themselves when the server has.
        eventually(SOON, async || processes(&folder).is_empty()).await;
    }
}

#[tokio::test]
async fn who_shares_a_server_gets_the_same_as_others_who_want_one_like_it() {
    let with_heartbeat = || RabbitServer::builder().config("heartbeat = 9");
    let (one, other, same) =
        tokio::join!(RabbitServer::shared(), with_heartbeat().shared(), RabbitServer::builder().shared());
    assert_eq!(one.address(), same.address());
    assert_ne!(one.address(), other.address());
    let vhost = one.vhost().await;
    connect(&vhost.url()).await.unwrap();
    assert_eq!(other.eval("application:get_env(rabbit, heartbeat)").await, "{ok,9}");
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = RabbitServer::start().await;
    let connection = connect(&server.url()).await.unwrap();
    let channel = channel(&connection).await;
    server.pause();
    {
        let confirmed = std::pin::pin!(publish(&channel, b"late"));
        assert!(tokio::time::timeout(Duration::from_millis(50), confirmed).await.is_err());
    }
    server.resume();
    publish(&channel, b"soon").await.unwrap();
    assert_eq!(server.default_vhost().queue_info("q").await.unwrap().ready, 2);
}

/// Waits for an event of which `is` says that it is meant.
async fn event(events: &mut (impl Stream<Item = Event> + Send + Unpin), is: fn(&Event) -> bool) {
    let comes = async { while !is(&events.next().await.unwrap()) {} };
    tokio::time::timeout(SOON, comes).await.unwrap();
}

#[tokio::test]
async fn an_alarm_blocks_publishers_until_it_is_cleared() {
    let server = RabbitServer::start().await;
    let connection = connect(&server.url()).await.unwrap();
    let mut events = connection.events_listener();
    let channel = channel(&connection).await;
    for round in 1..=2 {
        server.raise_memory_alarm().await;
        // The server tells who publishes.
        let properties = BasicProperties::default();
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), "q".into(), options, b"blocked", properties).await.unwrap();
        event(&mut events, |event| matches!(event, Event::ConnectionBlocked(_))).await;
        assert_eq!(server.default_vhost().queue_info("q").await.unwrap().ready, 2 * round - 2);
        server.clear_memory_alarm().await;
        event(&mut events, |event| matches!(event, Event::ConnectionUnblocked)).await;
        assert!(confirm.await.unwrap().is_ack());
        publish(&channel, b"free").await.unwrap();
    }
}

#[tokio::test]
async fn an_operator_closes_connections_with_a_reason() {
    let server = RabbitServer::start().await;
    let connection = connect(&server.url()).await.unwrap();
    let mut events = connection.events_listener();
    server.close_all_connections("it is late").await;
    let is_told = |event: &Event| matches!(event, Event::Error(error) if error.to_string().contains("it is late"));
    event(&mut events, is_told).await;
    connect(&server.url()).await.unwrap();
}

/// The methods by which `server` answers what is sent by TLS by a client that trusts the authority of `trusted` and shows the certificate of `shown`, and whether they name EXTERNAL; else
/// why there are none. The client is Erlang's own, in `by`.
async fn answers(
    by: &RabbitServer,
    server: &RabbitServer,
    trusted: &RabbitServer,
    shown: Option<&RabbitServer>,
    sent: &[&str],
) -> String {
    let path = |path: &Path| format!("{:?}", path.to_str().unwrap());
    let shown = shown
        .map(RabbitServer::certificates)
        .map(|files| format!(", {{certfile, {}}}, {{keyfile, {}}}", path(&files.client), path(&files.client_key)));
    let exchanges: Vec<String> = sent.iter().map(|bytes| format!("Exchange(<<{bytes}>>)")).collect();
    let expression = format!(
        "Options = [binary, {{active, false}}, {{verify, verify_peer}}, {{cacertfile, {}}}{}],
        try
            {{ok, Tls}} = ssl:connect(\"localhost\", {}, Options),
            Exchange = fun(Bytes) -> ok = ssl:send(Tls, Bytes), {{ok, Said}} = ssl:recv(Tls, 0),
                {{binary:part(Said, 7, 4), binary:match(Said, <<\"EXTERNAL\">>) =/= nomatch}} end,
            [{}]
        catch _:Reason -> {{no, Reason}} end",
        path(&trusted.certificates().ca),
        shown.unwrap_or_default(),
        server.tls_address().port(),
        exchanges.join(", ")
    );
    by.eval(&expression).await
}

const HEADER: &str = r#""AMQP", 0, 0, 9, 1"#;

/// `connection.start-ok` with no properties, the mechanism EXTERNAL and an empty response.
const LOG_IN: &str = r#"1, 0:16, 27:32, 10:16, 11:16, 0:32, 8, "EXTERNAL", 0:32, 5, "en_US", 16#CE"#;

#[tokio::test]
async fn tls_is_spoken_to_those_who_know_the_authority() {
    let (open, strict) = tokio::join!(
        RabbitServer::builder().tls(ClientCertificate::NotAsked).start(),
        RabbitServer::builder().tls(ClientCertificate::Required).start(),
    );
    assert_eq!(open.tls_url(), format!("amqps://guest:guest@{}/%2F", open.tls_address()));
    let greets = async |server, trusted, shown| {
        answers(&strict, server, trusted, shown, &[HEADER]).await == "[{<<0,10,0,10>>,false}]"
    };
    assert!(greets(&open, &open, None).await);
    assert!(!greets(&open, &strict, None).await);
    assert!(!greets(&strict, &strict, None).await);
    assert!(!greets(&strict, &strict, Some(&open)).await);
    assert!(greets(&strict, &strict, Some(&strict)).await);
    // Without TLS, too.
    connect(&strict.url()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_logs_its_client_in() {
    let server = RabbitServer::builder().external().start().await;
    let vhost = server.vhost().await;
    let url = format!("amqps://{}/{}?auth_mechanism=external", server.tls_address(), vhost.name());
    assert_eq!(vhost.external_url(), url);
    // `connection.tune-ok` with the limits that are proposed, and `connection.open`.
    let length = vhost.name().len();
    let open = format!(
        "1, 0:16, 12:32, 10:16, 31:16, 2047:16, 131072:32, 0:16, 16#CE,
        1, 0:16, {}:32, 10:16, 40:16, {length}, {:?}, 0, 0, 16#CE",
        length + 7,
        vhost.name()
    );
    let said = answers(&server, &server, &server, Some(&server), &[HEADER, LOG_IN, &open]).await;
    // `connection.start`, `connection.tune` and `connection.open-ok`.
    assert_eq!(said, "[{<<0,10,0,10>>,true},{<<0,10,0,30>>,false},{<<0,10,0,41>>,false}]");
    eventually(SOON, async || server.log().contains("user 'client' authenticated")).await;
    assert!(server.ctl(&["list_permissions", "-p", vhost.name()]).await.contains("client\t.*\t.*\t.*"));
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let start = tokio::spawn(RabbitServer::builder().config("no.such.option = 1").start());
    let panic = start.await.unwrap_err().into_panic();
    assert!(panic.downcast_ref::<String>().unwrap().contains("no.such.option"));
}
