//! The life of an object.

use serde_json::json;

use crate::harness::{Api, namespace};

const PATH: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn an_object_is_created_changed_and_deleted() {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let admin = api.admin();
    let created = admin.post(PATH, &json!({"metadata": {"name": "c"}, "data": {"k": "1"}})).await;
    let mut object = created.expect(201);
    object["data"]["k"] = "2".into();
    let changed = admin.put(&format!("{PATH}/c"), &object).await.expect(200);
    assert_ne!(changed["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
    let stale = admin.put(&format!("{PATH}/c"), &object).await.expect(409);
    assert_eq!(stale["reason"], "Conflict");
    let patch = json!({"data": {"l": "3"}});
    let patched = admin.patch("merge-patch+json", &format!("{PATH}/c"), &patch).await.expect(200);
    assert_eq!(patched["data"], json!({"k": "2", "l": "3"}));
    assert_eq!(admin.get(&format!("{PATH}/c")).await.expect(200)["data"], patched["data"]);
    let read = admin.get(&format!("{PATH}/c")).await;
    assert_eq!(read.headers["content-type"], "application/json");
    admin.delete(&format!("{PATH}/c")).await.expect(200);
    assert_eq!(admin.get(&format!("{PATH}/c")).await.expect(404)["reason"], "NotFound");
}

#[tokio::test]
async fn a_stranger_may_not() {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let refused = api.client("stranger", &["system:authenticated"]).get(PATH).await.expect(403);
    assert_eq!(refused["reason"], "Forbidden");
    let refused = api.anonymous().get(PATH).await.expect(403);
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("system:anonymous")));
}

#[tokio::test]
async fn patches_that_overtake_each_other_all_count() {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let admin = api.admin();
    admin.post(PATH, &json!({"metadata": {"name": "c"}})).await.expect(201);
    let path = format!("{PATH}/c");
    let mut patches = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (admin, path) = (admin.clone(), path.clone());
        patches.spawn(async move {
            let patch = json!({"data": {format!("k{number}"): "v"}});
            admin.patch("merge-patch+json", &path, &patch).await.expect(200);
        });
    }
    while let Some(patched) = patches.join_next().await {
        patched.expect("no patch is refused");
    }
    let all = admin.get(&path).await.expect(200);
    assert_eq!(all["data"].as_object().map(serde_json::Map::len), Some(20));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    admin.patch("merge-patch+json", &path, &stale).await.expect(409);
}
