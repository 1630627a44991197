//! Several streams over one WebSocket: the first byte of each message names the channel.
//!
//! Source: kubernetes apimachinery `util/remotecommand` and `util/httpstream/wsstream`
//! (`v4.channel.k8s.io`, `v5.channel.k8s.io`). v5 adds message `255, CHANNEL`: that channel's
//! writing end is closed.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// Protocols, the preferred first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
const RESIZE: u8 = 4;
pub(super) const CLOSE: u8 = 255;

/// A message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes for the process.
    Stdin(Bytes),
    /// Nothing more will come for the process.
    StdinEnd,
    /// The terminal has another size.
    Resize { width: u16, height: u16 },
    /// Not known; left alone.
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Reads a message.
pub(super) fn parse(mut message: Bytes) -> Received {
    if message.is_empty() {
        return Received::Other;
    }
    let body = message.split_off(1);
    match message[0] {
        STDIN => Received::Stdin(body),
        RESIZE => match serde_json::from_slice::<Size>(&body) {
            Ok(Size { width, height }) => Received::Resize { width, height },
            Err(_) => Received::Other,
        },
        CLOSE if body.first() == Some(&STDIN) => Received::StdinEnd,
        _ => Received::Other,
    }
}

/// A message to the client.
pub(super) fn frame(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message.into()
}

/// What the error channel says at the end: success, an exit code, or a failure to run.
pub(super) fn verdict(outcome: &Result<i32, String>) -> Value {
    match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(message) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "InternalError",
            "message": message,
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        for (message, wanted) in [
            (&b"\x00abc"[..], Received::Stdin(Bytes::from_static(b"abc"))),
            (b"\x00", Received::Stdin(Bytes::new())),
            (b"\xff\x00", Received::StdinEnd),
            (b"\xff\x01", Received::Other),
            (br#""#, Received::Other),
            (b"\x04{\"Width\":80,\"Height\":24}", Received::Resize { width: 80, height: 24 }),
            (b"\x04nonsense", Received::Other),
            (b"\x09", Received::Other),
        ] {
            assert_eq!(parse(Bytes::copy_from_slice(message)), wanted, "{message:?}");
        }
        assert_eq!(&frame(STDOUT, b"x")[..], b"\x01x");
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(&Ok(0))["status"], "Success");
        assert_eq!(verdict(&Ok(3))["details"]["causes"][0]["message"], "3");
        assert_eq!(verdict(&Err("no".into()))["message"], "no");
    }
}
