//! The one dump format: backup, restore, and moving between backends.
//!
//! ```text
//! {"format":"skeg-store","version":1,"revision":REVISION,"records":COUNT}
//! {"key":KEY,"revision":N,"created":N,"revision_at":N,"expires_at_secs":N|null,"bytes":LENGTH}
//! VALUE                                  (LENGTH bytes, its revision filled in, then a newline)
//! …                                      (COUNT times, keys in order)
//! {"end":COUNT}
//! ```

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::backend::{Attempt, Backend, Change, SharedBackend};
use crate::error::StoreError;
use crate::record::{Record, Write, digits};
use crate::store::{List, Store};

const FORMAT: &str = "skeg-store";
const VERSION: u32 = 1;

/// How far a restored store counts on beyond its dump. Clients that saw revisions after the dump
/// was made must find theirs in the past (`410 Gone`, list again) and never in the future. The same
/// step as etcd's tools use; no store writes that much between a backup and its restore.
const RESTORE_GAP: u64 = 1_000_000_000;

/// Writes under way at once while restoring into a shared backend.
const RESTORES_AT_ONCE: usize = 64;

/// Longest value that is read back; the API accepts 3 MiB.
const VALUE_LIMIT_BYTES: u64 = 64 << 20;

/// Longest line between values: a key of a few hundred bytes and numbers.
const LINE_LIMIT_BYTES: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    revision: u64,
    records: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: Arc<str>,
    revision: u64,
    created: u64,
    revision_at: u32,
    expires_at_secs: Option<u64>,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    end: u64,
}

/// What was dumped or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dumped {
    /// Revision of the snapshot, or of the restored store.
    pub revision: u64,
    /// Number of keys.
    pub records: u64,
}

impl Store {
    /// Writes a consistent snapshot while the store goes on working. Blocking: call it where that
    /// is fine, with a buffered writer, and flush and sync that afterwards.
    ///
    /// # Errors
    /// What the writer says.
    pub fn dump(&self, out: &mut dyn io::Write) -> io::Result<Dumped> {
        let page = self.list(&List::default()).expect("now can be listed");
        let dumped = Dumped { revision: page.revision, records: page.records.len() as u64 };
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            revision: dumped.revision,
            records: dumped.records,
        };
        line(out, &header)?;
        for record in &page.records {
            let entry = Entry {
                key: Arc::clone(&record.key),
                revision: record.revision,
                created: record.created,
                revision_at: record.revision_at,
                expires_at_secs: record.expires_at_secs,
                bytes: record.json.len() as u64,
            };
            line(out, &entry)?;
            out.write_all(&record.json)?;
            out.write_all(b"\n")?;
        }
        line(out, &End { end: dumped.records })?;
        Ok(dumped)
    }
}

/// Fills an empty backend, not yet opened as a store, with a dump: all of it or nothing.
///
/// # Errors
/// [`StoreError::NotEmpty`], [`StoreError::Dump`], and what the backend says; the backend is
/// unchanged then.
pub async fn restore(
    backend: &mut dyn Backend,
    input: &mut (dyn BufRead + Send),
) -> Result<Dumped, StoreError> {
    let held = backend.load().await?;
    if held.revision != 0 || !held.records.is_empty() {
        return Err(StoreError::NotEmpty { revision: held.revision });
    }
    let (records, revision) = read(input)?;
    let restored = Dumped { revision: revision + RESTORE_GAP, records: records.len() as u64 };
    let group = records.into_iter().map(|record| Change::Put(Arc::new(record))).collect();
    backend.append(group, restored.revision).await?;
    Ok(restored)
}

/// The same for a backend that servers share. The backend gives out the revisions, so the records get
/// new ones. Stop the servers first.
///
/// # Errors
/// As [`restore`]; if a write fails, everything that was restored is removed again.
pub async fn restore_shared(
    backend: &dyn SharedBackend,
    input: &mut (dyn BufRead + Send),
) -> Result<Dumped, StoreError> {
    let held = backend.load().await?;
    if !held.records.is_empty() {
        return Err(StoreError::NotEmpty { revision: held.revision });
    }
    let (records, _) = read(input)?;
    let restored = put_all(backend, &records).await;
    if restored.is_err() {
        backend.clear().await?;
    }
    restored
}

async fn put_all(backend: &dyn SharedBackend, records: &[Record]) -> Result<Dumped, StoreError> {
    let mut revision = 0;
    for part in records.chunks(RESTORES_AT_ONCE) {
        let writes = part.iter().map(|record| put(backend, record));
        for written in join_all(writes).await {
            revision = revision.max(written?);
        }
    }
    Ok(Dumped { revision, records: records.len() as u64 })
}

async fn put(backend: &dyn SharedBackend, record: &Record) -> Result<u64, StoreError> {
    match backend.attempt(&record.key, &Write::Create(record.payload())).await? {
        Attempt::Done { revision, .. } => Ok(revision),
        // Some server is at work after all.
        Attempt::Refused(found) => {
            Err(StoreError::NotEmpty { revision: found.map_or(0, |found| found.revision) })
        }
    }
}

/// Reads and checks a whole dump: its records and its revision.
fn read(input: &mut dyn BufRead) -> Result<(Vec<Record>, u64), StoreError> {
    let header: Header = parse(input, 0)?;
    if header.format != FORMAT || header.version != VERSION {
        let reason = format!("it is {} version {}", header.format, header.version);
        return Err(StoreError::Dump { record: 0, reason });
    }
    let mut keys = BTreeSet::new();
    let mut records = Vec::new();
    for number in 1..=header.records {
        let entry: Entry = parse(input, number)?;
        if !keys.insert(Arc::clone(&entry.key)) {
            return Err(broken(number, format!("{} is there twice", entry.key)));
        }
        if entry.revision > header.revision || entry.created > entry.revision {
            return Err(broken(number, format!("{} has impossible revisions", entry.key)));
        }
        records.push(value(input, number, entry)?);
    }
    let end: End = parse(input, header.records)?;
    if end.end != header.records {
        return Err(broken(end.end, "the number of records is wrong".to_owned()));
    }
    Ok((records, header.revision))
}

fn value(input: &mut dyn BufRead, number: u64, entry: Entry) -> Result<Record, StoreError> {
    let length = entry.bytes;
    if length > VALUE_LIMIT_BYTES {
        return Err(broken(number, format!("a value of {length} bytes")));
    }
    let mut json = Vec::new();
    // One more for the newline.
    let read = input.take(length + 1).read_to_end(&mut json);
    read.map_err(|error| broken(number, error.to_string()))?;
    if json.pop() != Some(b'\n') || json.len() as u64 != length {
        return Err(broken(number, "the value is cut off".to_owned()));
    }
    let at = entry.revision_at as usize;
    let spelled = json.get(at..at.saturating_add(digits(entry.revision)));
    if spelled != Some(entry.revision.to_string().as_bytes()) {
        return Err(broken(number, format!("{} does not hold its revision", entry.key)));
    }
    json.shrink_to_fit();
    Ok(Record::from_parts(
        entry.key,
        entry.revision,
        entry.created,
        Bytes::from(json),
        entry.revision_at,
        entry.expires_at_secs,
    ))
}

fn line(out: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn parse<T: for<'de> Deserialize<'de>>(
    input: &mut dyn BufRead,
    number: u64,
) -> Result<T, StoreError> {
    let mut text = Vec::new();
    let read = input.take(LINE_LIMIT_BYTES).read_until(b'\n', &mut text);
    read.map_err(|error| broken(number, error.to_string()))?;
    if text.last() != Some(&b'\n') {
        return Err(broken(number, "the dump is cut off".to_owned()));
    }
    serde_json::from_slice(&text).map_err(|error| broken(number, error.to_string()))
}

fn broken(record: u64, reason: String) -> StoreError {
    StoreError::Dump { record, reason }
}
