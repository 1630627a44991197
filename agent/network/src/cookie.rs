//! The kernel's number for a network namespace, as BPF programs see it.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// The cookie of the calling thread's network namespace: unique until reboot.
///
/// # Errors
/// If the kernel is older than 5.14, or sockets cannot be made.
#[allow(unsafe_code, reason = "no crate wraps this socket option")]
pub fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length =
        libc::socklen_t::try_from(size_of::<u64>()).expect("the size of a u64 fits any length");
    // SAFETY: `cookie` and `length` are live for the call and `length` is the size of `cookie`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
