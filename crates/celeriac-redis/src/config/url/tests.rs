//! Tests of URLs.

use std::time::Duration;

use super::*;

fn read(url: &str) -> RedisConfig {
    let config = RedisConfig::from_url(url).unwrap();
    config.check().unwrap();
    config
}

fn refusal(url: &str) -> String {
    let error = RedisConfig::from_url(url).unwrap_err();
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
fn every_form_names_its_server_and_database() {
    for (url, server, db) in [
        ("redis://localhost", "localhost:6379", 0),
        ("redis://", "localhost:6379", 0),
        ("redis:///2", "localhost:6379", 2),
        ("REDIS://example.org:7000/1", "example.org:7000", 1),
        ("redis://example.org/", "example.org:6379", 0),
        ("redis://:pw@example.org:7000/1/", "example.org:7000", 1),
        ("redis://[::1]:7000/1", "[::1]:7000", 1),
        ("redis://[::1]", "[::1]:6379", 0),
        ("redis://localhost?db=4", "localhost:6379", 4),
        ("redis://localhost/4?virtual_host=/4", "localhost:6379", 4),
        ("valkey://localhost", "localhost:6379", 0),
        ("redis+socket:///run/redis.sock?virtual_host=5", "/run/redis.sock", 5),
        ("unix:///run/my%20redis.sock?db=1", "/run/my redis.sock", 1),
        ("unix://user:pw@/run/redis.sock", "/run/redis.sock", 0),
        ("redis+unix:///run/redis.sock", "/run/redis.sock", 0),
    ] {
        assert_eq!(servers(url), [server], "{url}");
        assert_eq!(read(url).db, db, "{url}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn schemes_with_two_s_take_tls() {
    assert_eq!(servers("rediss://localhost"), ["localhost:6379 by TLS"]);
    assert_eq!(servers("valkeys://localhost:1"), ["localhost:1 by TLS"]);
    assert_eq!(servers("redis://a;rediss://b"), ["a:6379", "b:6379 by TLS"]);
    assert_eq!(servers("sentinels://a?master_name=main"), ["a:26379 by TLS"]);
}

#[test]
fn users_and_passwords_are_decoded() {
    assert_eq!(credentials("redis://localhost"), [(None, None)]);
    assert_eq!(credentials("redis://:p%40ss%2F@localhost"), [(None, Some("p@ss/".to_owned()))]);
    assert_eq!(credentials("redis://us%3Aer:pass:word@localhost"), [both("us:er", "pass:word")]);
    assert_eq!(credentials("redis://user:p@ss@localhost"), [both("user", "p@ss")]);
    assert_eq!(credentials("redis://user:@localhost"), [both("user", "")]);
    assert_eq!(credentials("redis://:@localhost"), [(None, None)]);
    assert_eq!(credentials("unix:///run/redis.sock?username=user&password=p%26w"), [both("user", "p&w")]);
}

#[test]
fn a_list_is_tried_in_its_order_and_shares_what_the_first_says() {
    let url = "redis://user:pw@a:1;b:2;redis://:other@c/3?lease=2";
    assert_eq!(servers(url), ["a:1", "b:2", "c:6379"]);
    assert_eq!(credentials(url), [both("user", "pw"), both("user", "pw"), (None, Some("other".to_owned()))]);
    assert_eq!((read(url).db, read(url).lease), (3, Duration::from_secs(2)));
    assert_eq!(servers("redis://a/1;redis://b/1;"), ["a:6379", "b:6379"]);
}

#[test]
fn sentinels_are_asked_for_a_master() {
    let url =
        "sentinel://user:pw@a:1;sentinel://b;c/2?master_name=main&sentinel_username=guard&sentinel_password=s%3Bp";
    let config = read(url);
    assert_eq!(servers(url), ["a:1", "b:26379", "c:26379"]);
    assert_eq!(config.servers[2].password.as_deref(), Some("pw"));
    let sentinel = config.sentinel.unwrap();
    assert_eq!((sentinel.master_name.as_str(), config.db), ("main", 2));
    assert_eq!((sentinel.username.as_deref(), sentinel.password.as_deref()), (Some("guard"), Some("s;p")));
}

#[test]
fn options_are_read() {
    let url = "redis://localhost?protocol=resp2&global_keyprefix=shop%2F&result_keyprefix=res&visibility_timeout=60&lease=2.5\
         &priority_steps=0,%205&priority_order=highest&fanout_prefix=false&connect_timeout=1&response_timeout=2&startup_timeout=0\
         &max_message_bytes=1024&ssl_cert_reqs=CERT_REQUIRED";
    let config = read(url);
    assert_eq!((config.protocol, config.priority_order), (Protocol::Resp2, PriorityOrder::Highest));
    assert_eq!((config.global_keyprefix.as_str(), config.result_keyprefix.as_str()), ("shop/", "res"));
    assert_eq!((config.priority_steps.as_slice(), config.fanout_prefix.as_str()), (&[0, 5][..], ""));
    let seconds = [config.visibility_timeout, config.lease, config.connect_timeout, config.response_timeout];
    assert_eq!(seconds.map(|time| time.as_secs_f64()), [60.0, 2.5, 1.0, 2.0]);
    assert_eq!((config.startup_timeout, config.max_message_bytes), (Duration::ZERO, 1024));
    assert_eq!(read("redis://localhost?fanout_prefix=true").fanout_prefix, "/{db}.");
    assert_eq!(read("redis://localhost?fanout_prefix=/x.").fanout_prefix, "/x.");
}

#[cfg(feature = "tls")]
#[test]
fn certificates_are_named() {
    let url =
        "rediss://localhost?ssl_ca_certs=/ca.pem&ssl_certfile=/cert.pem&ssl_keyfile=/key.pem&ssl_cert_reqs=required";
    let certificates = read(url).certificates;
    let named = [certificates.authority, certificates.certificate, certificates.key];
    assert!(named == ["/ca.pem", "/cert.pem", "/key.pem"].map(|path| Some(Pem::File(path.into()))));
}

#[test]
fn what_is_wrong_is_named() {
    for (url, named) in [
        ("", "empty"),
        ("localhost", "begins with none of the schemes"),
        ("amqp://localhost", "no scheme `amqp`"),
        ("redis://localhost:port", "a port is not a number"),
        ("redis://localhost:0", "a port is not a number"),
        ("redis://localhost:65536", "a port is not a number"),
        ("redis://[::1", "no `]`"),
        ("redis://[::1]7", "after the `]`"),
        ("redis://localhost/one", "the database in the path is not a number"),
        ("redis://localhost/-1", "the database in the path is not a number"),
        ("redis://localhost/1?db=2", "the database is given more than once"),
        ("redis://a/1;redis://b/2", "the database is given more than once"),
        ("redis://localhost?virtual_host=x", "option `virtual_host` is not a number"),
        ("unix://?db=1", "path of the socket is empty"),
        ("redis://localhost?retries=3", "unknown option `retries`; known are connect_timeout, "),
        ("redis://localhost?lease=soon", "option `lease` takes a number of seconds"),
        ("redis://localhost?lease=-1", "option `lease` takes a number of seconds"),
        ("redis://localhost?lease=1&lease=2", "option `lease` is given twice"),
        ("redis://localhost?protocol=1", "`resp2` or `resp3`"),
        ("redis://localhost?priority_order=lowest", "`celery` or `highest`"),
        ("redis://localhost?priority_steps=0,x", "numbers joined by commas"),
        ("redis://localhost?max_message_bytes=many", "a number of bytes"),
        ("redis://localhost?master_name=main", "option `master_name` is for sentinels"),
        ("redis://localhost?global_keyprefix=%2", "a `%` without two hexadecimal digits"),
        ("redis://localhost?global_keyprefix=%FF", "not UTF-8"),
        ("rediss://localhost?ssl_cert_reqs=none", "`ssl_ca_certs`"),
        ("rediss://localhost?ssl_cert_reqs=CERT_NONE", "`ssl_ca_certs`"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "`required`"),
        ("sentinel://localhost", "`?master_name=...`"),
        ("sentinel://a?master_name=m;redis://b", "either servers or sentinels"),
    ] {
        let refusal = refusal(url);
        assert!(refusal.contains(named), "{url}: {refusal}");
    }
}

#[test]
fn a_password_that_is_not_encoded_shows_in_no_error() {
    for url in [
        "redis://user:hid/den@localhost",
        "redis://user:hid?den@localhost",
        "redis://user:hid?den&x=y@localhost/0",
        "redis://user:hid#den@local/host",
        "redis://user:hid;den@localhost",
        "redis://user:hid%den@localhost",
        "redis://user:hid%zzden@localhost",
        "hidden@localhost",
        "hid den://localhost",
        "redis://localhost?password=hid;den",
        "redis://localhost?hid den=1",
        "redis://localhost/hidden",
        "redis://localhost?db=hidden",
        "redis://localhost?lease=hidden",
    ] {
        if let Err(error) = RedisConfig::from_url(url) {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hid") && !shown.contains("den@") && !shown.contains("`den"), "{url}: {shown}");
        }
    }
}
