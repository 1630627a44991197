use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

struct Fixed(Value);

impl Sources for Fixed {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        let data = self.0.get(format!("cm/{name}"))?;
        serde_json::from_value(json!({"metadata": {}, "data": data})).ok().map(Arc::new)
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        let data = self.0.get(format!("secret/{name}"))?;
        let data = data.as_object()?.iter().map(|(key, value)| {
            (key.clone(), ByteString(value.as_str().unwrap().as_bytes().to_vec()))
        });
        Some(Arc::new(Secret { data: Some(data.collect()), ..Secret::default() }))
    }
}

fn made(container: Value, services: &[Arc<Service>]) -> Result<Environment, EnvError> {
    let mut container = container;
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"containers": [container]},
    }))
    .unwrap();
    let sources = Fixed(json!({
        "cm/one": {"A": "a", "b-c": "d", "bad=key": "x"},
        "secret/two": {"S": "hidden"},
    }));
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    environment(&pod, &container, services, &sources, &Context::default())
}

fn pairs(environment: &Environment) -> String {
    let pairs = environment.variables.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn values_sources_and_expansion() {
    let container = json!({
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "one"}}, {"secretRef": {"name": "two"}},
            {"configMapRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "X", "value": "$(P_A)-$(Y)"},
            {"name": "Y", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "S", "value": "over"},
            {"name": "Z", "value": "$(Y)$(S)"},
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "A"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "two", "key": "no", "optional": true}}},
            {"name": "E"},
        ],
    });
    let environment = made(container, &[]).unwrap();
    assert_eq!(pairs(&environment), "P_A=a P_b-c=d S=over X=a-$(Y) Y=web Z=webover K=a E=");
    assert_eq!(environment.skipped.len(), 1);
    assert!(environment.skipped[0].starts_with("Keys [bad=key] from the EnvFrom ConfigMap n/one"));
}

#[test]
fn what_is_missing_is_named() {
    for (source, wanted) in [
        (json!({"configMapKeyRef": {"name": "no", "key": "k"}}), "configmap \"no\" not found"),
        (
            json!({"secretKeyRef": {"name": "two", "key": "k"}}),
            "couldn't find key k in Secret n/two",
        ),
        (json!({"fieldRef": {"fieldPath": "spec.no"}}), "unsupported fieldPath: spec.no"),
    ] {
        let error = made(json!({"env": [{"name": "A", "valueFrom": source}]}), &[]).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
    let error = made(json!({"envFrom": [{"secretRef": {"name": "no"}}]}), &[]).unwrap_err();
    assert_eq!(error.to_string(), "secret \"no\" not found");
}

#[test]
fn services_of_the_namespace_and_the_api() {
    let service = |namespace: &str, name: &str, ip: &str| -> Arc<Service> {
        let ports = json!([{"name": "web", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": ports},
            }))
            .unwrap(),
        )
    };
    let services = [
        service("default", "kubernetes", "10.96.0.1"),
        service("n", "my-db", "fd00::1"),
        service("n", "headless", "None"),
        service("other", "x", "10.96.0.9"),
    ];
    let environment = made(json!({"env": [{"name": "U", "value": "$(MY_DB_PORT)"}]}), &services);
    let environment = environment.unwrap();
    let names: Vec<&str> = environment.variables.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"KUBERNETES_SERVICE_HOST") && !names.contains(&"X_SERVICE_HOST"));
    assert!(!names.contains(&"HEADLESS_SERVICE_HOST"));
    assert_eq!(environment.get("U"), Some("tcp://[fd00::1]:80"));
    assert_eq!(environment.get("MY_DB_SERVICE_PORT_WEB"), Some("80"));
    assert_eq!(environment.get("MY_DB_PORT_53_UDP_PROTO"), Some("udp"));
    assert_eq!(environment.get("MY_DB_PORT_53_UDP"), Some("udp://[fd00::1]:53"));
}
