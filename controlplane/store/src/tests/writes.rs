//! Writes, what they refuse, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all, ready};
use tokio::sync::Semaphore;

use super::{create, delete, payload, suite};
use crate::backend::{Backend, Change, Loaded};
use crate::{
    EmbeddedBackend, List, MemoryBackend, Options, ReadError, Store, StoreError, WatchError, Write,
    WriteError, restore,
};

#[tokio::test(start_paused = true)]
async fn the_memory_backend_passes_the_suite() {
    suite::run(async |options| Store::open(Box::new(MemoryBackend), options).await.expect("open"))
        .await;
}

#[tokio::test]
async fn the_embedded_backend_passes_the_suite() {
    let folder = tempfile::tempdir().expect("folder");
    let number = AtomicUsize::new(0);
    suite::run(async |options| {
        let fresh = folder.path().join(number.fetch_add(1, Ordering::SeqCst).to_string());
        let backend = EmbeddedBackend::open(fresh).await.expect("backend");
        Store::open(Box::new(backend), options).await.expect("open")
    })
    .await;
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
