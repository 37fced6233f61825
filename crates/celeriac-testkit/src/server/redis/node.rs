//! What a Redis server and a sentinel have in common.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::resp::{RawRedis, Reply};
use crate::server::node::{Folder, Kind, Node};
use crate::server::port::Port;
use crate::server::process::installed;

/// A Redis server or a sentinel.
#[derive(Debug)]
pub(super) struct Redis {
    program: PathBuf,
    /// The password of the user `default`.
    password: Option<String>,
}

impl Kind for Redis {
    const PORT_TAKEN: &'static str = "Address already in use";

    fn command(&self, folder: &Path, _: &[Port]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(folder.join("redis.conf"));
        command
    }

    async fn serves(&self, folder: &Path, _: &[Port]) -> bool {
        // The TCP port is listened on before the socket is. The socket is nobody else's, so that it is this process that answers.
        let answer = async { RawRedis::connect_unix(&socket(folder)).await?.command(&["PING"]).await };
        // One that wants a password first is up; one that still reads its file is not.
        answer.await.is_ok_and(|reply: Reply| !reply.text().starts_with("LOADING"))
    }
}

impl Node<Redis> {
    /// Starts `program` in `folder` with what `config` says for a port, and what every one has.
    pub(super) async fn of(
        program: &str,
        folder: tempfile::TempDir,
        password: Option<String>,
        config: impl Fn(u16) -> String + Send + Sync,
    ) -> Self {
        let redis = Redis { program: installed(program, &[]), password };
        Self::start(redis, Folder::OfOne(folder), 1, |folder, ports| write_config(folder, &config(ports[0].number())))
            .await
    }

    pub(super) fn port(&self) -> &Port {
        &self.ports()[0]
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.kind().password.as_deref()
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket(self.folder())
    }

    /// A connection through the socket, as the user `default`.
    pub(super) async fn connect(&self) -> io::Result<RawRedis> {
        let mut connection = RawRedis::connect_unix(&self.socket()).await?;
        if let Some(password) = self.password() {
            connection.command(&["AUTH", password]).await?;
        }
        Ok(connection)
    }

    /// The reply to one command.
    pub(super) async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        self.connect().await?.command(words).await
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn write_config(folder: &Path, config: &str) {
    let of_every_one = format!(
        "bind 127.0.0.1\ndaemonize no\ndir \"{}\"\nlogfile \"\"\nunixsocket \"{}\"\n",
        folder.display(),
        socket(folder).display()
    );
    std::fs::write(folder.join("redis.conf"), of_every_one + config).expect("a configuration can be written");
}
