//! Tests of what answers mean.

use lapin::protocol::AMQPError;

use super::*;

fn said(code: u16, text: &str) -> lapin::Error {
    DriverKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
}

fn of(code: u16, text: &str) -> Fault {
    fault("publish", &said(code, text))
}

fn server(tls: bool) -> Server {
    Server { host: "here".to_owned(), port: 1, tls, username: None, password: Some("secret".to_owned()) }
}

fn config(url: &str) -> AmqpConfig {
    AmqpConfig::from_url(url).unwrap()
}

#[test]
fn why_a_channel_was_closed_is_told_by_name() {
    for (code, text, kind, named) in [
        (404, "NOT_FOUND - no queue 'a b' in vhost '/'", ErrorKind::NotFound, "no queue `a b`"),
        (404, "NOT_FOUND - no exchange 'it's' in vhost 'shop'", ErrorKind::NotFound, "no exchange `it's`"),
        (404, "NOT_FOUND - something", ErrorKind::NotFound, "no such thing"),
        (
            403,
            "ACCESS_REFUSED - access to queue 'jobs' in vhost '/' refused for user 'w'",
            ErrorKind::Config,
            "a permission for `jobs`",
        ),
        (403, "ACCESS_REFUSED - no", ErrorKind::Config, "a permission for what was asked for"),
        (
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'.",
            ErrorKind::Unavailable,
            "has `mine` for itself",
        ),
        (
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
            ErrorKind::Config,
            "`durable`",
        ),
        (
            406,
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.",
            ErrorKind::Unavailable,
            "`consumer_timeout`",
        ),
        (
            406,
            "PRECONDITION_FAILED - message size 20 is larger than configured max size 16",
            ErrorKind::TooLarge,
            "`max_message_size`",
        ),
        (406, "PRECONDITION_FAILED - unknown delivery tag 7", ErrorKind::Unexpected, "delivery"),
        (311, "CONTENT_TOO_LARGE", ErrorKind::TooLarge, "larger"),
    ] {
        let Fault::Closed { code: told, text: words, error } = of(code, text) else { panic!("{text}") };
        assert_eq!((told, words.as_str(), error.kind()), (code, text, kind));
        assert!(error.message().contains(named), "{error}");
        assert_eq!(error.report().matches(text).count(), 1);
    }
}

#[test]
fn a_connection_that_is_closed_may_be_made_again() {
    for (code, text, named) in [
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", "it stops"),
        (541, "INTERNAL_ERROR", "closed the connection"),
        (504, "CHANNEL_ERROR - expected 'channel.open'", "closed the connection"),
        (530, "NOT_ALLOWED - vhost 'x' is down", "does not allow"),
    ] {
        let Fault::Broken(error) = of(code, text) else { panic!("{text}") };
        assert!(error.is_retryable() && error.message().contains(named), "{error}");
    }
    // Sent again, they would close the next one too.
    let large = "FRAME_ERROR - type 2, first 16 octets = <<>>: {frame_too_large,200000,131064}";
    assert!(matches!(of(501, large), Fault::Refused(error) if error.kind() == ErrorKind::TooLarge));
    assert!(matches!(of(540, "NOT_IMPLEMENTED - x"), Fault::Refused(error) if error.kind() == ErrorKind::Unsupported));
}

#[test]
fn what_the_driver_says_by_itself_is_told_apart() {
    let of = |kind: DriverKind| fault("publish", &kind.into());
    let broken = |fault| matches!(&fault, Fault::Broken(error) if error.is_retryable());
    assert!(broken(of(DriverKind::MissingHeartbeatError)));
    assert!(of(DriverKind::MissingHeartbeatError).into_error().message().contains("`heartbeat`"));
    assert!(broken(of(DriverKind::InvalidConnectionState(lapin::ConnectionState::Closed))));
    assert!(broken(of(DriverKind::InvalidChannelState(lapin::ChannelState::Error, "x"))));
    assert!(broken(fault("publish", &io::Error::from(io::ErrorKind::BrokenPipe).into())));
    let refused = of(DriverKind::ChannelsLimitReached);
    assert!(matches!(refused, Fault::Refused(error) if error.message().contains("`channel_max`")));
}

#[test]
fn why_a_login_is_refused_names_the_server_and_the_setting() {
    let refused =
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    let vhost = "NOT_ALLOWED - access to vhost 'shop' refused for user 'u'";
    let limit = "NOT_ALLOWED - access to vhost 'shop' refused for user 'u': connection limit (5) is reached";
    let external = "amqps://h?auth=external&ssl_certfile=/c";
    for (url, code, text, kind, named) in [
        ("amqp://h", 403, refused, ErrorKind::Config, "does not let user `guest` in"),
        ("amqp://u:secret@h", 403, refused, ErrorKind::Config, "knows no user `u` with this password"),
        (external, 403, refused, ErrorKind::Config, "`ssl_certfile`"),
        ("amqp://u:secret@h/shop", 530, vhost, ErrorKind::Config, "user `u` use virtual host `shop`"),
        (external, 530, vhost, ErrorKind::Config, "the certificate's user use virtual host"),
        (
            "amqp://u:secret@h/shop",
            530,
            "NOT_ALLOWED - vhost shop not found",
            ErrorKind::Config,
            "no virtual host `shop`",
        ),
        ("amqp://u:secret@h/shop", 530, limit, ErrorKind::Unavailable, "a limit is reached"),
        ("amqp://u:secret@h/shop", 530, "NOT_ALLOWED - vhost 'shop' is down", ErrorKind::Unavailable, "down"),
        (
            "amqp://h",
            530,
            "NOT_ALLOWED - negotiated frame_max = 4096 is lower than the minimum allowed value (8192)",
            ErrorKind::Config,
            "`frame_max`",
        ),
        ("amqp://h", 503, "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'", ErrorKind::Config, "`auth`"),
        ("amqp://h", 320, "CONNECTION_FORCED - shutdown", ErrorKind::Unavailable, "does not take the connection"),
    ] {
        let config = config(url);
        let server = Server { host: "here".to_owned(), port: 1, ..config.servers[0].clone() };
        let error = unconnected("open", &server, &config, &said(code, text));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(named) && error.message().contains("`here:1`"), "{error}");
        assert!(!error.report().contains("secret"), "{}", error.report());
    }
}

#[test]
fn why_a_server_cannot_be_reached_names_it() {
    let io = |kind| io::Error::new(kind, "words");
    for (error, named) in [
        (io(io::ErrorKind::ConnectionRefused), "cannot reach RabbitMQ at `here:1`"),
        (io(io::ErrorKind::ConnectionReset), "`here:1` hangs up at once: it may stop just now, or be for `amqps://`"),
        (io(io::ErrorKind::ConnectionAborted), "hangs up"),
        (io::Error::new(io::ErrorKind::InvalidData, Stranger::Other), "what answers at `here:1` is not RabbitMQ"),
    ] {
        let told = unreachable("open", &server(false), Auth::Plain, &error);
        assert!(told.is_retryable() && told.message().contains(named), "{told}");
        assert_eq!(unconnected("open", &server(false), &config("amqp://h"), &error.into()).report(), told.report());
    }
    let stranger = io::Error::new(io::ErrorKind::InvalidData, Stranger::Tls);
    let told = unreachable("open", &server(false), Auth::Plain, &stranger);
    assert!(told.kind() == ErrorKind::Config && told.message().contains("`amqps://`"), "{told}");
}

#[cfg(feature = "tls")]
#[test]
fn what_is_wrong_with_tls_names_the_setting() {
    use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage};

    let of = |error: Tls| {
        unreachable("open", &server(true), Auth::Plain, &io::Error::new(io::ErrorKind::InvalidData, error))
    };
    for (error, kind, named) in [
        (CertificateError::UnknownIssuer.into(), ErrorKind::Config, "`ssl_ca_certs`"),
        (CertificateError::Expired.into(), ErrorKind::Config, "is not trusted"),
        (CertificateError::NotValidForName.into(), ErrorKind::Config, "another name than `here`"),
        (Tls::AlertReceived(AlertDescription::CertificateRequired), ErrorKind::Config, "`ssl_certfile`"),
        (Tls::InvalidMessage(InvalidMessage::InvalidContentType), ErrorKind::Config, "may be for `amqp://`"),
        (Tls::DecryptError, ErrorKind::Unavailable, "TLS with RabbitMQ"),
    ] {
        let told = of(error);
        assert_eq!(told.kind(), kind, "{told}");
        assert!(told.message().contains(named) && told.message().contains("`here:1`"), "{told}");
    }
    let name = unreachable("open", &server(true), Auth::Plain, &io::Error::from(io::ErrorKind::InvalidInput));
    assert_eq!(name.kind(), ErrorKind::Config);
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
