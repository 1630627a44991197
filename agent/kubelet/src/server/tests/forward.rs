//! Port forwarding to listeners on this machine and in a network namespace.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use bytes::Bytes;
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::{Near, hear, say, sockets, soon};
use crate::server::forward::carry;

/// A forwarded client behind its announcements; with what came before the last of them.
struct Forwarded {
    client: Near,
    task: tokio::task::JoinHandle<()>,
    early: Vec<(u8, Bytes)>,
}

async fn forwarded(netns: Option<PathBuf>, ports: &[u16]) -> Forwarded {
    let (server, mut client) = sockets().await;
    let task = tokio::spawn(carry(server, netns, ports.to_vec()));
    let (mut announced, mut early) = (BTreeMap::new(), Vec::new());
    while announced.len() < 2 * ports.len() {
        let (channel, bytes) = hear(&mut client).await.unwrap();
        match announced.entry(channel) {
            Entry::Occupied(_) => early.push((channel, bytes)),
            Entry::Vacant(place) => {
                place.insert(u16::from_le_bytes(bytes[..].try_into().unwrap()));
            }
        }
    }
    let wanted = ports.iter().flat_map(|port| [*port, *port]).enumerate();
    let wanted: BTreeMap<u8, u16> =
        wanted.map(|(index, port)| (u8::try_from(index).unwrap(), port)).collect();
    assert_eq!(announced, wanted, "each channel begins with its port");
    Forwarded { client, task, early }
}

impl Forwarded {
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        if self.early.is_empty() {
            hear(&mut self.client).await
        } else {
            Some(self.early.remove(0))
        }
    }

    /// Everything until the end.
    async fn all(&mut self) -> Vec<(u8, Bytes)> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }
}

#[tokio::test]
async fn the_answer_comes_after_the_end_of_the_question() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pod = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        question.reverse();
        stream.write_all(&question).await.unwrap();
    });
    let mut forwarded = forwarded(None, &[port]).await;
    // kubectl closes its end of the error stream first: the data goes on.
    say(&mut forwarded.client, b"\xff\x01").await;
    say(&mut forwarded.client, b"\x00abc").await;
    say(&mut forwarded.client, b"\x00def").await;
    say(&mut forwarded.client, b"\xff\x00").await;
    assert_eq!(forwarded.all().await, [(0, "fedcba".into())]);
    pod.await.unwrap();
    soon("the end", forwarded.task).await.unwrap();
}

#[tokio::test]
async fn one_port_fails_and_another_works() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Bound, so that nobody else takes it, but nobody listens.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let open_port = listener.local_addr().unwrap().port();
    let closed_port = closed.local_addr().unwrap().port();
    let mut forwarded = forwarded(None, &[closed_port, open_port]).await;
    let (channel, text) = forwarded.next().await.unwrap();
    assert_eq!(channel, 1);
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains(&closed_port.to_string()) && text.contains("refused"), "{text}");
    // What is sent to a connection that is not there hurts nobody.
    say(&mut forwarded.client, b"\x00lost").await;
    say(&mut forwarded.client, b"\x02kept").await;
    let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut kept = [0; 4];
    soon("bytes", stream.read_exact(&mut kept)).await.unwrap();
    assert_eq!(&kept, b"kept");
    // The client goes: so does the connection.
    drop(forwarded.client);
    assert_eq!(soon("the end", stream.read(&mut kept)).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_are_made_within_the_namespace() {
    let (sender, receiver) = mpsc::channel();
    // A namespace of its own, which ends with its only thread.
    let inside = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let thread = nix::unistd::gettid();
        let netns = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        sender.send((netns, listener.local_addr().unwrap().port())).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"inside").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let (netns, port) = receiver.recv().unwrap();
    let mut forwarded = forwarded(Some(netns.into()), &[port]).await;
    assert_eq!(forwarded.next().await.unwrap(), (0, "inside".into()));
    say(&mut forwarded.client, b"\xff\x00").await;
    assert_eq!(forwarded.next().await, None);
    soon("the end", forwarded.task).await.unwrap();
    inside.join().unwrap();
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_an_error_of_its_port() {
    let mut forwarded = forwarded(Some("/nowhere/netns".into()), &[80]).await;
    let messages = forwarded.all().await;
    assert_eq!(messages.len(), 1);
    assert!(messages[0].0 == 1 && messages[0].1.ends_with(b"(os error 2)"), "{messages:?}");
}
