//! Messages on their way out: taking them, and handing them back.

use std::sync::{Arc, mpsc};

use bytes::{Bytes, BytesMut};
use celeriac_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::Outcome;
use crate::handback::{Back, HandBack};
use crate::publish::{Place, handed_back};
use crate::shared::Shared;
use crate::txn::Txn;
use crate::writer::{Job, MOST_WEIGHT, Order};

/// No more than so many bytes of messages are taken at once, save that one always is.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// No more than so many delayed messages become ready at once.
const MOST_DUE: i64 = 4096;

/// No more than so many expired messages are dropped at once.
const MOST_EXPIRED: usize = 4096;

/// What one taking may still do.
struct Budget {
    bytes: usize,
    expired: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.expired == 0
    }
}

/// A message that was taken: a row that `held` now names as ours.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) tag: i64,
    message: i64,
    /// Its place in the list of queues it was taken from.
    pub(crate) queue: usize,
    pub(crate) deliveries: i64,
    pub(crate) handed_back: bool,
    pub(crate) published_to: Option<(String, String)>,
    /// The head, and from `body_at` on the body.
    pub(crate) bytes: Bytes,
    pub(crate) body_at: usize,
}

/// The answer to a [`Take`]. Rows that nobody picks up go back, as if never taken.
#[derive(Debug)]
pub(crate) struct Taken {
    rows: Vec<Row>,
    /// When the next delayed message is due, if nothing was ready.
    pub(crate) next_due: Option<i64>,
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

impl Taken {
    pub(crate) fn into_rows(mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let unseen = self.rows.iter().map(|row| Back::Unseen(row.tag)).collect();
        let job = HandBack::new("hand back", &self.shared, unseen);
        // Without a writer there is no store any more, and it has handed back everything.
        let _ = self.orders.send(Order::Job(Box::new(job)));
    }
}

/// The job of taking messages.
#[derive(Debug)]
pub(crate) struct Take {
    /// In the order in which they are served.
    pub(crate) queues: Vec<i64>,
    /// The queue to begin with.
    pub(crate) start: usize,
    pub(crate) limit: usize,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) reply: oneshot::Sender<Result<Taken>>,
    pub(crate) taken: Vec<Row>,
    pub(crate) next_due: Option<i64>,
}

impl Job for Take {
    fn operation(&self) -> &'static str {
        "receive"
    }

    fn wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.limit.min(MOST_WEIGHT)
    }

    fn joins(&self) -> bool {
        true
    }

    /// Nothing is written when nothing is there.
    fn answered(&mut self, connection: &Connection, now: i64) -> Outcome<bool> {
        self.shared.place.check()?;
        self.next_due = None;
        for queue in &self.queues {
            let sql = "SELECT 1 FROM ready WHERE queue = ?1 LIMIT 1";
            if connection.prepare_cached(sql)?.exists([queue])? {
                return Ok(false);
            }
            let sql = "SELECT min(due) FROM delayed WHERE queue = ?1";
            let due: Option<i64> = connection.prepare_cached(sql)?.query_row([queue], |row| row.get(0))?;
            if due.is_some_and(|due| due <= now) {
                return Ok(false);
            }
            self.next_due = [self.next_due, due].into_iter().flatten().min();
        }
        Ok(true)
    }

    fn run(&mut self, txn: &mut Txn<'_>) -> Outcome {
        txn.renew()?;
        let mut left = self.limit;
        let mut budget = Budget { bytes: MOST_BYTES, expired: MOST_EXPIRED };
        let count = self.queues.len();
        // First to each queue its share, then to each what the others left over.
        for round in 0..2 {
            for turn in 0..count {
                let at = (self.start + turn) % count;
                let Some(queue) = self.queues.get(at) else { continue };
                let share = if round == 0 { left.div_ceil(count - turn) } else { left };
                if share == 0 || budget.is_spent() {
                    break;
                }
                let rows = txn.take(*queue, at, share, &mut budget)?;
                left = left.saturating_sub(rows.len());
                self.taken.extend(rows);
            }
        }
        if self.taken.is_empty() && !self.answered(txn.connection, txn.now)? {
            // There is more, but for this time it was enough.
            self.next_due = Some(txn.now);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let this = *self;
        let taken = Taken { rows: this.taken, next_due: this.next_due, orders: this.orders, shared: this.shared };
        let answer = match outcome {
            Ok(()) => Ok(taken),
            Err(error) => {
                // Rolled back: there is nothing to hand back.
                taken.into_rows();
                Err(error)
            }
        };
        // Whoever does not wait any more drops the answer, which hands the messages back.
        let _ = this.reply.send(answer);
    }
}

/// Small messages lie side by side in memory, so many bytes at a time. Not many, for all of it stays as long as one of them does.
const BLOCK: usize = 16 * 1024;

#[derive(Default)]
struct Block(BytesMut);

impl Block {
    fn put(&mut self, head: &[u8], body: &[u8]) -> Bytes {
        let length = head.len() + body.len();
        let mut alone = BytesMut::new();
        let room = if length > BLOCK / 8 { &mut alone } else { &mut self.0 };
        if room.capacity() < length {
            *room = BytesMut::with_capacity(if length > BLOCK / 8 { length } else { BLOCK });
        }
        room.extend_from_slice(head);
        room.extend_from_slice(body);
        room.split().freeze()
    }
}

/// Rank and number of the last message that was looked at.
type Last = Option<(i64, i64)>;

/// The first and the last of each row of numbers that follow one another. One statement for such a row takes far less than one for each.
fn rows_of(mut numbers: Vec<i64>) -> Vec<(i64, i64)> {
    numbers.sort_unstable();
    let mut rows: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match rows.last_mut() {
            Some((_, last)) if number.abs_diff(*last) <= 1 => *last = number,
            _ => rows.push((number, number)),
        }
    }
    rows
}

impl Txn<'_> {
    fn take(&mut self, queue: i64, at: usize, limit: usize, budget: &mut Budget) -> Outcome<Vec<Row>> {
        self.ripen(queue)?;
        let (mut rows, last) = self.look(queue, at, limit, budget)?;
        let Some((rank, message)) = last else { return Ok(Vec::new()) };
        let numbers = || rows.iter().map(|row| row.message);
        if let (Some(first), Some(last)) = (numbers().min(), numbers().max()) {
            let Some(me) = self.me.as_deref_mut() else {
                return Err(Error::unexpected("receive", "no owner").into());
            };
            // Tags are as far apart as the messages' numbers, so that one statement can give them all.
            let distance = me.next_tag.saturating_sub(first);
            me.next_tag = last.saturating_add(distance).saturating_add(1);
            let sql = "INSERT INTO held (owner, tag, message, queue, rank, deliveries, expires)
                       SELECT ?1, message + ?2, message, queue, rank, deliveries + 1, expires FROM ready
                       WHERE queue = ?3 AND (rank, message) <= (?4, ?5)";
            let count = self.connection.prepare_cached(sql)?.execute((me.id, distance, queue, rank, message))?;
            if count != rows.len() {
                return Err(Error::unexpected("receive", "what is ready changed while it was taken").into());
            }
            rows.iter_mut().for_each(|row| row.tag = row.message.saturating_add(distance));
            self.effects.held += i64::try_from(count).unwrap_or(0);
        }
        let sql = "DELETE FROM ready WHERE queue = ?1 AND (rank, message) <= (?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((queue, rank, message))?;
        Ok(rows)
    }

    /// Moves what is due from `delayed` to `ready`.
    fn ripen(&mut self, queue: i64) -> Outcome {
        let sql = "SELECT due, message FROM delayed WHERE queue = ?1 AND due <= ?2 ORDER BY due, message LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut cursor = statement.query((queue, self.now, MOST_DUE))?;
        let mut last: Option<(i64, i64)> = None;
        while let Some(row) = cursor.next()? {
            last = Some((row.get(0)?, row.get(1)?));
        }
        drop(cursor);
        let Some((due, message)) = last else { return Ok(()) };
        let sql = "INSERT INTO ready (queue, rank, message, deliveries, expires)
                   SELECT queue, rank, message, deliveries, expires FROM delayed
                   WHERE queue = ?1 AND (due, message) <= (?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((queue, due, message))?;
        let sql = "DELETE FROM delayed WHERE queue = ?1 AND (due, message) <= (?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((queue, due, message))?;
        self.effects.ready(queue);
        Ok(())
    }

    /// Reads from the front of `ready`, and drops the messages that have expired. Tells also how far it went.
    fn look(&mut self, queue: i64, at: usize, limit: usize, budget: &mut Budget) -> Outcome<(Vec<Row>, Last)> {
        let sql = "SELECT r.rank, r.message, r.deliveries, r.expires, m.exchange, m.routing_key, m.head, m.body
                   FROM ready r LEFT JOIN message m ON m.id = r.message
                   WHERE r.queue = ?1 ORDER BY r.rank, r.message";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut cursor = statement.query([queue])?;
        let mut last = None;
        let mut rows = Vec::with_capacity(limit.min(1024));
        let mut expired = Vec::new();
        let mut block = Block::default();
        while rows.len() < limit
            && !budget.is_spent()
            && let Some(row) = cursor.next()?
        {
            let (rank, message, deliveries): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            last = Some((rank, message));
            let expires: Option<i64> = row.get(3)?;
            let alive = expires.is_none_or(|expires| expires > self.now);
            // A row without its message cannot be delivered at all.
            let body = if alive { row.get_ref(7)?.as_blob_or_null().map_err(rusqlite::Error::from)? } else { None };
            let Some(body) = body else {
                budget.expired -= 1;
                expired.push((rank, message));
                continue;
            };
            let exchange: Option<String> = row.get(4)?;
            let head = row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?;
            let taken = Row {
                tag: 0,
                queue: at,
                message,
                deliveries: deliveries + 1,
                handed_back: rank == handed_back(rank),
                published_to: exchange.zip(row.get(5)?),
                body_at: head.len(),
                bytes: block.put(head, body),
            };
            budget.bytes = budget.bytes.saturating_sub(taken.bytes.len());
            rows.push(taken);
        }
        drop(cursor);
        for (rank, message) in expired {
            let sql = "DELETE FROM ready WHERE queue = ?1 AND rank = ?2 AND message = ?3";
            self.statements.get(sql)?.execute((queue, rank, message))?;
            self.delete_message(message)?;
        }
        Ok((rows, last))
    }

    pub(crate) fn delete_message(&mut self, message: i64) -> Outcome {
        self.statements.get("DELETE FROM message WHERE id = ?1")?.execute([message])?;
        Ok(())
    }

    /// Deletes messages: those with numbers in a row at once.
    pub(crate) fn delete_messages(&mut self, messages: Vec<i64>) -> Outcome {
        for (first, last) in rows_of(messages) {
            self.statements.get("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?.execute((first, last))?;
        }
        Ok(())
    }

    /// Those of the deliveries that are held here, by their tags in ascending order.
    pub(crate) fn held(&mut self, tags: Vec<i64>) -> Outcome<Vec<(i64, Option<Place>)>> {
        let me = self.my_id();
        let mut held = Vec::with_capacity(tags.len());
        let sql = "SELECT tag, message, queue, rank, deliveries, expires FROM held
                   WHERE owner = ?1 AND tag BETWEEN ?2 AND ?3 ORDER BY tag";
        for (first, last) in rows_of(tags) {
            let mut rows = self.statements.get(sql)?.query((me, first, last))?;
            while let Some(row) = rows.next()? {
                let place = Place {
                    message: row.get(1)?,
                    queue: row.get(2)?,
                    rank: row.get(3)?,
                    deliveries: row.get(4)?,
                    expires: row.get(5)?,
                };
                held.push((row.get(0)?, Some(place)));
            }
        }
        Ok(held)
    }

    /// Ends the holding of deliveries that are held here.
    pub(crate) fn release_all(&mut self, tags: Vec<i64>) -> Outcome {
        let me = self.my_id();
        let sql = "DELETE FROM held WHERE owner = ?1 AND tag BETWEEN ?2 AND ?3";
        for (first, last) in rows_of(tags) {
            let count = self.statements.get(sql)?.execute((me, first, last))?;
            self.effects.held -= i64::try_from(count).unwrap_or(0);
        }
        Ok(())
    }

    /// Ends the holding of a delivery; `None` if it is not held here any more.
    pub(crate) fn release(&mut self, tag: i64) -> Outcome<Option<Place>> {
        let place = self.held(vec![tag])?.pop().and_then(|(_, place)| place);
        if place.is_some() {
            self.release_all(vec![tag])?;
        }
        Ok(place)
    }

    /// Lets a released message wait again; drops it if its queue is gone.
    pub(crate) fn put_back(&mut self, place: Place, due: i64) -> Outcome {
        match self.topology.by_id(self.connection, place.queue)? {
            Some(_) => self.put(place, due),
            None => self.delete_message(place.message),
        }
    }

    /// Hands a delivery back: before the others of its priority, and counted.
    pub(crate) fn requeue(&mut self, tag: i64) -> Outcome {
        match self.release(tag)? {
            Some(place) => self.put_back(Place { rank: handed_back(place.rank), ..place }, self.now),
            None => Ok(()),
        }
    }

    /// Undoes a taking that nobody has seen.
    pub(crate) fn untake(&mut self, tag: i64) -> Outcome {
        match self.release(tag)? {
            Some(place) => self.put_back(Place { deliveries: place.deliveries - 1, ..place }, self.now),
            None => Ok(()),
        }
    }

    /// Hands back all that `owner` holds, and tells how many messages that was.
    pub(crate) fn requeue_all(&mut self, owner: i64) -> Outcome<usize> {
        let mut statement = self.connection.prepare_cached("SELECT DISTINCT queue FROM held WHERE owner = ?1")?;
        let queues = statement.query_map([owner], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        for queue in &queues {
            if self.topology.by_id(self.connection, *queue)?.is_some() {
                let sql = "INSERT INTO ready (queue, rank, message, deliveries, expires)
                           SELECT queue, rank & ~1, message, deliveries, expires FROM held WHERE owner = ?1 AND queue = ?2";
                self.connection.prepare_cached(sql)?.execute((owner, queue))?;
                self.effects.ready(*queue);
            } else {
                let sql = "DELETE FROM message WHERE id IN (SELECT message FROM held WHERE owner = ?1 AND queue = ?2)";
                self.connection.prepare_cached(sql)?.execute((owner, queue))?;
            }
        }
        let count = self.connection.prepare_cached("DELETE FROM held WHERE owner = ?1")?.execute([owner])?;
        if owner == self.my_id() {
            self.effects.held -= i64::try_from(count).unwrap_or(0);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_one_another_make_a_row() {
        assert_eq!(rows_of(vec![]), []);
        assert_eq!(
            rows_of(vec![5, 3, 4, 4, 9, i64::MAX, i64::MIN, 8]),
            [(i64::MIN, i64::MIN), (3, 5), (8, 9), (i64::MAX, i64::MAX)]
        );
    }

    #[test]
    fn messages_of_every_size_are_whole_side_by_side() {
        let mut block = Block::default();
        let put: Vec<(usize, usize, Bytes)> =
            [(0, 0), (1, 10), (100, 2000), (100, 20_000), (2048, 0), (2048, 1), (7, 3)]
                .repeat(20)
                .into_iter()
                .map(|(head, body)| (head, body, block.put(&vec![1; head], &vec![2; body])))
                .collect();
        for (head, body, bytes) in put {
            assert_eq!(bytes, [vec![1; head], vec![2; body]].concat());
        }
    }
}
