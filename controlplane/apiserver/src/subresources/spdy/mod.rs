//! SPDY/3.1, as far as Kubernetes' clients use it: exec and attach of kubectl up to 1.30 and of
//! client-go, port-forward of every kubectl.
//!
//! [`frame`] and [`headers`] are the pure codec, [`session`] carries streams over a connection.
//! Source: the draft "SPDY Protocol - Draft 3.1"; what clients really do is that of
//! `moby/spdystream`, see `docs/decisions/0069-spdy-ends-at-the-api-server.md`.

pub(super) mod frame;
pub(super) mod headers;
pub(super) mod session;

pub(super) use session::{Piece, Reader, Stream, Streams, Writer};
