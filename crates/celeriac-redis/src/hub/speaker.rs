//! How the hub speaks to its server, in either version of the protocol.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{Error, Result};
use deadpool_redis::redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use deadpool_redis::redis::{self, PushInfo, PushKind, RedisResult, Value};
use tokio_util::sync::CancellationToken;

use super::{Kind, Session, Shared};
use crate::endpoint::Purpose;
use crate::error::{Fault, answer, fault};

const OPERATION: &str = "subscribe";

/// The commands of the hub. In RESP3 what comes goes straight from the driver to the ears.
#[derive(Clone)]
pub(super) enum Speaker {
    Resp3(MultiplexedConnection),
    /// The driver has no limit of time for this kind.
    Resp2(PubSubSink, Duration),
}

/// A connection of the hub.
pub(super) struct Connected {
    pub(super) speaker: Speaker,
    pub(super) lost: CancellationToken,
    /// In RESP3, for looking at keys.
    pub(super) session: Option<Session>,
    /// In RESP2, what is published.
    pub(super) messages: Option<PubSubStream>,
}

impl Connected {
    pub(super) async fn new(shared: &Arc<Shared>) -> Result<Self> {
        let lost = CancellationToken::new();
        if !shared.endpoint.speaks_resp3() {
            let (sink, messages) = shared.endpoint.listen(OPERATION).await?.split();
            let speaker = Speaker::Resp2(sink, shared.endpoint.config().response_timeout);
            return Ok(Self { speaker, lost, session: None, messages: Some(messages) });
        }
        let (hub, noticed) = (Arc::downgrade(shared), lost.clone());
        let pushes = move |push: PushInfo| match push.kind {
            PushKind::Disconnection => noticed.cancel(),
            // Another connection has taken over already, or will.
            _ if noticed.is_cancelled() => {}
            _ => {
                if let Some(hub) = hub.upgrade() {
                    hub.pushed(push);
                }
            }
        };
        let purpose = Purpose { pushes: Some(Arc::new(pushes)), ..Purpose::default() };
        let mut connection = shared.endpoint.connect(OPERATION, &purpose).await?;
        let mut track = redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON");
        let tracking = match connection.send_packed_command(&track).await {
            Ok(Value::ServerError(error)) => {
                match answer(OPERATION, error.code(), error.details().unwrap_or_default(), Some(&track)) {
                    Fault::Refused(error) => {
                        let error = error.report();
                        tracing::warn!(%error, "Redis does not tell of changes; each list is watched by a connection of its own");
                        false
                    }
                    fault => return Err(fault.into_error()),
                }
            }
            Ok(_) => true,
            Err(error) => return Err(fault(OPERATION, &error, Some(&track)).into_error()),
        };
        let session = Session { connection: connection.clone(), tracking, lost: lost.clone() };
        Ok(Self { speaker: Speaker::Resp3(connection), lost, session: Some(session), messages: None })
    }
}

impl Speaker {
    /// Subscribes to all of `names`, or to none.
    pub(super) async fn subscribe(&mut self, kind: Kind, names: &[Vec<u8>]) -> Result<(), Fault> {
        let asked = match (self, kind) {
            (Self::Resp3(connection), Kind::Channel) => connection.subscribe(names).await,
            (Self::Resp3(connection), Kind::Pattern) => connection.psubscribe(names).await,
            (Self::Resp2(sink, limit), Kind::Channel) => in_time(*limit, sink.subscribe(names)).await?,
            (Self::Resp2(sink, limit), Kind::Pattern) => in_time(*limit, sink.psubscribe(names)).await?,
        };
        asked.map_err(|error| fault(OPERATION, &error, None))
    }

    pub(super) async fn unsubscribe(&mut self, kind: Kind, names: &[Vec<u8>]) -> Result<(), Fault> {
        let asked = match (self, kind) {
            (Self::Resp3(connection), Kind::Channel) => connection.unsubscribe(names).await,
            (Self::Resp3(connection), Kind::Pattern) => connection.punsubscribe(names).await,
            (Self::Resp2(sink, limit), Kind::Channel) => in_time(*limit, sink.unsubscribe(names)).await?,
            (Self::Resp2(sink, limit), Kind::Pattern) => in_time(*limit, sink.punsubscribe(names)).await?,
        };
        asked.map_err(|error| fault(OPERATION, &error, None))
    }

    /// Whether the connection still stands.
    pub(super) async fn ping(&mut self) -> Result<(), Fault> {
        let asked = match self {
            Self::Resp3(connection) => connection.send_packed_command(&redis::cmd("PING")).await,
            Self::Resp2(sink, limit) => in_time(*limit, sink.ping::<Value>()).await?,
        };
        asked.map(drop).map_err(|error| fault(OPERATION, &error, None))
    }
}

async fn in_time<T>(limit: Duration, asked: impl Future<Output = RedisResult<T>>) -> Result<RedisResult<T>, Fault> {
    let late = |_| Fault::Broken(Error::unavailable(OPERATION, "Redis has not answered within `response_timeout`"));
    tokio::time::timeout(limit, asked).await.map_err(late)
}

impl Shared {
    /// What the server sends on its own, in RESP3.
    fn pushed(&self, PushInfo { kind, mut data }: PushInfo) {
        match (kind, data.pop()) {
            (PushKind::Message, Some(Value::BulkString(payload))) => {
                if let Some(Value::BulkString(channel)) = data.pop() {
                    self.heard(Kind::Channel, &channel, &channel, payload);
                }
            }
            (PushKind::PMessage, Some(Value::BulkString(payload))) => {
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(pattern))) = (data.pop(), data.pop()) {
                    self.heard(Kind::Pattern, &pattern, &channel, payload);
                }
            }
            (PushKind::Invalidate, Some(Value::Array(keys))) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.ring(&key);
                    }
                }
            }
            // Everything was deleted, or the server has lost count.
            (PushKind::Invalidate, _) => self.ring_all(),
            _ => {}
        }
    }
}
