//! Waking other processes: a datagram to the socket of each that listens.
//!
//! Sending never blocks. Where it fails because the receiver's buffer is full, the receiver has so many datagrams to read
//! that it looks at everything, and so misses nothing.

use std::collections::HashMap;
use std::hash::Hasher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::schema::Place;
use crate::shared::Shared;

/// What happened, as a datagram says it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wake {
    /// Queues in which something is ready.
    pub(crate) queues: Vec<i64>,
    /// Tasks of which a record was stored, as hashes.
    pub(crate) results: Vec<u64>,
    /// Whether a definition of the schedule changed, or its leader resigned.
    pub(crate) schedule: bool,
    /// Too much to be told.
    pub(crate) everything: bool,
}

/// What a store has others wake it for, as bits of `owner.watching`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Watching {
    Results = 1,
    Schedule = 2,
}

/// No datagram is longer: several always fit into a socket's buffer.
const MOST_BYTES: usize = 4096;

/// With so many datagrams waiting at once, the buffer may have been full. Linux keeps at least ten.
const MANY: usize = 8;

/// So many sockets are kept open to send with. Those of processes that have ended go when there are more.
const MOST_SOCKETS: usize = 64;

impl Wake {
    /// FNV-1a: the same in every process and version.
    pub(crate) fn hash(text: &str) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.write(text.as_bytes());
        hash.finish()
    }

    fn encode(&self) -> Vec<u8> {
        let length = 3 + 8 * (self.queues.len() + self.results.len());
        if self.everything || length > MOST_BYTES {
            return vec![b'*'];
        }
        let mut out = Vec::with_capacity(length);
        out.push(if self.schedule { b'!' } else { b'+' });
        out.extend_from_slice(&u16::try_from(self.queues.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.queues.iter().for_each(|queue| out.extend_from_slice(&queue.to_le_bytes()));
        self.results.iter().for_each(|result| out.extend_from_slice(&result.to_le_bytes()));
        out
    }

    /// Whatever is not understood means everything.
    fn decode(&mut self, datagram: &[u8]) {
        let parsed = (|| {
            let (kind, rest) = datagram.split_first()?;
            let (queues, rest) = rest.split_first_chunk::<2>()?;
            let (numbers, tail) = rest.as_chunks::<8>();
            let queues = usize::from(u16::from_le_bytes(*queues));
            (matches!(kind, b'+' | b'!') && tail.is_empty() && queues <= numbers.len())
                .then(|| (*kind == b'!', numbers.split_at(queues)))
        })();
        match parsed {
            Some((schedule, (queues, results))) => {
                self.schedule |= schedule;
                self.queues.extend(queues.iter().map(|queue| i64::from_le_bytes(*queue)));
                self.results.extend(results.iter().map(|result| u64::from_le_bytes(*result)));
            }
            None => self.everything = true,
        }
    }
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Where the socket of an owner is. A path that is too long for a socket is replaced by a short one that every process
/// makes up alike.
fn socket_path(place: &Place, owner: i64) -> PathBuf {
    let beside = place.side.join(format!("{owner}.sock"));
    // 104 bytes on macOS, 108 on Linux, with the end mark.
    if beside.as_os_str().len() < 100 {
        return beside;
    }
    short_directory(place).join(format!("{owner}.sock"))
}

fn short_directory(place: &Place) -> PathBuf {
    let hash = Wake::hash(&place.path.to_string_lossy());
    PathBuf::from(format!("/tmp/celeriac-{hash:016x}"))
}

pub(crate) fn remove_socket(place: &Place, owner: i64) {
    let path = socket_path(place, owner);
    // Already gone if another process was faster.
    let _ = std::fs::remove_file(&path);
    if !path.starts_with(&place.side) {
        // Goes with the last socket.
        let _ = std::fs::remove_dir(short_directory(place));
    }
}

#[cfg(unix)]
mod sockets {
    use std::collections::hash_map::Entry;
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A socket to each process that was woken from here.
    #[derive(Debug)]
    pub(crate) struct Peers {
        place: Place,
        /// One each, so that a receiver that does not read fills no buffer but its own.
        sockets: HashMap<i64, UnixDatagram>,
    }

    impl Peers {
        pub(crate) fn new(place: Place) -> Self {
            Self { place, sockets: HashMap::new() }
        }

        #[cfg(test)]
        pub(super) fn open(&self) -> usize {
            self.sockets.len()
        }

        /// Does not wait. Who cannot be reached notices by itself, within a second.
        pub(crate) fn send(&mut self, owner: i64, wake: &Wake) {
            let sent = self.try_send(owner, &wake.encode());
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.sockets.remove(&owner);
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        remove_socket(&self.place, owner);
                    }
                }
            }
        }

        fn try_send(&mut self, owner: i64, datagram: &[u8]) -> io::Result<()> {
            if self.sockets.len() >= MOST_SOCKETS && !self.sockets.contains_key(&owner) {
                self.sockets.clear();
            }
            let socket = match self.sockets.entry(owner) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.set_nonblocking(true)?;
                    socket.connect(socket_path(&self.place, owner))?;
                    entry.insert(socket)
                }
            };
            socket.send(datagram).map(drop)
        }
    }

    /// Starts the thread that waits to be woken.
    pub(crate) fn listen(shared: &Arc<Shared>, owner: i64) -> io::Result<()> {
        let path = socket_path(&shared.place, owner);
        if !path.starts_with(&shared.place.side)
            && let Some(directory) = path.parent()
        {
            std::fs::DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
        }
        // Of an owner with the same id in a file that was here before.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        let shared = Arc::clone(shared);
        std::thread::Builder::new().name("celeriac-wake".to_owned()).spawn(move || hear(&socket, &shared)).map(drop)
    }

    fn hear(socket: &UnixDatagram, shared: &Shared) {
        let mut buffer = vec![0; MOST_BYTES + 1];
        while !shared.stopped() {
            match hear_once(socket, &mut buffer) {
                Ok(wake) => shared.woken(&wake),
                Err(error) => {
                    tracing::warn!(%error, "no longer woken by other processes");
                    return;
                }
            }
        }
    }

    /// Waits for a datagram, and reads those that are there already.
    fn hear_once(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Wake> {
        let mut wake = Wake::default();
        socket.set_nonblocking(false)?;
        let mut count = 0_usize;
        loop {
            match socket.recv(buffer) {
                Ok(length) => {
                    count += 1;
                    wake.decode(buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            // Those who are named already need not wait for the end of a long row.
            if count > 64 {
                break;
            }
            socket.set_nonblocking(true)?;
        }
        wake.everything |= count >= MANY;
        Ok(wake)
    }

    /// Has the listening thread of this process look at everything, or end; `false` if there is none.
    pub(crate) fn remind(place: &Place, owner: i64) -> bool {
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(b"*", socket_path(place, owner))
        });
        // A full buffer wakes it as well.
        sent.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
    }
}

#[cfg(not(unix))]
mod sockets {
    use super::*;

    /// Nobody is woken: the others notice within a second.
    #[derive(Debug)]
    pub(crate) struct Peers;

    impl Peers {
        pub(crate) fn new(_: Place) -> Self {
            Self
        }

        pub(crate) fn send(&mut self, _: i64, wake: &Wake) {
            let _ = wake.encode();
        }
    }

    pub(crate) fn listen(_: &Arc<Shared>, _: i64) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(crate) fn remind(_: &Place, _: i64) -> bool {
        false
    }
}

pub(crate) use sockets::{Peers, listen, remind};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_comes_back_the_same() {
        for schedule in [false, true] {
            let wake = Wake { queues: vec![1, -1], results: vec![Wake::hash("a"), 7], schedule, everything: false };
            let mut again = Wake::default();
            again.decode(&wake.encode());
            assert_eq!(again, wake);
        }
    }

    #[cfg(unix)]
    #[test]
    fn sockets_to_those_who_have_ended_are_closed() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path().join("jobs.db"));
        std::fs::create_dir(&place.side).unwrap();
        let mut peers = Peers::new(place.clone());
        for owner in 0..200 {
            let socket = std::os::unix::net::UnixDatagram::bind(socket_path(&place, owner)).unwrap();
            peers.send(owner, &Wake::default());
            assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 3, "it is woken");
            assert!(peers.open() <= MOST_SOCKETS);
        }
    }

    #[test]
    fn whatever_is_not_understood_means_everything() {
        for datagram in [&b""[..], b"*", b"+", b"+\x02\x00aaaaaaaa", b"+\x00\x00aaa", b"?\x00\x00"] {
            let mut wake = Wake::default();
            wake.decode(datagram);
            assert!(wake.everything, "{datagram:?}");
        }
        let many = Wake { results: vec![0; 1000], ..Wake::default() };
        assert_eq!(many.encode(), b"*");
    }
}
