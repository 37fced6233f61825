//! Lua scripts: sent once, called by their hash.

use std::sync::OnceLock;

use deadpool_redis::redis::{self, Cmd};

/// A script, with what several have in common before it.
macro_rules! with_tools {
    ($($tool:literal, )* => $path:literal) => {
        concat!(
            include_str!("lua/naming.lua"),
            include_str!("lua/due.lua"),
            $(include_str!($tool),)*
            "local function script()\n",
            include_str!($path),
            "end\nreturn naming(script)\n"
        )
    };
}

/// Takes messages, and records who holds them.
pub(crate) static TAKE: Script = Script::new(with_tools!(=> "lua/take.lua"));
/// Ends deliveries, stores results, publishes.
pub(crate) static SETTLE: Script = Script::new(with_tools!("lua/push.lua", => "lua/settle.lua"));
/// Renews leases.
pub(crate) static RENEW: Script = Script::new(with_tools!(=> "lua/renew.lua"));
/// Finds what is in nobody's hands.
pub(crate) static SWEEP: Script = Script::new(with_tools!(=> "lua/sweep.lua"));
/// Pushes to several lists.
pub(crate) static PUBLISH: Script =
    Script::new(concat!(include_str!("lua/naming.lua"), include_str!("lua/publish.lua")));
/// Records a queue and its bindings.
pub(crate) static DECLARE: Script =
    Script::new(concat!(include_str!("lua/naming.lua"), include_str!("lua/declare.lua")));
/// Empties a queue.
pub(crate) static PURGE: Script = Script::new(include_str!("lua/purge.lua"));
/// Puts a broadcast message into a queue.
pub(crate) static BRIDGE: Script = Script::new(include_str!("lua/bridge.lua"));
/// Counts the parts of a chord, and knows who sends its body.
pub(crate) static CHORD: Script = Script::new(include_str!("lua/chord.lua"));

/// The entries of a schedule, who leads, and steps with their messages.
pub(crate) static SCHEDULE: Script = Script::new(with_tools!("lua/push.lua", => "lua/schedule.lua"));

/// Every script of the crate: what a server that has lost its scripts is given again.
pub(crate) static ALL: &[&Script] = &[
    &TAKE,
    &SETTLE,
    &RENEW,
    &SWEEP,
    &PUBLISH,
    &DECLARE,
    &PURGE,
    &BRIDGE,
    &CHORD,
    &SCHEDULE,
    #[cfg(test)]
    &TEST,
];

/// Gives its first argument back.
#[cfg(test)]
pub(crate) static TEST: Script = Script::new("return ARGV[1]");

/// A script, called by the hash of its source. [`Link`](crate::link::Link) loads what the server does not know.
#[derive(Debug)]
pub(crate) struct Script {
    source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(source: &'static str) -> Self {
        Self { source, hash: OnceLock::new() }
    }

    /// `EVALSHA hash`; the caller adds the number of keys, the keys and the arguments.
    pub(crate) fn call(&self) -> Cmd {
        let hash = self.hash.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned());
        let mut command = redis::cmd("EVALSHA");
        command.arg(hash);
        command
    }

    /// `SCRIPT LOAD source`.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.source);
        command
    }
}
