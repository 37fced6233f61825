//! Waiting for lists where the server does not tell of changes: in RESP2, behind old proxies, or where access control forbids
//! `CLIENT TRACKING`.
//!
//! Polling would cost the server something for every list and every consumer, all the time, and messages would come late. So each
//! list that somebody waits for has a connection of its own, with `BLMOVE list list RIGHT RIGHT`: the server answers when there is
//! something in the list, and moves it to where it was. Nothing is taken, and nothing can be lost, whoever gives up when. It only
//! waits while somebody has looked at the list and has not been told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_core::Result;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::Notify;

use super::Shared;
use crate::backoff::Backoff;
use crate::endpoint::Purpose;

/// After so many seconds of waiting it is seen whether anybody still wants to know.
const WAIT_SECONDS: u32 = 5;

/// How long a connection is kept when nobody waits for its list.
const IDLE: Duration = Duration::from_secs(30);

/// What was in the list when somebody looked is not news for so long: who looked takes it, or cannot.
const NOT_NEWS: Duration = Duration::from_millis(100);

/// How long to leave alone what is no list.
const REFUSED: Duration = Duration::from_secs(1);

/// The tasks that wait, each for one list.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<Vec<u8>, Arc<Watcher>>>);

struct Watcher {
    key: Vec<u8>,
    /// Rings when somebody has looked.
    wanted: Notify,
    /// Whether the list had something then.
    full: AtomicBool,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Watcher>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) async fn look_at_each(
        self: &Arc<Self>,
        operation: &'static str,
        keys: &[Vec<u8>],
        bell: &Arc<Notify>,
    ) -> Result<u64> {
        let mut exist = Pipeline::with_capacity(keys.len());
        for key in keys {
            exist.cmd("EXISTS").arg(key);
        }
        let found = self.link.pipeline(operation, &exist).await?;
        {
            let mut state = self.lock();
            keys.iter().for_each(|key| state.register(key, bell));
        }
        // Closed in between, it would never ring.
        self.check_open(operation)?;
        let mut count = 0;
        for (key, exists) in keys.iter().zip(found) {
            let full = u64::from_redis_value(exists).is_ok_and(|exists| exists > 0);
            count += u64::from(full);
            self.watch(key, full);
        }
        Ok(count)
    }

    /// Waits for something in the list `key`, beginning now.
    fn watch(self: &Arc<Self>, key: &[u8], full: bool) {
        let (watcher, new) = {
            let mut watchers = self.watchers.lock();
            match watchers.get(key) {
                Some(watcher) => (Arc::clone(watcher), false),
                None => {
                    let watcher = Watcher { key: key.to_vec(), wanted: Notify::new(), full: AtomicBool::default() };
                    let watcher = Arc::new(watcher);
                    watchers.insert(key.to_vec(), Arc::clone(&watcher));
                    (watcher, true)
                }
            }
        };
        // ORDERING: only a hint.
        watcher.full.store(full, Ordering::Relaxed);
        watcher.wanted.notify_one();
        if new {
            // A runtime that is going down drops it at once, and that takes the lock.
            tokio::spawn(Watching { shared: Arc::clone(self), watcher }.run());
        }
    }
}

struct Watching {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
}

impl Watching {
    async fn run(self) {
        let closed = self.shared.closed.clone();
        // CANCEL SAFETY: the list stays as it is, wherever the waiting ends.
        tokio::select! {
            () = closed.cancelled() => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&self) {
        let (shared, key) = (&self.shared, self.watcher.key.as_slice());
        let mut connection = None;
        let mut backoff = Backoff::default();
        loop {
            if !shared.awaited(key) {
                // CANCEL SAFETY: both only wait.
                tokio::select! {
                    () = self.watcher.wanted.notified() => {}
                    () = tokio::time::sleep(IDLE) => {
                        let mut watchers = shared.watchers.lock();
                        // Somebody who comes now finds this one, or none.
                        if !shared.awaited(key) {
                            watchers.remove(key);
                            return;
                        }
                    }
                }
                continue;
            }
            self.let_it_be_taken().await;
            match self.wait(&mut connection).await {
                Waited::Nothing => {}
                Waited::Something => {
                    backoff = Backoff::default();
                    shared.ring(key);
                }
                // Whoever looks meets the reason.
                Waited::Refused => {
                    shared.ring(key);
                    tokio::time::sleep(REFUSED).await;
                }
                Waited::Broken => {
                    connection = None;
                    shared.ring(key);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Waits while what somebody saw in the list may be taken, until another look finds the list empty.
    async fn let_it_be_taken(&self) {
        let pause = tokio::time::sleep(NOT_NEWS);
        tokio::pin!(pause);
        // ORDERING: see where it is stored.
        while self.watcher.full.load(Ordering::Relaxed) {
            // CANCEL SAFETY: both only wait.
            tokio::select! {
                () = &mut pause => self.watcher.full.store(false, Ordering::Relaxed),
                () = self.watcher.wanted.notified() => {}
            }
        }
    }

    async fn wait(&self, connection: &mut Option<MultiplexedConnection>) -> Waited {
        let live = match connection {
            Some(live) => live,
            None => {
                let purpose = Purpose { patient: true, ..Purpose::default() };
                match self.shared.endpoint.connect("receive", &purpose).await {
                    Ok(made) => connection.insert(made),
                    Err(error) => {
                        tracing::debug!(error = %error.report(), "a list cannot be waited for");
                        return Waited::Broken;
                    }
                }
            }
        };
        match live.send_packed_command(&wait_for(&self.watcher.key)).await {
            Ok(Value::Nil) => Waited::Nothing,
            Ok(Value::ServerError(error)) if matches!(error.code(), "READONLY" | "UNBLOCKED" | "LOADING" | "BUSY") => {
                Waited::Broken
            }
            Ok(Value::ServerError(_)) => Waited::Refused,
            Ok(_) => Waited::Something,
            Err(_) => Waited::Broken,
        }
    }
}

impl Drop for Watching {
    /// When the runtime ends, whoever waits looks again, and begins anew on another.
    fn drop(&mut self) {
        let (mine, key) = (&self.watcher, &self.watcher.key);
        let mut watchers = self.shared.watchers.lock();
        if watchers.get(key).is_some_and(|watcher| Arc::ptr_eq(watcher, mine)) {
            watchers.remove(key);
            drop(watchers);
            self.shared.ring(key);
        }
    }
}

enum Waited {
    Nothing,
    Something,
    Refused,
    Broken,
}

fn wait_for(key: &[u8]) -> Cmd {
    let mut command = redis::cmd("BLMOVE");
    command.arg(key).arg(key).arg("RIGHT").arg("RIGHT").arg(WAIT_SECONDS);
    command
}
