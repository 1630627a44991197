//! Pods of the test node, and what their clients and servers do.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use host::isolated::Namespace;

/// Longest wait for an answer; a test that waits this long fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A pod: its namespace and its addresses.
pub(super) struct Pod {
    pub(super) ips: Vec<IpAddr>,
    namespace: Namespace,
}

impl Pod {
    pub(super) fn new(namespace: Namespace, ips: Vec<IpAddr>) -> Self {
        Self { ips, namespace }
    }

    /// Its IPv4 address, as servers call themselves.
    pub(super) fn name(&self) -> String {
        self.ips[0].to_string()
    }

    /// Runs `body` in the pod.
    pub(super) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        self.namespace.run(body)
    }

    /// Serves port 8080, TCP and UDP: every connection and datagram is answered with the pod's
    /// address and the client's.
    pub(super) fn serve(self) -> Self {
        for ip in self.ips.clone() {
            self.run(move || {
                serve_tcp(TcpListener::bind((ip, 8080)).unwrap());
                serve_udp(UdpSocket::bind((ip, 8080)).unwrap());
            });
        }
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
