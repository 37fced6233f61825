//! Programs that come from the distribution.

use std::path::Path;

use crate::{Result, command::Cmd};

/// A program that tests start.
pub(super) struct Program {
    name: &'static str,
    /// Succeeds if it can be started, and starts nothing that stays.
    check: Cmd,
    package: &'static str,
}

/// Redis and RabbitMQ.
pub(super) fn servers() -> [Program; 3] {
    let redis = |name| Program { name, check: Cmd::new(name, &["--version"]), package: name };
    // Debian's scripts in /usr/sbin are for root only. None is asked for its version: `rabbitmq-server` would start a server, and
    // `rabbitmqctl` leaves a daemon.
    let all = r#"PATH="/usr/lib/rabbitmq/bin:$PATH"; command -v rabbitmq-server && command -v erl_call && erl +V"#;
    let rabbit = Program { name: "rabbitmq-server", check: Cmd::new("sh", &["-c", all]), package: "rabbitmq-server" };
    [redis("redis-server"), redis("redis-sentinel"), rabbit]
}

/// Makes sure that every program is here, else installs their Debian packages.
pub(super) fn programs(programs: &[Program], root: &Path) -> Result {
    let missing: Vec<&Program> = programs.iter().filter(|program| !program.check.works(root)).collect();
    if !missing.is_empty() {
        let list = |field: fn(&Program) -> &'static str| missing.iter().copied().map(field).collect::<Vec<_>>();
        let packages = list(|program| program.package);
        install(&packages, &list(|program| program.name).join(" and "), root)?;
        if let Some(missing) = missing.iter().find(|program| !program.check.works(root)) {
            return Err(format!("{} installed, but `{}` does not work", packages.join(" "), missing.check).into());
        }
    }
    for program in programs {
        println!("setup: {} is here", program.name);
    }
    Ok(())
}

/// Installs Debian packages, because of what is `missing`.
pub(super) fn install(packages: &[&str], missing: &str, root: &Path) -> Result {
    let by_hand = format!("{missing}: missing; install it (Debian: `apt-get install {}`)", packages.join(" "));
    if !Cmd::new("apt-get", &["--version"]).works(root) {
        return Err(by_hand.into());
    }
    let is_root = Cmd::new("id", &["-u"]).read(root)?.trim() == "0";
    if !is_root && !Cmd::new("sudo", &["-n", "true"]).works(root) {
        return Err(format!("{by_hand}; this user is not root, and `sudo` asks for a password").into());
    }
    println!("setup: {missing} missing, installing Debian's {}", packages.join(" "));
    let install = apt(is_root, &[&["install"], packages].concat());
    // The list of packages may not be there yet, or name versions that the mirror has no more.
    if !install.works(root) {
        apt(is_root, &["update"]).run(root)?;
        install.run(root).map_err(|error| format!("{by_hand}: {error}"))?;
    }
    Ok(())
}

/// Installs without starting what was installed: tests start servers of their own, and a port of this machine is not theirs to take. A
/// policy that the machine has already is left as it is.
const QUIETLY: &str = "policy=/usr/sbin/policy-rc.d; trap 'exit 1' HUP INT TERM; \
    [ -e $policy ] || { trap 'rm -f $policy' EXIT; printf '#!/bin/sh\\nexit 101\\n' >$policy; chmod +x $policy; }; \
    apt-get \"$@\"";

fn apt(is_root: bool, arguments: &[&str]) -> Cmd {
    let before = if is_root { &[][..] } else { &["sudo", "-n"] };
    let shell = ["env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", QUIETLY, "apt-get"];
    // Another installation may be running.
    let options = ["-qq", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends"];
    let line = [before, &shell, &options, arguments].concat();
    Cmd::new(line[0], &line[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_installs_without_sudo() {
        let rest = format!(
            "env DEBIAN_FRONTEND=noninteractive sh -c {QUIETLY} apt-get -qq -y -o DPkg::Lock::Timeout=300 \
             --no-install-recommends install a b"
        );
        assert_eq!(apt(true, &["install", "a", "b"]).to_string(), rest);
        assert_eq!(apt(false, &["install", "a", "b"]).to_string(), format!("sudo -n {rest}"));
    }
}
