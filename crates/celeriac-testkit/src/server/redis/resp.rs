//! Redis's protocol by hand: enough to ask a server something without any driver.

use std::fmt;
use std::io::{self, Error, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpStream, UnixStream};

/// What a server replies. Of RESP3, maps, sets and what is pushed are arrays, and numbers with a fraction and booleans are a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A short text, such as `OK`.
    Status(String),
    /// An error, such as `NOAUTH Authentication required.`.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// Several replies.
    Array(Vec<Self>),
}

impl Reply {
    /// The text of a status, of bytes that are UTF-8, or of a number; of an error too, and empty for nothing and for several.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Nil | Self::Array(_) => String::new(),
        }
    }

    /// The texts of an array's members; empty for anything else.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Array(members) => members.iter().map(Self::text).collect(),
            Self::Status(_) | Self::Error(_) | Self::Integer(_) | Self::Bulk(_) | Self::Nil => Vec::new(),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection to a Redis server that speaks the bare protocol.
///
/// # Cancel safety
/// A command that is dropped before its reply was read leaves the connection out of step.
pub struct RawRedis(BufStream<Box<dyn Stream>>);

impl RawRedis {
    /// Connects by TCP.
    ///
    /// # Errors
    /// If nobody accepts.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufStream::new(Box::new(stream))))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// If nobody accepts.
    pub async fn connect_unix(socket: &Path) -> io::Result<Self> {
        Ok(Self(BufStream::new(Box::new(UnixStream::connect(socket).await?))))
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// If the connection breaks. What the server calls an error is a [`Reply::Error`].
    pub async fn command(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words).await?;
        self.reply().await
    }

    /// Sends a command.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(&mut self, words: &[&str]) -> io::Result<()> {
        self.0.write_all(&encode(words)).await?;
        self.0.flush().await
    }

    /// Waits for the reply to a command that was sent, or for what is pushed.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        let (kind, rest) = self.line().await?;
        Ok(match kind {
            b'+' | b',' | b'#' => Reply::Status(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Integer(rest.parse().map_err(malformed)?),
            b'_' => Reply::Nil,
            b'$' | b'*' if rest.starts_with('-') => Reply::Nil,
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().map_err(malformed)? + 2];
                self.0.read_exact(&mut bytes).await?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            b'*' | b'~' | b'>' | b'%' => {
                let mut members = Vec::new();
                let each = if kind == b'%' { 2 } else { 1 };
                for _ in 0..each * rest.parse::<usize>().map_err(malformed)? {
                    members.push(Box::pin(self.reply()).await?);
                }
                Reply::Array(members)
            }
            other => return Err(malformed(format!("a reply begins with `{}`", char::from(other)))),
        })
    }

    async fn line(&mut self) -> io::Result<(u8, String)> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        match line.strip_suffix("\r\n").map(|line| line.split_at_checked(1)) {
            Some(Some((kind, rest))) => Ok((kind.as_bytes()[0], rest.to_owned())),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for RawRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRedis").finish_non_exhaustive()
    }
}

/// A command's bytes.
fn encode(words: &[&str]) -> Vec<u8> {
    let bulks = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), bulks.collect::<String>()).into_bytes()
}

fn malformed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
