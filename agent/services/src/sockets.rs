//! Destroys connected UDP sockets whose backend has gone.
//!
//! A socket is translated when it connects; nothing looks at what it sends after that. Without
//! this, a process that keeps such a socket (resolvers do) would send into nowhere until it is
//! restarted. With it, its next call fails with `ECONNABORTED`, and connecting again works.

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use network::netns_cookie;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::error::ServicesError;
use crate::maps::Orphan;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY` of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Length of a netlink message's header.
const HEADER_BYTES: usize = 16;
/// Length of an inet_diag_sockid: two ports, two addresses, a link, a cookie.
const ID_BYTES: usize = 48;
const ID_COOKIE: usize = 40;
/// Where it is in an inet_diag_msg, after family, state, timer and retransmits.
const ID_IN_ANSWER: usize = HEADER_BYTES + 4;
/// The kernel answers in pieces of at most 32 KiB.
const ANSWER_BYTES: usize = 32 * 1024;
/// AF_INET and AF_INET6, as bytes of a message.
const FAMILIES: [u8; 2] = [2, 10];
const IPPROTO_UDP: u8 = 17;

/// Destroys `orphans`, wherever they are: in this namespace, or one of `namespaces`.
pub(crate) fn destroy(orphans: &[Orphan], namespaces: &[PathBuf]) -> Result<(), ServicesError> {
    if orphans.is_empty() {
        return Ok(());
    }
    let own = Path::new("/proc/thread-self/ns/net");
    let mut left: BTreeSet<u64> = orphans.iter().map(|orphan| orphan.netns_cookie).collect();
    let mut failed = None;
    for namespace in std::iter::once(own).chain(namespaces.iter().map(PathBuf::as_path)) {
        if left.is_empty() {
            break;
        }
        match network::enter(namespace, || destroy_here(orphans)) {
            Ok(netns_cookie) => _ = left.remove(&netns_cookie),
            // A pod that has just gone took its sockets along.
            Err(network::NetworkError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let (namespace, source) = (namespace.to_owned(), Box::new(source));
                failed = Some(ServicesError::Sockets { namespace, source });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Destroys those in the calling thread's namespace, and returns its cookie.
fn destroy_here(orphans: &[Orphan]) -> io::Result<u64> {
    let here = netns_cookie()?;
    let wanted: BTreeSet<u64> = orphans
        .iter()
        .filter(|orphan| orphan.netns_cookie == here)
        .map(|orphan| orphan.socket_cookie)
        .collect();
    if wanted.is_empty() {
        return Ok(here);
    }
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    for family in FAMILIES {
        for id in list(&netlink, family)? {
            if wanted.contains(&cookie(&id)) {
                let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
                send(&netlink, SOCK_DESTROY, flags, family, &id)?;
                // Closed meanwhile: then all is well.
                _ = receive(&netlink)?;
            }
        }
    }
    Ok(here)
}

/// The ids of all UDP sockets of a family.
fn list(netlink: &OwnedFd, family: u8) -> io::Result<Vec<[u8; ID_BYTES]>> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    send(netlink, SOCK_DIAG_BY_FAMILY, flags, family, &[0; ID_BYTES])?;
    let mut ids = Vec::new();
    loop {
        let answer = receive(netlink)?;
        let mut rest = &answer[..];
        while let Some((message, after)) = split_message(rest) {
            let kind = u16::from_ne_bytes([message[4], message[5]]);
            if i32::from(kind) == libc::NLMSG_DONE || i32::from(kind) == libc::NLMSG_ERROR {
                return Ok(ids);
            }
            if let Some(id) = message.get(ID_IN_ANSWER..).and_then(|bytes| bytes.first_chunk()) {
                ids.push(*id);
            }
            rest = after;
        }
    }
}

/// The first message and what is after it; messages begin at multiples of four bytes.
fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(length).ok().filter(|length| *length >= HEADER_BYTES)?;
    let message = bytes.get(..length)?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

fn cookie(id: &[u8; ID_BYTES]) -> u64 {
    // Two words, the lower one first.
    let word = |at: usize| u32::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]);
    u64::from(word(ID_COOKIE)) | u64::from(word(ID_COOKIE + 4)) << 32
}

fn send(
    netlink: &OwnedFd,
    kind: u16,
    flags: i32,
    family: u8,
    id: &[u8; ID_BYTES],
) -> io::Result<()> {
    let flags = u16::try_from(flags).map_err(io::Error::other)?;
    let length = HEADER_BYTES + 8 + ID_BYTES;
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 2 * size_of::<u32>()]);
    // An inet_diag_req_v2: family, protocol, no extensions, padding, every state, the id.
    message.extend([family, IPPROTO_UDP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(id);
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

fn receive(netlink: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; ANSWER_BYTES];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}
