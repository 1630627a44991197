//! The node's own address, as the kernel would choose it.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result};

/// The source address towards the outside. Connecting a UDP socket sends nothing: it only asks the
/// routing table.
pub(crate) fn address() -> Result<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("open a UDP socket")?;
    // TEST-NET-1 (RFC 5737): an address that is nobody's, to look the default route up.
    socket.connect(("192.0.2.1", 9)).context("there is no default route")?;
    Ok(socket.local_addr().context("ask for the socket's address")?.ip())
}
