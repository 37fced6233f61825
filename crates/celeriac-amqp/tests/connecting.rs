//! Who is let in, by which way, and what is told to those who are not.
#![cfg(all(unix, feature = "tls"))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::time::Duration;

use celeriac_amqp::{AmqpConfig, AmqpStore, Auth};
use celeriac_core::{Error, ErrorKind};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::{ClientCertificate, Permissions, RabbitServer};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(url: &str) -> AmqpConfig {
    AmqpConfig::from_url(url).unwrap().connect_timeout(PATIENCE)
}

async fn open(config: AmqpConfig) -> AmqpStore {
    AmqpStore::open(config).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

async fn refusal(config: AmqpConfig) -> Error {
    let error = AmqpStore::open(config.startup_timeout(Duration::ZERO)).await.unwrap_err();
    assert!(!error.report().contains("secret"), "{}", error.report());
    error
}

/// Opens one and closes it again.
async fn lets_in(config: AmqpConfig) {
    open(config).await.close().await.unwrap();
}

#[tokio::test]
async fn why_a_login_is_refused_is_told() {
    let server = RabbitServer::builder().config("loopback_users.guest = true").start().await;
    let shop = server.add_vhost("shop/100%").await;
    shop.add_user("us:er", "sec/ret", Permissions::ALL).await;
    server.add_vhost("full").await;
    server.ctl(&["set_vhost_limits", "-p", "full", r#"{"max-connections": 0}"#]).await;

    lets_in(config(&server.url())).await;
    lets_in(config(&format!("amqp://{}//", server.address()))).await;
    lets_in(config(&format!("pyamqp://guest:guest@{}", server.address()))).await;
    lets_in(config(&shop.url_as("us:er", "sec/ret"))).await;
    lets_in(config(&server.url()).vhost("shop/100%").username("us:er").password("sec/ret")).await;

    let limited = format!("amqp://{}/full", server.address());
    for (config, kind, named) in [
        (config(&shop.url_as("us:er", "secret")), ErrorKind::Config, "knows no user `us:er` with this password"),
        (config(&server.url()).password("secret"), ErrorKind::Config, "does not let user `guest` in"),
        (config(&server.url()).vhost("no such"), ErrorKind::Config, "has no virtual host `no such`"),
        (config(&server.url_as("us:er", "sec/ret")), ErrorKind::Config, "let user `us:er` use virtual host `/`"),
        (config(&limited), ErrorKind::Unavailable, "takes no more connections"),
    ] {
        let error = refusal(config).await;
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.message().contains(named), "{named}: {}", error.report());
    }
}

#[tokio::test]
async fn the_server_is_told_who_connects() {
    let server = RabbitServer::shared().await;
    let store = open(config(&server.url()).connection_name("shop").heartbeat(Duration::from_secs(7))).await;
    let told = server.ctl(&["list_connections", "name", "client_properties", "timeout", "frame_max"]).await;
    for named in
        ["\"connection_name\",\"shop sends\"", "\"product\",\"celeriac\"", env!("CARGO_PKG_VERSION"), "\t7\t131072"]
    {
        assert!(told.contains(named), "{named}: {told}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_next_server_is_used_where_the_first_is_gone() {
    let server = RabbitServer::shared().await;
    let proxy = FaultProxy::start_opaque(server.address()).await;
    proxy.refuse().await;
    let url = format!("amqp://guest:guest@{};{}", proxy.address(), server.address());
    for strategy in ["round-robin", "shuffle"] {
        lets_in(config(&format!("{url}?failover_strategy={strategy}"))).await;
    }
    // One that takes connections and says nothing is passed over too.
    proxy.heal().await;
    proxy.black_hole();
    lets_in(config(&url).connect_timeout(Duration::from_secs(2))).await;
}

#[tokio::test]
async fn tls_trusts_the_authority_that_is_named_and_no_other() {
    let server = RabbitServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let authority = std::fs::read(&server.certificates().ca).unwrap();
    let encrypted = || config(&server.tls_url());
    let by_file = format!("{}?ssl_ca_certs={}", server.tls_url(), server.certificates().ca.display());
    lets_in(encrypted().ca_certificate_pem(authority.clone())).await;
    lets_in(config(&by_file)).await;
    lets_in(config(&by_file.replace("127.0.0.1", "localhost"))).await;

    let other = RabbitServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let stranger = std::fs::read(&other.certificates().ca).unwrap();
    let (plain, tls) = (server.address().to_string(), server.tls_address().to_string());
    let swapped = |scheme: &str, address: &str| config(&format!("{scheme}://guest:guest@{address}"));
    for (config, kind, named) in [
        (encrypted(), ErrorKind::Config, "`ssl_ca_certs`"),
        (encrypted().ca_certificate_pem(stranger), ErrorKind::Config, "`ssl_ca_certs`"),
        (swapped("amqps", &plain).ca_certificate_pem(authority.clone()), ErrorKind::Config, "`amqp://`"),
        (swapped("amqp", &tls), ErrorKind::Config, "`amqps://`"),
        (encrypted().ca_certificate_pem(authority.clone()).password("secret"), ErrorKind::Config, "user `guest`"),
    ] {
        let error = refusal(config).await;
        assert!(error.message().contains(named), "{named}: {}", error.report());
        assert_eq!(error.kind(), kind, "{}", error.report());
    }
}

#[tokio::test]
async fn a_certificate_stands_for_a_user_where_the_server_takes_it() {
    let server = RabbitServer::builder().external().start().await;
    let files = server.certificates();
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let encrypted = |url: &str| config(url).ca_certificate_pem(read(&files.ca));
    let shown = |url: &str| encrypted(url).client_certificate_pem(read(&files.client), read(&files.client_key));
    let vhost = server.vhost().await;
    lets_in(shown(&vhost.external_url())).await;
    lets_in(shown(&vhost.tls_url())).await;
    let bundle = server.folder().join("bundle.pem");
    std::fs::write(&bundle, [read(&files.client_key), read(&files.client)].concat()).unwrap();
    let url = format!("{}&ssl_ca_certs={}&ssl_certfile={}", vhost.external_url(), files.ca.display(), bundle.display());
    lets_in(config(&url)).await;

    let nobody =
        || encrypted(&vhost.external_url()).client_certificate_pem(read(&files.server), read(&files.server_key));
    server.ctl(&["clear_permissions", "-p", vhost.name(), "client"]).await;
    for (config, named) in [
        (encrypted(&vhost.tls_url()), "`ssl_certfile`"),
        (nobody(), "`ssl_certfile`"),
        (shown(&vhost.external_url()), "let the certificate's user use virtual host"),
    ] {
        let error = refusal(config).await;
        assert!(error.message().contains(named), "{named}: {}", error.report());
        // The server says why, and hangs up; where that comes first, the system throws away what it said.
        let overtaken = error.message().contains("hangs up at once");
        let kind = if overtaken { ErrorKind::Unavailable } else { ErrorKind::Config };
        assert_eq!(error.kind(), kind, "{}", error.report());
    }

    let without = RabbitServer::builder().tls(ClientCertificate::Required).start().await;
    let files = without.certificates();
    let shown = config(&without.tls_url())
        .ca_certificate_pem(read(&files.ca))
        .client_certificate_pem(read(&files.client), read(&files.client_key));
    lets_in(shown.clone()).await;
    let error = refusal(shown.auth(Auth::External)).await;
    // RabbitMQ says nothing, and hangs up.
    assert!(error.is_retryable() && error.message().contains("plugin for `auth=external`"), "{}", error.report());
}
