//! Frames: their head of eight bytes, and the fixed parts of control frames. PURE.

/// Bytes of a frame before its body.
pub(in super::super) const HEAD_BYTES: usize = 8;
/// The flag of a frame that is the last of its sender on the stream.
pub(in super::super) const FIN: u8 = 1;
/// Stream ids have 31 bits.
const ID_MASK: u32 = 0x7fff_ffff;
/// The version in control frames, with the bit that tells them from data.
const CONTROL_VERSION: u16 = 0x8003;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// Reasons to end a stream at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Status {
    /// The peer broke the protocol.
    ProtocolError = 1,
    /// There is no such stream.
    InvalidStream = 2,
    /// It is not begun: there are too many.
    RefusedStream = 3,
    /// Nobody wants the stream any more.
    Cancel = 5,
}

/// What kind of frame comes, and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Head {
    /// Bytes of a stream.
    Data { id: u32, fin: bool, length: usize },
    /// Anything else.
    Control { kind: u16, flags: u8, length: usize },
}

/// A control frame that means something here. Header blocks are still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Control<'a> {
    /// The peer opens a stream.
    SynStream { id: u32, fin: bool, block: &'a [u8] },
    /// The peer gives up a stream.
    RstStream { id: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// The peer opens no more streams.
    GoAway,
    /// Settings, windows, later headers: without effect.
    Other,
}

/// A frame that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Bad {
    /// A control frame of another version.
    #[error("SPDY version {0} instead of 3")]
    Version(u16),
    /// A body that is shorter than its fixed part.
    #[error("control frame {0} is too short")]
    Short(u16),
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the first eight bytes of a frame.
pub(in super::super) fn head(bytes: [u8; HEAD_BYTES]) -> Result<Head, Bad> {
    let [a, b, c, d, flags, l1, l2, l3] = bytes;
    let length = usize::from(l1) << 16 | usize::from(l2) << 8 | usize::from(l3);
    let first = u16::from_be_bytes([a, b]);
    if first & 0x8000 == 0 {
        let id = u32::from_be_bytes([a, b, c, d]);
        return Ok(Head::Data { id, fin: flags & FIN != 0, length });
    }
    if first != CONTROL_VERSION {
        return Err(Bad::Version(first & 0x7fff));
    }
    Ok(Head::Control { kind: u16::from_be_bytes([c, d]), flags, length })
}

/// Reads the body of a control frame.
pub(in super::super) fn control(kind: u16, flags: u8, body: &[u8]) -> Result<Control<'_>, Bad> {
    let short = Bad::Short(kind);
    let id = || word(body, 0).map(|id| id & ID_MASK).ok_or(short);
    Ok(match kind {
        // Stream, associated stream, priority and slot, then the headers.
        SYN_STREAM => {
            let block = body.get(10..).ok_or(short)?;
            Control::SynStream { id: id()?, fin: flags & FIN != 0, block }
        }
        RST_STREAM => Control::RstStream { id: id()? },
        PING => Control::Ping { id: word(body, 0).ok_or(short)? },
        GOAWAY => Control::GoAway,
        _ => Control::Other,
    })
}

fn length(of: usize) -> [u8; 3] {
    let bytes = u32::try_from(of).expect("frames are far below 16 MiB").to_be_bytes();
    [bytes[1], bytes[2], bytes[3]]
}

fn control_frame(kind: u16, body: &[&[u8]]) -> Vec<u8> {
    let total = body.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(HEAD_BYTES + total);
    out.extend_from_slice(&CONTROL_VERSION.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.push(0);
    out.extend_from_slice(&length(total));
    for part in body {
        out.extend_from_slice(part);
    }
    out
}

/// The head of a data frame.
pub(in super::super) fn data_head(id: u32, fin: bool, bytes: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = (id & ID_MASK).to_be_bytes();
    let [l1, l2, l3] = length(bytes);
    [a, b, c, d, u8::from(fin), l1, l2, l3]
}

/// Accepts a stream.
pub(in super::super) fn syn_reply(id: u32, block: &[u8]) -> Vec<u8> {
    control_frame(SYN_REPLY, &[&id.to_be_bytes(), block])
}

/// Ends a stream at once.
pub(in super::super) fn rst_stream(id: u32, status: Status) -> Vec<u8> {
    control_frame(RST_STREAM, &[&id.to_be_bytes(), &(status as u32).to_be_bytes()])
}

/// A ping, or its echo.
pub(in super::super) fn ping(id: u32) -> Vec<u8> {
    control_frame(PING, &[&id.to_be_bytes()])
}

/// Nothing more comes; `last` is the last stream that was accepted.
pub(in super::super) fn go_away(last: u32) -> Vec<u8> {
    control_frame(GOAWAY, &[&last.to_be_bytes(), &[0; 4]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(frame: &[u8]) -> (Head, &[u8]) {
        let (first, body) = frame.split_at(HEAD_BYTES);
        (head(first.try_into().expect("eight bytes")).expect("a head"), body)
    }

    #[test]
    fn heads_are_told_apart() {
        let data = head(data_head(7, true, 70_000));
        assert_eq!(data, Ok(Head::Data { id: 7, fin: true, length: 70_000 }));
        let syn = head([0x80, 3, 0, 1, 1, 0, 0, 20]);
        assert_eq!(syn, Ok(Head::Control { kind: SYN_STREAM, flags: 1, length: 20 }));
        assert_eq!(head([0x80, 2, 0, 1, 0, 0, 0, 0]), Err(Bad::Version(2)));
    }

    #[test]
    fn control_frames_are_read() {
        let body = [0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, b'x', b'y'];
        let stream = control(SYN_STREAM, FIN, &body);
        assert_eq!(stream, Ok(Control::SynStream { id: 3, fin: true, block: b"xy" }));
        assert_eq!(control(SYN_STREAM, 0, &body[..9]), Err(Bad::Short(SYN_STREAM)));
        assert_eq!(
            control(RST_STREAM, 0, &[0, 0, 0, 5, 0, 0, 0, 1]),
            Ok(Control::RstStream { id: 5 })
        );
        assert_eq!(control(GOAWAY, 0, &[]), Ok(Control::GoAway));
        // Settings, headers, windows.
        for kind in [4, 8, 9] {
            assert_eq!(control(kind, 0, &[]), Ok(Control::Other));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let written = ping(9);
        let (head, body) = parsed(&written);
        assert_eq!(head, Head::Control { kind: PING, flags: 0, length: 4 });
        assert_eq!(control(PING, 0, body), Ok(Control::Ping { id: 9 }));
        let written = rst_stream(4, Status::RefusedStream);
        assert_eq!(written, [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, 3]);
        assert_eq!(go_away(1).len(), HEAD_BYTES + 8);
        let written = syn_reply(2, b"abc");
        let (head, body) = parsed(&written);
        assert_eq!(head, Head::Control { kind: SYN_REPLY, flags: 0, length: 7 });
        assert_eq!(&body[4..], b"abc");
    }
}
