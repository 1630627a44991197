//! Asks others about names that are not the cluster's. Messages pass through as they are but for
//! their number, so that whatever clients and servers agree on between them works.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::message::{Transport, message_id};
use crate::resolv_conf::name_servers;
use crate::run::domain;
use crate::{Config, DnsError};

/// How long one server is given; with the attempts below, a client's usual 5 s are not used up.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Most attempts for one question, over all servers.
const ATTEMPTS_MAX: usize = 3;
/// Most questions under way. Each has a socket; more are refused rather than queued, for their
/// clients would give up waiting.
const UNDER_WAY_MAX: usize = 1_024;
/// How often `resolv.conf` is looked at, at most.
const LOOK_AT_FILE_EVERY: Duration = Duration::from_secs(5);
/// Where systemd's resolver keeps the real servers while `resolv.conf` names only itself.
const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// Longest answer over UDP.
const DATAGRAM_BYTES: usize = 4_096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// Nobody to ask.
    #[error("no name server is known for it")]
    NoServers,
    /// Too much to do.
    #[error("{UNDER_WAY_MAX} questions are under way")]
    Busy,
    /// Nobody answered.
    #[error("no name server answered, the last one being {server}")]
    Unanswered {
        /// The last server asked.
        server: SocketAddr,
        /// What came of that.
        #[source]
        source: io::Error,
    },
}

/// Knows whom to ask.
#[derive(Debug)]
pub(crate) struct Forwarder {
    fixed: Vec<SocketAddr>,
    stubs: Vec<(Name, Vec<SocketAddr>)>,
    file: Mutex<ServersFile>,
    /// Our own addresses: asking ourselves would go on for ever.
    own: Vec<SocketAddr>,
    /// The server that answered last is asked first.
    preferred: AtomicUsize,
    under_way: Semaphore,
}

#[derive(Debug)]
struct ServersFile {
    path: PathBuf,
    looked_at: Option<Instant>,
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl Forwarder {
    /// From the configuration.
    pub(crate) fn new(config: &Config) -> Result<Self, DnsError> {
        let mut stubs = Vec::with_capacity(config.stub_domains.len());
        for (text, servers) in &config.stub_domains {
            stubs.push((domain(text)?, servers.clone()));
        }
        // The longest domain that a name is in decides.
        stubs.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.num_labels()));
        Ok(Self {
            fixed: config.upstreams.clone(),
            stubs,
            file: Mutex::new(ServersFile {
                path: config.resolv_conf.clone(),
                looked_at: None,
                modified: None,
                servers: Vec::new(),
            }),
            own: config.addresses.clone(),
            preferred: AtomicUsize::new(0),
            under_way: Semaphore::new(UNDER_WAY_MAX),
        })
    }

    /// Asks about a name of our own finding.
    pub(crate) async fn look_up(
        &self,
        name: Name,
        wanted: RecordType,
    ) -> Result<Vec<u8>, ForwardError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.queries.push(Query::query(name.clone(), wanted));
        let bytes = message.to_vec().map_err(|_| ForwardError::NoServers)?;
        let answer = self.ask(&bytes, &name, Transport::Udp).await?;
        let is_cut = answer.get(2).is_some_and(|flags| flags & 0x02 != 0);
        if is_cut { self.ask(&bytes, &name, Transport::Tcp).await } else { Ok(answer) }
    }

    /// Passes on a client's message about `name`.
    pub(crate) async fn ask(
        &self,
        bytes: &[u8],
        name: &Name,
        transport: Transport,
    ) -> Result<Vec<u8>, ForwardError> {
        let _permit = self.under_way.try_acquire().map_err(|_| ForwardError::Busy)?;
        let servers = self.servers(name);
        if servers.is_empty() {
            return Err(ForwardError::NoServers);
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let mut unanswered = None;
        for attempt in 0..ATTEMPTS_MAX {
            let at = first.wrapping_add(attempt) % servers.len();
            let server = servers[at];
            let exchange = async {
                match transport {
                    Transport::Udp => over_udp(bytes, server).await,
                    Transport::Tcp => over_tcp(bytes, server).await,
                }
            };
            let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
            match timeout(SERVER_TIMEOUT, exchange).await.unwrap_or_else(|_| timed_out()) {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    debug!(%server, %error, %name, "no answer");
                    unanswered = Some(ForwardError::Unanswered { server, source: error });
                }
            }
        }
        Err(unanswered.unwrap_or(ForwardError::NoServers))
    }

    fn servers(&self, name: &Name) -> Vec<SocketAddr> {
        let stub = self.stubs.iter().find(|(domain, _)| domain.zone_of(name));
        let mut servers = match stub {
            Some((_, servers)) => servers.clone(),
            None if !self.fixed.is_empty() => self.fixed.clone(),
            None => self.file.lock().servers(),
        };
        servers.retain(|server| !self.own.contains(server));
        servers
    }
}

impl ServersFile {
    /// The servers now. The file is small and looked at rarely enough for a blocking read.
    fn servers(&mut self) -> Vec<SocketAddr> {
        let now = Instant::now();
        let is_due = self.looked_at.is_none_or(|at| now - at >= LOOK_AT_FILE_EVERY);
        if is_due {
            self.looked_at = Some(now);
            let modified = modified(&self.path);
            if modified.is_none() || modified != self.modified {
                self.modified = modified;
                self.servers = read(&self.path);
            }
        }
        self.servers.clone()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &Path) -> Vec<SocketAddr> {
    let servers = name_servers(&std::fs::read_to_string(path).unwrap_or_default());
    if servers.iter().all(|server| server.ip().is_loopback()) {
        // A stub on the loopback may lead back to us; the servers behind it do not.
        let behind = std::fs::read_to_string(SYSTEMD_RESOLV_CONF).unwrap_or_default();
        let behind = name_servers(&behind);
        if !behind.is_empty() {
            return behind;
        }
    }
    servers
}

/// A socket and a number of its own for each question: an answer can hardly be forged without
/// seeing it.
async fn over_udp(bytes: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, question) = renumbered(bytes)?;
    socket.send(&question).await?;
    let mut answer = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        if message_id(&answer[..length]) == Some(id) {
            answer.truncate(length);
            return restored(answer, bytes);
        }
    }
}

async fn over_tcp(bytes: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, question) = renumbered(bytes)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if message_id(&answer) != Some(id) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"));
    }
    restored(answer, bytes)
}

fn renumbered(bytes: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let id: u16 = rand::random();
    let mut question = bytes.to_vec();
    let place = question.first_chunk_mut().ok_or(io::ErrorKind::InvalidData)?;
    *place = id.to_be_bytes();
    Ok((id, question))
}

/// Gives the answer the number of the question that it is the answer to.
fn restored(mut answer: Vec<u8>, question: &[u8]) -> io::Result<Vec<u8>> {
    let id: [u8; 2] = *question.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    *answer.first_chunk_mut().ok_or(io::ErrorKind::InvalidData)? = id;
    Ok(answer)
}
