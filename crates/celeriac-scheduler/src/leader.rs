//! What the leader does: sleeps until the next entry is due, and sends it.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{Clock, EntryName, Error, Result, TaskId, Timestamp};
use celeriac_schedule::{Advance, Change, Changes, Outgoing, Revision, ScheduleStore, Step, Stepped, StoredEntry};

use crate::control::{SchedulerHandle, pause};
use crate::dispatch::Dispatch;
use crate::due::Due;
use crate::entries::PAGE;
use crate::lease::{Lease, within};
use crate::plan::{Live, Plan};
use crate::record::State;
use crate::tick::{Tick, id};

/// So many entries are sent in one batch.
const BATCH: usize = 256;

/// So many ticks of one entry are published in one step. Those that are sent go one by one: if the first fails, no later one may be sent.
const TICKS: usize = 64;

/// So many ticks are published in one batch, if every entry of it has more than one: their messages are in memory together.
const TICKS_AT_ONCE: usize = 1_024;

/// So long may it take to learn whether tasks are finished: the ticks of other entries wait meanwhile.
const QUESTION: Duration = Duration::from_secs(1);

/// What is told of as late.
const LATE: Duration = Duration::from_secs(1);

/// The longest sleep, for timers do not go on for ever.
const LONGEST: Duration = Duration::from_secs(86_400);

pub(crate) enum End {
    /// Another leads, or will.
    Lost,
    Stopped,
}

pub(crate) struct Leader<'a> {
    store: &'a Arc<dyn ScheduleStore>,
    dispatch: &'a Arc<dyn Dispatch>,
    clock: &'a Arc<dyn Clock>,
    control: &'a SchedulerHandle,
    lease: &'a Lease,
    /// How long the store may take to answer.
    deadline: Duration,
    /// Whether the store publishes with each step.
    publishes: bool,
    plan: Plan,
    /// What is known of changes.
    since: Revision,
}

/// The ticks of one entry that are to be sent, and what that makes of it.
struct Job {
    name: EntryName,
    ticks: Vec<Tick>,
    state: State,
    /// The time that is seen to when all are sent.
    last: Timestamp,
    /// Its tick could not be sent for now.
    is_postponed: bool,
}

/// A step on its way.
struct Open {
    name: EntryName,
    /// How many ticks it publishes.
    ticks: usize,
    state: State,
    step: Step,
}

impl Job {
    /// Whether the task of the tick before has to be finished.
    fn stands_alone(&self) -> bool {
        self.ticks.first().is_some_and(|tick| tick.entry.no_overlap.is_some())
    }

    /// Notes what became of its ticks: those that were sent, or cannot be, are done with. How many those are; `None` if nothing is.
    fn settle(&mut self, now: Timestamp, results: impl IntoIterator<Item = Result<()>>) -> Option<usize> {
        let mut results = results.into_iter();
        for (done, tick) in self.ticks.iter().enumerate() {
            let unanswered = || Err(Error::unavailable("dispatch", "the dispatcher did not tell what became of it"));
            match results.next().unwrap_or_else(unanswered) {
                Ok(()) => {
                    self.state.sent = Some(tick.due);
                    self.state.sent_at = Some(now);
                    self.state.task = Some(tick.id.clone());
                    self.state.count = self.state.count.saturating_add(1);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(entry = %self.name, due = %tick.due, error = error.report(), "tick could not be sent, and will be tried again");
                    self.is_postponed = true;
                    return (done > 0).then_some(done);
                }
                Err(error) => {
                    tracing::error!(entry = %self.name, due = %tick.due, error = error.report(), "tick cannot be sent");
                }
            }
            self.state.last = Some(tick.due);
        }
        self.state.last = Some(self.last);
        Some(self.ticks.len())
    }
}

impl<'a> Leader<'a> {
    pub(crate) fn new(
        store: &'a Arc<dyn ScheduleStore>,
        dispatch: &'a Arc<dyn Dispatch>,
        clock: &'a Arc<dyn Clock>,
        control: &'a SchedulerHandle,
        lease: &'a Lease,
        deadline: Duration,
    ) -> Self {
        let publishes =
            store.capabilities().publishes && store.store_id().is_some_and(|id| dispatch.store_id() == Some(id));
        let (plan, since) = (Plan::default(), Revision::START);
        Self { store, dispatch, clock, control, lease, deadline, publishes, plan, since }
    }

    /// Reads the entries, and sends what is due, until it is told to stop or another leads.
    pub(crate) async fn work(&mut self) -> Result<End> {
        let (mut wakes, mut renewals) = (self.control.wakes(), self.lease.renewals());
        self.refresh().await?;
        tracing::info!(entries = self.plan.len(), atomic = self.publishes, "schedule read");
        // One wait for as long as it takes: it gets on while there is always something due.
        let store = Arc::clone(self.store);
        let mut changed = store.changed(self.since);
        loop {
            let now = self.clock.now();
            self.plan.look(now);
            let left = self.plan.next().map_or(LONGEST, |at| at.since(now).min(LONGEST));
            // CANCEL SAFETY: nothing is in hand; a change is told again, and what is due stays so.
            tokio::select! {
                biased;
                () = self.control.stopped() => return Ok(End::Stopped),
                outcome = &mut changed => {
                    outcome?;
                    self.refresh().await?;
                    changed = store.changed(self.since);
                }
                _ = wakes.changed() => {}
                // The clock may have been set, or the machine have slept: no timer tells.
                _ = renewals.changed() => {}
                // A timer would take a millisecond for nothing.
                () = async { if !left.is_zero() { tokio::time::sleep(left).await } } => {}
            }
            if let Some(end) = self.send_due().await? {
                return Ok(end);
            }
        }
    }

    /// Takes up what has changed.
    async fn refresh(&mut self) -> Result<()> {
        loop {
            match within(self.deadline, self.store.changes(self.since, PAGE)).await? {
                Changes::Known { changes, until, more } => {
                    let now = self.clock.now();
                    for change in changes {
                        match change {
                            Change::Put(entry) => self.plan.put(&entry, now),
                            Change::Removed(name) => self.plan.remove(&name),
                        }
                    }
                    self.since = until;
                    if !more {
                        return Ok(());
                    }
                }
                Changes::Unknown { until } => {
                    self.plan = Plan::default();
                    let mut after = None;
                    loop {
                        let page = within(self.deadline, self.store.list(after.as_ref(), PAGE)).await?;
                        let now = self.clock.now();
                        page.iter().for_each(|entry| self.plan.put(entry, now));
                        tokio::task::yield_now().await;
                        if page.len() < PAGE.get() {
                            break;
                        }
                        after = page.last().map(|entry| entry.name.clone());
                    }
                    self.since = until;
                }
            }
        }
    }

    /// Sends a batch of what is due.
    async fn send_due(&mut self) -> Result<Option<End>> {
        if self.plan.next().is_none_or(|at| at > self.clock.now()) {
            return Ok(None);
        }
        if !self.publishes {
            // A process that was stopped for long may have been replaced. What is due, and how late it is, is looked at behind that.
            // CANCEL SAFETY: nothing has been sent yet.
            tokio::select! {
                () = self.control.stopped() => return Ok(Some(End::Stopped)),
                () = self.lease.fresh() => {}
            }
        }
        let now = self.clock.now();
        let names = self.plan.due(now, BATCH);
        let jobs = names.iter().filter_map(|name| self.job(name, now, names.len())).collect::<Vec<_>>();
        let (mut asking, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(Job::stands_alone);
        let mut leads = self.send(jobs, now).await?;
        if leads && !asking.is_empty() {
            self.leave_out_overlapping(&mut asking, now).await;
            // Otherwise they stay due.
            if self.publishes || self.lease.is_fresh() {
                leads = self.send(asking, now).await?;
            }
        }
        // Whoever renews the lease is in the same task, and a store in memory never waits.
        tokio::task::yield_now().await;
        Ok((!leads).then_some(End::Lost))
    }

    /// What is to be done for an entry that is due by the plan.
    fn job(&mut self, name: &EntryName, now: Timestamp, entries: usize) -> Option<Job> {
        let live = self.plan.get(name)?;
        // What failed together is tried one by one: the first may have room, or another be at fault.
        let alone = !self.publishes || live.failures > 0;
        let limit = if alone { 1 } else { (TICKS_AT_ONCE / entries).clamp(1, TICKS) };
        let (send, last) = match live.due(now, limit) {
            Due::Now { send, last } => (send, last),
            Due::Not(next) => {
                self.plan.place(name, next);
                return None;
            }
        };
        if send.is_empty() {
            tracing::info!(entry = %name, due = %last, late = ?now.since(last), "tick skipped: it is too late");
        }
        let tick = |(number, (due, ready)): (usize, &(Timestamp, Timestamp))| {
            let late = now.since(*ready);
            if late >= LATE {
                tracing::info!(entry = %name, %due, ?late, "tick is late");
            }
            let count = live.state.count.saturating_add(number as u64);
            Tick { entry: Arc::clone(&live.entry), due: *due, late, id: id(name, live.since, *due), count }
        };
        let ticks = send.iter().enumerate().map(tick).collect();
        Some(Job { name: name.clone(), ticks, state: live.state.clone(), last, is_postponed: false })
    }

    /// Takes out the ticks of entries that do not overlap, while the last one's task is unfinished.
    async fn leave_out_overlapping(&mut self, jobs: &mut [Job], now: Timestamp) {
        let last = |live: &Live| {
            let sent = live.state.sent_at.or(live.state.sent)?;
            let at_most = live.entry.no_overlap?;
            live.state.task.clone().filter(|_| now.since(sent) <= at_most)
        };
        let mut asked: Vec<(&mut Job, TaskId)> = Vec::new();
        for job in jobs {
            // Of several at once only the first can be alone.
            job.ticks.truncate(1);
            if let Some(id) = self.plan.get(&job.name).and_then(|live| last(live)) {
                asked.push((job, id));
            }
        }
        if asked.is_empty() {
            return;
        }
        let ids: Vec<TaskId> = asked.iter().map(|(_, id)| id.clone()).collect();
        match within(QUESTION, self.dispatch.unfinished(&ids)).await {
            Ok(unfinished) => {
                for ((job, _), _) in asked.into_iter().zip(unfinished).filter(|(_, unfinished)| *unfinished) {
                    tracing::info!(entry = %job.name, due = %job.last, "tick skipped: the task of the one before is unfinished");
                    job.ticks.clear();
                }
            }
            Err(error) => {
                for (job, _) in asked {
                    job.is_postponed = error.is_retryable();
                    job.ticks.clear();
                    let message = "tick is not sent: whether the task of the one before is finished cannot be told";
                    tracing::error!(entry = %job.name, error = error.report(), again = job.is_postponed, message);
                }
            }
        }
    }

    /// Sends the ticks and takes the steps. Whether it still leads.
    async fn send(&mut self, mut jobs: Vec<Job>, now: Timestamp) -> Result<bool> {
        let mut open = Vec::new();
        if self.publishes {
            for job in jobs.iter_mut().filter(|job| !job.is_postponed) {
                let prepared: Vec<_> = job.ticks.iter().map(|tick| self.dispatch.messages(tick)).collect();
                let (messages, results): (Vec<_>, Vec<_>) = prepared
                    .into_iter()
                    .map(|messages| match messages {
                        Ok(messages) => (messages, Ok(())),
                        Err(error) => (Vec::new(), Err(error)),
                    })
                    .unzip();
                if let Some(done) = job.settle(now, results) {
                    let messages = messages.into_iter().take(done).flatten().collect();
                    open.extend(self.open(job, done, messages)?);
                }
            }
        } else {
            let ticks: Vec<Tick> = jobs.iter().flat_map(|job| job.ticks.iter().cloned()).collect();
            let mut results = if ticks.is_empty() { Vec::new() } else { self.dispatch.send(&ticks).await }.into_iter();
            for job in jobs.iter_mut().filter(|job| !job.is_postponed) {
                let results: Vec<Result<()>> = results.by_ref().take(job.ticks.len()).collect();
                if let Some(done) = job.settle(now, results) {
                    open.extend(self.open(job, done, Vec::new())?);
                }
            }
        }
        while !open.is_empty() {
            let Some(outcomes) = self.advance(open.iter().map(|open| open.step.clone()).collect()).await? else {
                return Ok(false);
            };
            let mut again = Vec::new();
            for (open, outcome) in open.into_iter().zip(outcomes) {
                match outcome {
                    Stepped::Done => self.stepped(&open.name, open.state),
                    Stepped::Stale => again.extend(self.stale(open).await?),
                    Stepped::Refused(error) => again.extend(self.refused(open, &error)?),
                }
            }
            open = again;
        }
        for job in jobs.iter().filter(|job| job.is_postponed) {
            self.postpone(&job.name);
        }
        Ok(true)
    }

    fn open(&mut self, job: &Job, ticks: usize, messages: Vec<Outgoing>) -> Result<Option<Open>> {
        let Some(live) = self.plan.get(&job.name) else { return Ok(None) };
        let step = live.step(&job.state)?.publishing(messages);
        Ok(Some(Open { name: job.name.clone(), ticks, state: job.state.clone(), step }))
    }

    /// The entry is another by now: the step to be taken instead, if there is one.
    async fn stale(&mut self, mut open: Open) -> Result<Option<Open>> {
        let Some(now) = self.reload(&open.name).await? else { return Ok(None) };
        if now.steps != open.step.steps {
            return Ok(None);
        }
        if now.revision == open.step.revision {
            tracing::error!(entry = %open.name, "the store takes no step of this entry");
            self.postpone(&open.name);
            return Ok(None);
        }
        // What was sent is written down, though the definition has changed meanwhile.
        open.step.revision = now.revision;
        Ok((!self.publishes).then_some(open))
    }

    /// Its messages were not published: the step to be taken instead, if there is one.
    fn refused(&mut self, mut open: Open, error: &Error) -> Result<Option<Open>> {
        let (entry, for_now, error) = (&open.name, error.is_retryable(), error.report());
        if for_now || open.ticks > 1 {
            tracing::warn!(%entry, error, ticks = open.ticks, "tick could not be published, and will be tried again");
            self.postpone(&open.name);
            return Ok(None);
        }
        tracing::error!(%entry, error, "tick cannot be published");
        let before = self.plan.get(&open.name).map(|live| live.state.clone()).unwrap_or_default();
        open.state = State { last: open.state.last, ..before };
        open.step.state = open.state.write()?;
        open.step.publish.clear();
        Ok(Some(open))
    }

    /// Takes steps. Nothing if another leads.
    ///
    /// # Errors
    /// Where the store publishes, also those that trying again may cure: nothing is done yet, and by then other ticks may be due, and these too late. What
    /// was sent is written down, as often as it needs.
    async fn advance(&self, steps: Vec<Step>) -> Result<Option<Vec<Stepped>>> {
        let mut failures = 0;
        loop {
            match within(self.deadline, self.store.advance(self.lease.term, steps.clone())).await {
                Ok(Advance::Stepped(outcomes)) => return Ok(Some(outcomes)),
                Ok(Advance::Fenced) => return Ok(None),
                Err(error) if error.is_retryable() && !self.publishes => {
                    tracing::warn!(error = error.report(), failures, "the store of the schedule is away");
                    // CANCEL SAFETY: nothing is in hand but the steps, which may be taken again.
                    tokio::select! {
                        () = self.control.stopped() => return Err(error),
                        () = tokio::time::sleep(pause(failures)) => failures += 1,
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn stepped(&mut self, name: &EntryName, state: State) {
        let now = self.clock.now();
        let Some(live) = self.plan.get(name) else { return };
        live.stepped(state);
        let at = match live.due(now, 1) {
            Due::Not(next) => next,
            Due::Now { .. } => Some(now),
        };
        self.plan.place(name, at);
    }

    /// Looks at the entry again in a while.
    fn postpone(&mut self, name: &EntryName) {
        let now = self.clock.now();
        let Some(live) = self.plan.get(name) else { return };
        let at = now + pause(live.failures);
        live.failures += 1;
        self.plan.place(name, Some(at));
    }

    async fn reload(&mut self, name: &EntryName) -> Result<Option<StoredEntry>> {
        let stored = within(self.deadline, self.store.get(name)).await?;
        match &stored {
            Some(stored) => self.plan.put(stored, self.clock.now()),
            None => self.plan.remove(name),
        }
        Ok(stored)
    }
}
