//! How a RabbitMQ server is installed and run apart from every other one of this machine.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::erlang::Expression;
use crate::server::node::Kind;
use crate::server::port::Port;
use crate::server::process::installed;
use crate::unique;

/// Debian's. Those in /usr/sbin are for root only.
const SCRIPTS: &[&str] = &["/usr/lib/rabbitmq/bin"];

/// May be the same for all, as none asks where another is.
const NAME: &str = "rabbit@localhost";

/// What begins like a plugin and is RabbitMQ's own.
const PRELAUNCH: &str = "rabbitmq_prelaunch";

/// Where Erlang looks for what one has to know to be let in.
const COOKIE: &str = ".erlang.cookie";

/// Lets clients log in by their certificates.
const EXTERNAL: &str = "rabbitmq_auth_mechanism_ssl";

/// A RabbitMQ server: an Erlang node that is started by scripts.
#[derive(Debug)]
pub(super) struct Rabbit {
    scripts: PathBuf,
    erl_call: PathBuf,
    /// What Erlang programs have to know to be let in.
    cookie: String,
}

impl Rabbit {
    /// Prepares `folder` for a server that has the EXTERNAL mechanism or not.
    pub(super) fn install(folder: &Path, external: bool) -> Self {
        let server = installed("rabbitmq-server", SCRIPTS).canonicalize().expect("an installed program has a path");
        let scripts = server.parent().expect("a program is in a folder").to_owned();
        let plugins = if external { EXTERNAL } else { "" };
        link(&scripts, &folder.join("installation"), plugins).expect("an installation can be linked to");
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        write_cookie(&folder.join(COOKIE), &cookie).expect("a cookie can be written");
        std::fs::write(folder.join("enabled_plugins"), format!("[{plugins}].")).expect("a file can be written");
        Self { scripts, erl_call: installed("erl_call", &[]), cookie }
    }

    /// One that was prepared in `folder`.
    pub(super) fn installed(folder: &Path) -> io::Result<Self> {
        let cookie = std::fs::read_to_string(folder.join(COOKIE))?;
        let scripts = std::fs::read_link(folder.join("installation/sbin"))?;
        Ok(Self { scripts, erl_call: installed("erl_call", &[]), cookie })
    }

    /// One of RabbitMQ's scripts.
    pub(super) fn script(&self, name: &str, folder: &Path, ports: &[Port]) -> Command {
        let mut command = command(&self.scripts.join(name), folder, ports);
        command
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", folder.join("conf.d"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            // It would listen where the server does.
            .env("RABBITMQ_CTL_ERL_ARGS", "-dist_listen false")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_NODENAME", NAME)
            .env("RABBITMQ_SCRIPTS_DIR", folder.join("installation/sbin"));
        command
    }

    /// What `expression` evaluates to in the server; else why it has no value.
    pub(super) async fn eval(&self, folder: &Path, ports: &[Port], expression: &Expression) -> Result<String, String> {
        let mut call = command(&self.erl_call, folder, ports);
        // It has a name, too. One that the server still knows from another call would be refused.
        let (name, address) = (unique("call"), distribution(ports).address().to_string());
        call.args(["-h", &name, "-c", &self.cookie, "-address", &address]);
        expression.eval(call).await
    }
}

impl Kind for Rabbit {
    const PORT_TAKEN: &'static str = "eaddrinuse";

    fn command(&self, folder: &Path, ports: &[Port]) -> Command {
        let mut command = self.script("rabbitmq-server", folder, ports);
        let arguments = format!("-sname {NAME} -kernel inet_dist_use_interface {{127,0,0,1}} +S 2:2");
        command
            // With a name from the start, it does not look for epmd.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments)
            // Has the script become the server, so that signals reach it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }

    async fn serves(&self, folder: &Path, ports: &[Port]) -> bool {
        // The port is asked first, because that costs little. The cookie makes sure that it is this process that answers.
        TcpStream::connect(amqp(ports).address()).await.is_ok()
            && self.eval(folder, ports, &Expression::of("rabbit:is_running()")).await.is_ok_and(|is| is == "true")
    }
}

/// Where clients connect.
pub(super) fn amqp(ports: &[Port]) -> &Port {
    &ports[0]
}

/// Where other Erlang programs connect.
pub(super) fn distribution(ports: &[Port]) -> &Port {
    &ports[1]
}

/// Where clients connect by TLS.
pub(super) fn tls(ports: &[Port]) -> Option<&Port> {
    ports.get(2)
}

/// A program for which this server is the only one. Erlang's own way to find servers is a daemon, epmd, that outlives them: it is not
/// started, here or by what the program starts, and if the machine has one, it is not asked.
fn command(program: &Path, folder: &Path, ports: &[Port]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RABBITMQ_") || name.starts_with("ERL_")) {
            command.env_remove(name);
        }
    }
    command
        // The cookie is there.
        .env("HOME", folder)
        .env("ERL_CRASH_DUMP_BYTES", "0")
        .env("ERL_EPMD_PORT", "1")
        .env("ERL_FLAGS", format!("-start_epmd false -erl_epmd_port {}", distribution(ports).number()));
    command
}

/// Makes an installation without the plugins that are not asked for. It starts in half the time: where there are fewer folders, modules
/// are found sooner.
fn link(scripts: &Path, to: &Path, plugin: &str) -> io::Result<()> {
    let from = scripts.parent().unwrap_or(scripts);
    std::fs::create_dir_all(to.join("plugins"))?;
    symlink(scripts, to.join("sbin"))?;
    symlink(from.join("escript"), to.join("escript"))?;
    for entry in std::fs::read_dir(from.join("plugins"))? {
        let entry = entry?;
        let name = entry.file_name();
        let is_asked_for = |name: &str| {
            !name.starts_with("rabbitmq_")
                || name.starts_with(PRELAUNCH)
                || (!plugin.is_empty() && name.starts_with(plugin))
        };
        if name.to_str().is_some_and(is_asked_for) {
            symlink(entry.path(), to.join("plugins").join(name))?;
        }
    }
    Ok(())
}

fn write_cookie(path: &Path, cookie: &str) -> io::Result<()> {
    // Erlang reads none that others could.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(cookie.as_bytes())
}
