//! The same store on Debian's real etcd, alone with us in a network namespace.

use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use nix::sched::{CloneFlags, unshare};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::{create, delete, model, payload, suite, update};
use crate::backend::{Followed, SharedBackend as _};
use crate::{
    EtcdBackend, EtcdConfig, Event, List, Options, Store, StoreError, WatchError, Write,
    WriteError, restore_shared,
};

struct Etcd {
    process: Child,
    folder: tempfile::TempDir,
    prefixes: AtomicUsize,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        Self { process: spawn(&folder), folder, prefixes: AtomicUsize::new(0) }
    }

    fn stop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }

    fn restart(&mut self) {
        self.process = spawn(&self.folder);
    }

    fn prefix(&self) -> String {
        format!("/skeg-{}", self.prefixes.fetch_add(1, Ordering::SeqCst))
    }
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--log-level", "fatal"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Debian's etcd-server is installed")
}

async fn backend(prefix: &str) -> EtcdBackend {
    let config = EtcdConfig {
        endpoints: vec!["http://127.0.0.1:2379".to_owned()],
        prefix: prefix.to_owned(),
        ca_file: None,
        identity_files: None,
    };
    for _ in 0..100 {
        if let Ok(backend) = EtcdBackend::open(config.clone()).await {
            return backend;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("etcd does not answer");
}

async fn server(prefix: &str, options: Options) -> Store {
    Store::open_shared(Arc::new(backend(prefix).await), options).await.expect("open")
}

/// Runs a test in a thread with a network namespace and an etcd of its own.
fn with_etcd<F: Future<Output = ()>>(test: impl FnOnce(Etcd) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(up.success());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(test(Etcd::start()));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("{what}"))
}

#[test]
fn etcd_passes_the_suite() {
    with_etcd(async |etcd| {
        suite::run(async |options| server(&etcd.prefix(), options).await).await;
    });
}

#[test]
fn lists_and_watches_agree_with_the_model() {
    with_etcd(async |etcd| {
        let mut runner = TestRunner::deterministic();
        for case in 0..20 {
            let steps = model::steps().new_tree(&mut runner).expect("steps").current();
            let options = Options { history_events: 3 + case * 2, ..Options::default() };
            let store = server(&etcd.prefix(), options).await;
            model::agree(store.clone(), steps).await;
            store.close().await;
        }
    });
}

#[test]
fn servers_see_each_others_writes_and_only_one_wins() {
    with_etcd(async |etcd| {
        let prefix = etcd.prefix();
        let (one, two) =
            (server(&prefix, Options::default()).await, server(&prefix, Options::default()).await);
        let mut watch = two.watch("/pods/", two.revision()).expect("watch");
        let first = create(&one, "/pods/a/x", "1").await;
        let consistent = within("barrier", two.consistent()).await.expect("consistent");
        assert!(consistent >= first.revision);
        assert_eq!(two.get("/pods/a/x"), Some(Arc::clone(&first)));
        let second = update(&two, "/pods/a/x", "2").await;
        let stale = one.commit("/pods/a/x", Write::Update(payload("3"), first.revision)).await;
        assert!(matches!(stale, Err(WriteError::Conflict(found)) if found == second));
        assert_eq!(one.get("/pods/a/x").as_deref(), Some(&*second), "seen once refused");
        delete(&one, "/pods/a/x").await;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(within("events", watch.next()).await.expect("events").iter().cloned());
        }
        assert!(matches!(&*seen, [Event::Created(_), Event::Updated(..), Event::Deleted(..)]));
        let races = (0..50).flat_map(|i| {
            let write = |store: &Store| {
                let store = store.clone();
                async move { store.commit(format!("/r/{i}"), Write::Create(payload("x"))).await }
            };
            [write(&one), write(&two)]
        });
        let outcomes = futures::future::join_all(races).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 50);
        one.consistent().await.expect("consistent");
        two.consistent().await.expect("consistent");
        let list = |store: &Store| store.list(&List::default()).expect("now").records;
        assert_eq!(list(&one), list(&two));
        one.close().await;
        create(&two, "/pods/a/y", "1").await;
        assert_eq!(one.get("/pods/a/y"), None, "a closed server follows no more");
    });
}

#[test]
fn a_server_survives_a_restart_of_etcd() {
    with_etcd(async |mut etcd| {
        let store = server(&etcd.prefix(), Options::default()).await;
        let mut watch = store.watch("", store.revision()).expect("watch");
        create(&store, "/pods/a/x", "1").await;
        within("event", watch.next()).await.expect("event");
        etcd.stop();
        let failed = store.commit("/pods/a/y", Write::Create(payload("1"))).await;
        assert!(matches!(failed, Err(WriteError::Backend(_))), "{failed:?}");
        assert!(store.consistent().await.is_err());
        assert!(store.get("/pods/a/x").is_some(), "reads at what was seen go on");
        etcd.restart();
        let written = within("etcd is back", async {
            loop {
                match store.commit("/pods/a/z", Write::Create(payload("1"))).await {
                    Ok(record) => return record,
                    // An earlier attempt was made after all.
                    Err(WriteError::Exists(record)) => return record,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        })
        .await;
        let group = within("event", watch.next()).await.expect("the same watch goes on");
        assert_eq!(group.last().map(Event::revision), Some(written.revision));
    });
}

#[test]
fn a_server_that_was_away_for_too_long_starts_over() {
    with_etcd(async |etcd| {
        let prefix = etcd.prefix();
        let away = backend(&prefix).await;
        let store = server(&prefix, Options::default()).await;
        create(&store, "/pods/a/x", "1").await;
        let after = store.revision();
        for _ in 0..5 {
            update(&store, "/pods/a/x", "2").await;
        }
        store.compact(store.revision());
        store.compact_disk().await.expect("compact");
        let first_heard = async |after| {
            let mut changes = away.follow(after).await.expect("watch");
            loop {
                match within("answer", changes.next()).await.expect("no end").expect("no error") {
                    Followed::Changes(group) if group.is_empty() => {}
                    heard => return heard,
                }
            }
        };
        assert!(matches!(first_heard(after).await, Followed::Forgotten));
        let revision = store.revision();
        update(&store, "/pods/a/x", "3").await;
        assert!(matches!(first_heard(revision).await, Followed::Changes(_)));
        store.compact_disk().await.expect("compacting again is fine");

        // What the feed does then.
        let mut watch = store.watch("", store.revision()).expect("watch");
        let mut loaded = away.load().await.expect("load");
        loaded.records.retain(|record| record.key.is_empty());
        store.shared().replace(loaded.records, store.revision() + 10);
        assert!(matches!(watch.next().await, Err(WatchError::TooSlow { .. })));
        assert_eq!(store.get("/pods/a/x"), None);
    });
}

#[test]
fn a_dump_moves_a_store_into_etcd_whole_or_not_at_all() {
    with_etcd(async |etcd| {
        let source = Store::in_memory().await;
        for i in 0..200 {
            create(&source, &format!("/pods/a/{i}"), "x").await;
        }
        let mut dump = Vec::new();
        source.dump(&mut dump).expect("dump");
        let prefix = etcd.prefix();
        let target = backend(&prefix).await;
        let broken = restore_shared(&target, &mut &dump[..dump.len() / 2]).await;
        assert!(matches!(broken, Err(StoreError::Dump { .. })));
        assert!(target.load().await.expect("load").records.is_empty());
        let restored = restore_shared(&target, &mut &*dump).await.expect("restore");
        let again = restore_shared(&target, &mut &*dump).await;
        assert!(matches!(again, Err(StoreError::NotEmpty { .. })));
        let store = server(&prefix, Options::default()).await;
        assert_eq!((store.count("/pods/"), restored.records), (200, 200));
        let record = store.get("/pods/a/7").expect("restored");
        assert_eq!(record.json, super::stored("x", record.revision), "with its new revision");
        assert!(store.revision() >= restored.revision);
    });
}

#[test]
fn many_records_are_loaded_page_by_page() {
    with_etcd(async |etcd| {
        let prefix = etcd.prefix();
        let store = server(&prefix, Options::default()).await;
        // 1,100 of 40 KB: more than one page, and a page is more than one answer may hold.
        let text = "x".repeat(40_000);
        for part in 0..11 {
            let writes = (0..100).map(|i| {
                store.commit(format!("/pods/a/{part}-{i}"), Write::Create(payload(&text)))
            });
            futures::future::try_join_all(writes).await.expect("create");
        }
        let loaded = backend(&prefix).await.load().await.expect("load");
        assert_eq!((loaded.records.len(), loaded.revision), (1100, store.revision()));
    });
}

#[test]
fn values_are_encrypted_in_etcd_and_follow_the_configuration() {
    with_etcd(async |etcd| {
        let prefix = etcd.prefix();
        let keys = crate::encryption::tests::encryption;
        let open = async |names: &[&str]| {
            let backend = Arc::new(backend(&prefix).await.encrypted(keys(names)));
            Store::open_shared(backend, Options::default()).await
        };
        let raw = async || {
            let mut client =
                etcd_client::Client::connect(["http://127.0.0.1:2379"], None).await.expect("etcd");
            let found = client.get(format!("{prefix}/records//secrets/a/s"), None).await;
            found.expect("an answer").kvs()[0].value().to_vec()
        };
        let holds = |value: &[u8], text: &str| {
            value.windows(text.len()).any(|part| part == text.as_bytes())
        };
        let plain = open(&[]).await.expect("open");
        create(&plain, "/secrets/a/s", "hunter2").await;
        plain.close().await;
        assert!(holds(&raw().await, "hunter2"));

        let store = open(&["k"]).await.expect("open");
        assert_eq!(store.reseal().await.expect("resealed"), 1);
        assert_eq!(store.reseal().await.expect("resealed"), 0);
        assert!(!holds(&raw().await, "hunter2"));
        // The resealed version is another one: the view has to show it before it is updated.
        store.consistent().await.expect("caught up");
        let changed = update(&store, "/secrets/a/s", "swordfish").await;
        assert!(std::str::from_utf8(&changed.json).expect("JSON").contains("swordfish"));
        assert!(!holds(&raw().await, "swordfish"));
        store.close().await;
        let refused = open(&["other"]).await.expect_err("an unknown key").to_string();
        assert!(refused.contains("is encrypted with a key"), "{refused}");
    });
}
