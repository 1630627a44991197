//! Writes, what they refuse, and how they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all, ready};
use tokio::sync::Semaphore;

use super::{create, delete, payload, stored, update};
use crate::backend::{Backend, Change, Loaded};
use crate::{
    EmbeddedBackend, Event, List, Options, ReadError, Store, StoreError, WatchError, Write,
    WriteError, restore,
};

#[tokio::test]
async fn a_key_lives_from_create_to_delete() {
    let store = Store::in_memory().await;
    let first = create(&store, "/pods/a/x", "1").await;
    assert_eq!((first.revision, first.created), (1, 1));
    assert_eq!(first.json, stored("1", 1));
    create(&store, "/pods/a/y", "1").await;
    let second = update(&store, "/pods/a/x", "2").await;
    assert_eq!((second.revision, second.created), (3, 1));
    assert_eq!(store.get("/pods/a/x").as_deref(), Some(&*second));
    let last = delete(&store, "/pods/a/x").await;
    assert_eq!(last.json, stored("2", 4), "the last version carries the deleting revision");
    assert_eq!(store.get("/pods/a/x"), None);
    assert_eq!(store.revision(), 4);
    let again = create(&store, "/pods/a/x", "3").await;
    assert_eq!((again.revision, again.created), (5, 5));
}

#[tokio::test]
async fn a_refused_write_changes_nothing_and_shows_the_current_version() {
    let store = Store::in_memory().await;
    let current = create(&store, "/pods/a/x", "1").await;
    let exists = store.commit("/pods/a/x", Write::Create(payload("2"))).await;
    assert!(matches!(exists, Err(WriteError::Exists(found)) if found == current));
    for write in [Write::Update(payload("2"), 7), Write::Delete(payload("2"), 7)] {
        let conflict = store.commit("/pods/a/x", write).await;
        assert!(matches!(conflict, Err(WriteError::Conflict(found)) if found == current));
    }
    for write in [Write::Update(payload("2"), 1), Write::Delete(payload("2"), 1)] {
        let missing = store.commit("/pods/a/y", write).await;
        assert!(matches!(missing, Err(WriteError::NotFound)));
    }
    assert_eq!(store.revision(), 1);
}

/// Holds writes back until told, counts groups, and can be told to fail.
#[derive(Default)]
struct Gate {
    permits: Option<Semaphore>,
    groups: AtomicUsize,
    failing: AtomicBool,
}

struct GatedBackend(Arc<Gate>);

impl Backend for GatedBackend {
    fn name(&self) -> String {
        "gated".to_owned()
    }
    fn load(&mut self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        ready(Ok(Loaded { records: Vec::new(), revision: 0 })).boxed()
    }
    fn append(&mut self, _: Vec<Change>, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            if let Some(permits) = &self.0.permits {
                permits.acquire().await.expect("never closed").forget();
            }
            self.0.groups.fetch_add(1, Ordering::SeqCst);
            if self.0.failing.load(Ordering::SeqCst) {
                return Err(StoreError::Backend { operation: "write", reason: "no space".into() });
            }
            Ok(())
        }
        .boxed()
    }
    fn compact(&mut self, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }
    fn size_bytes(&self) -> u64 {
        0
    }
}

async fn gated(gate: &Arc<Gate>) -> Store {
    Store::open(Box::new(GatedBackend(Arc::clone(gate))), Options::default()).await.expect("open")
}

#[tokio::test]
async fn waiting_writes_share_a_flush_and_one_of_each_race_wins() {
    let gate = Arc::new(Gate { permits: Some(Semaphore::new(0)), ..Gate::default() });
    let store = gated(&gate).await;
    let key = |i: usize| format!("/pods/a/{}", i % 10);
    let writes = (0..100).map(|i| store.commit(key(i), Write::Create(payload("1"))));
    let writes = join_all(writes);
    tokio::pin!(writes);
    assert!(writes.as_mut().now_or_never().is_none(), "nothing is acknowledged before the flush");
    assert_eq!(store.revision(), 0, "nor visible");
    gate.permits.as_ref().expect("gated").add_permits(100);
    let outcomes = writes.await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(WriteError::Exists(_)))));
    assert_eq!(store.revision(), 10);
    assert!(gate.groups.load(Ordering::SeqCst) <= 2, "one flush for all that waited");
}

#[tokio::test]
async fn a_failed_flush_fails_its_writes_and_leaves_the_state() {
    let gate = Arc::new(Gate::default());
    let store = gated(&gate).await;
    create(&store, "/pods/a/x", "1").await;
    gate.failing.store(true, Ordering::SeqCst);
    // The second would be a conflict with the first, which never came to be.
    let (first, second) = tokio::join!(
        store.commit("/pods/a/y", Write::Create(payload("1"))),
        store.commit("/pods/a/y", Write::Create(payload("2"))),
    );
    assert!(matches!(first, Err(WriteError::Backend(_))));
    assert!(matches!(second, Err(WriteError::Backend(_))));
    assert_eq!(store.revision(), 1);
    gate.failing.store(false, Ordering::SeqCst);
    assert_eq!(create(&store, "/pods/a/y", "3").await.revision, 2);
}

#[tokio::test]
async fn closing_commits_what_was_accepted_and_ends_watches() {
    let folder = tempfile::tempdir().expect("folder");
    let open = || async {
        let backend = EmbeddedBackend::open(folder.path()).await.expect("backend");
        Store::open(Box::new(backend), Options::default()).await.expect("open")
    };
    let store = open().await;
    let mut watch = store.watch("", 0).expect("watch");
    let accepted = store.commit("/pods/a/x", Write::Create(payload("1")));
    let (written, ()) = tokio::join!(accepted, store.close());
    written.expect("accepted before the end");
    assert!(matches!(watch.next().await, Ok(_) | Err(WatchError::Closed)));
    assert_eq!(watch.next().await, Err(WatchError::Closed));
    let late = store.commit("/pods/a/y", Write::Create(payload("1"))).await;
    assert!(matches!(late, Err(WriteError::Closed)));
    assert!(matches!(store.wait_for(9).await, Err(WriteError::Closed)));
    let again = open().await;
    assert_eq!(again.get("/pods/a/x"), store.get("/pods/a/x"), "the folder is free and holds it");
    assert_eq!(again.revision(), 1);
}

#[tokio::test]
async fn lists_page_consistently_while_writes_go_on() {
    let store = Store::in_memory().await;
    for i in 0..10 {
        create(&store, &format!("/pods/a/{i}"), "old").await;
    }
    create(&store, "/services/a/0", "other").await;
    let query = List { scope: "/pods/", limit: 4, count: true, ..List::default() };
    let first = store.list(&query).expect("now");
    assert_eq!((first.records.len(), first.more, first.remaining), (4, true, Some(6)));
    update(&store, "/pods/a/5", "new").await;
    delete(&store, "/pods/a/6").await;
    create(&store, "/pods/a/55", "new").await;
    let last = first.records.last().expect("four").key.to_string();
    let query =
        List { start_after: Some(&last), limit: 0, revision: Some(first.revision), ..query };
    let rest = store.list(&query).expect("recent");
    let keys: Vec<&str> = rest.records.iter().map(|r| &r.key[8..]).collect();
    assert_eq!(keys, ["4", "5", "6", "7", "8", "9"]);
    assert!(rest.records.iter().all(|r| r.json.starts_with(br#"{"v":"old""#)));
    assert_eq!((rest.more, rest.remaining), (false, Some(0)));
    store.compact(store.revision());
    let gone = store.list(&query);
    assert_eq!(gone, Err(ReadError::Compacted { asked: 11, oldest: 14 }));
    let future = store.list(&List { revision: Some(99), ..query });
    assert_eq!(future, Err(ReadError::Future { asked: 99, current: 14 }));
}

#[tokio::test]
async fn a_watch_that_overflows_catches_up_and_one_that_history_left_ends() {
    let options = Options { history_events: 1000, ..Options::default() };
    let store = Store::open(Box::new(crate::MemoryBackend), options).await.expect("open");
    let mut slow = store.watch("/pods/", 0).expect("watch");
    let write = |count: usize| {
        let store = store.clone();
        async move {
            for _ in 0..count {
                create(&store, &format!("/pods/a/{}", store.revision()), "x").await;
            }
        }
    };
    write(900).await;
    assert_eq!(slow.progress(), 0);
    let mut seen = Vec::new();
    while let Some(group) = slow.try_next().expect("history reaches back") {
        seen.extend(group.iter().map(Event::revision));
    }
    assert_eq!(seen, (1..=900).collect::<Vec<u64>>());
    assert_eq!(slow.progress(), 900);
    write(1001).await;
    let end = slow.next().await;
    assert_eq!(end, Err(WatchError::TooSlow { reached: 900, oldest: 901 }));
    assert_eq!(store.stats().watches, 1);
    drop(slow);
    assert_eq!(store.stats().watches, 0);
}

#[tokio::test]
async fn every_watcher_gets_the_same_bytes() {
    let store = Store::in_memory().await;
    let mut all = store.watch("", 0).expect("watch");
    let mut namespace = store.watch("/pods/a/", 0).expect("watch");
    let mut one = store.watch("/pods/a/x", 0).expect("watch");
    let mut other = store.watch("/pods/b/", 0).expect("watch");
    let record = create(&store, "/pods/a/x", "1").await;
    for watch in [&mut all, &mut namespace, &mut one] {
        let group = watch.next().await.expect("event");
        assert!(matches!(&*group, [Event::Created(seen)] if Arc::ptr_eq(seen, &record)));
        assert_eq!(watch.progress(), 1);
    }
    assert_eq!(other.try_next(), Ok(None));
    assert_eq!(other.progress(), 1, "nothing to deliver up to here");
}

#[tokio::test(start_paused = true)]
async fn expired_keys_are_swept_unless_they_were_renewed() {
    let store = Store::in_memory().await;
    let expiring = |at| Write::Create(payload("1").expiring(at));
    for (key, at) in [("/events/a/1", 100), ("/events/a/2", 100), ("/events/a/3", 300)] {
        store.commit(key, expiring(at)).await.expect("create");
    }
    create(&store, "/pods/a/x", "1").await;
    let renewed = store.get("/events/a/2").expect("exists").revision;
    let write = Write::Update(payload("2").expiring(400), renewed);
    store.commit("/events/a/2", write).await.expect("renew");
    assert_eq!(store.expire(99).await.expect("sweep"), 0);
    assert_eq!(store.expire(350).await.expect("sweep"), 2);
    let left = store.list(&List::default()).expect("now");
    let left: BTreeSet<&str> = left.records.iter().map(|r| &*r.key).collect();
    assert_eq!(left, BTreeSet::from(["/events/a/2", "/pods/a/x"]));
}

#[tokio::test]
async fn a_dump_restores_into_an_empty_store_only_and_whole() {
    let store = Store::in_memory().await;
    for i in 0..20 {
        create(&store, &format!("/pods/a/{i}"), "x\\n").await;
    }
    delete(&store, "/pods/a/7").await;
    store.commit("/events/a/1", Write::Create(payload("e").expiring(5))).await.expect("event");
    let mut bytes = Vec::new();
    let dumped = store.dump(&mut bytes).expect("dump");
    assert_eq!((dumped.revision, dumped.records), (22, 20));

    let folder = tempfile::tempdir().expect("folder");
    let mut backend = EmbeddedBackend::open(folder.path()).await.expect("backend");
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 2] {
        let broken = restore(&mut backend, &mut &bytes[..cut]).await;
        assert!(matches!(broken, Err(StoreError::Dump { .. })), "{cut}: {broken:?}");
    }
    let restored = restore(&mut backend, &mut &*bytes).await.expect("restore");
    assert_eq!(restored.records, 20);
    let again = restore(&mut backend, &mut &*bytes).await;
    assert!(matches!(again, Err(StoreError::NotEmpty { .. })));

    let copy = Store::open(Box::new(backend), Options::default()).await.expect("open");
    let list = |store: &Store| store.list(&List::default()).expect("now").records;
    assert_eq!(list(&copy), list(&store));
    assert_eq!(copy.revision(), restored.revision);
    assert!(matches!(copy.watch("", 23), Err(ReadError::Compacted { .. })));
    create(&copy, "/pods/a/new", "1").await;
}

#[tokio::test]
async fn the_state_reads_as_text() {
    let store = Store::in_memory().await;
    create(&store, "/pods/a/x", "1").await;
    store.commit("/events/a/e", Write::Create(payload("e").expiring(5))).await.expect("event");
    let text = store.describe("");
    assert_eq!(
        text,
        "store memory: revision 2, oldest 0, 2 records of 36 bytes, 2 events of 640 bytes, 0 watches\n\
         /events/a/e revision=2 created=2 bytes=18 expires=5\n\
         /pods/a/x revision=1 created=1 bytes=18\n"
    );
}
