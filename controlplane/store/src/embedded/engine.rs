//! What is in the redb file, and how it gets there. Blocking.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError,
};

use crate::backend::{Change, Loaded};
use crate::encryption::{Encryption, NO_KEY};
use crate::error::StoreError;
use crate::record::{Record, digits};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// Raised when an older skeg could not read the file any more.
const FORMAT: u64 = 1;

/// redb's page cache. Reads come from the view, so it only has to hold the upper parts of the tree
/// and what a group of writes touches.
const CACHE_BYTES: usize = 8 << 20;

/// Fixed part of a value: revision, created, expiry (0: none) as u64, place of the revision as u32,
/// all little-endian. The JSON follows, its revision filled in; encrypted if it is to be.
const HEADER_BYTES: usize = 28;

/// Opens the database; called again after an I/O error, since redb then wants a fresh start.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Opens an existing file. Every page is checked, so that damage is found now and by name; this
/// reads the file once more, 0.4 s for 300 MB.
pub(super) fn open_file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || builder().open(&path))
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes a file with an empty store in it, and flushes it.
pub(super) fn create_file(path: &Path) -> Result<(), StoreError> {
    let database = builder().create(path).map_err(|error| failed("create", path, error.into()))?;
    initialize(&database).map_err(|error| failed("create", path, error))?;
    database.close().map_err(|error| failed("create", path, error.into()))
}

/// Writes the tables of an empty store.
pub(super) fn initialize(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 0)?;
        transaction.open_table(RECORDS)?;
    }
    Ok(transaction.commit()?)
}

/// An open database, or one that failed and has to be opened again.
pub(super) struct Engine {
    path: PathBuf,
    opener: Opener,
    encryption: Arc<Encryption>,
    database: Mutex<Option<Database>>,
    /// The revision that is durable and acknowledged.
    revision: AtomicU64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn open(
        path: &Path,
        opener: Opener,
        encryption: Arc<Encryption>,
    ) -> Result<Self, StoreError> {
        let database = opener().map_err(|error| failed("open", path, error.into()))?;
        let meta = |name| read_meta(&database, name).map_err(|error| failed("read", path, error));
        let found = meta("format")?.ok_or_else(|| damaged(path, "it holds no format number"))?;
        if found > FORMAT {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
        }
        let revision = meta("revision")?.ok_or_else(|| damaged(path, "it holds no revision"))?;
        Ok(Self {
            path: path.to_owned(),
            opener,
            encryption,
            database: Mutex::new(Some(database)),
            revision: AtomicU64::new(revision),
        })
    }

    pub(super) fn load(&self) -> Result<Loaded, StoreError> {
        let mut slot = self.database.lock();
        let database = self.ready(&mut slot)?;
        let mut records = Vec::new();
        let mut broken = None;
        for_each(database, |key, value| match decode(key, value, &self.encryption) {
            Ok(record) => records.push(record),
            Err(reason) => broken = Some(format!("the value of {key} {reason}")),
        })
        .map_err(|error| failed("load", &self.path, error))?;
        if let Some(reason) = broken {
            return Err(damaged(&self.path, &reason));
        }
        Ok(Loaded { records, revision: self.revision.load(Ordering::Relaxed) })
    }

    pub(super) fn append(&self, group: &[Change], revision: u64) -> Result<(), StoreError> {
        let mut slot = self.database.lock();
        let database = self.ready(&mut slot)?;
        if let Err(error) = write(database, group, revision, &self.encryption) {
            *slot = None;
            self.settle(&mut slot, error, revision)?;
        }
        self.revision.store(revision, Ordering::Relaxed);
        Ok(())
    }

    /// Writes anew what is not encrypted as it would be now, and says how much that was. The file is
    /// compacted after it, for the pages that held the old values are only free, not overwritten.
    pub(super) fn reseal(&self) -> Result<usize, StoreError> {
        let mut slot = self.database.lock();
        let database = self.ready(&mut slot)?;
        let resealed = reseal(database, &self.encryption);
        let resealed = resealed.map_err(|error| failed("encrypt anew", &self.path, error))?;
        drop(slot);
        if resealed > 0 {
            self.compact()?;
        }
        Ok(resealed)
    }

    pub(super) fn compact(&self) -> Result<(), StoreError> {
        let mut slot = self.database.lock();
        self.ready(&mut slot)?;
        let database = slot.as_mut().expect("just made ready");
        database.compact().map(drop).map_err(|error| failed("compact", &self.path, error.into()))
    }

    /// After a failed write: opens the file again and looks whether the group is in it after all.
    fn settle(
        &self,
        slot: &mut Option<Database>,
        error: redb::Error,
        revision: u64,
    ) -> Result<(), StoreError> {
        let error = failed("write", &self.path, error);
        let Ok(database) = (self.opener)() else { return Err(error) };
        let found = read_meta(&database, "revision");
        *slot = Some(database);
        match found {
            Ok(Some(found)) if found == revision => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// The database; opened again if the last write broke it. Refuses to go on if that write, which
    /// was reported as failed, is on disk: only a restart brings the view in line with it.
    fn ready<'a>(&self, slot: &'a mut Option<Database>) -> Result<&'a Database, StoreError> {
        let expected = self.revision.load(Ordering::Relaxed);
        if slot.is_none() {
            let database =
                (self.opener)().map_err(|error| failed("open", &self.path, error.into()))?;
            let found = read_meta(&database, "revision")
                .map_err(|error| failed("read", &self.path, error))?;
            if found != Some(expected) {
                return Err(damaged(
                    &self.path,
                    &format!(
                        "after a failed write it is at revision {found:?}, not {expected}; restart the server"
                    ),
                ));
            }
            *slot = Some(database);
        }
        Ok(slot.as_ref().expect("filled above"))
    }
}

fn read_meta(database: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(name)?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn for_each(database: &Database, mut each: impl FnMut(&str, &[u8])) -> Result<(), redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    for entry in records.iter()? {
        let (key, value) = entry?;
        each(key.value(), value.value());
    }
    Ok(())
}

fn reseal(database: &Database, encryption: &Encryption) -> Result<usize, redb::Error> {
    let mut stale = Vec::new();
    for_each(database, |key, value| {
        let json = value.get(HEADER_BYTES..).unwrap_or_default();
        if encryption.is_stale(key, json)
            && let Ok(record) = decode(key, value, encryption)
        {
            stale.push(record);
        }
    })?;
    if stale.is_empty() {
        return Ok(0);
    }
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        for record in &stale {
            records.insert(&*record.key, encode(record, encryption).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(stale.len())
}

fn write(
    database: &Database,
    group: &[Change],
    revision: u64,
    encryption: &Encryption,
) -> Result<(), redb::Error> {
    // Durability is immediate by default: commit returns after fsync.
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        for change in group {
            match change {
                Change::Put(record) => {
                    records.insert(&*record.key, encode(record, encryption).as_slice())?;
                }
                Change::Delete(record) => {
                    records.remove(&*record.key)?;
                }
            }
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    Ok(transaction.commit()?)
}

fn encode(record: &Record, encryption: &Encryption) -> Vec<u8> {
    let json = encryption.seal(&record.key, &record.json);
    let mut value = Vec::with_capacity(HEADER_BYTES + json.len());
    value.extend_from_slice(&record.revision.to_le_bytes());
    value.extend_from_slice(&record.created.to_le_bytes());
    value.extend_from_slice(&record.expires_at_secs.unwrap_or(0).to_le_bytes());
    value.extend_from_slice(&record.revision_at.to_le_bytes());
    value.extend_from_slice(&json);
    value
}

fn decode(key: &str, value: &[u8], encryption: &Encryption) -> Result<Record, &'static str> {
    const CUT: &str = "is not a version";
    let (revision, rest) = value.split_first_chunk().ok_or(CUT)?;
    let (created, rest) = rest.split_first_chunk().ok_or(CUT)?;
    let (expires, rest) = rest.split_first_chunk().ok_or(CUT)?;
    let (revision_at, stored) = rest.split_first_chunk().ok_or(CUT)?;
    let json = encryption.open(key, stored).ok_or(NO_KEY)?;
    let (revision, revision_at) = (u64::from_le_bytes(*revision), u32::from_le_bytes(*revision_at));
    let expires = u64::from_le_bytes(*expires);
    let end = (revision_at as usize).checked_add(digits(revision)).ok_or(CUT)?;
    if end > json.len() {
        return Err(CUT);
    }
    Ok(Record::from_parts(
        key.into(),
        revision,
        u64::from_le_bytes(*created),
        Bytes::copy_from_slice(&json),
        revision_at,
        (expires != 0).then_some(expires),
    ))
}

/// Says in our words what redb could not do.
fn failed(operation: &'static str, path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
        redb::Error::Corrupted(reason) => StoreError::Damaged { path, reason },
        redb::Error::UpgradeRequired(version) => StoreError::Damaged {
            path,
            reason: format!("it is in redb's old file format {version}"),
        },
        redb::Error::Io(source) => match source.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => {
                StoreError::Damaged { path, reason: source.to_string() }
            }
            _ => StoreError::Io { operation, path, source },
        },
        other => StoreError::Backend { operation, reason: format!("{}: {other}", path.display()) },
    }
}

fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}
