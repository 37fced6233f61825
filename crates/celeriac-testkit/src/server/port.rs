//! `Port`: a TCP port that is kept from other tests, also while nobody listens on it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::PathBuf;

/// Below what systems hand out by themselves: an outgoing connection never takes the port of a server that restarts.
const PORTS: Range<u16> = 15_000..32_000;

/// A port of this machine. Other tests, of any process, take other ones until it is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked; the system lets go of it when the process ends, however it ends. `None` if another process's server listens there.
    _reserved: Option<File>,
}

impl Port {
    /// Takes a port on which nobody listens.
    pub(crate) fn reserve() -> Self {
        let folder = folder();
        std::fs::create_dir_all(&folder).expect("a folder for the reserved ports");
        let ports = usize::from(PORTS.end - PORTS.start);
        // Somewhere else for each process, so that they seldom meet.
        let first = usize::try_from(uuid::Uuid::new_v4().as_u128() % ports as u128).expect("less than the ports");
        let free = PORTS.cycle().skip(first).take(ports).find_map(|number| {
            let file = File::create(folder.join(number.to_string())).ok()?;
            file.try_lock().ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Self { number, _reserved: Some(file) })
        });
        free.expect("a free port")
    }

    /// A port on which another process's server listens.
    pub(super) fn of(number: u16) -> Self {
        Self { number, _reserved: None }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// One for each user: another's could not be written to.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("celeriac-ports-{}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_nobody_else() {
        let taken: Vec<Port> = (0..50).map(|_| Port::reserve()).collect();
        let numbers: std::collections::BTreeSet<u16> = taken.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), taken.len());
    }

    #[test]
    fn a_port_with_a_listener_is_not_given() {
        let port = Port::reserve();
        let number = port.number();
        let _listener = TcpListener::bind(port.address()).unwrap();
        drop(port);
        assert!((0..50).map(|_| Port::reserve()).all(|other| other.number() != number));
    }
}
