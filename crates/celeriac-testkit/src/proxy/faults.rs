//! What a proxy was told to do wrong, and what has passed through it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::frames::Protocol;

/// Where in the life of a command its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Before,
    Inside,
    After,
    BeforeReply,
    InsideReply,
    AfterReply,
}

impl Point {
    /// Whose bytes are passing when the connection ends.
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Before | Self::Inside | Self::After => Side::Client,
            Self::BeforeReply | Self::InsideReply | Self::AfterReply => Side::Server,
        }
    }
}

/// Who has sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Protocol {
    /// Whether a cut at `point` is an affair of what `side` sends. In AMQP, no frame of the server's is the reply to one of the client's:
    /// the two sides are counted apart.
    fn decides(self, side: Side, point: Point) -> bool {
        match self {
            Self::Amqp => side == point.side(),
            Self::Resp | Self::Opaque => side == Side::Client,
        }
    }

    /// Where random cuts are made because of what `side` has sent.
    const fn points(self, side: Side) -> &'static [Point] {
        match (self, side) {
            (Self::Amqp, Side::Client) => &[Point::Before, Point::Inside, Point::After],
            (Self::Amqp, Side::Server) => &[Point::BeforeReply, Point::InsideReply, Point::AfterReply],
            (Self::Resp | Self::Opaque, Side::Client) => {
                &[Point::Before, Point::Inside, Point::BeforeReply, Point::InsideReply, Point::AfterReply]
            }
            (Self::Resp | Self::Opaque, Side::Server) => &[],
        }
    }
}

/// An order to cut a connection at an exact point. Commands are counted from the order on; the first is 1.
///
/// Whatever was passed on to the server before the cut, the server does.
///
/// In AMQP, a command is a frame of the client's and a reply is a frame of the server's, which belongs to no other. They are counted apart,
/// and have names of their own: `Cut::before_reply(2).of("basic.deliver")` is before the second delivery.
///
/// # Examples
/// Cuts a connection before its second `EVALSHA` from now on, and all the others with it.
/// ```
/// use celeriac_testkit::proxy::Cut;
///
/// let cut = Cut::before(2).of("EVALSHA").everywhere();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Cut {
    point: Point,
    /// How many commands are still to come, the one that is meant included.
    nth: u64,
    name: Option<String>,
    everywhere: bool,
}

impl Cut {
    /// Before the command is passed on: the server never hears of it.
    pub const fn before(nth: u64) -> Self {
        Self::at(Point::Before, nth)
    }

    /// In the middle of the command's bytes: the server hears half of it, and does nothing.
    pub const fn inside(nth: u64) -> Self {
        Self::at(Point::Inside, nth)
    }

    /// When the command has been passed on, whether or not the server has done it yet.
    pub const fn after(nth: u64) -> Self {
        Self::at(Point::After, nth)
    }

    /// When the reply to the command comes, before any of it is passed on: the command is done, and nobody learns of it.
    pub const fn before_reply(nth: u64) -> Self {
        Self::at(Point::BeforeReply, nth)
    }

    /// In the middle of the reply's bytes.
    pub const fn inside_reply(nth: u64) -> Self {
        Self::at(Point::InsideReply, nth)
    }

    /// When the reply has been passed on.
    pub const fn after_reply(nth: u64) -> Self {
        Self::at(Point::AfterReply, nth)
    }

    /// Counts the commands of that name only; for a cut at a reply in AMQP, the replies of that name. See [`FaultProxy::names`].
    ///
    /// [`FaultProxy::names`]: super::FaultProxy::names
    pub fn of(mut self, command: &str) -> Self {
        self.name = Some(command.to_owned());
        self
    }

    /// Cuts all connections at that moment, not just that of the command.
    pub const fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    const fn at(point: Point, nth: u64) -> Self {
        Self { point, nth, name: None, everywhere: false }
    }

    /// Counts a command; whether it is the one that is meant.
    fn comes(&mut self, command: &str) -> bool {
        if self.name.as_deref().is_some_and(|name| !name.eq_ignore_ascii_case(command)) {
            return false;
        }
        self.nth = self.nth.saturating_sub(1);
        self.nth == 0
    }
}

/// What becomes of a connection at a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    pub(super) point: Point,
    pub(super) everywhere: bool,
}

/// Cuts at random.
#[derive(Debug)]
pub(super) struct Random {
    per_mille: u32,
    /// One for each side, so that neither's cuts depend on what the other has sent.
    client: fastrand::Rng,
    server: fastrand::Rng,
}

impl Random {
    pub(super) fn new(seed: u64, per_mille: u32) -> Self {
        Self { per_mille, client: fastrand::Rng::with_seed(seed), server: fastrand::Rng::with_seed(!seed) }
    }

    fn draw(&mut self, points: &[Point], side: Side) -> Option<Fate> {
        let random = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let due = random.u32(0..1000) < self.per_mille;
        // Drawn in any case, so that the draws do not depend on what was ordered otherwise.
        let point = random.choice(points)?;
        due.then_some(Fate { point: *point, everywhere: false })
    }
}

#[derive(Debug)]
pub(super) struct State {
    protocol: Protocol,
    pub(super) upstream: SocketAddr,
    pub(super) cuts: Vec<Cut>,
    pub(super) random: Option<Random>,
    pub(super) delay: Duration,
    pub(super) piece: usize,
    pub(super) swallows: bool,

    pub(super) accepted: u64,
    pub(super) bytes: u64,
    pub(super) cut: u64,
    pub(super) names: Vec<String>,
    pub(super) open: u64,
    pub(super) replies: Vec<String>,
}

impl State {
    /// Numbers what `side` has sent, and says where in the life of it the connection is to be cut, if it is.
    pub(super) fn passes(&mut self, side: Side, name: &str) -> Option<Fate> {
        match side {
            Side::Client => self.names.push(name.to_owned()),
            Side::Server => self.replies.push(name.to_owned()),
        }
        let (protocol, mut fate) = (self.protocol, None);
        self.cuts.retain_mut(|cut| {
            let due = protocol.decides(side, cut.point) && cut.comes(name);
            if due {
                fate = Some(Fate { point: cut.point, everywhere: cut.everywhere });
            }
            !due
        });
        let random = self.random.as_mut().and_then(|random| random.draw(protocol.points(side), side));
        fate.or(random)
    }

    /// Whether something was swallowed.
    pub(super) fn heal(&mut self) -> bool {
        self.cuts.clear();
        self.random = None;
        self.delay = Duration::ZERO;
        self.piece = usize::MAX;
        std::mem::take(&mut self.swallows)
    }
}

/// What a proxy and its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) protocol: Protocol,
    state: Mutex<State>,
    /// Changes when all connections are cut.
    cutting: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(protocol: Protocol, upstream: SocketAddr) -> Arc<Self> {
        let state = State {
            protocol,
            upstream,
            cuts: Vec::new(),
            random: None,
            delay: Duration::ZERO,
            piece: usize::MAX,
            swallows: false,
            accepted: 0,
            bytes: 0,
            cut: 0,
            names: Vec::new(),
            open: 0,
            replies: Vec::new(),
        };
        Arc::new(Self { protocol, state: Mutex::new(state), cutting: watch::Sender::new(()) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection in; what is returned changes when all are cut.
    pub(super) fn accepted(&self) -> watch::Receiver<()> {
        let mut state = self.state();
        state.accepted += 1;
        state.open += 1;
        self.cutting.subscribe()
    }

    /// Cuts every connection that stands.
    pub(super) fn cut_all(&self) {
        let mut state = self.state();
        state.cut += state.open;
        state.open = 0;
        self.cutting.send_replace(());
    }
}
