//! Programs that come from the distribution.

use std::path::Path;

use crate::{Result, command::Cmd};

/// Makes sure that every program is here, else installs Debian's `packages`.
pub(super) fn programs(programs: &[&str], packages: &[&str], root: &Path) -> Result {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|program| !Cmd::new(*program, &["--version"]).works(root)).collect();
    if !missing.is_empty() {
        install(packages, &missing.join(" and "), root)?;
        if let Some(missing) = missing.iter().find(|program| !Cmd::new(**program, &["--version"]).works(root)) {
            return Err(format!("{} installed, but `{missing} --version` does not work", packages.join(" ")).into());
        }
    }
    for program in programs {
        println!("setup: {program} is here");
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

fn apt(is_root: bool, arguments: &[&str]) -> Cmd {
    // Another installation may be running.
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300"];
    let before = if is_root { &[][..] } else { &["sudo", "-n"] };
    let line = [before, &apt, &["--no-install-recommends"], arguments].concat();
    Cmd::new(line[0], &line[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_installs_without_sudo() {
        let rest = "env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
                    --no-install-recommends install a b";
        assert_eq!(apt(true, &["install", "a", "b"]).to_string(), rest);
        assert_eq!(apt(false, &["install", "a", "b"]).to_string(), format!("sudo -n {rest}"));
    }
}
