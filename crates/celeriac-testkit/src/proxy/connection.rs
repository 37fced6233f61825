//! One connection through the proxy, and its end.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::faults::{Fate, Point, Shared, Side};
use super::frames::{Frames, Protocol};

/// Commands whose replies are pushed, like the messages that follow.
const SUBSCRIPTIONS: &[&str] =
    &["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"];
const MESSAGES: &[&str] = &["MESSAGE", "PMESSAGE", "SMESSAGE"];

/// How long a server may take with what it was sent before a cut.
const FINISHES_WITHIN: Duration = Duration::from_secs(30);

/// How many bytes are read at once.
const CHUNK: usize = 64 << 10;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A client that went away while it waited is not the proxy's failure.
        let Ok((client, _)) = listener.accept().await else { continue };
        let cutting = shared.accepted();
        tokio::spawn(serve(client, Arc::clone(&shared), cutting));
    }
}

/// A connection's end as the proxy makes it.
enum End {
    /// One side has gone, so the other is told.
    Closed,
    /// As ordered.
    Cut(Fate),
}

async fn serve(client: TcpStream, shared: Arc<Shared>, mut cutting: watch::Receiver<()>) {
    let mut server = None;
    let end = {
        let through = pass(client, &mut server, &shared);
        tokio::select! {
            biased;
            // CANCEL SAFETY: the connection ends here; what was on its way is lost, as it would be.
            _ = cutting.changed() => None,
            end = through => Some(end),
        }
    };
    match end {
        // Counted by who ordered it.
        None => {}
        Some(Ok(End::Cut(Fate { everywhere: true, .. }))) => shared.cut_all(),
        Some(end) => {
            let mut state = shared.state();
            // Unless all were cut in the same moment.
            if !cutting.has_changed().unwrap_or(true) {
                state.open -= 1;
                state.cut += u64::from(matches!(end, Ok(End::Cut(_))));
            }
        }
    }
    if let Some((from, to)) = server {
        finish(from, to).await;
    }
}

/// The client's side is closed by now. Lets the server do what it was sent: it would lose commands if it were reset.
async fn finish(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let finishing = async {
        to.shutdown().await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await
    };
    // A server that is gone or halted has done what it could.
    let _ = tokio::time::timeout(FINISHES_WITHIN, finishing).await;
}

/// Passes on what both sides say. `server` is filled before anything is.
async fn pass(
    client: TcpStream,
    server: &mut Option<(OwnedReadHalf, OwnedWriteHalf)>,
    shared: &Shared,
) -> io::Result<End> {
    let link = Link { shared, replies: Mutex::default() };
    client.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let upstream = {
        let state = shared.state();
        (!state.swallows).then_some(state.upstream)
    };
    let Some(upstream) = upstream else {
        tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
        return Ok(End::Closed);
    };
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (from_server, to_server) = server.insert(stream.into_split());
    tokio::select! {
        // CANCEL SAFETY: both end together.
        end = link.commands(&mut from_client, to_server) => end,
        end = link.replies(from_server, &mut to_client) => end,
    }
}

/// A reply that is to come.
#[derive(Debug)]
struct Awaited {
    command: String,
    cut: Option<Fate>,
}

#[derive(Debug, Default)]
struct Replies {
    awaited: VecDeque<Awaited>,
    subscribed: bool,
}

struct Link<'a> {
    shared: &'a Shared,
    replies: Mutex<Replies>,
}

impl Link<'_> {
    async fn commands(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<End> {
        if let Some(fate) = self.pass_on(Side::Client, from, to).await? {
            return Ok(End::Cut(fate));
        }
        to.shutdown().await?;
        // The server may still have something to say, and closes then.
        std::future::pending().await
    }

    async fn replies(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<End> {
        let fate = self.pass_on(Side::Server, from, to).await?;
        Ok(fate.map_or(End::Closed, End::Cut))
    }

    /// Passes on what `side` sends until it ends, or until the connection is to be cut.
    async fn pass_on(&self, side: Side, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<Option<Fate>> {
        let mut frames = Frames::new(self.shared.protocol);
        let mut chunk = vec![0; CHUNK];
        while self.read(from, &mut chunk, &mut frames).await? {
            let mut passed = Vec::new();
            let mut cut = None;
            while let Some(frame) = frames.next() {
                let fate = match side {
                    Side::Client => self.command(&frame),
                    Side::Server => self.reply(&frame),
                };
                // A command may be one whose reply is to be cut.
                cut = fate.filter(|fate| fate.point.side() == side);
                let length = match cut.map(|fate| fate.point) {
                    Some(Point::Before | Point::BeforeReply) => 0,
                    Some(Point::Inside | Point::InsideReply) => frame.len() / 2,
                    Some(Point::After | Point::AfterReply) | None => frame.len(),
                };
                passed.extend_from_slice(&frame[..length]);
                if cut.is_some() {
                    break;
                }
            }
            self.write(to, &passed).await?;
            if cut.is_some() {
                return Ok(cut);
            }
        }
        self.write(to, &frames.rest()).await?;
        Ok(None)
    }

    /// Reads what has come into `frames`; false at the end.
    async fn read(&self, from: &mut OwnedReadHalf, chunk: &mut [u8], frames: &mut Frames) -> io::Result<bool> {
        loop {
            let length = from.read(chunk).await?;
            let (delay, swallows) = {
                let mut state = self.shared.state();
                state.bytes += length as u64;
                (state.delay, state.swallows)
            };
            if length == 0 {
                return Ok(false);
            }
            if swallows {
                continue;
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await; // wait: the delay that was asked for
            }
            frames.push(&chunk[..length]);
            return Ok(true);
        }
    }

    async fn write(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
        let piece = self.shared.state().piece;
        let mut rest = bytes;
        while rest.len() > piece {
            let (part, behind) = rest.split_at(piece);
            to.write_all(part).await?;
            tokio::task::yield_now().await;
            rest = behind;
        }
        // Nothing is awaited behind the last part, so that no further command is read before a cut that is due.
        to.write_all(rest).await
    }

    fn command(&self, frame: &[u8]) -> Option<Fate> {
        let command = self.shared.protocol.name(frame);
        let cut = self.shared.state().passes(Side::Client, &command);
        if self.shared.protocol != Protocol::Amqp {
            let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
            replies.subscribed |= SUBSCRIPTIONS.contains(&command.as_str());
            replies.awaited.push_back(Awaited { command, cut });
        }
        cut
    }

    /// Where the connection is to be cut because of what the server sends, if it is.
    fn reply(&self, frame: &[u8]) -> Option<Fate> {
        let protocol = self.shared.protocol;
        if protocol == Protocol::Amqp {
            return self.shared.state().passes(Side::Server, &protocol.name(frame));
        }
        // Whose reply is it?
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = match frame.first() {
            Some(b'>') => Some(protocol.name(frame)),
            // Before version 3, those who have subscribed get what is pushed as a list.
            Some(b'*') if replies.subscribed => {
                Some(protocol.name(frame)).filter(|name| [SUBSCRIPTIONS, MESSAGES].concat().contains(&name.as_str()))
            }
            _ => None,
        };
        // Of the many answers to a subscription, the first counts.
        let others = |pushed| replies.awaited.front().is_none_or(|awaited| awaited.command != pushed);
        if pushed.is_some_and(others) {
            return None;
        }
        replies.awaited.pop_front()?.cut
    }
}
