//! Connecting to what is no RabbitMQ.

use std::time::Duration;

use celeriac_core::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;

/// Listens, and does `answer` with whoever comes first. Gives its port.
async fn peer<F: Future<Output = ()> + Send>(answer: impl FnOnce(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { answer(listener.accept().await.unwrap().0).await });
    port
}

/// A peer that says `words` once it is spoken to, and hangs up.
async fn says(words: &'static [u8]) -> u16 {
    peer(move |mut socket| async move {
        let _ = socket.read(&mut [0; 999]).await;
        let _ = socket.write_all(words).await;
    })
    .await
}

fn config(url: &str) -> AmqpConfig {
    AmqpConfig::from_url(url).unwrap().connect_timeout(Duration::from_millis(500))
}

async fn refusal(config: AmqpConfig) -> Error {
    Endpoint::new(config).unwrap().connect("open", "sends").await.unwrap_err()
}

#[tokio::test]
async fn what_is_no_rabbitmq_is_told() {
    for (words, kind, named) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], ErrorKind::Unavailable, "is not RabbitMQ"),
        (b"\x15\x03\x03\0\x02\x02\x46", ErrorKind::Config, "speaks TLS: it may be for `amqps://`"),
        (b"AMQP\0\x01\0\0", ErrorKind::Config, "speaks AMQP 1.0.0"),
        (b"", ErrorKind::Unavailable, "hangs up at once"),
        (b"\x01\0\0\0\0\0\x02no\xce", ErrorKind::Unavailable, "is not RabbitMQ"),
    ] {
        let port = says(words).await;
        let error = refusal(config(&format!("amqp://user:secret@127.0.0.1:{port}"))).await;
        assert!(error.message().contains(named) && error.message().contains(&port.to_string()), "{}", error.report());
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(!error.report().contains("secret"), "{}", error.report());
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let error = refusal(config(&format!("amqp://{place}"))).await;
    assert!(
        error.is_retryable() && error.message().contains(&format!("cannot reach RabbitMQ at `{place}`")),
        "{error}"
    );
    let error = refusal(config("amqp://nowhere.invalid")).await;
    assert!(error.is_retryable() && error.message().contains("nowhere.invalid:5672"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_whole() {
    let (told, hung_up) = oneshot::channel();
    let port = peer(|mut socket| async move {
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard).await;
        let _ = told.send(heard);
    })
    .await;
    let error = refusal(config(&format!("amqp://127.0.0.1:{port}"))).await;
    assert!(error.is_retryable() && error.message().contains("does not answer within `connect_timeout`"), "{error}");
    // The driver hangs up too: its thread is not left waiting.
    assert_eq!(hung_up.await.unwrap(), b"AMQP\0\0\x09\x01");
}

#[tokio::test]
async fn a_connection_that_nobody_waits_for_any_more_is_given_up() {
    let (told, hung_up) = oneshot::channel();
    let (met, came) = oneshot::channel();
    let port = peer(|mut socket| async move {
        socket.read_exact(&mut [0; 8]).await.unwrap();
        let _ = met.send(());
        let _ = told.send(socket.read(&mut [0; 8]).await);
    })
    .await;
    let patient = config(&format!("amqp://127.0.0.1:{port}")).connect_timeout(Duration::from_secs(600));
    let connecting = tokio::spawn(refusal(patient));
    came.await.unwrap();
    connecting.abort();
    assert!(matches!(hung_up.await.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
async fn every_server_is_tried_and_what_each_says_is_told() {
    let (first, second) = (says(b"HTTP/1.1 400").await, says(b"").await);
    let error = refusal(config(&format!("amqp://user:secret@127.0.0.1:{first};127.0.0.1:{second}"))).await;
    let report = error.report();
    assert!(
        error.is_retryable() && report.contains(&first.to_string()) && report.contains(&second.to_string()),
        "{report}"
    );
    assert!(!report.contains("secret"), "{report}");
}

#[test]
fn servers_take_turns_from_the_one_that_was_good() {
    let endpoint = Endpoint::new(config("amqp://a;b;c")).unwrap();
    assert_eq!(endpoint.turns(), [0, 1, 2]);
    endpoint.last.store(2, Ordering::Relaxed);
    assert_eq!(endpoint.turns(), [2, 0, 1]);
}

#[test]
fn shuffled_servers_begin_anywhere_and_stay_with_the_one_that_was_good() {
    let shuffled = || Endpoint::new(config("amqp://a;b;c").failover_strategy(FailoverStrategy::Shuffle)).unwrap();
    let firsts: std::collections::HashSet<usize> = (0..200).map(|_| shuffled().turns()[0]).collect();
    assert_eq!(firsts.len(), 3);
    let endpoint = shuffled();
    endpoint.last.store(1, Ordering::Relaxed);
    let all: std::collections::HashSet<Vec<usize>> = (0..200).map(|_| endpoint.turns()).collect();
    assert_eq!(all, [vec![1, 0, 2], vec![1, 2, 0]].into());
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_by_all_servers_alike() {
    let config = |text: &'static str| Error::config("open", text);
    assert_eq!(sum("open", vec![config("a"), config("b")]).message(), "a");
    let mixed = sum("open", vec![config("a"), Error::unavailable("open", "b").with_source("c")]);
    assert!(mixed.is_retryable() && mixed.report().ends_with("a; b: c"), "{}", mixed.report());
}

#[tokio::test]
async fn waiting_for_one_server_is_bounded_for_each() {
    // Nothing ever answers there: the sockets wait in line to be accepted.
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [a, b] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let error = refusal(config(&format!("amqp://{a};{b}")).connect_timeout(Duration::from_millis(50))).await;
    assert!(error.report().matches("`connect_timeout`").count() == 2, "{}", error.report());
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;

    #[tokio::test]
    async fn a_plain_server_behind_amqps_is_told() {
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        let encrypted = |port: u16| config(&format!("amqps://localhost:{port}")).ca_certificate_pem(authority.clone());
        // What RabbitMQ says to whatever it does not understand.
        let error = refusal(encrypted(says(b"AMQP\0\0\x09\x01").await)).await;
        assert!(error.kind() == ErrorKind::Config && error.message().contains("`amqp://`"), "{}", error.report());
        let error = refusal(encrypted(says(b"").await)).await;
        assert!(error.is_retryable() && error.message().contains("be for `amqp://`"), "{}", error.report());
    }

    #[test]
    fn certificates_that_cannot_be_read_are_told_by_option() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "no certificate").unwrap();
        let refusal = |config: AmqpConfig| Endpoint::new(config).unwrap_err();
        let url = |options: &str| config(&format!("amqps://localhost?{options}"));
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = own.signing_key.serialize_pem();
        for (config, named) in [
            (url("ssl_ca_certs=/no/such.pem"), "`ssl_ca_certs` cannot be read from `/no/such.pem`"),
            (url(&format!("ssl_ca_certs={}", empty.display())), "has no `-----BEGIN ... CERTIFICATE-----`"),
            (url("").ca_certificate_pem("x"), "`ssl_ca_certs` has no"),
            (
                url("").ca_certificate_pem("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----"),
                "`ssl_ca_certs`",
            ),
            (url("").client_certificate_pem("x", "x"), "`ssl_keyfile` has no `-----BEGIN ... PRIVATE KEY-----`"),
            (url("").client_certificate_pem(key.clone(), key.clone()), "`ssl_certfile` has no"),
            (url("").client_certificate_pem(other.cert.pem(), key.clone()), "do not belong together"),
        ] {
            let error = refusal(config);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(named), "{named}: {}", error.report());
            assert!(!error.report().contains("PRIVATE KEY-----\n"), "{}", error.report());
        }
    }
}

#[cfg(unix)]
mod hostile {
    use celeriac_testkit::server::RabbitServer;
    use futures_util::StreamExt as _;
    use lapin::options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Event};

    use super::*;
    use crate::error::{Fault, fault};

    #[tokio::test]
    async fn a_server_that_falls_silent_is_noticed_by_its_heartbeat() {
        let server = RabbitServer::start().await;
        let config = config(&server.url()).connect_timeout(Duration::from_secs(60)).heartbeat(Duration::from_secs(1));
        let connection = Endpoint::new(config).unwrap().connect("open", "sends").await.unwrap();
        let mut events = std::pin::pin!(connection.events_listener());
        server.pause();
        let error = loop {
            match events.next().await.unwrap() {
                Event::Error(error) => break error,
                _ => continue,
            }
        };
        let fault = fault("publish", &error);
        assert!(matches!(&fault, Fault::Broken(error) if error.message().contains("`heartbeat`")), "{fault:?}");
        server.resume();
    }

    /// A way to the server on which some bytes are replaced wherever they are sent, by as many.
    async fn replacing(server: std::net::SocketAddr, from: Vec<u8>, to: Vec<u8>) -> u16 {
        assert_eq!(from.len(), to.len());
        peer(move |client| async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let (mut buffer, mut sent) = (Vec::new(), 0);
            while from_client.read_buf(&mut buffer).await.unwrap() > 0 {
                while let Some(at) = buffer.windows(from.len()).position(|bytes| bytes == from) {
                    buffer[at..at + to.len()].copy_from_slice(&to);
                }
                to_server.write_all(&buffer[sent..]).await.unwrap();
                sent = buffer.len();
            }
        })
        .await
    }

    fn config_of(port: u16) -> AmqpConfig {
        config(&format!("amqp://127.0.0.1:{port}")).connect_timeout(Duration::from_secs(60))
    }

    async fn connect(port: u16) -> lapin::Connection {
        Endpoint::new(config_of(port)).unwrap().connect("open", "sends").await.unwrap()
    }

    fn nested(depth: u32) -> Vec<u8> {
        (0..depth).rev().flat_map(|inner| [&b"A"[..], &(inner * 5).to_be_bytes()].concat()).collect()
    }

    #[tokio::test]
    async fn a_message_that_would_end_the_process_comes_without_the_header_that_would() {
        let server = RabbitServer::start().await;
        // A text's type becomes that of a list, whose items are the text's bytes.
        let way = replacing(server.address(), b"\x04deepS".to_vec(), b"\x04deepA".to_vec()).await;
        let sender = connect(way).await;
        let channel = sender.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        let mut headers = FieldTable::default();
        headers.insert("deep".into(), AMQPValue::LongString(nested(10_000).into()));
        headers.insert("task".into(), AMQPValue::LongString("add".into()));
        let properties = BasicProperties::default().with_headers(headers).with_priority(3);
        let sent = channel.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), b"body", properties);
        sent.await.unwrap().await.unwrap();

        let receiver = connect(server.port()).await;
        let channel = receiver.create_channel().await.unwrap();
        let came = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        let headers = came.properties.headers().as_ref().unwrap();
        assert_eq!((headers.inner().len(), &headers.inner()["task"]), (1, &AMQPValue::LongString("add".into())));
        assert_eq!((came.properties.priority(), came.data.as_slice()), (&Some(3), &b"body"[..]));
        assert!(receiver.status().connected());
        for connection in [sender, receiver] {
            connection.close(200, "".into()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_routing_key_that_is_no_text_comes_and_ends_no_connection() {
        let server = RabbitServer::start().await;
        let sender = connect(replacing(server.address(), b"k\xc3\xa4s".to_vec(), b"k\xff\xfes".to_vec()).await).await;
        let channel = sender.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        let bind = QueueBindOptions::default();
        channel.queue_bind("q".into(), "amq.topic".into(), "#".into(), bind, FieldTable::default()).await.unwrap();
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async |exchange: &str| {
            let sent =
                channel.basic_publish(exchange.into(), "käs".into(), mandatory, b"body", BasicProperties::default());
            sent.await.unwrap().await.unwrap().take_message()
        };
        assert!(publish("amq.topic").await.is_none() && publish("amq.topic").await.is_none());
        let returned = publish("amq.direct").await.unwrap();
        assert_eq!(returned.delivery.routing_key.as_str(), "k??s");

        let receiver = connect(server.port()).await;
        let channel = receiver.create_channel().await.unwrap();
        let got = channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel.basic_consume("q".into(), "tag".into(), options, arguments).await.unwrap();
        let came = consumer.next().await.unwrap().unwrap();
        for (key, body) in [(&got.routing_key, &got.data), (&came.routing_key, &came.data)] {
            assert_eq!((key.as_str(), body.as_slice()), ("k??s", &b"body"[..]));
        }
        assert!(sender.status().connected() && receiver.status().connected());
        for connection in [sender, receiver] {
            connection.close(200, "".into()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_reason_that_is_cut_off_within_a_character_ends_no_connection() {
        let server = RabbitServer::start().await;
        let connection = connect(server.port()).await;
        // The reason begins with ASCII, whose length is not known here: one of these is cut in a character.
        for name in ["ä".repeat(120), "a".to_owned() + &"ä".repeat(119)] {
            let channel = connection.create_channel().await.unwrap();
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let error = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await.unwrap_err();
            assert!(matches!(fault("declare", &error), Fault::Closed { code: 404, .. }), "{error}");
        }
        assert!(connection.status().connected());
        connection.close(200, "".into()).await.unwrap();
    }
}
