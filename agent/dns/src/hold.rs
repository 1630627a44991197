//! Keeps the server's sockets open while no agent runs.
//!
//! When an agent dies, a process that does nothing goes on holding its sockets. What clients ask
//! meanwhile waits in them, and the next agent, which takes them over, answers: a restart of a
//! second costs a second, where a closed port would have told every client at once that there is
//! no server. A record in a folder says which process it is.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};
use tracing::{debug, warn};

/// The sockets of one address.
pub(crate) struct Pair {
    /// For datagrams.
    pub(crate) udp: UdpSocket,
    /// For connections.
    pub(crate) tcp: TcpListener,
}

/// Descriptors of the holder: what it does not use, its standard input and output.
const UDP_FD: i32 = 0;
const TCP_FD: i32 = 1;
/// How often binding is tried while a holder that was told to end does so.
const BIND_ATTEMPTS: u32 = 100;
const BIND_EVERY: Duration = Duration::from_millis(10);

/// The sockets held for `address`, or new ones, held from now on.
pub(crate) async fn sockets(dir: &Path, address: SocketAddr) -> io::Result<Pair> {
    let record = dir.join(format!("{}-{}", address.ip(), address.port()));
    match take_over(&record, address) {
        Ok(pair) => {
            debug!(%address, "took over sockets");
            return Ok(pair);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!(%address, %error, "cannot take over sockets; making new ones"),
    }
    release(&record);
    let pair = bind_when_free(address).await?;
    if let Err(error) = hold(dir, &record, &pair) {
        // It serves all the same; only a restart will be noticed.
        warn!(%address, %error, "nobody holds the sockets");
    }
    Ok(pair)
}

/// Binds both transports.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Pair> {
    Ok(Pair { udp: UdpSocket::bind(address)?, tcp: TcpListener::bind(address)? })
}

async fn bind_when_free(address: SocketAddr) -> io::Result<Pair> {
    let mut attempts = 0;
    loop {
        match bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < BIND_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(BIND_EVERY).await;
            }
            bound => return bound,
        }
    }
}

fn take_over(record: &Path, address: SocketAddr) -> io::Result<Pair> {
    let pid = holder(record)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let get = |fd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty());
    let pair = Pair { udp: UdpSocket::from(get(UDP_FD)?), tcp: TcpListener::from(get(TCP_FD)?) };
    if pair.udp.local_addr()? != address || pair.tcp.local_addr()? != address {
        return Err(io::Error::other("they are of another address"));
    }
    Ok(pair)
}

fn hold(dir: &Path, record: &Path, pair: &Pair) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let child = Command::new("sleep")
        .arg("infinity")
        .stdin(Stdio::from(OwnedFd::from(pair.udp.try_clone()?)))
        .stdout(Stdio::from(OwnedFd::from(pair.tcp.try_clone()?)))
        .stderr(Stdio::null())
        .env_clear()
        .current_dir("/")
        // Signals to the agent's terminal are not for it.
        .process_group(0)
        .spawn()?;
    let pid = child.id();
    fs::write(record, format!("{pid} {}", started_at(pid)?))
}

/// Ends the holder of a record, if there is one.
fn release(record: &Path) {
    if let Ok(pid) = holder(record)
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        warn!(%error, "a process that holds sockets stays");
    }
}

/// The process that a record names, if it is still the same one.
fn holder(record: &Path) -> io::Result<Pid> {
    let text = fs::read_to_string(record)?;
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let (pid, started) = text.split_once(' ').ok_or_else(gone)?;
    let number: u32 = pid.parse().map_err(|_| gone())?;
    if started_at(number).map_err(|_| gone())? != started {
        return Err(gone());
    }
    i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(gone)
}

/// When a process was started, in the kernel's own words: a later one of the same number differs.
fn started_at(pid: u32) -> io::Result<String> {
    /// Place of the field in /proc/PID/stat, counted after the name's closing bracket.
    const FIELD: usize = 19;
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat")))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(FIELD);
    field.map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends what a test started, also when it fails.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                release(&entry.path());
            }
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        let name = format!("skeg-dns-test-{}-{name}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    /// An address that is free on both transports.
    fn free_address() -> SocketAddr {
        let pair = (0..100).find_map(|_| {
            let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
            let address = udp.local_addr().ok()?;
            TcpListener::bind(address).is_ok().then_some(address)
        });
        pair.expect("some port is free")
    }

    #[tokio::test]
    async fn what_is_asked_while_nobody_serves_is_answered_by_the_next() {
        let folder = folder("restart");
        let address = free_address();
        drop(sockets(&folder.0, address).await.unwrap());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.send(b"anybody?").unwrap();
        let connection = std::net::TcpStream::connect(address).unwrap();
        let pair = sockets(&folder.0, address).await.unwrap();
        let mut buffer = [0; 16];
        let (length, from) = pair.udp.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"anybody?"[..], client.local_addr().unwrap()));
        let (_, from) = pair.tcp.accept().unwrap();
        assert_eq!(from, connection.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_record_of_a_process_that_has_gone_or_is_another_is_no_hindrance() {
        let folder = folder("stale");
        let address = free_address();
        drop(sockets(&folder.0, address).await.unwrap());
        let record = fs::read_dir(&folder.0).unwrap().next().unwrap().unwrap().path();
        release(&record);
        drop(sockets(&folder.0, address).await.unwrap());
        release(&record);
        fs::write(&record, format!("{} 1", std::process::id())).unwrap();
        let pair = sockets(&folder.0, address).await.unwrap();
        assert_eq!(pair.udp.local_addr().unwrap(), address);
    }
}
