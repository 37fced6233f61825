//! Tests of what the configuration says and refuses.

use super::*;

fn refusal(config: RedisConfig) -> String {
    config.check().unwrap_err().to_string()
}

fn config() -> RedisConfig {
    RedisConfig::from_url("redis://localhost").unwrap()
}

#[test]
fn the_prefix_of_results_ends_in_a_mark_as_celery_has_it() {
    for (given, stands) in [("", ""), ("shop", "shop_"), ("shop_", "shop_"), ("a:", "a:"), ("a-", "a-"), ("a.", "a.")] {
        assert_eq!(config().result_keyprefix(given).result_prefix(), stands);
    }
}

#[test]
fn the_prefix_of_channels_names_the_database() {
    assert_eq!(config().db(3).channel_prefix(), "/3.");
    assert_eq!(config().fanout_prefix("/zz.").channel_prefix(), "/zz.");
    assert_eq!(config().fanout_prefix("").channel_prefix(), "");
}

#[test]
fn the_same_store_has_the_same_name_whatever_the_credentials() {
    let name = |url: &str| RedisConfig::from_url(url).unwrap().store_name();
    assert_eq!(name("redis://localhost"), "redis:localhost:6379/0#,");
    assert_eq!(name("redis://LOCALHOST/0"), name("redis://user:secret@localhost:6379"));
    assert_eq!(name("redis://a;redis://b/1"), name("redis://b;redis://a/1"));
    assert_ne!(name("redis://localhost/1"), name("redis://localhost/2"));
    assert_ne!(name("redis://localhost?global_keyprefix=a"), name("redis://localhost?result_keyprefix=a"));
    let sentinels = "sentinel://:secret@a;b/2?master_name=main&sentinel_password=secret";
    assert_eq!(name(sentinels), "redis:main@a:26379,b:26379/2#,");
    assert_eq!(name("unix:///run/redis.sock"), "redis:/run/redis.sock/0#,");
}

#[test]
fn secrets_are_not_shown() {
    let url = "sentinel://somebody:secret@a;b?master_name=main&sentinel_password=secret&sentinel_username=somebody";
    let config = RedisConfig::from_url(url).unwrap().client_certificate_pem(b"secret".to_vec(), b"secret".to_vec());
    let shown = format!("{config:?}");
    assert!(shown.contains("a:26379") && shown.contains("main"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("somebody"), "{shown}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    assert!(refusal(config().lease(Duration::from_millis(999))).ends_with("`lease` must be at least 1 second"));
    let soon = refusal(config().connect_timeout(Duration::ZERO));
    assert!(soon.ends_with("`connect_timeout` must be at least 1 millisecond"), "{soon}");
    assert!(refusal(config().response_timeout(Duration::ZERO)).contains("`response_timeout`"));
    assert!(refusal(config().visibility_timeout(Duration::ZERO)).contains("`visibility_timeout`"));
    assert!(refusal(config().max_message_bytes(0)).contains("`max_message_bytes`"));
    assert!(refusal(config().max_message_bytes(MOST_MESSAGE_BYTES + 1)).contains("`max_message_bytes`"));
    for steps in [&[][..], &[1, 2], &[0, 3, 3], &[0, 6, 3], &[0, 10]] {
        assert!(refusal(config().priority_steps(steps)).contains("`priority_steps`"), "{steps:?}");
    }
    for prefix in ["zz.", "/zz", "/z.z.", "/"] {
        assert!(refusal(config().fanout_prefix(prefix)).contains("`fanout_prefix`"), "{prefix}");
    }
    assert!(refusal(config().ca_certificate_pem(Vec::new())).contains("`rediss://`"));
}

#[test]
fn a_user_without_a_password_is_refused() {
    assert!(refusal(config().username("worker")).contains("a password for user `worker` is missing"));
    assert!(refusal(RedisConfig::from_url("redis://worker@localhost").unwrap()).contains("`worker`"));
    let sentinel = RedisConfig::from_url("sentinel://a?master_name=m&sentinel_username=u").unwrap();
    assert!(refusal(sentinel).contains("`sentinel_password`"));
    config().username("worker").password("").check().unwrap();
    RedisConfig::from_url("redis://worker:@localhost").unwrap().check().unwrap();
}
