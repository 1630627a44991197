//! What every backend has to pass: an empty store is opened for each of these.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::{create, delete, payload, stored, update};
use crate::{Event, List, Options, ReadError, Store, WatchError, Write, WriteError};

/// Runs everything, on stores that `open` makes.
pub(super) async fn run(open: impl AsyncFn(Options) -> Store) {
    a_key_lives_from_create_to_delete(open(Options::default()).await).await;
    a_refused_write_changes_nothing(open(Options::default()).await).await;
    one_of_each_race_wins(open(Options::default()).await).await;
    lists_page_consistently(open(Options::default()).await).await;
    slow_watches_catch_up(open(Options { history_events: 300, ..Options::default() }).await).await;
    every_watcher_gets_the_same_bytes(open(Options::default()).await).await;
    expired_keys_are_swept(open(Options::default()).await).await;
    closing_ends_watches(open(Options::default()).await).await;
}

async fn a_key_lives_from_create_to_delete(store: Store) {
    let base = store.revision();
    let first = create(&store, "/pods/a/x", "1").await;
    assert_eq!((first.revision, first.created), (base + 1, base + 1));
    assert_eq!(first.json, stored("1", base + 1));
    create(&store, "/pods/a/y", "1").await;
    let second = update(&store, "/pods/a/x", "2").await;
    assert_eq!((second.revision, second.created), (base + 3, base + 1));
    assert_eq!(store.get("/pods/a/x").as_deref(), Some(&*second));
    let last = delete(&store, "/pods/a/x").await;
    assert_eq!(last.json, stored("2", base + 4), "the last version carries the deleting revision");
    assert_eq!(last.created, base + 1);
    assert_eq!(store.get("/pods/a/x"), None);
    assert_eq!(store.revision(), base + 4);
    let again = create(&store, "/pods/a/x", "3").await;
    assert_eq!((again.revision, again.created), (base + 5, base + 5));
    assert_eq!(store.consistent().await.expect("consistent"), base + 5);
}

async fn a_refused_write_changes_nothing(store: Store) {
    let current = create(&store, "/pods/a/x", "1").await;
    let exists = store.commit("/pods/a/x", Write::Create(payload("2"))).await;
    assert!(matches!(exists, Err(WriteError::Exists(found)) if found == current));
    let other = current.revision + 7;
    for write in [Write::Update(payload("2"), other), Write::Delete(payload("2"), other)] {
        let conflict = store.commit("/pods/a/x", write).await;
        assert!(matches!(conflict, Err(WriteError::Conflict(found)) if found == current));
    }
    for write in [Write::Update(payload("2"), 1), Write::Delete(payload("2"), 1)] {
        let missing = store.commit("/pods/a/y", write).await;
        assert!(matches!(missing, Err(WriteError::NotFound)));
    }
    assert_eq!(store.revision(), current.revision);
}

async fn one_of_each_race_wins(store: Store) {
    let base = store.revision();
    let key = |i: usize| format!("/pods/a/{}", i % 10);
    let writes = (0..100).map(|i| store.commit(key(i), Write::Create(payload("1"))));
    let outcomes = join_all(writes).await;
    let won: BTreeSet<u64> =
        outcomes.iter().filter_map(|outcome| Some(outcome.as_ref().ok()?.revision)).collect();
    assert_eq!(won, (base + 1..=base + 10).collect());
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(WriteError::Exists(_)))));
}

async fn lists_page_consistently(store: Store) {
    let base = store.revision();
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
    assert_eq!(gone, Err(ReadError::Compacted { asked: base + 11, oldest: base + 14 }));
    let future = store.list(&List { revision: Some(base + 99), ..query });
    assert_eq!(future, Err(ReadError::Future { asked: base + 99, current: base + 14 }));
}

/// The store keeps 300 events, a watch queues 256.
async fn slow_watches_catch_up(store: Store) {
    let base = store.revision();
    let mut slow = store.watch("/pods/", base).expect("watch");
    let write = async |count: u64| {
        for _ in 0..count {
            create(&store, &format!("/pods/a/{}", store.revision()), "x").await;
        }
    };
    write(290).await;
    assert_eq!(slow.progress(), base);
    let mut seen = Vec::new();
    while let Some(group) = slow.try_next().expect("history reaches back") {
        seen.extend(group.iter().map(Event::revision));
    }
    assert_eq!(seen, (base + 1..=base + 290).collect::<Vec<u64>>());
    assert_eq!(slow.progress(), base + 290);
    write(301).await;
    let end = slow.next().await;
    let too_slow = WatchError::TooSlow { reached: base + 290, oldest: base + 291 };
    assert_eq!(end, Err(too_slow));
    assert_eq!(store.stats().watches, 1);
    drop(slow);
    assert_eq!(store.stats().watches, 0);
}

async fn every_watcher_gets_the_same_bytes(store: Store) {
    let base = store.revision();
    let mut all = store.watch("", base).expect("watch");
    let mut namespace = store.watch("/pods/a/", base).expect("watch");
    let mut one = store.watch("/pods/a/x", base).expect("watch");
    let mut other = store.watch("/pods/b/", base).expect("watch");
    create(&store, "/pods/a/x", "1").await;
    let record = store.get("/pods/a/x").expect("there");
    for watch in [&mut all, &mut namespace, &mut one] {
        let group = watch.next().await.expect("event");
        assert!(matches!(&*group, [Event::Created(seen)] if Arc::ptr_eq(seen, &record)));
        assert_eq!(watch.progress(), base + 1);
    }
    assert_eq!(other.try_next(), Ok(None));
    assert_eq!(other.progress(), base + 1, "nothing to deliver up to here");
}

async fn expired_keys_are_swept(store: Store) {
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

async fn closing_ends_watches(store: Store) {
    let mut watch = store.watch("", store.revision()).expect("watch");
    create(&store, "/pods/a/x", "1").await;
    store.compact_disk().await.expect("compact");
    store.size_bytes().await.expect("size");
    store.close().await;
    // What was committed before may or may not still be delivered.
    assert!(matches!(watch.next().await, Ok(_) | Err(WatchError::Closed)));
    assert_eq!(watch.next().await, Err(WatchError::Closed));
    let late = store.commit("/pods/a/y", Write::Create(payload("1"))).await;
    assert!(matches!(late, Err(WriteError::Closed)));
    assert!(matches!(store.wait_for(u64::MAX).await, Err(WriteError::Closed)));
    assert!(store.get("/pods/a/x").is_some(), "reads go on");
}
