use std::sync::Arc;

use super::*;
use crate::tests::create;
use crate::{EmbeddedBackend, Options, Store, StoreError};

/// `keys` are names; the secret of each is its first letter 32 times.
fn config(keys: &[&str], identity_last: bool) -> String {
    use base64::Engine as _;
    let keys: Vec<String> = keys
        .iter()
        .map(|name| {
            let secret = [name.as_bytes()[0]; 32];
            let secret = base64::engine::general_purpose::STANDARD.encode(secret);
            format!("{{name: {name}, secret: {secret}}}")
        })
        .collect();
    let identity = if identity_last { ", {identity: {}}" } else { "" };
    let providers = if keys.is_empty() {
        "{identity: {}}".to_owned()
    } else {
        format!("{{aesgcm: {{keys: [{}]}}}}{identity}", keys.join(", "))
    };
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n\
         resources:\n- resources: [secrets, \"*.example.com\"]\n  providers: [{providers}]\n"
    )
}

pub(crate) fn encryption(keys: &[&str]) -> Arc<Encryption> {
    Arc::new(Encryption::from_config(&config(keys, true)).unwrap())
}

const SECRET: &str = "/secrets/a/s";

#[test]
fn only_named_resources_are_encrypted() {
    let encryption = encryption(&["k"]);
    for (key, encrypted) in [
        (SECRET, true),
        ("example.com/things/a/t", true),
        ("/configmaps/a/c", false),
        ("apps/secrets/a/s", false),
    ] {
        let stored = encryption.seal(key, b"{\"plain\":1}").into_owned();
        assert_eq!(stored.starts_with(b"k8s:enc:aesgcm:v1:k:"), encrypted, "{key}");
        assert_eq!(stored.windows(5).any(|part| part == b"plain"), !encrypted, "{key}");
        assert_eq!(encryption.open(key, &stored).as_deref(), Some(&b"{\"plain\":1}"[..]));
        assert!(!encryption.is_stale(key, &stored), "{key}");
    }
}

#[test]
fn what_was_tampered_with_or_moved_does_not_open() {
    let encryption = encryption(&["k"]);
    let stored = encryption.seal(SECRET, b"{}").into_owned();
    assert_ne!(stored, *encryption.seal(SECRET, b"{}"), "every nonce is new");
    assert_eq!(encryption.open("/secrets/a/other", &stored), None);
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        // Without its mark the bytes count as plain, and are then no JSON.
        let opened = encryption.open(SECRET, &changed);
        assert!(opened.is_none_or(|opened| *opened == changed), "byte {at}");
        assert_eq!(encryption.open(SECRET, &stored[..at]).filter(|o| **o == *b"{}"), None);
    }
}

#[test]
fn keys_rotate() {
    let old = encryption(&["old"]);
    let stored = old.seal(SECRET, b"{}").into_owned();
    let both = encryption(&["new", "old"]);
    assert_eq!(both.open(SECRET, &stored).as_deref(), Some(&b"{}"[..]));
    assert!(both.is_stale(SECRET, &stored));
    assert_eq!(encryption(&["new"]).open(SECRET, &stored), None);
    let off = encryption(&[]);
    assert!(off.is_stale(SECRET, &stored));
    assert!(!off.is_stale(SECRET, b"{}"));
    assert!(old.is_stale(SECRET, b"{}"), "written before there was encryption");
}

#[test]
fn bad_configurations_name_the_field() {
    let good = config(&["k"], true);
    for (from, to, said) in [
        ("EncryptionConfiguration", "Encryption", "kind: must be"),
        ("config.k8s.io/v1", "config.k8s.io/v2", "apiVersion: must be"),
        ("aesgcm", "aescbc", "resources[0].providers[0].aescbc: this provider is not built in"),
        ("name: k,", "name: \"a:b\",", "keys[0].name: must not be empty"),
        ("a2tr", "a2t", "keys[0].secret: must be the base64"),
        ("[secrets,", "[\"*\",", "resources[0].resources[0]: must be RESOURCE"),
        ("{aesgcm", "{identity: {}, aesgcm", "providers[0]: exactly one provider"),
        ("aesgcm", "aesxyz", "aesxyz"),
        ("resources:\n- ", "resources: []\nx:\n- ", "x"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let error = Encryption::from_config(&bad).unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} is not in {error:?}");
    }
    let encryption = Encryption::from_config(&good).unwrap();
    assert!(encryption.replace("kind: [").is_err());
    assert!(encryption.seal(SECRET, b"{}").starts_with(MARK), "the old one stays in force");
}

fn on_disk(folder: &std::path::Path, text: &str) -> bool {
    let bytes = std::fs::read(folder.join("store.redb")).unwrap();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

async fn open(folder: &std::path::Path, encryption: &Arc<Encryption>) -> Result<Store, StoreError> {
    let backend = EmbeddedBackend::open_encrypted(folder, Arc::clone(encryption)).await?;
    Store::open(Box::new(backend), Options::default()).await
}

#[tokio::test]
async fn the_disk_does_not_hold_the_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let encryption = encryption(&["k"]);
    let store = open(folder.path(), &encryption).await.unwrap();
    let written = create(&store, SECRET, "hunter2-hunter2").await;
    create(&store, "/configmaps/a/c", "everybody-may-know").await;
    store.close().await;
    assert!(!on_disk(folder.path(), "hunter2"));
    assert!(on_disk(folder.path(), "everybody-may-know"));

    let store = open(folder.path(), &encryption).await.unwrap();
    assert_eq!(store.get(SECRET), Some(written), "it is the same version");
    store.close().await;

    let stranger = self::encryption(&["other"]);
    let refused = open(folder.path(), &stranger).await.unwrap_err().to_string();
    assert!(refused.contains("/secrets/a/s is encrypted with a key"), "{refused}");
}

#[tokio::test]
async fn resealing_follows_the_configuration_and_changes_no_version() {
    let folder = tempfile::tempdir().unwrap();
    let encryption = encryption(&[]);
    let store = open(folder.path(), &encryption).await.unwrap();
    let written = create(&store, SECRET, "hunter2-hunter2").await;
    assert_eq!(store.reseal().await.unwrap(), 0);
    encryption.replace(&config(&["k"], true)).unwrap();
    assert_eq!(store.reseal().await.unwrap(), 1);
    assert_eq!(store.reseal().await.unwrap(), 0);
    let revision = store.revision();
    store.close().await;
    let store = open(folder.path(), &self::encryption(&["new", "k"])).await.unwrap();
    assert_eq!(store.get(SECRET), Some(written));
    assert_eq!(store.revision(), revision);
    assert_eq!(store.reseal().await.unwrap(), 1);
    store.close().await;
    open(folder.path(), &self::encryption(&["new"])).await.unwrap().close().await;
}
