//! Publishing: plain messages straight to their lists, all others by the script that settles.

use std::collections::BTreeMap;

use celeriac_broker::Outgoing;
use celeriac_core::Result;
use deadpool_redis::redis::cmd;

use crate::args::Args;
use crate::entries::Entries;
use crate::script;
use crate::store::Inner;
use crate::topology;

/// The most messages, and about the most bytes, that go by one command: a server serves nobody else meanwhile.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

const PUBLISH: &str = "publish";

pub(crate) async fn publish(inner: &Inner, batch: Vec<Outgoing>) -> Result<()> {
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

/// One list by the plain command, several by a script: a transaction would push to the others what one of them refuses.
async fn publish_plain(inner: &Inner, batch: &[Outgoing]) -> Result<()> {
    let shared = &inner.shared;
    let mut batch = batch.iter().peekable();
    while batch.peek().is_some() {
        // The messages of each list, in order; as many as go by one call.
        let mut lists: BTreeMap<(&str, u8), Args> = BTreeMap::new();
        let (mut count, mut bytes) = (0, 0);
        while count < MOST
            && bytes < MOST_BYTES
            && let Some(outgoing) = batch.next()
        {
            let step = shared.keys.step(outgoing.message.priority().0);
            let list = lists.entry((outgoing.destination.routing_key.as_str(), step)).or_default();
            let before = list.bytes();
            list.push_with(|out| shared.write_envelope(PUBLISH, outgoing, out))?;
            (count, bytes) = (count + 1, bytes + list.bytes() - before);
        }
        let keys: Vec<String> = lists.keys().map(|(queue, step)| shared.keys.list(queue, *step)).collect();
        let one = lists.len() == 1;
        let mut command = if one { cmd("LPUSH") } else { script::PUBLISH.call() };
        if !one {
            command.arg(keys.len());
        }
        command.arg(keys);
        for messages in lists.values() {
            if !one {
                command.arg(messages.len());
            }
            messages.write(&mut command);
        }
        inner.link.query(PUBLISH, &command).await?;
    }
    Ok(())
}
