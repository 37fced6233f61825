//! An app and a worker behind a proxy, and tasks that are sent while the network is bad.

use celeriac::prelude::*;
use celeriac_testkit::proxy::FaultProxy;
use tokio::task::JoinSet;

use crate::runs::{PATIENCE, Runs, Worker, twice};
use crate::scenario::Site;
use crate::until;

/// An app with a worker behind a proxy.
#[derive(Debug)]
pub struct Place<S> {
    /// Between the app and the server.
    pub proxy: FaultProxy,
    site: S,
    runs: Runs,
    app: App,
    worker: Worker,
}

impl<S: Site> Place<S> {
    /// Opens an app at `site`, which is reached by `proxy`, and sees that it works.
    ///
    /// # Panics
    /// If it does not.
    pub async fn new(proxy: FaultProxy, site: S) -> Self {
        let runs = Runs::default();
        let app = site.app(&runs).publish_timeout(PATIENCE).build().await.expect("an app opens");
        let worker = Worker::start(&app, 4);
        let first = app.send(twice::s(0)).await.expect("a task is sent");
        assert_eq!(first.get_timeout(PATIENCE).await.expect("it has a result"), 0);
        Self { proxy, site, runs, app, worker }
    }

    /// Sends tasks while the network is bad. Their results have to come once it is good.
    #[must_use]
    pub fn send_meanwhile(&self) -> JoinSet<(u64, Result<u64, String>)> {
        let mut waiting = JoinSet::new();
        for n in 1..=20 {
            let app = self.app.clone();
            waiting.spawn(async move {
                let outcome = match app.send(twice::s(n)).await {
                    Ok(result) => result.get_timeout(PATIENCE).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.report()),
                };
                (n, outcome)
            });
        }
        waiting
    }

    /// Waits until all is done, and nothing is left.
    ///
    /// # Panics
    /// If a task was not sent, or has not the result that it should.
    pub async fn all_is_done(self, mut waiting: JoinSet<(u64, Result<u64, String>)>) {
        while let Some(ended) = waiting.join_next().await {
            let (n, outcome) = ended.expect("sending ends well");
            assert_eq!(outcome, Ok(n * 2));
        }
        until("nothing is left", async || self.site.undone().await.is_empty()).await;
        self.worker.stop().await;
        self.app.close().await.expect("the app closes");
        assert_eq!(self.site.undone().await, Vec::<String>::new());
        assert_eq!(self.runs.done(), 21);
    }
}
