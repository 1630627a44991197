use expect_test::expect;
use informer::ViewWriter;
use objects::{ObjectKey, Revision};
use serde_json::{Value, json};

use super::*;
use crate::fake::FakeMaps;

fn config() -> Config {
    Config {
        node_name: "n1".to_owned(),
        bpffs_dir: "/nonexistent".into(),
        cgroup2_dir: "/nonexistent".into(),
        node_addresses: Vec::new(),
        own_addresses: Vec::new(),
        uplinks: Vec::new(),
        masquerade_pods: false,
        frontends_max: 1024,
        backends_max: 1024,
    }
}

struct Cluster {
    services: ViewWriter<Service>,
    slices: ViewWriter<EndpointSlice>,
    nodes: ViewWriter<Node>,
    views: Views,
}

impl Cluster {
    fn new() -> Self {
        let (service_view, services) = View::new(Vec::new());
        let (slice_view, slices) = View::new(Vec::new());
        let (node_view, nodes) = View::new(Vec::new());
        let views = Views { services: service_view, slices: slice_view, nodes: node_view };
        Self { services, slices, nodes, views }
    }

    fn sync(&self, services: Vec<Service>, slices: Vec<EndpointSlice>) {
        self.services.replace(services.into_iter().map(Arc::new).collect(), Revision(1));
        self.slices.replace(slices.into_iter().map(Arc::new).collect(), Revision(1));
        self.nodes.replace(Vec::new(), Revision(1));
    }
}

fn service() -> Service {
    from(json!({
        "metadata": { "namespace": "ns", "name": "web", "resourceVersion": "1" },
        "spec": { "clusterIP": "10.96.0.5", "ports": [{ "port": 80 }] },
    }))
}

fn slice(version: u32, ips: &[&str]) -> EndpointSlice {
    let endpoints: Vec<Value> = ips.iter().map(|ip| json!({ "addresses": [ip] })).collect();
    from(json!({
        "metadata": {
            "namespace": "ns", "name": "web-1", "resourceVersion": version.to_string(),
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4", "ports": [{ "name": "", "port": 8080 }], "endpoints": endpoints,
    }))
}

fn from<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Waits for a state of the maps, in paused time: a test that waits in vain ends at once.
async fn until(maps: &FakeMaps, reached: impl Fn(&str) -> bool) -> String {
    for _ in 0..1_000 {
        let text = dump(&maps.held());
        if reached(&text) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not reached; maps hold\n{}", dump(&maps.held()));
}

#[tokio::test]
async fn maps_follow_the_cluster_and_survive_a_restart() {
    let maps = FakeMaps::default();
    let cluster = Cluster::new();
    let services = Services::with_maps(config(), Box::new(maps.clone())).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (services, views, shutdown) =
            (services.clone(), cluster.views.clone(), shutdown.clone());
        async move { services.run(views, shutdown).await }
    });
    cluster.sync(vec![service()], vec![slice(1, &["10.244.0.2"])]);
    let text = until(&maps, |text| !text.is_empty()).await;
    expect![[r#"
        10.96.0.5:80/TCP internal -> 10.244.0.2:8080
    "#]]
    .assert_eq(&text);

    cluster.slices.apply(slice(2, &["10.244.0.3", "10.244.0.4"]));
    until(&maps, |text| text.ends_with("10.244.0.3:8080, 10.244.0.4:8080\n")).await;
    services.host_ports().set(
        "uid",
        vec![crate::HostPort {
            host_ip: Some("192.168.7.1".parse().unwrap()),
            host_port: 81,
            protocol: crate::Protocol::Tcp,
            pod_ips: vec!["10.244.0.9".parse().unwrap()],
            container_port: 8081,
        }],
    );
    until(&maps, |text| text.contains("192.168.7.1:81/TCP external")).await;
    services.host_ports().remove("uid");
    until(&maps, |text| !text.contains("192.168.7.1")).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();

    // The next agent has not seen the cluster yet: what is pinned stays.
    let before = maps.held();
    let cluster = Cluster::new();
    let services = Services::with_maps(config(), Box::new(maps.clone())).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (services, views, shutdown) =
            (services.clone(), cluster.views.clone(), shutdown.clone());
        async move { services.run(views, shutdown).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(maps.held(), before);
    cluster.sync(vec![service()], vec![slice(2, &["10.244.0.3", "10.244.0.4"])]);
    cluster.slices.apply(slice(3, &["10.244.0.4"]));
    until(&maps, |text| text.ends_with("-> 10.244.0.4:8080\n")).await;
    let kept = maps.held().backends;
    assert!(kept.iter().all(|(id, backend)| before.backends.get(id) == Some(backend)));
    cluster.services.remove(ObjectKey::new("ns", "web"), Revision(9));
    until(&maps, str::is_empty).await;
    assert_eq!(maps.held(), MapSet::default());
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
