//! Publishing: plain messages straight to their lists, all others by the script that settles.

use celeriac_broker::Outgoing;
use celeriac_core::Result;
use deadpool_redis::redis::{Cmd, Pipeline, cmd};

use crate::settle::Entries;
use crate::store::Inner;
use crate::topology;

/// The most messages, and about the most bytes, that go by one command: a server serves nobody else meanwhile.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

pub(crate) async fn publish(inner: &Inner, batch: Vec<Outgoing>) -> Result<()> {
    const PUBLISH: &str = "publish";
    let plain = |one: &Outgoing| one.destination.exchange.is_empty() && one.deliver_at.is_none();
    if batch.iter().all(plain) {
        return publish_plain(inner, &batch).await;
    }
    let exchanges = topology::exchanges(&inner.shared, &inner.link, PUBLISH, topology::named(&batch)).await?;
    // All of it is checked before any of it is sent.
    let pushes = batch.iter().map(|one| inner.shared.pushes(PUBLISH, one, &exchanges)).collect::<Result<Vec<_>>>()?;
    let mut entries = Entries::default();
    for push in pushes {
        if entries.len() >= MOST || entries.bytes() >= MOST_BYTES {
            std::mem::take(&mut entries).carry_out(&inner.shared, &inner.link, PUBLISH).await?.complete()?;
        }
        entries.publish(&push);
    }
    entries.carry_out(&inner.shared, &inner.link, PUBLISH).await?.complete()
}

/// The messages of one list, in order: a command in the making.
struct Run {
    /// The place in the batch of the first.
    first: usize,
    step: u8,
    push: Cmd,
}

async fn publish_plain(inner: &Inner, batch: &[Outgoing]) -> Result<()> {
    const PUBLISH: &str = "publish";
    let shared = &inner.shared;
    let (mut start, mut envelope) = (0, Vec::new());
    while start < batch.len() {
        // As much as makes a transaction of a moderate size.
        let (mut runs, mut bytes, mut end): (Vec<Run>, usize, usize) = (Vec::new(), 0, start);
        for (at, outgoing) in batch.iter().enumerate().skip(start) {
            if at - start >= MOST || bytes >= MOST_BYTES {
                break;
            }
            let step = shared.keys.step(outgoing.message.priority().0);
            let key = &outgoing.destination.routing_key;
            let same = |run: &Run| {
                run.step == step && batch.get(run.first).is_some_and(|first| first.destination.routing_key == *key)
            };
            let place = runs.iter().position(same).unwrap_or_else(|| {
                let mut push = cmd("LPUSH");
                push.arg(shared.keys.list(key, step));
                runs.push(Run { first: at, step, push });
                runs.len() - 1
            });
            envelope.clear();
            shared.write_envelope(PUBLISH, outgoing, &mut envelope)?;
            bytes += envelope.len();
            if let Some(run) = runs.get_mut(place) {
                run.push.arg(&envelope);
            }
            end = at + 1;
        }
        if let [run] = runs.as_slice() {
            inner.link.query(PUBLISH, &run.push).await?;
        } else {
            // All or nothing, and in one go.
            let mut pipeline = Pipeline::new();
            pipeline.atomic();
            for run in runs {
                pipeline.add_command(run.push);
            }
            inner.link.pipeline(PUBLISH, &pipeline).await?;
        }
        start = end;
    }
    Ok(())
}
