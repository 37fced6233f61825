//! Tests of what answers mean.

use std::io;

use deadpool_redis::redis;

use super::*;

fn of(code: &str, detail: &str) -> Fault {
    answer("publish", code, detail, Some(redis::cmd("LPUSH").arg("celery").arg("a secret body")))
}

fn report(fault: Fault) -> String {
    fault.into_error().report()
}

#[test]
fn what_will_pass_is_told_from_what_will_not() {
    for code in ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN"] {
        assert!(matches!(of(code, "for now"), Fault::Busy(error) if error.is_retryable()), "{code}");
    }
    assert!(matches!(of("ERR", "max number of clients reached"), Fault::Busy(_)));
    assert!(
        matches!(of("READONLY", "You can't write against a read only replica."), Fault::NotSent(error) if error.is_retryable())
    );
    for code in ["MISCONF", "OOM", "NOREPLICAS"] {
        assert!(matches!(of(code, "text"), Fault::Refused(error) if error.is_retryable()), "{code}");
    }
    for code in ["WRONGTYPE", "NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "MOVED", "CROSSSLOT"] {
        assert!(matches!(of(code, "text"), Fault::Refused(error) if error.kind() == ErrorKind::Config), "{code}");
    }
    assert!(
        matches!(of("ERR", "DB index is out of range"), Fault::Refused(error) if error.kind() == ErrorKind::Config)
    );
    assert!(
        matches!(of("ERR", "Protocol error: invalid bulk length"), Fault::Refused(error) if error.kind() == ErrorKind::TooLarge)
    );
    assert!(matches!(of("ERR", "Protocol error: unauthenticated bulk length"), Fault::Broken(_)));
    assert!(matches!(of("ERR", "something else"), Fault::Refused(error) if error.kind() == ErrorKind::Unexpected));
}

#[test]
fn errors_of_scripts_are_found_in_the_texts_of_older_servers() {
    let text = "Error running script (call to f_0123): @user_script:1: WRONGTYPE Operation against a key holding the wrong kind of value";
    assert!(matches!(of("ERR", text), Fault::Refused(error) if error.kind() == ErrorKind::Config));
    let text = "Error running script (call to f_0123): @user_script:12: @user_script: 12: -OOM command not allowed when used memory > 'maxmemory'.";
    assert!(report(of("ERR", text)).contains("`maxmemory`"));
    let text = "Error running script (call to f_0123): @user_script:3: Script attempted to access nonexistent global variable 'x'";
    assert!(matches!(of("ERR", text), Fault::Refused(error) if error.kind() == ErrorKind::Unexpected));
}

#[test]
fn keys_of_another_type_are_named() {
    assert!(report(of("WRONGTYPE", "Operation against a key")).contains("key `celery` holds another type"));
    let mut script = redis::cmd("EVALSHA");
    script.arg("0123").arg(2).arg("one").arg("two").arg("an argument");
    let error = answer("take", "WRONGTYPE", "", Some(&script)).into_error();
    assert!(error.to_string().contains("one of the keys `one`, `two` holds"), "{error}");
    assert!(answer("take", "WRONGTYPE", "", None).into_error().to_string().contains("a key holds"));
    // As our scripts name one.
    for error in [script_failed("take", "WRONGTYPE at a key"), of("WRONGTYPE", "at a key").into_error()] {
        assert!(error.to_string().contains("key `a key` holds another type"), "{error}");
    }
}

#[test]
fn missing_permissions_are_named() {
    for (text, named) in [
        ("User u has no permissions to run the 'get' command", "`ACL SETUSER ... +@all`"),
        ("this user has no permissions to access one of the keys used as arguments", "`ACL SETUSER ... ~*`"),
        ("User u has no permissions to access the 'c' channel", "`ACL SETUSER ... &*`"),
    ] {
        assert!(report(of("NOPERM", text)).contains(named), "{text}");
    }
    for (text, named) in [
        ("The user executing the script can't run this command or subcommand", "`ACL SETUSER ... +@all`"),
        (
            "The user executing the script can't access at least one of the keys mentioned in the command arguments",
            "`ACL SETUSER ... ~*`",
        ),
        ("The user executing the script can't publish to the channel mentioned in the command", "`ACL SETUSER ... &*`"),
        ("ACL failure in script: User w has no permissions to run the 'hdel' command", "`ACL SETUSER ... +@all`"),
        ("ACL failure in script: User w has no permissions to access the 'b' key", "`ACL SETUSER ... ~*`"),
    ] {
        let older = format!("Error running script (call to f_1): @user_script:1: {text}");
        for error in
            [script_failed("take", text), script_failed("take", &format!("ERR {text}")), of("ERR", &older).into_error()]
        {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}

#[test]
fn an_unknown_command_is_named_without_its_arguments() {
    let report = report(of("ERR", "unknown command `LPUSH`, with args beginning with: `celery` `a secret body`"));
    assert!(report.contains("no command `LPUSH`: Redis 6.2 or later"), "{report}");
    assert!(!report.contains("secret"), "{report}");
    let tracking = redis::cmd("CLIENT").arg("TRACKING").arg("ON").to_owned();
    assert!(
        answer("look", "ERR", "unknown subcommand", Some(&tracking))
            .into_error()
            .to_string()
            .contains("`CLIENT TRACKING`")
    );
}

#[test]
fn a_lost_connection_leaves_open_what_happened() {
    let lost = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert!(matches!(fault("publish", &lost, None), Fault::Broken(error) if error.is_retryable()));
    let late = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
    assert!(fault("publish", &late, None).into_error().to_string().contains("`response_timeout`"));
}

#[test]
fn why_a_server_cannot_be_reached_names_the_server_and_the_setting() {
    let io = |kind, text: &str| RedisError::from(io::Error::new(kind, text.to_owned()));
    for (error, kind, named) in [
        (io(io::ErrorKind::ConnectionRefused, "refused"), ErrorKind::Unavailable, "cannot reach Redis at `here:1`"),
        (io(io::ErrorKind::Other, "failed to lookup address information"), ErrorKind::Unavailable, "lookup"),
        (io(io::ErrorKind::BrokenPipe, "broken"), ErrorKind::Unavailable, "`rediss://`"),
        (io(io::ErrorKind::TimedOut, "late"), ErrorKind::Unavailable, "`connect_timeout`"),
        (
            io(io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer"),
            ErrorKind::Config,
            "`ssl_ca_certs`",
        ),
        (
            io(io::ErrorKind::InvalidData, "received fatal alert: CertificateRequired"),
            ErrorKind::Config,
            "`ssl_certfile`",
        ),
        (io(io::ErrorKind::InvalidData, "received corrupt message of type X"), ErrorKind::Config, "`redis://`"),
        (
            io(io::ErrorKind::Other, "failed to read PEM from file: No such file or directory at '/etc/x.pem'"),
            ErrorKind::Config,
            "`SSL_CERT_FILE`",
        ),
        ((DriverKind::RESP3NotSupported, "no").into(), ErrorKind::Config, "`protocol=resp2`"),
        (
            redis::make_extension_error("WRONGPASS".into(), Some("invalid".into())),
            ErrorKind::Config,
            "with this password",
        ),
        (
            redis::make_extension_error("ERR".into(), Some("max number of clients reached".into())),
            ErrorKind::Unavailable,
            "`maxclients`",
        ),
    ] {
        let error = unconnected("open", "here:1", &error);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.report().contains(named), "{}", error.report());
        assert!(error.report().contains("`here:1`") || named == "`SSL_CERT_FILE`", "{}", error.report());
    }
}

#[test]
fn an_error_is_said_again_to_others_in_full() {
    let error = Error::config("open", "no").with_source("why");
    let copy = again(&error, "publish");
    assert_eq!(
        (copy.kind(), copy.operation(), copy.report()),
        (ErrorKind::Config, "publish", "publish: bad configuration: no: why".to_owned())
    );
}
