//! `RabbitServer`: a RabbitMQ server that belongs to one test, or to all of a file.

mod erlang;
mod node;
mod shared;
mod vhost;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::node::{Folder, Node};
use super::port::Port;
use super::tls::{Certificates, ClientCertificate};
use crate::unique;
use erlang::{Expression, binary};
use node::Rabbit;
pub use vhost::{Permissions, QueueInfo, Vhost};

/// The user whom the clients' certificates name.
const CLIENT: &str = "client";

/// A RabbitMQ server in a process, a folder and on ports of its own, of this machine only. It has the user `guest` and the virtual host `/`.
///
/// When this is dropped, or the test's process dies, the server is killed; when it is dropped, its folder is removed.
///
/// # Examples
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use celeriac_testkit::server::RabbitServer;
///
/// let server = RabbitServer::builder().config("heartbeat = 5").start().await;
/// println!("{}", server.url()); // amqp://guest:guest@127.0.0.1:20481/%2F
/// server.kill();
/// server.restart().await; // same port, same data
/// # }
/// ```
/// A start takes seconds. Tests that do nothing to the server as a whole share one, each in a virtual host of its own:
/// ```no_run
/// # async fn f() {
/// use celeriac_testkit::server::RabbitServer;
///
/// let vhost = RabbitServer::shared().await.vhost().await;
/// println!("{}", vhost.url());
/// # }
/// ```
#[derive(Debug)]
pub struct RabbitServer {
    node: Node<Rabbit>,
    certificates: Option<Certificates>,
    external: bool,
}

/// How a [`RabbitServer`] is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct RabbitBuilder {
    config: String,
    external: bool,
    tls: Option<ClientCertificate>,
}

impl RabbitBuilder {
    /// Adds a line to `rabbitmq.conf`, such as `consumer_timeout = 5000`. Later lines win.
    pub fn config(mut self, line: &str) -> Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.config, "{line}");
        self
    }

    /// Speaks TLS on a second port; see [`RabbitServer::tls_url`] and [`RabbitServer::certificates`].
    pub fn tls(mut self, client: ClientCertificate) -> Self {
        self.tls = Some(client);
        self
    }

    /// Requires clients to show a certificate when they speak TLS, and lets them log in by it, as the user `client`; see
    /// [`Vhost::external_url`].
    pub fn external(mut self) -> Self {
        self.external = true;
        self.tls(ClientCertificate::Required)
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Panics
    /// If RabbitMQ is not installed, which `cargo xtask setup` does; or if it does not start: with its log.
    pub async fn start(self) -> RabbitServer {
        let folder = tempfile::Builder::new().prefix("celeriac-rabbit-").tempdir().expect("a temporary folder");
        self.start_in(Folder::OfOne(folder)).await
    }

    async fn start_in(self, folder: Folder) -> RabbitServer {
        let certificates = self.tls.map(|_| Certificates::generate(folder.path()));
        let rabbit = Rabbit::install(folder.path(), self.external);
        let configure = |folder: &Path, ports: &[Port]| {
            let mut config = format!("listeners.tcp.1 = {}\n", node::amqp(ports).address());
            if let (Some(files), Some(client), Some(port)) = (&certificates, self.tls, node::tls(ports)) {
                config += &tls_config(port, files, client);
            }
            if self.external {
                config += "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = AMQPLAIN\nauth_mechanisms.3 = EXTERNAL\n\
                           ssl_cert_login_from = common_name\n";
            }
            std::fs::write(folder.join("rabbitmq.conf"), config + &self.config).expect("a file can be written");
        };
        let ports = if self.tls.is_some() { 3 } else { 2 };
        let node = Node::start(rabbit, folder, ports, configure).await;
        let server = RabbitServer { node, certificates, external: self.external };
        if self.external {
            server.default_vhost().add_user(CLIENT, &unique("password"), Permissions::ALL).await;
        }
        server
    }
}

fn tls_config(port: &Port, files: &Certificates, client: ClientCertificate) -> String {
    let (verify, required) = match client {
        ClientCertificate::Required => ("verify_peer", true),
        ClientCertificate::NotAsked => ("verify_none", false),
    };
    format!(
        "listeners.ssl.1 = {}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
         ssl_options.verify = {verify}\nssl_options.fail_if_no_peer_cert = {required}\n",
        port.address(),
        files.ca.display(),
        files.server.display(),
        files.server_key.display()
    )
}

impl RabbitServer {
    /// Starts a server as it is by default.
    ///
    /// # Panics
    /// As [`RabbitBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server that is yet to be started.
    pub fn builder() -> RabbitBuilder {
        RabbitBuilder::default()
    }

    /// A server as it is by default, that many tests share; see [`RabbitBuilder::shared`].
    ///
    /// # Panics
    /// As [`RabbitBuilder::start`].
    pub async fn shared() -> &'static Self {
        Self::builder().shared().await
    }

    /// The virtual host `/`.
    #[must_use]
    pub fn default_vhost(&self) -> Vhost<'_> {
        Vhost::of(self, "/")
    }

    /// Adds a virtual host of a name that no other has.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn vhost(&self) -> Vhost<'_> {
        self.add_vhost(&unique("test")).await
    }

    /// Adds a virtual host, in which the user `guest` may do everything, and so may `client` where there is one.
    ///
    /// # Panics
    /// If there is one of that name, or the server is down.
    pub async fn add_vhost(&self, name: &str) -> Vhost<'_> {
        let binary = binary(name);
        self.eval(&format!("false = rabbit_vhost:exists({binary}), ok = rabbit_vhost:add({binary}, <<\"guest\">>)"))
            .await;
        let vhost = Vhost::of(self, name);
        vhost.permit("guest", Permissions::ALL).await;
        if self.external {
            vhost.permit(CLIENT, Permissions::ALL).await;
        }
        vhost
    }

    /// The URL of the virtual host `/` for the user `guest`: `amqp://guest:guest@127.0.0.1:port/%2F`.
    #[must_use]
    pub fn url(&self) -> String {
        self.default_vhost().url()
    }

    /// The URL of the virtual host `/` for another user. Special characters are escaped.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.default_vhost().url_as(user, password)
    }

    /// The URL of the virtual host `/` for the user `guest`, by TLS: `amqps://guest:guest@127.0.0.1:port/%2F`.
    ///
    /// # Panics
    /// If it was started without `tls`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        self.default_vhost().tls_url()
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The TCP address, for a proxy in front of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        node::amqp(self.node.ports()).address()
    }

    /// The TCP address for TLS.
    ///
    /// # Panics
    /// If it was started without `tls`.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        node::tls(self.node.ports()).expect("a server that was started with `tls`").address()
    }

    /// The certificates of a server that speaks TLS.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a server that was started with `tls`")
    }

    /// The server's folder: its configuration, its log and what it keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.node.folder()
    }

    /// What the server has logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.node.process().pid()
    }

    /// What an Erlang expression evaluates to in the server, as Erlang writes it. It has no full stop at its end. Milliseconds.
    ///
    /// # Panics
    /// If it fails, or the server is down.
    ///
    /// # Examples
    /// Has `consumer_timeout` looked after every half second, and not every minute, on channels that are opened from now on.
    /// ```no_run
    /// # async fn f(server: celeriac_testkit::server::RabbitServer) {
    /// server.eval("application:set_env(rabbit, channel_tick_interval, 500)").await;
    /// # }
    /// ```
    pub async fn eval(&self, expression: &str) -> String {
        self.ask(&Expression::of(expression)).await
    }

    async fn ask(&self, expression: &Expression) -> String {
        let value = self.node.kind().eval(self.node.folder(), self.node.ports(), expression).await;
        value.unwrap_or_else(|error| panic!("{error}, from {expression:?}"))
    }

    /// What `rabbitmqctl` prints, such as for `["list_queues", "-p", vhost.name()]`. It takes a third of a second; [`RabbitServer::eval`]
    /// is quicker.
    ///
    /// # Panics
    /// If it fails: with what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut ctl = self.node.kind().script("rabbitmqctl", self.node.folder(), self.node.ports());
        ctl.arg("--silent").args(arguments).stdin(std::process::Stdio::null());
        let output = tokio::process::Command::from(ctl).kill_on_drop(true).output().await.expect("a script can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {said}{errors}");
        said
    }

    /// Closes the connections of all clients, as an operator does: each is told `reason` first.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn close_all_connections(&self, reason: &str) {
        let reason = format!("binary_to_list({})", binary(reason));
        self.eval(&format!("rabbit_networking:close_all_connections({reason})")).await;
    }

    /// Raises the alarm that the memory is used up: whoever publishes is blocked. Returns when it is raised.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn raise_memory_alarm(&self) {
        self.memory_alarm("0.0", "[_ | _]").await;
    }

    /// Clears the alarm. Returns when it is cleared.
    ///
    /// # Panics
    /// If the server is down, or its memory is used up indeed.
    pub async fn clear_memory_alarm(&self) {
        self.memory_alarm("element(2, application:get_env(rabbit, vm_memory_high_watermark))", "[]").await;
    }

    /// Sets how much memory may be used, and compares what alarms that leaves.
    async fn memory_alarm(&self, watermark: &str, alarms: &str) {
        let set = format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark})");
        let is = "[memory || {{resource_limit, memory, _}, _} <- rabbit_alarm:get_alarms()]";
        self.eval(&format!("{set}, {alarms} = {is}")).await;
    }

    /// Kills the server by SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.node.process().kill();
    }

    /// Asks the server to end, by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&self) {
        self.node.process().stop().await;
    }

    /// Starts the server again, on the same ports and in the same folder, and waits until it serves. One that still runs is stopped first.
    ///
    /// # Panics
    /// If it does not start: with its log.
    pub async fn restart(&self) {
        self.node.restart().await;
    }

    /// Halts the server, by SIGSTOP: its connections stay open, and nobody answers.
    pub fn pause(&self) {
        self.node.process().pause();
    }

    /// Lets a halted server go on, by SIGCONT.
    pub fn resume(&self) {
        self.node.process().resume();
    }
}
