//! exec, attach, port-forward, cp and logs by every kubectl at hand: those before 1.31 speak SPDY,
//! later ones WebSockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::{Cluster, Kubectl, namespaces, wait_for};

const BOUND: Duration = Duration::from_secs(20);

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: registry.example/web:v1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: shell
    image: registry.example/web:v1
    stdin: true
    command: [sh, -c, "while read line; do echo \"heard $line\"; done"]
"#;

#[test]
fn every_kubectl_streams() -> Result<()> {
    let (cluster, _guard) = it::ready_cluster("it-streams", 1)?;
    let kubectl = cluster.kubectl();
    kubectl.apply(MANIFEST)?;
    kubectl
        .run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"])
        .with_context(|| cluster.log_tails(60))?;
    for program in it::kubectls()? {
        let kubectl = Kubectl { program: program.clone(), ..cluster.kubectl() };
        println!("{program}: {}", kubectl.run(&["version", "--client"])?);
        let checked = exec(&kubectl)
            .and_then(|()| attach(&kubectl))
            .and_then(|()| copy(&kubectl, &cluster))
            .and_then(|()| forward(&kubectl, &cluster));
        checked.with_context(|| cluster.log_tails(20)).with_context(|| program.clone())?;
    }
    proxy(&kubectl)?;
    top(&kubectl)
}

/// Pods and nodes by way of the API server, and what is below a redirect.
fn proxy(kubectl: &Kubectl) -> Result<()> {
    for path in ["web", "web:8080", "web:http", "http:web:8080"] {
        let path = format!("/api/v1/namespaces/default/pods/{path}/proxy/");
        let answer = kubectl.run(&["get", "--raw", &path])?;
        ensure!(answer.contains("web v1"), "{path}: {answer:?}");
    }
    for path in ["/api/v1/nodes/n1/proxy/healthz", "/api/v1/nodes/n1:10250/proxy/healthz"] {
        ensure!(kubectl.run(&["get", "--raw", path])? == "ok", "{path}");
    }
    let nobody = ["get", "--raw", "/api/v1/namespaces/default/pods/web:9/proxy/"];
    let refused = kubectl.run_failing(&nobody)?;
    ensure!(refused.contains("connection refused"), "{refused}");
    Ok(())
}

/// `kubectl top`, all and selected.
fn top(kubectl: &Kubectl) -> Result<()> {
    let nodes = kubectl.run(&["top", "nodes", "--no-headers"])?;
    ensure!(nodes.starts_with("n1 "), "top nodes: {nodes:?}");
    let pods = kubectl.run(&["top", "pods", "--no-headers", "--containers"])?;
    ensure!(pods.lines().count() == 2 && pods.contains("shell"), "top pods: {pods:?}");
    let selected = kubectl.run(&["top", "pods", "--no-headers", "-l", "app=web"])?;
    ensure!(selected.lines().count() == 1 && selected.starts_with("web "), "{selected:?}");
    Ok(())
}

/// Gives a command its input and waits for its end: whether it succeeded, and both outputs.
fn finish(mut child: Child, input: &[u8]) -> Result<(bool, String, String)> {
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input).context("write to kubectl")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for kubectl")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

fn exec(kubectl: &Kubectl) -> Result<()> {
    let both =
        kubectl.spawn(&["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"])?;
    let (ok, out, err) = finish(both, b"")?;
    ensure!(!ok && out == "out\n" && err.starts_with("err\n"), "exec: {ok} {out:?} {err:?}");
    ensure!(err.contains("exit code 3"), "the exit code: {err:?}");
    // The end of the input reaches the process, and its output still comes.
    let input: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let count = kubectl.spawn(&["exec", "-i", "web", "--", "sh", "-c", "wc -c; echo done"])?;
    let (ok, out, err) = finish(count, &input)?;
    ensure!(ok && out.trim() == "800000\ndone", "half close: {out:?} {err:?}");
    let absent = kubectl.run_failing(&["exec", "web", "--", "/absent"])?;
    ensure!(absent.contains("/absent") || absent.contains("no such"), "{absent}");
    let container = kubectl.run_failing(&["exec", "web", "-c", "absent", "--", "true"])?;
    ensure!(container.contains("absent"), "{container}");
    Ok(())
}

fn attach(kubectl: &Kubectl) -> Result<()> {
    let mut child = kubectl.spawn(&["attach", "-i", "shell"])?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    stdin.write_all(b"hello\n")?;
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    ensure!(line == "heard hello\n", "attach: {line:?}");
    Ok(())
}

fn copy(kubectl: &Kubectl, cluster: &Cluster) -> Result<()> {
    let folder = cluster.nodes[0].data_dir.clone();
    let (there, back) = (folder.join("sent.bin"), folder.join("back.bin"));
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&there, &bytes)?;
    let there = there.display().to_string();
    kubectl.run(&["cp", &there, "web:/tmp/sent.bin"])?;
    kubectl.run(&["cp", "web:/tmp/sent.bin", &back.display().to_string()])?;
    ensure!(std::fs::read(&back)? == bytes, "kubectl cp there and back changed the file");
    Ok(())
}

/// Kills what is left of a command.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has ended is what is wanted.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn forward(kubectl: &Kubectl, cluster: &Cluster) -> Result<()> {
    let mut child =
        Running(kubectl.spawn(&["port-forward", "pod/web", "18080:8080", "18081:9"])?);
    let mut stdout = BufReader::new(child.0.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    ensure!(line.starts_with("Forwarding from 127.0.0.1:18080"), "port-forward: {line:?}");
    let holder = cluster.nodes[0].holder_pid;
    let get = |port: u16| {
        let mut curl = namespaces::enter(holder, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "10"]);
        curl.arg(format!("http://127.0.0.1:{port}/"));
        curl
    };
    let mut all = Vec::new();
    for _ in 0..8 {
        let mut curl = get(18080);
        all.push(curl.stdout(std::process::Stdio::piped()).spawn()?);
    }
    for one in all {
        let output = one.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && text.contains("web v1"), "through the port: {text:?}");
    }
    // Nobody listens there: the client is told, on the error stream.
    let refused = host::command::output(&mut get(18081))?;
    ensure!(!refused.status.success(), "a closed port answered");
    let mut stderr = child.0.stderr.take().context("stderr is piped")?;
    let mut said = Vec::new();
    wait_for("the closed port's error", BOUND, || {
        let mut piece = [0; 1024];
        let count = stderr.read(&mut piece).map_err(|error| error.to_string())?;
        said.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&said).into_owned();
        if text.contains("failed to connect to port 9") { Ok(()) } else { Err(text) }
    })
}
