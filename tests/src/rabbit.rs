//! Apps that share a queue on RabbitMQ.

use celeriac::AppBuilder;
use celeriac_testkit::server::Vhost;

use crate::runs::{PATIENCE, Runs, builder};
use crate::scenario::Site;

/// A queue of a virtual host; results go by `rpc://`.
#[derive(Debug)]
pub struct Queue<'a> {
    vhost: Vhost<'a>,
    name: String,
    url: String,
}

impl<'a> Queue<'a> {
    /// For apps that reach the virtual host by `url`, and send as long as it takes.
    #[must_use]
    pub fn new(vhost: &Vhost<'a>, url: String, name: &str) -> Self {
        Self { vhost: vhost.clone(), name: name.to_owned(), url }
    }
}

impl Site for Queue<'_> {
    fn app(&self, runs: &Runs) -> AppBuilder {
        builder(&self.url, runs).default_queue(self.name.clone()).publish_timeout(PATIENCE)
    }

    async fn undone(&self) -> Vec<String> {
        let queue = self.vhost.queue_info(&self.name).await;
        let undone = queue.filter(|queue| queue.ready + queue.unacked > 0);
        undone
            .map(|queue| format!("`{}`: {} ready, {} unacked", self.name, queue.ready, queue.unacked))
            .into_iter()
            .collect()
    }
}
