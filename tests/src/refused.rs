//! Servers that do not let an app in, and what it says.

use std::net::SocketAddr;

use celeriac::{Error, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::log;
use crate::runs::{Runs, builder};

/// A password that nobody may ever be told.
pub const PASSWORD: &str = "hunter2-secret";

/// The error of an app that is to reach its server by `url`.
///
/// # Panics
/// If it gets there, or tells [`PASSWORD`].
pub async fn refusal(url: &str) -> Error {
    log::keep("info");
    let url = format!("{url}{}startup_timeout=1&connect_timeout=1", if url.contains('?') { "&" } else { "?" });
    let Err(error) = builder(&url, &Runs::default()).build().await else { panic!("{url} opens") };
    assert!(!format!("{error:?} {}", error.report()).contains(PASSWORD), "{error:?}");
    assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
    error
}

/// Sees to it that an error is of this kind, and says that.
///
/// # Panics
/// If it is another.
#[track_caller]
pub fn names(error: &Error, kind: ErrorKind, part: &str) {
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert!(error.report().contains(part), "`{part}` is not named in: {}", error.report());
}

/// A server that speaks HTTP.
///
/// # Panics
/// If it cannot listen.
pub async fn http_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            });
        }
    });
    address
}
