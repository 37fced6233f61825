//! `Vhost`: a virtual host, in which a test's queues are its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::RabbitServer;
use super::erlang::{Expression, binary};
use crate::server::url::escape;

/// A virtual host of a [`RabbitServer`]. It costs milliseconds, where a server costs seconds.
#[derive(Debug, Clone)]
pub struct Vhost<'a> {
    server: &'a RabbitServer,
    name: String,
}

/// What a user may do in a virtual host: to queues and exchanges whose names match these regular expressions.
#[derive(Debug, Clone, Copy)]
pub struct Permissions<'a> {
    /// Which may be declared and deleted.
    pub configure: &'a str,
    /// To which may be published.
    pub write: &'a str,
    /// From which may be consumed.
    pub read: &'a str,
}

impl Permissions<'_> {
    /// Everything.
    pub const ALL: Permissions<'static> = Permissions { configure: ".*", write: ".*", read: ".*" };
}

/// How a queue stands at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Messages that wait to be delivered.
    pub ready: u64,
    /// Messages that are delivered and not acknowledged.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
    /// The arguments it was declared with, such as `x-max-priority` and `10`: texts as they are, other values as Erlang writes them.
    pub arguments: BTreeMap<String, String>,
}

impl<'a> Vhost<'a> {
    pub(super) fn of(server: &'a RabbitServer, name: &str) -> Self {
        Self { server, name: name.to_owned() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    #[must_use]
    pub fn server(&self) -> &'a RabbitServer {
        self.server
    }

    /// The URL for the user `guest`: `amqp://guest:guest@127.0.0.1:port/name`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as("guest", "guest")
    }

    /// The URL for another user. Special characters are escaped.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url_of("amqp", &credentials(user, password), self.server.address())
    }

    /// The URL for the user `guest` at another address: of a proxy.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> String {
        self.url_of("amqp", &credentials("guest", "guest"), address)
    }

    /// The URL for the user `guest` by TLS: `amqps://guest:guest@127.0.0.1:port/name`.
    ///
    /// # Panics
    /// If the server was started without `tls`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        self.url_of("amqps", &credentials("guest", "guest"), self.server.tls_address())
    }

    /// The URL for the user whom the client's certificate names, by TLS: `amqps://127.0.0.1:port/name?auth_mechanism=external`.
    ///
    /// # Panics
    /// If the server was started without `tls`.
    #[must_use]
    pub fn external_url(&self) -> String {
        self.url_of("amqps", "", self.server.tls_address()) + "?auth_mechanism=external"
    }

    fn url_of(&self, scheme: &str, credentials: &str, address: SocketAddr) -> String {
        format!("{scheme}://{credentials}{address}/{}", escape(&self.name))
    }

    /// Adds a user to the server, who may do here what `permissions` say, and nothing elsewhere.
    ///
    /// # Panics
    /// If there is one of that name, or the server is down.
    pub async fn add_user(&self, name: &str, password: &str, permissions: Permissions<'_>) {
        let (user, password) = (binary(name), binary(password));
        self.server.eval(&format!("ok = rabbit_auth_backend_internal:add_user({user}, {password}, {user})")).await;
        self.permit(name, permissions).await;
    }

    /// Has a user of the server do here what `permissions` say.
    ///
    /// # Panics
    /// If there is no such user, or the server is down.
    pub async fn permit(&self, user: &str, permissions: Permissions<'_>) {
        let Permissions { configure, write, read } = permissions;
        let arguments = [user, &self.name, configure, write, read, user].map(binary).join(", ");
        self.server.eval(&format!("ok = rabbit_auth_backend_internal:set_permissions({arguments})")).await;
    }

    /// How the queue of that name stands; `None` if there is none.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn queue_info(&self, name: &str) -> Option<QueueInfo> {
        let (vhost, name) = (binary(&self.name), binary(name));
        let info = format!(
            r#"try case rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {name})) of
                {{error, not_found}} -> "";
                {{ok, Queue}} ->
                    Info = rabbit_amqqueue:info(Queue, [messages_ready, messages_unacknowledged, consumers, arguments]),
                    Text = fun(Value) when is_binary(Value) -> Value; (Value) -> io_lib:format("~0tp", [Value]) end,
                    [{{_, Ready}}, {{_, Unacked}}, {{_, Consumers}}, {{_, Arguments}}] = Info,
                    [io_lib:format("~b ~b ~b", [Ready, Unacked, Consumers])
                        | [["\n", Name, "=", Text(Value)] || {{Name, _, Value}} <- Arguments]]
            end
            catch
                % It goes just now.
                exit:_ -> ""
            end"#
        );
        let info = self.server.ask(&Expression::text(&info)).await;
        let mut lines = info.lines();
        let mut counts = lines.next()?.split(' ').map(|count| count.parse().expect("a count"));
        let mut count = || counts.next().expect("three counts");
        let (ready, unacked, consumers) = (count(), count(), count());
        let arguments = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into()));
        Some(QueueInfo { ready, unacked, consumers, arguments: arguments.collect() })
    }
}

fn credentials(user: &str, password: &str) -> String {
    format!("{}:{}@", escape(user), escape(password))
}
