//! Two servers on one etcd, alone with us in a network namespace.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use store::{EtcdBackend, EtcdConfig, Options, Store};

use crate::harness::{Api, BOUND};

struct Etcd {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--log-level", "fatal"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's etcd-server is installed");
        Self { process, _folder: folder }
    }
}

async fn store() -> Store {
    let config = EtcdConfig {
        endpoints: vec!["http://127.0.0.1:2379".to_owned()],
        prefix: "/skeg".to_owned(),
        ca_file: None,
        identity_files: None,
    };
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let opened = async {
        loop {
            looks.tick().await;
            if let Ok(backend) = EtcdBackend::open(config.clone()).await {
                return backend;
            }
        }
    };
    let backend = tokio::time::timeout(BOUND, opened).await.expect("etcd answers");
    Store::open_shared(Arc::new(backend), Options::default()).await.expect("open")
}

/// Writes by turns on two servers, and reads what the other has written, at once.
async fn by_turns() {
    let etcd = Etcd::start();
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let one = Api::start_on(store().await, |c| c.service_account_key_pem = key.clone()).await;
    let two = Api::start_on(store().await, |c| c.service_account_key_pem = key.clone()).await;
    let path = "/api/v1/namespaces/default/configmaps";
    let made = json!({"metadata": {"name": "c"}, "data": {"n": "0"}});
    one.admin().post(path, &made).await.expect(201);
    let path = &format!("{path}/c");
    for turn in 1..=20 {
        let (writer, reader) = if turn % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let patch = json!({"data": {"n": turn.to_string()}});
        writer.admin().patch("merge-patch+json", path, &patch).await.expect(200);
        let read = reader.admin().get(path).await.expect(200);
        assert_eq!(read["data"]["n"], turn.to_string(), "turn {turn}");
        let list = reader.admin().get("/api/v1/namespaces/default/configmaps").await.expect(200);
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&Value> = items.iter().map(|item| &item["data"]["n"]).collect();
        assert_eq!(found, [&json!(turn.to_string())], "turn {turn}");
    }
    // A stale write is refused whoever made the newer one.
    let stale = one.admin().get(path).await.expect(200);
    two.admin().patch("merge-patch+json", path, &json!({"data": {"n": "x"}})).await.expect(200);
    one.admin().put(path, &stale).await.expect(409);
    drop(etcd);
}

#[test]
fn what_one_server_wrote_the_other_reads_at_once() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(up.success());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(by_turns());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
