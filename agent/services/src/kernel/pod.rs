//! A namespace that plays a pod: a thread in it, on which clients and servers are run.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::ip;

/// Longest wait for an answer; a test that waits this long fails.
const PATIENCE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A pod: its thread ends with it, and the namespace with the thread.
pub(super) struct Pod {
    pub(super) ip: IpAddr,
    jobs: SyncSender<Job>,
}

impl Pod {
    /// A pod `10.244.0.N` (and `fd00:244::N`, its `ip` if `v6`), joined to the node's bridge.
    pub(super) fn new(number: u8, v6: bool) -> Self {
        let (jobs, to_do) = sync_channel::<Job>(1);
        let (ready, is_ready) = sync_channel(1);
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            while let Ok(job) = to_do.recv() {
                job();
            }
        });
        let tid = is_ready.recv().unwrap();
        let host_side = format!("veth{number}");
        ip(&format!("link add {host_side} type veth peer name eth0 netns {tid}"));
        ip(&format!("link set {host_side} master pods0 up"));
        let v4_ip = format!("10.244.0.{number}");
        let v6_ip = format!("fd00:244::{number}");
        let pod = Self { ip: if v6 { &v6_ip } else { &v4_ip }.parse().unwrap(), jobs };
        pod.run(move || {
            ip("link set lo up");
            ip("link set eth0 up");
            ip(&format!("addr add {v4_ip}/24 dev eth0"));
            ip(&format!("addr add {v6_ip}/64 dev eth0 nodad"));
            ip("route add default via 10.244.0.1");
            ip("route add default via fd00:244::1");
        });
        pod
    }

    /// Runs `body` in the pod.
    pub(super) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        self.jobs.send(Box::new(move || done.send(body()).unwrap())).unwrap();
        result.recv().expect("the body did not panic")
    }

    /// Serves port 8080, TCP and UDP: every connection and datagram is answered with the pod's
    /// address and the client's.
    pub(super) fn serve(self) -> Self {
        let ip = self.ip;
        self.run(move || {
            serve_tcp(TcpListener::bind((ip, 8080)).unwrap());
            serve_udp(UdpSocket::bind((ip, 8080)).unwrap());
        });
        self
    }
}

/// Threads inherit the namespace of the one that starts them.
fn serve_tcp(listener: TcpListener) {
    let me = listener.local_addr().unwrap().ip();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let client = stream.peer_addr().unwrap().ip();
            // A client that has gone away is its own business.
            _ = write!(stream, "{me} {client}");
        }
    });
}

fn serve_udp(socket: UdpSocket) {
    let me = socket.local_addr().unwrap().ip();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            _ = socket.send_to(format!("{me} {}", client.ip()).as_bytes(), client);
        }
    });
}

/// What a client saw: who answered, whom that one saw, and the socket's idea of its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) server: String,
    pub(super) client: String,
    pub(super) peer: SocketAddr,
}

pub(super) fn tcp(address: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(answer(&text, peer))
}

/// One datagram there and back on an unconnected socket.
pub(super) fn udp(socket: &UdpSocket, address: &str) -> std::io::Result<Answer> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 512];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    Ok(answer(&String::from_utf8_lossy(&buffer[..length]), peer))
}

fn answer(text: &str, peer: SocketAddr) -> Answer {
    let (server, client) = text.split_once(' ').expect("servers answer with two addresses");
    Answer { server: server.to_owned(), client: client.to_owned(), peer }
}
