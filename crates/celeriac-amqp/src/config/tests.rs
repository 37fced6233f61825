//! Tests of what the configuration says and refuses.

use super::*;

fn refusal(config: AmqpConfig) -> String {
    config.check().unwrap_err().to_string()
}

fn config() -> AmqpConfig {
    AmqpConfig::from_url("amqp://localhost").unwrap()
}

#[test]
fn secrets_are_not_shown() {
    let config = AmqpConfig::from_url("amqps://somebody:secret@a;b/shop").unwrap();
    let config = config.client_certificate_pem(b"secret".to_vec(), b"secret".to_vec());
    let shown = format!("{config:?} {}", config.shown());
    assert!(shown.contains("a:5671") && shown.contains("shop"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("somebody"), "{shown}");
    assert_eq!(config.shown(), "a:5671;b:5671, virtual host `shop`");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let millis = Duration::from_millis;
    for (config, named) in [
        (config().connect_timeout(Duration::ZERO), "`connect_timeout` must be at least 1 millisecond"),
        (config().publish_timeout(Duration::ZERO), "`publish_timeout`"),
        (config().result_expires(Duration::ZERO), "`result_expires`"),
        (config().result_expires(millis(1 << 32)), "`result_expires`"),
        (config().consumer_timeout(millis(999)), "`consumer_timeout` must be at least 1 second, or zero"),
        (config().consumer_timeout(millis(1 << 32)), "`consumer_timeout`"),
        (config().heartbeat(millis(1500)), "`heartbeat` must be a whole number of seconds"),
        (config().heartbeat(Duration::from_secs(65536)), "`heartbeat`"),
        (config().frame_max(4095), "`frame_max`"),
        (config().frame_max(1024 * 1024 + 1), "`frame_max`"),
        (config().max_priority(0), "`max_priority`"),
        (config().max_priority(5).queue_type(QueueType::Quorum), "`queue_type` is quorum"),
        (config().max_message_bytes(0), "`max_message_bytes`"),
        (config().max_message_bytes(MOST_MESSAGE_BYTES + 1), "`max_message_bytes`"),
        (config().vhost(""), "virtual host"),
        (config().vhost("x".repeat(256)), "virtual host"),
        (config().auth(Auth::External), "`ssl_certfile`"),
        (config().ca_certificate_pem(Vec::new()), "`amqps://`"),
        (config().username("worker"), "a password for user `worker` is missing"),
    ] {
        let refusal = refusal(config);
        assert!(refusal.contains(named), "{named}: {refusal}");
    }
    config().username("worker").password("").check().unwrap();
    config()
        .consumer_timeout(Duration::ZERO)
        .heartbeat(Duration::ZERO)
        .startup_timeout(Duration::ZERO)
        .check()
        .unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn certificates_need_tls_and_each_other() {
    let encrypted = || AmqpConfig::from_url("amqps://localhost").unwrap();
    encrypted().check().unwrap();
    encrypted().auth(Auth::External).client_certificate_pem("c", "k").check().unwrap();
    assert!(refusal(encrypted().auth(Auth::External)).contains("`auth=external`"));
    let mixed =
        AmqpConfig::from_url("amqps://a;amqp://b").unwrap().auth(Auth::External).client_certificate_pem("c", "k");
    assert!(refusal(mixed).contains("TLS to every server"));
    let alone = AmqpConfig::from_url("amqps://localhost?ssl_keyfile=/key.pem").unwrap();
    assert!(refusal(alone).contains("`ssl_keyfile` is given without `ssl_certfile`"));
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_refused_naming_the_feature() {
    assert!(refusal(AmqpConfig::from_url("amqps://localhost").unwrap()).contains("`amqp-tls`"));
}
