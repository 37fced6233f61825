//! Tests of connecting to servers.
#![allow(clippy::unwrap_used, reason = "in helpers, too, it is the test that fails")]

use celeriac_core::ErrorKind;
#[cfg(feature = "tls")]
use celeriac_testkit::server::ClientCertificate;
use celeriac_testkit::server::{RedisSentinel, RedisServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{command, config, endpoint, leader, soon, until};

const SECRET: &str = "pass/word@;?#%";

/// `SECRET`, as it stands in a URL.
const ENCODED: &str = "pass%2Fword%40%3B%3F%23%25";

async fn connect(config: RedisConfig) -> Result<MultiplexedConnection> {
    soon(endpoint(config).connect("open", &Purpose::default())).await
}

/// What `SET` and `GET` say on a connection that is good.
async fn works(config: RedisConfig) {
    let mut connection = connect(config).await.unwrap();
    assert_eq!(connection.send_packed_command(&command("SET key value")).await.unwrap(), Value::Okay);
    let value = connection.send_packed_command(&command("GET key")).await.unwrap();
    assert_eq!(value, Value::BulkString(b"value".to_vec()));
}

async fn refusal(config: RedisConfig) -> Error {
    let error = connect(config).await.map(drop).unwrap_err();
    let shown = format!("{error} {error:?} {}", error.report());
    assert!(!shown.contains(SECRET) && !shown.contains(ENCODED) && !shown.contains("hidden"), "{shown}");
    error
}

fn both(url: &str) -> [RedisConfig; 2] {
    [Protocol::Resp3, Protocol::Resp2].map(|protocol| config(url).protocol(protocol))
}

#[tokio::test]
async fn a_server_is_reached_by_tcp_and_by_socket_in_both_protocols() {
    let server = RedisServer::start().await;
    for url in
        [server.url(), format!("unix://{}", server.socket().display()), format!("redis://localhost:{}", server.port())]
    {
        for config in both(&url) {
            works(config).await;
        }
    }
}

#[tokio::test]
async fn a_password_of_special_characters_opens_the_server() {
    let server = RedisServer::builder().password(SECRET).start().await;
    for config in both(&format!("redis://:{ENCODED}@127.0.0.1:{}", server.port())) {
        works(config).await;
    }
    for config in both(&format!("redis://127.0.0.1:{}", server.port())) {
        works(config.password(SECRET)).await;
    }
}

#[tokio::test]
async fn wrong_or_missing_credentials_are_said_at_once_and_without_them() {
    let server = RedisServer::builder().password(SECRET).start().await;
    let (host, absent) = (format!("127.0.0.1:{}", server.port()), "asks for a password");
    for (url, named) in [
        (format!("redis://:hidden@{host}"), "knows no such user with this password"),
        (format!("redis://somebody:hidden@{host}"), "knows no such user with this password"),
        (format!("redis://{host}"), absent),
    ] {
        for config in both(&url) {
            let error = refusal(config).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(named) && error.to_string().contains(&host), "{url}: {error}");
        }
    }
}

#[tokio::test]
async fn a_user_with_narrow_permissions_can_use_what_it_may() {
    let rules = "~key +get +set +select -role -info -client";
    let server = RedisServer::builder().user("worker", SECRET, rules).start().await;
    for config in both(&server.url_as("worker", SECRET)) {
        works(config.db(1)).await;
    }
}

#[tokio::test]
async fn the_database_is_chosen_and_one_that_does_not_exist_is_refused() {
    let server = RedisServer::builder().config("databases 4").start().await;
    for config in both(&server.url_of(3)) {
        works(config).await;
    }
    assert_eq!(server.command(&["INFO", "keyspace"]).await.text().matches("db3:keys=1").count(), 1);
    for config in both(&server.url_of(4)) {
        let error = refusal(config).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("has no database of that number"), "{error}");
    }
}

#[tokio::test]
async fn connections_bear_a_name() {
    let server = RedisServer::start().await;
    let _connection = connect(config(&server.url())).await.unwrap();
    assert!(server.command(&["CLIENT", "LIST"]).await.text().contains("name=celeriac "));
}

#[tokio::test]
async fn a_full_server_is_told_from_one_that_knows_no_such_user() {
    let server = RedisServer::builder().password(SECRET).start().await;
    let mut first = server.connect().await.unwrap();
    first.command(&["AUTH", SECRET]).await.unwrap();
    first.command(&["CONFIG", "SET", "maxclients", "1"]).await.unwrap();
    for config in both(&server.url()) {
        let error = refusal(config).await;
        assert!(error.is_retryable() && error.to_string().contains("`maxclients`"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let server = RedisServer::start().await;
    server.kill();
    for config in both(&server.url()) {
        let error = refusal(config).await;
        assert!(
            error.is_retryable()
                && error.to_string().contains(&format!("cannot reach Redis at `127.0.0.1:{}`", server.port()))
        );
    }
    let error = refusal(config("unix:///nowhere/redis.sock")).await;
    assert!(
        error.is_retryable() && error.to_string().contains("cannot reach Redis at `/nowhere/redis.sock`"),
        "{error}"
    );
    let error = refusal(config("redis://nobody.invalid")).await;
    assert!(
        error.is_retryable() && error.to_string().contains("cannot reach Redis at `nobody.invalid:6379`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_timeout() {
    let server = RedisServer::start().await;
    server.pause();
    let error = refusal(config(&server.url()).connect_timeout(Duration::from_millis(100))).await;
    assert!(error.is_retryable() && error.to_string().contains("`connect_timeout`"), "{error}");
}

/// Answers each connection's first words with `answer`, and no others; hangs up where that is nothing.
async fn impostor(answer: &'static str) -> RedisConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            while !answer.is_empty() && stream.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0) {}
        }
    });
    config(&format!("redis://:hidden@127.0.0.1:{port}"))
}

#[tokio::test]
async fn what_is_not_redis_or_too_old_is_named_and_the_password_it_quotes_is_not() {
    let quoting = "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hidden`, \r\n";
    let error = refusal(impostor(quoting).await).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("`protocol=resp2`"), "{error}");
    let quoting = "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hidden'\r\n";
    let error = refusal(impostor(quoting).await).await;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("no command `HELLO`"), "{error}");
    let old = "+OK\r\n+OK\r\n*1\r\n$6\r\nmaster\r\n$22\r\nredis_version:6.0.16\r\n\r\n+OK\r\n+OK\r\n+OK\r\n";
    let error = refusal(impostor(old).await.protocol(Protocol::Resp2)).await;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("6.2 or later is needed"), "{error}");
    let error = refusal(impostor("HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    assert!(error.is_retryable() && error.to_string().contains("is not Redis"), "{error}");
    let error = refusal(impostor("").await).await;
    assert!(error.is_retryable() && error.to_string().contains("hangs up at once"), "{error}");
}

#[tokio::test]
async fn a_replica_will_not_do() {
    let primary = leader().start().await;
    let replica = RedisServer::builder().replica_of(&primary).start().await;
    for config in both(&replica.url()) {
        let error = refusal(config).await;
        assert!(error.is_retryable() && error.to_string().contains("is a replica, and takes no changes"), "{error}");
    }
}

#[tokio::test]
async fn the_first_primary_of_a_list_is_used_and_kept() {
    let (dead, primary) = (RedisServer::start().await, leader().start().await);
    let replica = RedisServer::builder().replica_of(&primary).start().await;
    dead.kill();
    let url = format!("{};{};{}", dead.url(), replica.url(), primary.url());
    for config in both(&url) {
        works(config).await;
    }
    let endpoint = endpoint(config(&url));
    let connection = endpoint.connect("open", &Purpose::default()).await.unwrap();
    assert_eq!(endpoint.last.load(Ordering::Relaxed), 2);
    drop(connection);
    primary.kill();
    let error = endpoint.connect("open", &Purpose::default()).await.map(drop).unwrap_err();
    let report = error.report();
    assert!(error.is_retryable() && report.contains("is a replica"), "{report}");
    assert!(report.contains(&dead.port().to_string()) && report.contains(&primary.port().to_string()), "{report}");
}

#[tokio::test]
async fn sentinels_name_the_server_and_its_successor() {
    let primary = leader().password(SECRET).start().await;
    let replica = RedisServer::builder().password(SECRET).replica_of(&primary).start().await;
    let sentinel = RedisSentinel::start("main", &primary, 1).await;
    sentinel.knows(1, 0).await;
    let unused = RedisServer::start().await;
    unused.kill();
    let url =
        format!("sentinel://:{ENCODED}@127.0.0.1:{};127.0.0.1:{}?master_name=main", unused.port(), sentinel.port());
    for config in both(&url) {
        works(config).await;
    }
    let named = format!("sentinel://:hidden@127.0.0.1:{}?master_name=main", sentinel.port());
    let error = refusal(config(&named)).await;
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains(&format!("`127.0.0.1:{}`", primary.port())),
        "{error}"
    );
    let error = refusal(config(&url.replace("=main", "=other"))).await;
    assert!(error.report().contains("knows no master `other`: see `master_name`"), "{}", error.report());
    let error = refusal(config(&format!("redis://127.0.0.1:{}", sentinel.port()))).await;
    assert!(error.to_string().contains("begins with `sentinel://`"), "{error}");
    let error = refusal(config(&format!(
        "sentinel://127.0.0.1:{}?master_name=main&sentinel_password={ENCODED}",
        replica.port()
    )))
    .await;
    assert!(error.to_string().contains("is no sentinel"), "{error}");

    primary.kill();
    until(async || sentinel.master().await.port() == replica.port()).await;
    until(async || connect(config(&url)).await.is_ok()).await;
    works(config(&url)).await;
}

#[tokio::test]
async fn sentinels_and_servers_each_have_credentials_of_their_own() {
    let rules = "~* &* +@all";
    let guarded = RedisServer::builder().password("admin").user("worker", "wörk;er", rules).start().await;
    let open = RedisServer::start().await;
    for (server, worker) in [(&guarded, "worker:w%C3%B6rk%3Ber@"), (&open, "")] {
        let sentinel = RedisSentinel::builder("main", server, 1)
            .password(SECRET)
            .user("asker", "ask&er", "+sentinel|get-master-addr-by-name")
            .user("nobody", "hidden", "+ping")
            .start()
            .await;
        let url = format!("sentinel://{worker}127.0.0.1:{}?master_name=main", sentinel.port());
        for credentials in
            [format!("sentinel_password={ENCODED}"), "sentinel_username=asker&sentinel_password=ask%26er".into()]
        {
            for config in both(&format!("{url}&{credentials}")) {
                works(config).await;
            }
        }
        for (credentials, named) in [
            ("", "asks for a password"),
            ("&sentinel_password=hidden", "knows no such user with this password"),
            ("&sentinel_username=asker&sentinel_password=hidden", "knows no such user with this password"),
            ("&sentinel_username=nobody&sentinel_password=hidden", "`+sentinel|get-master-addr-by-name`"),
        ] {
            for config in both(&format!("{url}{credentials}")) {
                let error = refusal(config).await;
                assert_eq!(error.kind(), ErrorKind::Config, "{error}");
                let place = format!("the sentinel at `127.0.0.1:{}`", sentinel.port());
                for part in [named, &place, "`sentinel_password`"] {
                    assert!(error.to_string().contains(part), "`{part}` is not named for `{credentials}`: {error}");
                }
            }
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_trusts_the_authority_that_is_named() {
    let server = RedisServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let authority = server.certificates().ca.clone();
    for config in both(&format!("{}?ssl_ca_certs={}", server.url(), authority.display())) {
        works(config).await;
    }
    works(config(&server.url()).ca_certificate_pem(std::fs::read(&authority).unwrap())).await;

    let error = refusal(config(&server.url())).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("`ssl_ca_certs`"), "{error:?}");
    let other = RedisServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let error = refusal(config(&format!("{}?ssl_ca_certs={}", server.url(), other.certificates().ca.display()))).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("is not trusted"), "{error:?}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_shows_a_certificate_where_one_is_asked_for() {
    let server = RedisServer::builder().tls(ClientCertificate::Required).start().await;
    let files = server.certificates();
    let authority = format!("{}?ssl_ca_certs={}", server.url(), files.ca.display());
    let named =
        format!("{authority}&ssl_certfile={}&ssl_keyfile={}", files.client.display(), files.client_key.display());
    for config in both(&named) {
        works(config).await;
    }
    let (certificate, key) = (std::fs::read(&files.client).unwrap(), std::fs::read(&files.client_key).unwrap());
    works(config(&authority).client_certificate_pem(certificate.clone(), key.clone())).await;
    let one = server.folder().join("both.pem");
    std::fs::write(&one, [certificate, key].concat()).unwrap();
    works(config(&format!("{authority}&ssl_certfile={}", one.display()))).await;

    for config in both(&authority) {
        let error = refusal(config).await;
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("`ssl_certfile`"), "{error:?}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is_are_named() {
    let (plain, encrypted) =
        (RedisServer::start().await, RedisServer::builder().tls(ClientCertificate::NotAsked).start().await);
    let timeout = Duration::from_millis(500);
    let error = refusal(config(&plain.url().replace("redis:", "rediss:")).connect_timeout(timeout)).await;
    assert!(error.to_string().contains("`redis://`"), "{error:?}");
    for config in both(&encrypted.url().replace("rediss:", "redis:")) {
        let error = refusal(config).await;
        assert!(error.is_retryable() && error.to_string().contains("`rediss://`"), "{error:?}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for (options, named) in [
        ("ssl_ca_certs=/nowhere/ca.pem".to_owned(), "`ssl_ca_certs` cannot be read from `/nowhere/ca.pem`"),
        (format!("ssl_ca_certs={}", empty.display()), "it must be PEM"),
        (format!("ssl_certfile={}", empty.display()), "`ssl_certfile`"),
    ] {
        let error = Endpoint::new(config(&format!("rediss://localhost?{options}"))).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(named), "{error}");
    }
    let broken = b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n".to_vec();
    let error = Endpoint::new(config("rediss://localhost").ca_certificate_pem(broken)).unwrap_err();
    assert!(error.to_string().contains("cannot be read as PEM"), "{error}");
}

#[tokio::test]
async fn a_connection_for_publications_follows_the_same_rules() {
    let server = leader().password(SECRET).start().await;
    let mut publications = endpoint(config(&server.url())).listen("subscribe").await.unwrap();
    publications.subscribe("news").await.unwrap();
    let replica = RedisServer::builder().replica_of(&server).start().await;
    assert!(
        endpoint(config(&replica.url()))
            .listen("subscribe")
            .await
            .map(drop)
            .unwrap_err()
            .to_string()
            .contains("is a replica")
    );
    let wrong = config(&format!("redis://:hidden@127.0.0.1:{}", server.port()));
    assert_eq!(endpoint(wrong).listen("subscribe").await.map(drop).unwrap_err().kind(), ErrorKind::Config);
}
