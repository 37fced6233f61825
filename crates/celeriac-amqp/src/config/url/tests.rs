//! Tests of URLs.

use std::time::Duration;

use super::*;

fn read(url: &str) -> AmqpConfig {
    let config = AmqpConfig::from_url(url).unwrap();
    config.check().unwrap();
    config
}

fn refusal(url: &str) -> String {
    let error = AmqpConfig::from_url(url).unwrap_err();
    assert_eq!(error.kind(), celeriac_core::ErrorKind::Config);
    error.to_string()
}

fn servers(url: &str) -> Vec<String> {
    read(url).servers.iter().map(|server| format!("{server:?}")).collect()
}

fn credentials(url: &str) -> Vec<(Option<String>, Option<String>)> {
    read(url).servers.into_iter().map(|server| (server.username, server.password)).collect()
}

fn both(username: &str, password: &str) -> (Option<String>, Option<String>) {
    (Some(username.to_owned()), Some(password.to_owned()))
}

#[test]
fn every_form_names_its_server_and_virtual_host() {
    for (url, server, vhost) in [
        ("amqp://", "localhost:5672", "/"),
        ("amqp://localhost", "localhost:5672", "/"),
        ("amqp://localhost/", "localhost:5672", "/"),
        ("amqp://localhost//", "localhost:5672", "/"),
        ("amqp://localhost/%2F", "localhost:5672", "/"),
        ("amqp://localhost/%2f", "localhost:5672", "/"),
        ("amqp://localhost/shop", "localhost:5672", "shop"),
        ("amqp://localhost//shop", "localhost:5672", "/shop"),
        ("amqp://localhost/a/b", "localhost:5672", "a/b"),
        ("amqp://localhost/sh%C3%B6p%20x?heartbeat=0", "localhost:5672", "sh\u{f6}p x"),
        ("AMQP://Example.org:7000/Shop", "example.org:7000", "Shop"),
        ("pyamqp://guest@localhost:7000//", "localhost:7000", "/"),
        ("amqp://:pw@[::1]/shop", "[::1]:5672", "shop"),
        ("amqp:///shop", "localhost:5672", "shop"),
    ] {
        let config = AmqpConfig::from_url(url).unwrap();
        assert_eq!(config.servers[0].to_string(), server, "{url}");
        assert_eq!(config.vhost, vhost, "{url}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn amqps_takes_tls_and_its_own_port() {
    assert_eq!(servers("amqps://localhost"), ["localhost:5671 by TLS"]);
    assert_eq!(servers("AMQPS://localhost:1;b"), ["localhost:1 by TLS", "b:5671 by TLS"]);
    assert_eq!(servers("amqp://a;amqps://b"), ["a:5672", "b:5671 by TLS"]);
}

#[test]
fn users_and_passwords_are_decoded() {
    assert_eq!(credentials("amqp://localhost"), [(None, None)]);
    assert_eq!(credentials("amqp://us%3Aer:p%40ss%2F@localhost"), [both("us:er", "p@ss/")]);
    assert_eq!(credentials("amqp://user:@localhost"), [both("user", "")]);
    assert_eq!(credentials("amqp://:pw@localhost"), [(None, Some("pw".to_owned()))]);
}

#[test]
fn a_list_shares_what_the_first_says() {
    let url = "amqp://user:pw@a:1/shop;b:2;pyamqp://other:one@c/;amqp://d/shop?heartbeat=5&failover_strategy=shuffle";
    assert_eq!(servers(url), ["a:1", "b:2", "c:5672", "d:5672"]);
    assert_eq!(credentials(url), [both("user", "pw"), both("user", "pw"), both("other", "one"), both("user", "pw")]);
    let config = read(url);
    assert_eq!((config.vhost.as_str(), config.heartbeat), ("shop", Duration::from_secs(5)));
    assert_eq!(config.failover, FailoverStrategy::Shuffle);
    assert_eq!(servers("amqp://a//;amqp://b//;"), ["a:5672", "b:5672"]);
}

#[test]
fn options_are_read() {
    let url = "amqp://localhost?auth=PLAIN&login_method=plain&connection_name=shop%20worker&heartbeat=10&connect_timeout=1.5\
         &startup_timeout=0&publish_timeout=3&consumer_timeout=0&result_expires=60&delay_queue_type=classic&max_priority=10\
         &max_message_bytes=1024&frame_max=8192&failover_strategy=round-robin&ssl_cert_reqs=CERT_REQUIRED";
    let config = read(url);
    assert_eq!((config.auth, config.connection_name.as_str()), (Auth::Plain, "shop worker"));
    let times = [config.heartbeat, config.connect_timeout, config.publish_timeout, config.result_expires];
    assert_eq!(times.map(|time| time.as_secs_f64()), [10.0, 1.5, 3.0, 60.0]);
    assert_eq!((config.startup_timeout, config.consumer_timeout), (Duration::ZERO, Duration::ZERO));
    assert_eq!((config.queue_type, config.delay_queue_type), (QueueType::Classic, QueueType::Classic));
    assert_eq!((config.max_priority, config.max_message_bytes, config.frame_max), (Some(10), 1024, 8192));
    assert_eq!(read("amqp://localhost?queue_type=quorum").queue_type, QueueType::Quorum);
}

#[cfg(feature = "tls")]
#[test]
fn certificates_are_named() {
    let url = "amqps://localhost?ssl_ca_certs=/ca.pem&ssl_certfile=/cert.pem&ssl_keyfile=/key.pem&auth=external";
    let config = read(url);
    let certificates = config.certificates;
    let named = [certificates.authority, certificates.certificate, certificates.key];
    assert!(named == ["/ca.pem", "/cert.pem", "/key.pem"].map(|path| Some(Pem::File(path.into()))));
    assert_eq!(config.auth, Auth::External);
}

#[test]
fn what_is_wrong_is_named() {
    for (url, named) in [
        ("", "empty"),
        ("localhost", "begins with none of the schemes"),
        ("redis://localhost", "no scheme `redis`; known are amqp, amqps, pyamqp"),
        ("amqp://localhost:port", "a port is not a number"),
        ("amqp://localhost/%zz", "the virtual host has a `%`"),
        ("amqp://a/one;amqp://b/two", "the virtual host is given more than once"),
        ("amqp://a/%2F;amqp://b/two", "the virtual host is given more than once"),
        ("amqp://localhost?retries=3", "unknown option `retries`; known are auth, "),
        ("amqp://localhost?heartbeat=soon", "option `heartbeat` takes a number of seconds"),
        ("amqp://localhost?heartbeat=1&heartbeat=2", "option `heartbeat` is given twice"),
        ("amqp://localhost?auth=amqplain", "`plain` or `external`"),
        ("amqp://localhost?queue_type=stream", "option `queue_type` takes `classic` or `quorum`"),
        ("amqp://localhost?delay_queue_type=x", "option `delay_queue_type` takes"),
        ("amqp://localhost?failover_strategy=random", "`round-robin` or `shuffle`"),
        ("amqp://localhost?max_priority=256", "a number of 1 to 255"),
        ("amqp://localhost?max_message_bytes=many", "a number of bytes"),
        ("amqp://localhost?frame_max=-1", "a number of bytes"),
        ("amqps://localhost?ssl_cert_reqs=CERT_NONE", "`ssl_ca_certs`"),
        ("amqps://localhost?ssl_cert_reqs=maybe", "`required`"),
    ] {
        let refusal = refusal(url);
        assert!(refusal.contains(named), "{url}: {refusal}");
    }
}

#[test]
fn a_password_that_is_not_encoded_shows_in_no_error() {
    for url in [
        "amqp://user:hid/den@localhost",
        "amqp://user:hid?den@localhost",
        "amqp://user:hid#den@local/host",
        "amqp://user:hid;den@localhost",
        "amqp://user:hid%zzden@localhost",
        "hidden@localhost",
        "hid den://localhost",
        "amqp://localhost?hid den=1",
        "amqp://localhost?heartbeat=hidden",
        "amqp://localhost?auth=hidden",
        "amqp://a/hidden;amqp://b/den",
    ] {
        if let Err(error) = AmqpConfig::from_url(url) {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hid") && !shown.contains("den@") && !shown.contains("`den"), "{url}: {shown}");
        }
    }
}
