//! Lists and watch events from bytes. One object that does not decode never hides the others.

use bytes::{Buf, Bytes, BytesMut};
use objects::{ObjectKey, Revision};
use serde::Deserialize;

use crate::{Object, Partial};

/// A watch line longer than this ends the watch: no object may be larger than a request body
/// (3 MiB), and JSON escapes cannot make it five times longer in practice.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Splits a byte stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// Bytes of `buffer` already known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), LineTooLong> {
        if self.buffer.len() + chunk.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next complete line without its end; blank lines are skipped.
    pub(crate) fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(offset) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + offset).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }
}

/// A watch line went past its limit.
#[derive(Debug, thiserror::Error)]
#[error("a watch event is longer than {LINE_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

/// One decoded watch event.
#[derive(Debug)]
pub(crate) enum WatchEvent<K> {
    Applied(K),
    Deleted(ObjectKey, Revision),
    Bookmark(Revision),
    /// The object is there, but not in the expected form.
    Undecodable(ObjectKey, Revision, serde_json::Error),
    /// The server ended the watch; 410 means that the revision is too old.
    Failed(u16, String),
}

#[derive(Deserialize)]
struct Typed<K> {
    object: K,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// Only the envelope; serde skips the object.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
}

pub(crate) fn watch_event<K: Object>(line: &[u8]) -> Result<WatchEvent<K>, serde_json::Error> {
    let kind = serde_json::from_slice::<Envelope>(line)?.kind;
    match kind.as_str() {
        "ADDED" | "MODIFIED" => match serde_json::from_slice::<Typed<K>>(line) {
            Ok(event) => Ok(WatchEvent::Applied(event.object)),
            Err(error) => {
                let partial = serde_json::from_slice::<Typed<Partial>>(line)?.object;
                let revision = Revision(partial.revision());
                Ok(WatchEvent::Undecodable(partial.key(), revision, error))
            }
        },
        "DELETED" => {
            let partial = serde_json::from_slice::<Typed<Partial>>(line)?.object;
            Ok(WatchEvent::Deleted(partial.key(), Revision(partial.revision())))
        }
        "BOOKMARK" => {
            let partial = serde_json::from_slice::<Typed<Partial>>(line)?.object;
            Ok(WatchEvent::Bookmark(Revision(partial.revision())))
        }
        "ERROR" => {
            let failure = serde_json::from_slice::<Typed<Failure>>(line)?.object;
            Ok(WatchEvent::Failed(failure.code, failure.message))
        }
        other => Ok(WatchEvent::Failed(0, format!("watch event of unknown type {other:?}"))),
    }
}

/// A decoded list: what could be read, the keys and errors of what could not.
#[derive(Debug)]
pub(crate) struct List<K> {
    pub(crate) objects: Vec<K>,
    pub(crate) revision: Revision,
    pub(crate) bad: Vec<(ObjectKey, serde_json::Error)>,
}

#[derive(Deserialize)]
struct ListMeta {
    #[serde(default, rename = "resourceVersion")]
    resource_version: String,
}

#[derive(Deserialize)]
struct RawList<T> {
    metadata: ListMeta,
    // A list without items may be sent as null.
    items: Option<Vec<T>>,
}

pub(crate) fn list<K: Object>(json: &[u8]) -> Result<List<K>, serde_json::Error> {
    let revision = |meta: &ListMeta| Revision(meta.resource_version.parse().unwrap_or(0));
    if let Ok(raw) = serde_json::from_slice::<RawList<K>>(json) {
        let revision = revision(&raw.metadata);
        return Ok(List { objects: raw.items.unwrap_or_default(), revision, bad: Vec::new() });
    }
    // The slow way, taken only when some object is bad: one by one.
    let raw: RawList<serde_json::Value> = serde_json::from_slice(json)?;
    let mut list = List { objects: Vec::new(), revision: revision(&raw.metadata), bad: Vec::new() };
    for item in raw.items.unwrap_or_default() {
        match K::deserialize(&item) {
            Ok(object) => list.objects.push(object),
            Err(error) => {
                let key = Partial::deserialize(&item).unwrap_or_default().key();
                list.bad.push((key, error));
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn lines_survive_any_chunking() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\"";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk).unwrap();
                while let Some(line) = lines.next_line() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}"], "chunks of {size}");
        }
    }

    #[test]
    fn events_decode_by_type() {
        let decode = |text: &str| watch_event::<ConfigMap>(text.as_bytes()).unwrap();
        let meta = r#"{"metadata":{"name":"x","namespace":"a","resourceVersion":"7"}}"#;
        let added = decode(&format!(r#"{{"type":"ADDED","object":{meta}}}"#));
        assert!(matches!(added, WatchEvent::Applied(map) if map.revision() == 7));
        let deleted = decode(&format!(r#"{{"type":"DELETED","object":{meta}}}"#));
        assert!(
            matches!(deleted, WatchEvent::Deleted(key, Revision(7)) if key.to_string() == "a/x")
        );
        let bookmark = decode(&format!(r#"{{"type":"BOOKMARK","object":{meta}}}"#));
        assert!(matches!(bookmark, WatchEvent::Bookmark(Revision(7))));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"old"}}"#;
        assert!(matches!(decode(gone), WatchEvent::Failed(410, message) if message == "old"));
        let bad = r#"{"type":"MODIFIED","object":{"metadata":{"name":"x","resourceVersion":"8"},"data":[1]}}"#;
        assert!(
            matches!(decode(bad), WatchEvent::Undecodable(key, Revision(8), _) if key.name == "x")
        );
    }

    #[test]
    fn one_bad_item_does_not_hide_the_list() {
        let json = br#"{"metadata":{"resourceVersion":"5"},"items":[
            {"metadata":{"name":"good"}},{"metadata":{"name":"bad"},"data":3}]}"#;
        let list = list::<ConfigMap>(json).unwrap();
        assert_eq!(list.revision, Revision(5));
        assert_eq!(list.objects.len(), 1);
        assert_eq!(list.bad[0].0.name, "bad");
    }
}
