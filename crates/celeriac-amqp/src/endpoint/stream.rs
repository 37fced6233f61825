//! The stream that the driver is handed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::Guard;

/// A TCP connection, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection whose incoming frames are looked at, and which can be given up from outside.
pub(super) struct Stream {
    socket: Box<dyn Socket>,
    guard: Guard,
    given_up: Arc<GivenUp>,
}

#[derive(Default)]
struct GivenUp {
    is: AtomicBool,
    reader: AtomicWaker,
}

/// Gives the connection up when it is dropped: the driver goes on waiting for a server that says nothing, even where nobody waits for the
/// driver any more.
pub(super) struct Abort(Option<Arc<GivenUp>>);

impl Stream {
    pub(super) fn new(socket: Box<dyn Socket>) -> (Self, Abort) {
        let given_up = Arc::<GivenUp>::default();
        let abort = Abort(Some(Arc::clone(&given_up)));
        (Self { socket, guard: Guard::default(), given_up }, abort)
    }
}

impl Stream {
    /// Where writing fails because the peer has gone, its last words may still wait to be read: with TLS, why it does not take the
    /// certificate.
    fn told<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = written {
            let mut room = ReadBuf::new(self.guard.room());
            if let Poll::Ready(Err(told)) = Pin::new(&mut self.socket).poll_read(cx, &mut room) {
                return Poll::Ready(Err(told));
            }
        }
        written
    }
}

impl Abort {
    /// Leaves the connection to whoever has it.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some(given_up) = self.0.take() {
            given_up.is.store(true, Ordering::SeqCst);
            given_up.reader.wake();
        }
    }
}

impl futures_util::io::AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, guard, given_up } = &mut *self;
        loop {
            let count = guard.take(out);
            if count > 0 || out.is_empty() {
                return Poll::Ready(Ok(count));
            }
            given_up.reader.register(cx.waker());
            if given_up.is.load(Ordering::SeqCst) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let mut room = ReadBuf::new(guard.room());
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut room))?;
            let count = room.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            guard.came(count)?;
        }
    }
}

impl futures_util::io::AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.told(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.told(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.told(cx, flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
