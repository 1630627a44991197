//! Moves bytes between sockets and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::answer::{Outcome, Reply, Zone, answer};
use crate::forward::{ForwardError, Forwarder};
use crate::hold::{self, Pair};
use crate::message::{Question, Transport, answers};
use crate::records::Records;
use crate::{Config, DnsError};

/// Longest question over UDP; real ones are far below.
const DATAGRAM_BYTES: usize = 4_096;
/// Most connections at a time; each costs two tasks.
const CONNECTIONS_MAX: usize = 256;
/// A connection without questions is closed after this (RFC 7766 asks for some seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most answers of one connection that wait to be written; then its questions wait.
const ANSWERS_MAX: usize = 32;
/// An aliased name that leads to an alias leads to this many more at most.
const ALIASES_MAX: usize = 8;

/// All that is needed to answer.
#[derive(Debug)]
pub(crate) struct Answerer {
    pub(crate) zone: Zone,
    pub(crate) records: RwLock<Records>,
    pub(crate) forwarder: Forwarder,
}

/// The sockets, bound.
pub(crate) struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Binds both transports of every address, or takes over those that are held.
    pub(crate) async fn bind(config: &Config) -> Result<Self, DnsError> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for address in &config.addresses {
            let failed = |source| DnsError::Listen { address: *address, source };
            let Pair { udp, tcp } = match &config.hold_dir {
                Some(dir) => hold::sockets(dir, *address).await.map_err(failed)?,
                None => hold::bind(*address).map_err(failed)?,
            };
            udp.set_nonblocking(true).map_err(failed)?;
            tcp.set_nonblocking(true).map_err(failed)?;
            sockets.udp.push(UdpSocket::from_std(udp).map_err(failed)?);
            sockets.tcp.push(TcpListener::from_std(tcp).map_err(failed)?);
        }
        Ok(sockets)
    }

    /// Serves for ever.
    pub(crate) async fn serve(self, answerer: Arc<Answerer>) {
        let mut serving = tokio::task::JoinSet::new();
        for socket in self.udp {
            serving.spawn(serve_udp(Arc::new(socket), Arc::clone(&answerer)));
        }
        for listener in self.tcp {
            serving.spawn(serve_tcp(listener, Arc::clone(&answerer)));
        }
        while serving.join_next().await.is_some() {}
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, answerer: Arc<Answerer>) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as the news that a client has gone away, of an earlier answer.
                debug!(%error, "cannot receive");
                continue;
            }
        };
        match answerer.answer_now(&buffer[..length], Transport::Udp) {
            Now::Answer(bytes) => send(&socket, &bytes, client).await,
            Now::Later(later) => {
                let (socket, answerer) = (Arc::clone(&socket), Arc::clone(&answerer));
                let bytes = buffer[..length].to_vec();
                // Bounded by the forwarder, which refuses what is too much.
                tokio::spawn(async move {
                    send(&socket, &answerer.answer_later(&bytes, later).await, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if !bytes.is_empty()
        && let Err(error) = socket.send_to(bytes, client).await
    {
        debug!(%error, %client, "cannot answer");
    }
}

async fn serve_tcp(listener: TcpListener, answerer: Arc<Answerer>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let answerer = Arc::clone(&answerer);
                tokio::spawn(async move {
                    serve_connection(stream, answerer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors: those in use come back when their connections are idle.
                warn!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Questions may follow each other without waiting; answers go out in the order in which they are
/// ready.
async fn serve_connection(stream: TcpStream, answerer: Arc<Answerer>) {
    let (reader, mut writer) = stream.into_split();
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(ANSWERS_MAX);
    let writing = async move {
        while let Some(bytes) = ready.recv().await {
            let Ok(length) = u16::try_from(bytes.len()) else { break };
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend(bytes);
            if timeout(IDLE_TIMEOUT, writer.write_all(&framed)).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read_questions(reader, answers, answerer), writing);
}

async fn read_questions(
    mut reader: OwnedReadHalf,
    answers: mpsc::Sender<Vec<u8>>,
    answerer: Arc<Answerer>,
) {
    loop {
        let question = async {
            let length = reader.read_u16().await?;
            let mut bytes = vec![0; length.into()];
            reader.read_exact(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let Ok(Ok(bytes)) = timeout(IDLE_TIMEOUT, question).await else {
            return;
        };
        let Ok(slot) = answers.clone().reserve_owned().await else {
            return;
        };
        match answerer.answer_now(&bytes, Transport::Tcp) {
            Now::Answer(answer) if answer.is_empty() => return,
            Now::Answer(answer) => drop(slot.send(answer)),
            Now::Later(later) => {
                let answerer = Arc::clone(&answerer);
                tokio::spawn(async move {
                    drop(slot.send(answerer.answer_later(&bytes, later).await));
                });
            }
        }
    }
}

/// What can be said at once.
enum Now {
    /// Everything; nothing if the message deserves no answer.
    Answer(Vec<u8>),
    /// Others have to be asked first.
    Later(Box<Later>),
}

struct Later {
    question: Question,
    outcome: Outcome,
}

impl Answerer {
    fn answer_now(&self, bytes: &[u8], transport: Transport) -> Now {
        let question = match Question::read(bytes, transport) {
            Ok(question) => question,
            Err(answer) => return Now::Answer(answer),
        };
        let query = question.query();
        let turn = question.id().into();
        let outcome = answer(&self.records.read(), &self.zone, &query.name, query.query_type, turn);
        match outcome {
            Outcome::Reply(reply) => Now::Answer(question.answer(reply)),
            outcome => Now::Later(Box::new(Later { question, outcome })),
        }
    }

    async fn answer_later(&self, bytes: &[u8], later: Box<Later>) -> Vec<u8> {
        let Later { question, outcome } = *later;
        let asked = match outcome {
            Outcome::Reply(reply) => return question.answer(reply),
            Outcome::Forward => {
                self.forwarder.ask(bytes, &question.query().name, question.transport()).await
            }
            Outcome::Chase(reply, target) => {
                self.chase(&question, reply, target).await.map(|reply| question.answer(reply))
            }
        };
        asked.unwrap_or_else(|error| {
            let name = &question.query().name;
            debug!(error = &error as &dyn std::error::Error, %name, "failed");
            question.error(ResponseCode::ServFail)
        })
    }

    /// Adds to an alias what its target has to say. The target may be in the cluster too.
    async fn chase(
        &self,
        question: &Question,
        mut reply: Reply,
        mut target: hickory_proto::rr::Name,
    ) -> Result<Reply, ForwardError> {
        let wanted = question.query().query_type;
        for _ in 0..ALIASES_MAX {
            let outcome = answer(&self.records.read(), &self.zone, &target, wanted, 0);
            match outcome {
                Outcome::Reply(found) => {
                    reply.answers.extend(found.answers);
                    return Ok(Reply { code: found.code, ..reply });
                }
                Outcome::Chase(found, next) => {
                    reply.answers.extend(found.answers);
                    target = next;
                }
                Outcome::Forward => {
                    let bytes = self.forwarder.look_up(target, wanted).await?;
                    if let Some((code, found)) = answers(&bytes) {
                        reply.code = code;
                        reply.answers.extend(found);
                    }
                    return Ok(reply);
                }
            }
        }
        Ok(Reply { code: ResponseCode::ServFail, ..reply })
    }
}
