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
    BeforeReply,
    InsideReply,
    AfterReply,
}

const POINTS: [Point; 5] = [Point::Before, Point::Inside, Point::BeforeReply, Point::InsideReply, Point::AfterReply];

/// An order to cut a connection at an exact point. Commands are counted from the order on; the first is 1.
///
/// Whatever was passed on to the server before the cut, the server does.
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

    /// Counts the commands of that name only.
    pub fn of(mut self, command: &str) -> Self {
        self.name = Some(command.to_ascii_uppercase());
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
        if self.name.as_deref().is_some_and(|name| name != command) {
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

#[derive(Debug)]
pub(super) struct State {
    pub(super) upstream: SocketAddr,
    pub(super) cuts: Vec<Cut>,
    pub(super) random: Option<(fastrand::Rng, u32)>,
    pub(super) delay: Duration,
    pub(super) piece: usize,
    pub(super) swallows: bool,

    pub(super) accepted: u64,
    pub(super) bytes: u64,
    pub(super) cut: u64,
    pub(super) names: Vec<String>,
    pub(super) open: u64,
}

impl State {
    /// Numbers a command, and says where in its life the connection is to be cut, if it is.
    pub(super) fn command(&mut self, name: &str) -> Option<Fate> {
        self.names.push(name.to_owned());
        let mut fate = None;
        self.cuts.retain_mut(|cut| {
            let due = cut.comes(name);
            if due {
                fate = Some(Fate { point: cut.point, everywhere: cut.everywhere });
            }
            !due
        });
        let random = self.random.as_mut().and_then(|(random, per_mille)| {
            let due = random.u32(0..1000) < *per_mille;
            // Drawn in any case, so that the draws do not depend on what was ordered otherwise.
            let point = POINTS[random.usize(0..POINTS.len())];
            due.then_some(Fate { point, everywhere: false })
        });
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
