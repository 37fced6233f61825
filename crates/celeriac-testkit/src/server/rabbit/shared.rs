//! Servers that the tests of a run share.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use rustix::process::{Pid, getppid};
use tokio::sync::Mutex;

use super::node::Rabbit;
use super::{RabbitBuilder, RabbitServer};
use crate::server::node::{Folder, Node};
use crate::server::port::Port;
use crate::server::tls::Certificates;

/// What cargo-nextest, which runs each test in a process of its own, calls the run.
const RUN: &str = "NEXTEST_RUN_ID";

/// Written when the server is up: its ports.
const PORTS: &str = "ports";

impl RabbitBuilder {
    /// A server that all tests of this process share that ask for one like it; and under cargo-nextest all tests of the run, in whichever
    /// process. It ends with them. It is not to be stopped, killed, halted or set otherwise.
    ///
    /// # Panics
    /// As [`RabbitBuilder::start`].
    pub async fn shared(self) -> &'static RabbitServer {
        static SERVERS: Mutex<Option<HashMap<RabbitBuilder, &'static RabbitServer>>> = Mutex::const_new(None);
        let mut servers = SERVERS.lock().await;
        let servers = servers.get_or_insert_default();
        if let Some(server) = servers.get(&self) {
            return server;
        }
        let run = std::env::var(RUN).ok().zip(getppid());
        let server = match run {
            Some((run, runner)) => self.clone().of_run(&run, runner).await,
            None => self.clone().start().await,
        };
        // Never dropped, it is ended with this process, or with the run.
        let server: &'static RabbitServer = Box::leak(Box::new(server));
        servers.insert(self, server);
        server
    }

    /// The server of this run, which the first who needs it starts.
    async fn of_run(self, run: &str, runner: Pid) -> RabbitServer {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let folder = std::env::temp_dir().join(format!("celeriac-rabbit-{run}-{:x}", hasher.finish()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let lock = File::create(folder.join("lock")).expect("a file can be made");
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
        let _lock = lock.expect("waiting does not fail").expect("a file can be locked");
        if let Some(ports) = ports(&folder) {
            let rabbit = Rabbit::installed(&folder).expect("a server that is up was installed");
            let certificates = self.tls.map(|_| Certificates::in_folder(&folder));
            let node = Node::of_another(rabbit, Folder::OfAll(folder, runner), ports);
            return RabbitServer { node, certificates, external: self.external };
        }
        let server = self.start_in(Folder::OfAll(folder.clone(), runner)).await;
        let ports: Vec<String> = server.node.ports().iter().map(|port| port.number().to_string()).collect();
        fs::write(folder.join(PORTS), ports.join(" ")).expect("a file can be written");
        server
    }
}

fn ports(folder: &Path) -> Option<Vec<Port>> {
    let ports = fs::read_to_string(folder.join(PORTS)).ok()?;
    Some(ports.split(' ').map(|port| Port::of(port.parse().expect("a port's number"))).collect())
}
