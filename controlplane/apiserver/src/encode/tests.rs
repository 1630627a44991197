use std::sync::Arc;

use serde_json::json;
use store::{Store, Write};

use super::*;

async fn stored(object: &Value) -> Arc<Record> {
    let store = Store::in_memory().await;
    store.commit("/configmaps/a/b", Write::Create(payload(object))).await.unwrap()
}

#[tokio::test]
async fn the_revision_is_spliced_into_metadata() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a\"b": "ü"},
        "metadata": {"name": "b", "resourceVersion": "7"},
    });
    let record = stored(&object).await;
    let mut want = object;
    want["metadata"]["resourceVersion"] = json!(record.revision.to_string());
    assert_eq!(parse(&record), want);
}

#[tokio::test]
async fn an_item_of_a_typed_list_has_no_type() {
    let registry = kinds::builtin();
    let kind = registry.resource("", "v1", "configmaps").unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    let mut out = BytesMut::new();
    View::new(kind).put_item(kind, &*stored(&object).await, &mut out);
    let item: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(item, json!({"metadata": {"name": "b", "resourceVersion": "1"}}));
}
