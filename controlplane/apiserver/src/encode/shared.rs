//! Frames of watch events that take encoding (protobuf, partial objects), made once for all
//! watchers. JSON of whole objects needs none of this: it is the stored bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::negotiate::Form;

/// Frames that are kept: watchers that keep up want one of the last few.
const FRAMES: usize = 256;
/// Bytes that are kept, so that large objects do not hold much memory.
const BYTES: usize = 1024 * 1024;

/// What makes a frame: the version of an object, which a revision names, and how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameKey {
    /// Revision of the object's version.
    pub revision: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub event: &'static str,
    /// Encoding and shape.
    pub form: Form,
    /// The version of the API: `autoscaling/v1` and `v2` show one object differently.
    pub api_version: String,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<(FrameKey, Bytes)>,
    bytes: usize,
}

/// The latest frames.
#[derive(Debug, Default)]
pub(crate) struct SharedFrames {
    ring: Mutex<Ring>,
}

impl SharedFrames {
    /// The frame of a key; `make` encodes it if nobody has yet. Who wants the same frame at the
    /// same time waits for it, which takes no longer than encoding it once more.
    pub(crate) fn get(&self, key: FrameKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut ring = self.ring.lock();
        if let Some((_, frame)) = ring.frames.iter().rev().find(|(made, _)| *made == key) {
            return frame.clone();
        }
        let frame = make();
        ring.bytes += frame.len();
        ring.frames.push_back((key, frame.clone()));
        while ring.frames.len() > FRAMES || ring.bytes > BYTES {
            let Some((_, oldest)) = ring.frames.pop_front() else { break };
            ring.bytes -= oldest.len();
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(revision: u64) -> FrameKey {
        FrameKey { revision, event: "ADDED", form: Form::JSON, api_version: "v1".into() }
    }

    #[test]
    fn a_frame_is_made_once_and_forgotten_in_turn() {
        let shared = SharedFrames::default();
        let made = std::cell::Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Bytes::from_static(b"frame")
        };
        for _ in 0..1000 {
            assert_eq!(shared.get(key(1), make), "frame");
        }
        assert_eq!(made.get(), 1);
        shared.get(FrameKey { event: "DELETED", ..key(1) }, make);
        assert_eq!(made.get(), 2);
        for revision in 2..2 + FRAMES as u64 {
            shared.get(key(revision), make);
        }
        assert_eq!(made.get(), 2 + FRAMES);
        shared.get(key(1), make);
        assert_eq!(made.get(), 3 + FRAMES);
    }

    #[test]
    fn large_frames_are_not_kept() {
        let shared = SharedFrames::default();
        let large = || Bytes::from(vec![0; BYTES + 1]);
        assert_eq!(shared.get(key(1), large).len(), BYTES + 1);
        assert_eq!(shared.ring.lock().bytes, 0);
    }
}
