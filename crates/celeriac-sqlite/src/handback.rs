//! Giving up what this store has: deliveries and consumers. It is done whether anybody waits or not, and done again where it
//! failed: nobody else would, as long as this process lives.

use std::sync::Arc;

use celeriac_core::Result;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::Outcome;
use crate::shared::Shared;
use crate::txn::Txn;
use crate::writer::Job;

/// What is given up.
#[derive(Debug, Clone)]
pub(crate) enum Back {
    /// A delivery, counted.
    Delivery(i64),
    /// A delivery that nobody has seen.
    Unseen(i64),
    /// A row of the table `consumer`.
    Consumer(i64),
    Everything,
}

/// The job of giving up.
pub(crate) struct HandBack {
    operation: &'static str,
    what: Vec<Back>,
    shared: Arc<Shared>,
    reply: Option<oneshot::Sender<Result<()>>>,
}

impl HandBack {
    pub(crate) fn new(operation: &'static str, shared: &Arc<Shared>, what: Vec<Back>) -> Self {
        Self { operation, what, shared: Arc::clone(shared), reply: None }
    }

    pub(crate) fn answered(mut self) -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, answer) = oneshot::channel();
        self.reply = Some(reply);
        (self, answer)
    }
}

impl Job for HandBack {
    fn operation(&self) -> &'static str {
        self.operation
    }

    fn wanted(&self) -> bool {
        true
    }

    fn weight(&self) -> usize {
        self.what.len()
    }

    fn joins(&self) -> bool {
        false
    }

    fn answered(&mut self, _: &Connection, _: i64) -> Outcome<bool> {
        Ok(false)
    }

    fn run(&mut self, txn: &mut Txn<'_>) -> Outcome {
        self.what.iter().try_for_each(|back| match back {
            Back::Delivery(tag) => txn.requeue(*tag),
            Back::Unseen(tag) => txn.untake(*tag),
            Back::Consumer(row) => txn.drop_consumers("id", *row),
            Back::Everything => {
                let me = txn.my_id();
                txn.requeue_all(me)?;
                txn.drop_consumers("owner", me)
            }
        })
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { operation, what, shared, reply } = *self;
        if let Err(error) = &outcome {
            if reply.is_none() {
                tracing::warn!(operation, error = %error.report(), "could not be handed back yet; trying again");
            }
            shared.owe(what);
        }
        if let Some(reply) = reply {
            // Whoever does not wait any more does not care.
            let _ = reply.send(outcome);
        }
    }
}
