//! The one thread of a store that writes. Whatever has queued up while the last commit was on its way goes into the next
//! one; a lone job waits for nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use celeriac_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::checkpoint::Log;
use crate::error::{Outcome, again};
use crate::handback::HandBack;
use crate::owner::Owner;
use crate::schema::{self, Opened};
use crate::shared::Shared;
use crate::topology::Topology;
use crate::txn::{Effects, Statements, Txn};
use crate::wake::{Peers, Wake, Watching};

/// No commit is put off for more work than this: messages of ordinary size.
pub(crate) const MOST_WEIGHT: usize = 2048;

/// How often a store that consumes looks for the dead; more often where leases are short.
const TICK: Duration = Duration::from_secs(1);

/// How often expired records are swept out by the way.
const SWEEP: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(240) };

/// So many of each kind go in one sweep.
const SWEPT: i64 = 1000;

/// How long others may write between two sweeps, where one was not enough.
const PAUSE: Duration = Duration::from_millis(10);

/// What the writer is told.
pub(crate) enum Order {
    Job(Box<dyn Job>),
    /// Give everything up, and end.
    Stop(oneshot::Sender<()>),
}

/// A piece of work in a write transaction.
pub(crate) trait Job: Send {
    /// The operation that an error names.
    fn operation(&self) -> &'static str;
    /// Whether anybody waits for it still. If not, it is left out.
    fn wanted(&self) -> bool;
    /// About as much work as so many messages.
    fn weight(&self) -> usize;
    /// Whether the store must be an owner first.
    fn joins(&self) -> bool;
    /// Whether it is done without a transaction. Called outside of one.
    fn answered(&mut self, connection: &Connection, now: i64) -> Outcome<bool>;
    fn run(&mut self, txn: &mut Txn<'_>) -> Outcome;
    /// Called once, after the commit or instead of it.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

/// A job made of a closure.
pub(crate) struct Call<T, F> {
    operation: &'static str,
    weight: usize,
    joins: bool,
    work: Option<F>,
    done: Option<T>,
    reply: Option<oneshot::Sender<Result<T>>>,
}

impl<T, F: FnOnce(&mut Txn<'_>) -> Outcome<T>> Call<T, F> {
    pub(crate) fn new(operation: &'static str, work: F) -> (Self, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self { reply: Some(reply), ..Self::unanswered(operation, work) }, answer)
    }

    /// A job that is done whether anybody waits or not.
    pub(crate) fn unanswered(operation: &'static str, work: F) -> Self {
        Self { operation, weight: 1, joins: false, work: Some(work), done: None, reply: None }
    }

    pub(crate) fn weighing(mut self, weight: usize) -> Self {
        self.weight = weight;
        self
    }

    pub(crate) fn joining(mut self) -> Self {
        self.joins = true;
        self
    }
}

impl<T: Send, F: FnOnce(&mut Txn<'_>) -> Outcome<T> + Send> Job for Call<T, F> {
    fn operation(&self) -> &'static str {
        self.operation
    }

    fn wanted(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| !reply.is_closed())
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn joins(&self) -> bool {
        self.joins
    }

    fn answered(&mut self, _: &Connection, _: i64) -> Outcome<bool> {
        Ok(false)
    }

    fn run(&mut self, txn: &mut Txn<'_>) -> Outcome {
        if let Some(work) = self.work.take() {
            self.done = Some(work(txn)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { operation, done, reply, .. } = *self;
        match reply {
            Some(reply) => {
                let unfinished = || Error::unexpected(operation, "the work was not done");
                // Whoever does not wait any more does not care.
                let _ = reply.send(outcome.and_then(|()| done.ok_or_else(unfinished)));
            }
            None => {
                if let Err(error) = outcome {
                    tracing::warn!(error = %error.report(), "background work on the database failed");
                }
            }
        }
    }
}

/// The thread's state.
pub(crate) struct Writer {
    pub(crate) opened: Opened,
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) topology: Topology,
    pub(crate) owner: Option<Owner>,
    pub(crate) peers: Peers,
    /// Deliveries held here.
    pub(crate) held: i64,
    tick: Duration,
    next_tick: Instant,
    next_sweep: Instant,
    /// Whether the last sweep left something.
    sweeping: bool,
    pub(crate) log: Log,
}

type Work = Vec<(Box<dyn Job>, Result<()>)>;

impl Writer {
    pub(crate) fn new(opened: Opened, shared: Arc<Shared>, orders: mpsc::Receiver<Order>) -> Self {
        let now = Instant::now();
        let tick = TICK.min(shared.config.lease / 3);
        let peers = Peers::new(opened.place.clone());
        let log = Log::new(&opened.place.path);
        Self {
            opened,
            shared,
            orders,
            topology: Topology::new(),
            owner: None,
            peers,
            held: 0,
            tick,
            next_tick: now,
            next_sweep: now + SWEEP,
            sweeping: false,
            log,
        }
    }

    pub(crate) fn run(mut self) {
        let stopped = loop {
            match self.next() {
                Ok(Some(Order::Job(job))) => {
                    if let Some(stopped) = self.group(job) {
                        break Some(stopped);
                    }
                }
                Ok(Some(Order::Stop(stopped))) => break Some(stopped),
                Ok(None) => {}
                Err(Gone) => break None,
            }
            let now = Instant::now();
            if self.owner.is_some() && now >= self.next_tick {
                self.next_tick = now + self.tick;
                self.tick();
                self.pay();
            }
            if now >= self.next_sweep {
                self.sweep();
            }
        };
        self.shared.stop();
        self.leave();
        // ORDERING: as where a transaction begins: to end the copying and the log takes its time.
        self.shared.writing.store(true, Ordering::Relaxed);
        // The file is released before anybody is told so.
        drop(self);
        if let Some(stopped) = stopped {
            let _ = stopped.send(());
        }
    }

    /// Deletes what has expired; soon again, if that is much.
    fn sweep(&mut self) {
        let swept = self.transaction(|txn| txn.sweep(SWEPT));
        self.sweeping = matches!(swept, Ok((_, true)));
        self.next_sweep = Instant::now() + if self.sweeping { PAUSE } else { SWEEP };
        if let Err(fault) = swept {
            let error = fault.explain("sweep", &self.opened.place.path);
            tracing::warn!(error = %error.report(), "what has expired cannot be deleted; trying again in some minutes");
        }
        self.progressed();
    }

    /// The next order; `None` when it is time to tick or to sweep.
    fn next(&self) -> Result<Option<Order>, Gone> {
        let ticks = self.owner.is_some() && (self.held > 0 || self.shared.listens() || self.shared.owes());
        let until = [ticks.then_some(self.next_tick), self.sweeping.then_some(self.next_sweep)];
        let Some(until) = until.into_iter().flatten().min() else {
            return self.orders.recv().map(Some).map_err(|_| Gone);
        };
        match self.orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(order) => Ok(Some(order)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    /// Commits `first` and whatever else waits by now.
    fn group(&mut self, first: Box<dyn Job>) -> Option<oneshot::Sender<()>> {
        let mut weight = first.weight();
        let mut work: Work = self.owed().into_iter().chain([(first, Ok(()))]).collect();
        let mut stopped = None;
        while weight < MOST_WEIGHT {
            match self.orders.try_recv() {
                Ok(Order::Job(job)) => {
                    weight = weight.saturating_add(job.weight());
                    work.push((job, Ok(())));
                }
                Ok(Order::Stop(sender)) => {
                    stopped = Some(sender);
                    break;
                }
                Err(_) => break,
            }
        }
        self.commit(work);
        stopped
    }

    /// The job of handing back what could not be handed back so far.
    fn owed(&self) -> Option<(Box<dyn Job>, Result<()>)> {
        let owed = self.shared.take_owed();
        (!owed.is_empty()).then(|| {
            let job = HandBack::new("hand back", &self.shared, owed);
            (Box::new(job) as Box<dyn Job>, Ok(()))
        })
    }

    fn pay(&mut self) {
        let owed = self.owed();
        self.commit(owed.into_iter().collect());
    }

    pub(crate) fn commit(&mut self, mut work: Work) {
        work.retain(|(job, _)| job.wanted());
        let now = self.shared.now();
        let mut written: Work = Vec::with_capacity(work.len());
        for (mut job, _) in work {
            match job.answered(&self.opened.connection, now) {
                Ok(false) => written.push((job, Ok(()))),
                Ok(true) => job.finish(Ok(())),
                Err(fault) => {
                    let error = fault.explain(job.operation(), &self.opened.place.path);
                    job.finish(Err(error));
                }
            }
        }
        if written.is_empty() {
            return;
        }
        if self.owner.is_none()
            && written.iter().any(|(job, _)| job.joins())
            && let Err(fault) = self.join()
        {
            let error = fault.explain("join", &self.opened.place.path);
            for (job, _) in written.extract_if(.., |(job, _)| job.joins()) {
                job.finish(Err(again(&error)));
            }
        }
        if written.is_empty() {
            self.progressed();
            return;
        }
        match self.transact(&mut written) {
            Ok(effects) => {
                let wake = self.wake(effects);
                for (job, outcome) in written {
                    job.finish(outcome);
                }
                // Last, for those here wait no longer than they must.
                for (owner, wake) in wake {
                    self.peers.send(owner, &wake);
                }
                self.shorten_log();
            }
            Err(fault) => {
                let operation = written.first().map_or("write", |(job, _)| job.operation());
                let error = fault.explain(operation, &self.opened.place.path);
                for (job, outcome) in written {
                    job.finish(outcome.and_then(|()| Err(again(&error))));
                }
            }
        }
        self.progressed();
    }

    fn progressed(&self) {
        // ORDERING: only says that time passes with work being done; nothing else is read by it.
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs the jobs in one transaction. A job that fails alone has its error noted, and the others are committed; an error
    /// of the whole is returned, with nothing written.
    fn transact(&mut self, work: &mut Work) -> Outcome<Effects> {
        self.in_turn(|writer| {
            let path = writer.opened.place.path.clone();
            let mut txn = writer.begin()?;
            let mut effects = Effects::default();
            let alone = work.len() == 1;
            for (job, outcome) in work.iter_mut() {
                if !alone {
                    txn.connection.prepare_cached("SAVEPOINT job")?.execute([])?;
                }
                match job.run(&mut txn) {
                    Ok(()) => {
                        if !alone {
                            txn.connection.prepare_cached("RELEASE job")?.execute([])?;
                        }
                        effects.absorb(std::mem::take(&mut txn.effects));
                    }
                    // On a full disk and the like SQLite rolls back by itself, the jobs before this one too.
                    Err(fault) if alone || txn.connection.is_autocommit() => return Err(fault),
                    Err(fault) => {
                        txn.connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
                        txn.undone();
                        *outcome = Err(fault.explain(job.operation(), &path));
                    }
                }
            }
            txn.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(effects)
        })
    }

    /// A transaction of the writer's own.
    pub(crate) fn transaction<T>(&mut self, work: impl FnOnce(&mut Txn<'_>) -> Outcome<T>) -> Outcome<T> {
        let (done, effects) = self.in_turn(|writer| {
            let mut txn = writer.begin()?;
            let done = work(&mut txn)?;
            txn.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok((done, txn.effects))
        })?;
        for (owner, wake) in self.wake(effects) {
            self.peers.send(owner, &wake);
        }
        Ok(done)
    }

    /// Runs `work` while the turnstile is held, and leaves no transaction open.
    pub(crate) fn in_turn<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        schema::lock(&self.opened.turnstile)?;
        let outcome = work(self);
        if outcome.is_err() {
            if !self.opened.connection.is_autocommit()
                && let Err(error) = self.opened.connection.execute_batch("ROLLBACK")
            {
                tracing::warn!(%error, "a transaction could not be rolled back");
            }
            self.topology.forget();
            if let Some(owner) = &mut self.owner {
                owner.me.lease_until = 0;
            }
        }
        // ORDERING: as `progress`, says only that there is no need to give up.
        self.shared.writing.store(false, Ordering::Relaxed);
        self.opened.turnstile.unlock()?;
        outcome
    }

    fn begin(&mut self) -> Outcome<Txn<'_>> {
        let Self { opened, topology, owner, shared, .. } = self;
        let connection = &opened.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // ORDERING: as where it is taken back.
        shared.writing.store(true, Ordering::Relaxed);
        shared.place.check()?;
        schema::check_version(connection, &shared.place.path)?;
        topology.refresh(connection)?;
        // The turn may have been long in coming.
        let now = shared.now();
        let me = owner.as_mut().map(|owner| &mut owner.me);
        let statements = Statements::new(connection);
        Ok(Txn { connection, statements, topology, effects: Effects::default(), now, me, shared })
    }

    /// Wakes those here who wait for what was committed; tells whom else to wake.
    fn wake(&mut self, effects: Effects) -> Vec<(i64, Wake)> {
        self.held += effects.held;
        self.shared.ready(&effects.ready);
        self.shared.watches.offer(&effects.results);
        if let Some(mark) = effects.schedule {
            self.shared.news.offer(mark);
        }
        self.wake_for(&effects).unwrap_or_else(|fault| {
            let error = fault.explain("wake", &self.opened.place.path);
            tracing::debug!(error = %error.report(), "others will notice by themselves");
            Vec::new()
        })
    }

    fn wake_for(&mut self, effects: &Effects) -> Outcome<Vec<(i64, Wake)>> {
        let connection = &self.opened.connection;
        let me = self.owner.as_ref().map_or(0, |owner| owner.me.id);
        let mut wakes: Vec<(i64, Wake)> = Vec::new();
        let mut wake = |owner: i64, add: &dyn Fn(&mut Wake)| {
            if owner == me {
                return;
            }
            match wakes.iter_mut().find(|(other, _)| *other == owner) {
                Some((_, wake)) => add(wake),
                None => {
                    let mut new = Wake::default();
                    add(&mut new);
                    wakes.push((owner, new));
                }
            }
        };
        for queue in &effects.ready {
            for owner in self.topology.listeners(connection, *queue)? {
                wake(*owner, &|wake| wake.queues.push(*queue));
            }
        }
        if !effects.results.is_empty() {
            for owner in self.topology.watchers(connection, Watching::Results)? {
                wake(owner, &|wake| wake.results.extend(effects.results.iter().map(|meta| Wake::hash(&meta.task_id))));
            }
        }
        if effects.schedule.is_some() {
            for owner in self.topology.watchers(connection, Watching::Schedule)? {
                wake(owner, &|wake| wake.schedule = true);
            }
        }
        Ok(wakes)
    }

    /// Looks for the dead at the next opportunity.
    pub(crate) fn tick_soon(&mut self) {
        self.next_tick = Instant::now();
    }
}

/// Every handle of the store is gone.
struct Gone;
