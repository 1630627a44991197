//! Services and DNS as pods, nodes and clients outside meet them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::{Cluster, Kubectl, namespaces};

const BOUND: Duration = Duration::from_secs(30);

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec:
  hostname: web-0
  subdomain: headless
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: registry.example/web:v1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  hostname: web-1
  subdomain: headless
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: registry.example/web:v1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: lone, labels: {app: lone}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: registry.example/web:v1
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: lone}
spec:
  selector: {app: lone}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "registry.example/web:v1", command: [sleep, "100000"]}]
"#;

fn sh(kubectl: &Kubectl, pod: &str, script: &str) -> Result<String> {
    kubectl.run(&[
        "exec",
        pod,
        "-c",
        if pod == "client" { "c" } else { "web" },
        "--",
        "sh",
        "-c",
        script,
    ])
}

#[test]
fn cluster_ips_node_ports_and_names() -> Result<()> {
    let (cluster, _guard) = it::ready_cluster("it-svc", 1)?;
    let kubectl = cluster.kubectl();
    kubectl.apply(MANIFEST)?;
    kubectl
        .run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"])
        .with_context(|| cluster.log_tails(60))?;
    kubectl.wait_json("both endpoints", BOUND, &["get", "endpoints", "web"], |endpoints| {
        (endpoints["subsets"][0]["addresses"].as_array()?.len() == 2).then_some(())
    })?;
    cluster_ip(&kubectl)?;
    node_port(&cluster)?;
    names(&kubectl).with_context(|| cluster.log_tails(20))
}

fn cluster_ip(kubectl: &Kubectl) -> Result<()> {
    let hairpin = "i=0; while [ $i -lt 50 ]; do timeout 5 wget -q -O - http://lone.default || echo FAILED; i=$((i+1)); done";
    let answers = sh(kubectl, "lone", hairpin)?;
    ensure!(answers.lines().count() == 50 && !answers.contains("FAILED"), "hairpin: {answers}");
    // Refused within the second, not timed out: `time` would show 127 s of SYN retries otherwise.
    let refused = sh(kubectl, "client", "timeout 5 wget -O - http://nobody 2>&1 || true")?;
    ensure!(refused.to_lowercase().contains("refused"), "no endpoints: {refused}");
    Ok(())
}

/// From the node, over its address and over loopback, and from a machine outside.
fn node_port(cluster: &Cluster) -> Result<()> {
    for target in ["127.0.0.1:30080", "10.89.0.11:30080"] {
        let mut curl = cluster.command_on(0, "curl")?;
        curl.args(["--silent", "--show-error", "--max-time", "5", target]);
        let answer = host::command::run(&mut curl)?;
        ensure!(answer.contains("v1"), "{target} from the node: {answer}");
    }
    let outside = cluster.switch_pid;
    namespaces::ip(outside, &["addr", "replace", "10.89.0.1/24", "dev", "switch0"])?;
    for _round in 0..20 {
        let mut curl = namespaces::enter(outside, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "5", "10.89.0.11:30080"]);
        let answer = host::command::run(&mut curl).context("NodePort from outside")?;
        ensure!(answer.contains("v1"), "from outside: {answer}");
    }
    Ok(())
}

fn names(kubectl: &Kubectl) -> Result<()> {
    let pods = kubectl.json(&["get", "pods", "-l", "app=web"])?;
    let mut ips: Vec<String> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_string))
        .collect();
    ips.sort();
    let headless = sh(kubectl, "client", "nslookup headless.default.svc.cluster.local")?;
    ensure!(ips.iter().all(|ip| headless.contains(ip.as_str())), "{ips:?} in {headless}");
    let one = sh(kubectl, "client", "nslookup web-0.headless.default.svc.cluster.local")?;
    ensure!(ips.iter().filter(|ip| one.contains(ip.as_str())).count() == 1, "{one}");
    let service = kubectl.json(&["get", "service", "web"])?;
    let ip = service["spec"]["clusterIP"].as_str().context("a cluster IP")?;
    let back = sh(kubectl, "client", &format!("nslookup {ip}"))?;
    ensure!(back.contains("web.default.svc.cluster.local"), "PTR of {ip}: {back}");
    let srv = sh(kubectl, "client", "nslookup -type=srv _http._tcp.web.default.svc.cluster.local")?;
    ensure!(srv.contains("80") && srv.contains("web.default.svc.cluster.local"), "SRV: {srv}");
    let external = sh(kubectl, "client", "timeout 5 wget -q -O - http://elsewhere")?;
    ensure!(external.contains("v1"), "ExternalName: {external}");
    let short = sh(kubectl, "client", "timeout 5 wget -q -O - http://web.default")?;
    ensure!(short.contains("v1"), "search list: {short}");
    let absent = sh(kubectl, "client", "nslookup absent.default.svc.cluster.local 2>&1 || true")?;
    ensure!(absent.contains("NXDOMAIN"), "an absent name: {absent}");
    Ok(())
}
