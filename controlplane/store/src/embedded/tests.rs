//! The file: what it refuses, and what survives a power cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use parking_lot::Mutex;
use proptest::prelude::*;
use redb::StorageBackend;

use super::EmbeddedBackend;
use super::engine::{Engine, Opener, builder, initialize};
use crate::backend::{Backend as _, Change};
use crate::error::StoreError;
use crate::record::Record;
use crate::tests::payload;

fn put(key: &str, text: &str, revision: u64) -> Change {
    Change::Put(Arc::new(Record::from_payload(key.into(), revision, revision, &payload(text))))
}

async fn filled(folder: &Path) {
    let mut backend = EmbeddedBackend::open(folder).await.expect("open");
    let text = "x".repeat(3000);
    let group = (1..=200).map(|i| put(&format!("/pods/a/{i}"), &text, i)).collect();
    backend.append(group, 200).await.expect("append");
}

#[tokio::test]
async fn a_second_server_is_told_so() {
    let folder = tempfile::tempdir().expect("folder");
    let first = EmbeddedBackend::open(folder.path()).await.expect("open");
    let second = EmbeddedBackend::open(folder.path()).await.expect_err("locked");
    assert!(matches!(second, StoreError::Locked { .. }), "{second:?}");
    drop(first);
    EmbeddedBackend::open(folder.path()).await.expect("free again");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    filled(folder.path()).await;
    let path = folder.path().join("store.redb");
    let whole = fs::read(&path).expect("read");
    let mut flipped = whole.clone();
    let at = whole.windows(8).position(|w| w == b"xxxxxxxx").expect("a value") + 100;
    flipped[at] ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("header only", whole[..100].to_vec()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("last page", whole[..whole.len() - 4096].to_vec()),
        ("not a store", b"hello ".repeat(10_000)),
        ("one bit", flipped),
    ];
    for (case, bytes) in cases {
        fs::write(&path, &bytes).expect("write");
        let error = match EmbeddedBackend::open(folder.path()).await {
            Ok(mut backend) => backend.load().await.map(drop),
            Err(error) => Err(error),
        };
        let error = error.expect_err(case);
        assert!(matches!(error, StoreError::Damaged { .. }), "{case}: {error:?}");
        assert!(fs::read(&path).expect("read") == bytes, "{case}: the file was changed");
    }
    fs::write(&path, &whole).expect("write");
    let mut backend = EmbeddedBackend::open(folder.path()).await.expect("whole again");
    assert_eq!(backend.load().await.expect("load").records.len(), 200);
}

#[tokio::test]
async fn a_folder_that_cannot_be_one_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    let error = EmbeddedBackend::open(file.join("store")).await.expect_err("not a folder");
    assert!(error.to_string().contains("file/store"), "{error}");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

/// A disk that can lose power: what was not synced is kept, lost or torn, write by write.
#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    /// Operations until the power goes.
    left: Option<u32>,
    /// Changes of the disk until it is full.
    room: Option<u32>,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn operate<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> Result<T, io::Error> {
        let mut platter = self.0.lock();
        match &mut platter.left {
            Some(0) => return Err(io::Error::other("power is out")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(work(&mut platter))
    }

    fn change(&self, work: impl FnOnce(&mut Platter)) -> Result<(), io::Error> {
        self.operate(|platter| {
            match &mut platter.room {
                Some(0) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
                Some(room) => *room -= 1,
                None => {}
            }
            work(platter);
            Ok(())
        })?
    }

    /// The power comes back; `fate` says what became of each unsynced write.
    fn power_cycle(&self, mut fate: impl FnMut() -> u32) {
        let mut platter = self.0.lock();
        let pending = std::mem::take(&mut platter.pending);
        let length = platter.current.len();
        // The length is metadata: it may or may not have reached the disk.
        if fate().is_multiple_of(2) {
            platter.durable.resize(length, 0);
        }
        for (offset, data) in pending {
            let kept = match fate() % 3 {
                0 => 0,
                1 => data.len(),
                _ => (data.len() / 512) * 512 * (fate() as usize % 4) / 4 / 512 * 512,
            };
            if kept > 0 {
                let end = offset + kept;
                if platter.durable.len() < end {
                    platter.durable.resize(end, 0);
                }
                platter.durable[offset..end].copy_from_slice(&data[..kept]);
            }
        }
        platter.current = platter.durable.clone();
        platter.left = None;
    }

    fn opener(&self) -> Opener {
        let disk = self.clone();
        Box::new(move || builder().create_with_backend(disk.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.operate(|platter| platter.current.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).expect("small");
        let end = offset + out.len();
        let read = |platter: &mut Platter| {
            platter.current.get(offset..end).map(|bytes| out.copy_from_slice(bytes))
        };
        self.operate(read)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.change(|platter| platter.current.resize(usize::try_from(len).expect("small"), 0))
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.operate(|platter| {
            platter.durable = platter.current.clone();
            platter.pending.clear();
        })
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).expect("small");
        self.change(|platter| {
            platter.current[offset..offset + data.len()].copy_from_slice(data);
            platter.pending.push((offset, data.to_vec()));
        })
    }
}

type Model = BTreeMap<String, (u64, Vec<u8>)>;

fn apply(model: &mut Model, group: &[Change]) {
    for change in group {
        let record = change.record();
        match change {
            Change::Put(_) => {
                model.insert(record.key.to_string(), (record.revision, record.json.to_vec()));
            }
            Change::Delete(_) => {
                model.remove(&*record.key);
            }
        }
    }
}

fn contents(engine: &Engine) -> (Model, u64) {
    let loaded = engine.load().expect("load");
    let records = loaded.records.iter();
    let model = records.map(|r| (r.key.to_string(), (r.revision, r.json.to_vec()))).collect();
    (model, loaded.revision)
}

#[test]
fn a_full_disk_fails_one_write_and_not_the_next() {
    let mut failures = 0;
    for room in 0..40 {
        let disk = Disk::default();
        initialize(&disk.opener()().expect("create")).expect("initialize");
        let engine = Engine::open(Path::new("disk"), disk.opener(), Arc::default()).expect("open");
        engine.append(&[put("/pods/a/x", "1", 1)], 1).expect("room");
        disk.0.lock().room = Some(room);
        let big = "v".repeat(200_000);
        let group = [put("/pods/a/x", "2", 2), put("/pods/a/y", &big, 3)];
        let full = engine.append(&group, 3);
        disk.0.lock().room = None;
        if let Err(error) = full {
            assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
            failures += 1;
            let (found, at) = contents(&engine);
            assert_eq!((found.len(), at), (1, 1), "room {room}: nothing of it is there");
            engine.append(&group, 3).expect("there is room again");
        }
        let (found, at) = contents(&engine);
        assert_eq!((found.len(), at), (2, 3), "room {room}");
    }
    assert!((1..40).contains(&failures), "{failures}");
}

/// A group of (key, length of the value or deletion), and the number of disk operations after which
/// the power goes, if it does.
type Round = (Vec<(u8, Option<u16>)>, Option<u32>);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let write = (0..20_u8, prop::option::weighted(0.8, 0..6000_u16));
    let group = prop::collection::vec(write, 1..12);
    prop::collection::vec((group, prop::option::weighted(0.4, 0..40_u32)), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_was_acknowledged_survives_a_power_cut(rounds in rounds(), seed in any::<u32>()) {
        let mut state = seed | 1;
        let mut fate = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let disk = Disk::default();
        initialize(&disk.opener()().expect("create")).expect("initialize");
        let path = Path::new("disk");
        let mut engine = Engine::open(path, disk.opener(), Arc::default()).expect("open");
        let mut model = Model::new();
        let mut revision = 0;
        for (writes, power) in rounds {
            let mut next = revision;
            let group: Vec<Change> = writes.iter().map(|(key, length)| {
                next += 1;
                let key = format!("/pods/a/{key}");
                let text = "v".repeat(usize::from(length.unwrap_or(0)));
                let record = Arc::new(Record::from_payload(key.into(), next, next, &payload(&text)));
                if length.is_some() { Change::Put(record) } else { Change::Delete(record) }
            }).collect();
            disk.0.lock().left = power;
            let acknowledged = engine.append(&group, next).is_ok();
            let mut after = model.clone();
            apply(&mut after, &group);
            if acknowledged && power.is_none() {
                model = after;
                revision = next;
                continue;
            }
            drop(engine);
            disk.power_cycle(&mut fate);
            engine = Engine::open(path, disk.opener(), Arc::default()).expect("recovers");
            let (found, at) = contents(&engine);
            if acknowledged {
                prop_assert_eq!(at, next, "an acknowledged group is there");
            }
            let expected = if at == next { &after } else { &model };
            prop_assert!(at == next || at == revision, "{} is neither {} nor {}", at, next, revision);
            prop_assert_eq!(&found, expected, "all of a group or nothing");
            model = found;
            revision = at;
        }
        let (found, at) = contents(&engine);
        prop_assert_eq!(found, model);
        prop_assert_eq!(at, revision);
    }
}
