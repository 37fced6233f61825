//! The URLs by which servers are named: cut into their parts, for the systems that read them.
//!
//! No text of a URL is repeated in an error unless it cannot be a piece of a password: where a password holds a `/`, `?`, `;` or
//! `@` that is not percent-encoded, its pieces turn up anywhere in what follows.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

const ENCODE: &str = "in user, password and options, `/`, `?`, `#`, `;`, `@`, `&` and `%` are written as `%2F`, `%3F`, `%23`, `%3B`, \
     `%40`, `%26` and `%25`";

/// One server's part of a URL: `scheme://[[user]:password@]host[:port][/path][?query]`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerUrl<'a> {
    /// As it is written; `None` where a later server of a list leaves it out.
    pub scheme: Option<&'a str>,
    /// The user, decoded; `None` if there is none or it is empty.
    pub username: Option<String>,
    /// The password, decoded. Empty only where it is written behind a user, as in `user:@host`.
    pub password: Option<String>,
    /// The host and the port, as they are written: see [`host_and_port`].
    pub host: &'a str,
    /// What is between the host and the `?`, as it is written: empty, or beginning with `/`.
    pub path: &'a str,
    /// What follows the `?`, as it is written.
    pub query: &'a str,
}

impl<'a> ServerUrl<'a> {
    /// Cuts up one server's part of a URL. Only user and password are decoded.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the part that is wrong.
    pub fn new(text: &'a str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if path.contains(['@', '#']) || query.contains(['@', '#']) {
            return Err(refuse(format!("an `@` or `#` stands where none can be: {ENCODE}")));
        }
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let (mut username, mut password) = (None, None);
        if let Some(credentials) = credentials {
            let (user, secret) =
                credentials.split_once(':').map_or((credentials, None), |(user, secret)| (user, Some(secret)));
            username = Some(decode("the user", user)?).filter(|user| !user.is_empty());
            if let Some(secret) = secret {
                // `user:@` is a user without a password; a user alone gets it from elsewhere.
                password =
                    Some(decode("the password", secret)?).filter(|password| username.is_some() || !password.is_empty());
            }
        }
        Ok(Self { scheme, username, password, host, path, query })
    }

    /// What of a scheme may be shown: a piece of a password may stand in its place.
    #[must_use]
    pub fn shown_scheme(&self) -> &'a str {
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
        self.scheme.filter(|name| is_name(name)).unwrap_or("...")
    }
}

/// Shows the scheme alone: a piece of a password may stand in any other place.
impl fmt::Debug for ServerUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl").field("scheme", &self.shown_scheme()).finish_non_exhaustive()
    }
}

/// Reads `host`, `host:port` or `[IPv6 address]:port`. No host is `localhost`; its letters become small ones.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), for a port that is none too.
pub fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16)> {
    let wrong = |what: &str| refuse(format!("{what}; {ENCODE}"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| wrong("an IPv6 address has no `]` after it"))?;
            let port = after.strip_prefix(':').or(after.is_empty().then_some(""));
            (host, port.ok_or_else(|| wrong("after the `]` of an IPv6 address comes `:` and a port, or nothing"))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = match port {
        "" => default_port,
        port => {
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("a port is not a number of 1 to 65535"))?
        }
    };
    let host = if host.is_empty() { "localhost".to_owned() } else { decode("a host", host)?.to_ascii_lowercase() };
    Ok((host, port))
}

/// The options of the queries of all servers, `name=value` joined by `&`; values are decoded. What is said twice is told once.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option that has two values.
pub fn options<'a>(queries: impl IntoIterator<Item = &'a str>) -> Result<Vec<(&'a str, String)>> {
    let mut options: Vec<(&str, String)> = Vec::new();
    for option in queries.into_iter().flat_map(|query| query.split('&')).filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = decode("an option", value)?;
        match options.iter().find(|(known, _)| *known == name) {
            None => options.push((name, value)),
            Some((_, before)) if *before == value => {}
            Some(_) if !is_option(name) => return Err(unreadable_option()),
            Some(_) => return Err(refuse(format!("option `{name}` is given twice, with different values"))),
        }
    }
    Ok(options)
}

/// That there is no option `name`, where `known` are those there are.
#[must_use]
pub fn unknown_option(name: &str, known: &str) -> Error {
    if is_option(name) { refuse(format!("unknown option `{name}`; known are {known}")) } else { unreadable_option() }
}

fn is_option(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn unreadable_option() -> Error {
    refuse(format!("an option's name cannot be read; {ENCODE}"))
}

/// Reads the option `name`, a number of seconds.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option.
pub fn seconds(name: &str, value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| refuse(format!("option `{name}` takes a number of seconds")))
}

/// Percent-decodes `text`, which is `what`, such as `the path`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `what`.
pub fn decode(what: &str, text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let code = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                code.ok_or_else(|| {
                    refuse(format!("{what} has a `%` without two hexadecimal digits after it; a `%` is `%25`"))
                })?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| refuse(format!("{what} is not UTF-8")))
}

/// The error of a URL that cannot be read.
#[must_use]
pub fn refuse(why: impl Into<Cow<'static, str>>) -> Error {
    Error::config("parse url", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> (Option<String>, Option<String>) {
        let url = ServerUrl::new(text).unwrap();
        (url.username, url.password)
    }

    #[test]
    fn a_url_is_cut_into_its_parts() {
        let url = ServerUrl::new("Redis+x://us%3Aer:p%40:w@[::1]:7//a?b=c?d").unwrap();
        assert_eq!((url.scheme, url.host, url.path, url.query), (Some("Redis+x"), "[::1]:7", "//a", "b=c?d"));
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("us:er"), Some("p@:w")));
        let url = ServerUrl::new("host").unwrap();
        assert_eq!((url.scheme, url.host, url.path, url.query), (None, "host", "", ""));
    }

    #[test]
    fn a_password_is_empty_only_where_there_is_a_user() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(credentials("x://h"), (None, None));
        assert_eq!(credentials("x://@h"), (None, None));
        assert_eq!(credentials("x://:@h"), (None, None));
        assert_eq!(credentials("x://u@h"), (text("u"), None));
        assert_eq!(credentials("x://u:@h"), (text("u"), text("")));
        assert_eq!(credentials("x://:p@h"), (None, text("p")));
        assert_eq!(credentials("x://u:p@p@h"), (text("u"), text("p@p")));
    }

    #[test]
    fn hosts_and_ports_are_read() {
        let read = |text| host_and_port(text, 5).map(|(host, port)| format!("{host} {port}"));
        for (text, expected) in
            [("", "localhost 5"), ("H:6", "h 6"), ("h:", "h 5"), ("[::1]", "::1 5"), ("[::1]:6", "::1 6")]
        {
            assert_eq!(read(text).unwrap(), expected);
        }
        for text in ["h:0", "h:x", "h:65536", "[::1", "[::1]6", "%zz"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_options_say_twice_must_be_the_same() {
        assert_eq!(
            options(["a=1&b=%26&", "", "a=1&c"]).unwrap(),
            [("a", "1".to_owned()), ("b", "&".to_owned()), ("c", String::new())]
        );
        assert!(options(["a=1", "a=2"]).unwrap_err().to_string().contains("option `a` is given twice"));
        let hidden = options(["hid den=1&hid den=2"]).unwrap_err().to_string();
        assert!(!hidden.contains("hid den"), "{hidden}");
    }
}
