//! The store as a whole, over the backends that need nothing else on the machine.

mod etcd;
mod model;
mod suite;
mod writes;

use crate::{Payload, Record, Store, Write};
use std::sync::Arc;

/// `{"v":TEXT,"rv":""}`, its revision going between the last quotes.
pub(crate) fn payload(text: &str) -> Payload {
    let json = format!(r#"{{"v":"{text}","rv":""}}"#);
    let at = json.len() - 2;
    Payload::new(json, at)
}

/// What [`payload`] becomes at a revision.
pub(crate) fn stored(text: &str, revision: u64) -> String {
    format!(r#"{{"v":"{text}","rv":"{revision}"}}"#)
}

pub(crate) async fn create(store: &Store, key: &str, text: &str) -> Arc<Record> {
    store.commit(key, Write::Create(payload(text))).await.expect("create")
}

async fn update(store: &Store, key: &str, text: &str) -> Arc<Record> {
    let revision = store.get(key).expect("exists").revision;
    store.commit(key, Write::Update(payload(text), revision)).await.expect("update")
}

async fn delete(store: &Store, key: &str) -> Arc<Record> {
    let current = store.get(key).expect("exists");
    store.commit(key, Write::Delete(current.payload(), current.revision)).await.expect("delete")
}
