//! Several nodes: joining with a token, pods and Services across them.

use anyhow::{Context, Result, ensure};

const SPREAD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: web}}
      containers:
      - {name: web, image: "registry.example/web:v1", readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: n2
  containers: [{name: c, image: "registry.example/web:v1", command: [sleep, "100000"]}]
"#;

#[test]
fn two_nodes_share_pods_and_services() -> Result<()> {
    let (cluster, _guard) = it::ready_cluster("it-two", 2)?;
    let kubectl = cluster.kubectl();
    let context = || cluster.log_tails(60);
    kubectl.apply(SPREAD)?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).with_context(context)?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"])?;
    let script = "i=0; while [ $i -lt 40 ]; do timeout 5 wget -q -O - http://web || echo FAILED; i=$((i+1)); done";
    let answers =
        kubectl.run(&["exec", "client", "--", "sh", "-c", script]).with_context(context)?;
    let mut hosts: Vec<&str> = answers.lines().collect();
    hosts.sort_unstable();
    hosts.dedup();
    ensure!(!answers.contains("FAILED"), "a request failed:\n{answers}\n{}", context());
    ensure!(hosts.len() == 2, "pods on both nodes should answer: {hosts:?}");
    Ok(())
}
