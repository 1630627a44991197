//! What a person types: logs, exec, describe, get, explain, diff, delete.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::command::run;
use crate::{Kubectl, wait_for};
use anyhow::{Context, Result, ensure};

use super::Scenario;
use super::manifest::WEB;

const LOGGER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: logger, namespace: demo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: logger
    image: registry.example/web:v1
    command: [sh, -c, "i=0; while true; do i=$((i+1)); echo line $i; usleep 50000; done"]
"#;

/// Each behaves as it should.
pub(super) fn check(scenario: &mut Scenario) -> Result<()> {
    let kubectl = scenario.cluster.kubectl();
    kubectl.apply(LOGGER)?;
    kubectl.run(&["wait", "-n", "demo", "--for=condition=Ready", "pod/logger", "--timeout=60s"])?;
    logs(&kubectl)?;
    exec(&kubectl)?;
    reads(&kubectl)?;
    watch(&kubectl)?;
    diff(&kubectl)?;
    kubectl.run(&["delete", "pod", "-n", "demo", "logger", "--timeout=30s"])?;
    let gone = kubectl.run_failing(&["get", "pod", "-n", "demo", "logger"])?;
    ensure!(gone.contains("NotFound"), "a deleted pod should be NotFound: {gone}");
    Ok(())
}

/// `logs -f` shows lines that were written after it began, in order.
fn logs(kubectl: &Kubectl) -> Result<()> {
    let mut child = kubectl.spawn(&["logs", "-n", "demo", "-f", "--tail=1", "logger"])?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let lines: Vec<String> =
        BufReader::new(stdout).lines().take(20).collect::<Result<_, _>>().context("read logs")?;
    child.kill().context("end kubectl logs")?;
    child.wait().context("reap kubectl logs")?;
    let numbers: Vec<u64> =
        lines.iter().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    let in_order = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    ensure!(numbers.len() == 20 && in_order, "logs -f: {lines:?}");
    Ok(())
}

/// `exec -it` with a real terminal on this side, and exit codes without one.
fn exec(kubectl: &Kubectl) -> Result<()> {
    let mut plain = kubectl.command(&[]);
    let words: Vec<String> = std::iter::once(plain.get_program())
        .chain(plain.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = format!(
        "{} exec -n demo -it logger -- sh -c 'tty && stty size && echo typed-ok'",
        words.join(" ")
    );
    plain = std::process::Command::new("script");
    plain.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let shown = run(plain.env("KUBECONFIG", &kubectl.kubeconfig).stdin(Stdio::null()))?;
    ensure!(shown.contains("/dev/pts/") && shown.contains("typed-ok"), "exec -it: {shown}");
    let mut failing =
        kubectl.command(&["exec", "-n", "demo", "logger", "--", "sh", "-c", "exit 7"]);
    let status = failing.stdin(Stdio::null()).output().context("kubectl exec")?.status;
    ensure!(status.code() == Some(7), "exec should pass exit code 7 on: {status}");
    Ok(())
}

fn reads(kubectl: &Kubectl) -> Result<()> {
    for (args, expected) in [
        (&["describe", "deployment", "-n", "demo", "web"][..], "Replicas:"),
        (&["describe", "pod", "-n", "demo", "logger"], "Started"),
        (&["describe", "node", "n1"], "Allocated resources"),
        (&["get", "pods", "-n", "demo", "-o", "wide"], "n1"),
        (&["get", "all", "-n", "demo"], "deployment.apps/web"),
        (&["get", "deployment", "-n", "demo", "web", "-o", "yaml"], "kind: Deployment"),
        (&["explain", "deployment.spec.strategy"], "rollingUpdate"),
        (&["explain", "pod.spec.containers"], "livenessProbe"),
        (&["api-resources"], "deployments"),
        (&["get", "events", "-n", "demo"], "Started"),
        (&["top", "--help"], "top"),
    ] {
        let shown = kubectl.run(args)?;
        ensure!(shown.contains(expected), "kubectl {args:?} shows no {expected:?}:\n{shown}");
    }
    Ok(())
}

/// `get -w` shows a change that comes while it watches.
fn watch(kubectl: &Kubectl) -> Result<()> {
    let mut child =
        kubectl.spawn(&["get", "configmap", "-n", "demo", "web", "-w", "-o", "yaml"])?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    wait_line(&mut lines, "GREETING: hello")?;
    let patch = r#"{"data":{"GREETING":"changed"}}"#;
    kubectl.run(&["patch", "configmap", "-n", "demo", "web", "-p", patch])?;
    wait_line(&mut lines, "GREETING: changed")?;
    child.kill().context("end kubectl get -w")?;
    child.wait().context("reap kubectl get -w")?;
    Ok(())
}

fn wait_line(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> Result<()> {
    wait_for(&format!("{text:?} in get -w"), Duration::from_secs(30), || match lines.next() {
        Some(Ok(line)) if line.contains(text) => Ok(()),
        Some(Ok(line)) => Err(line),
        other => Err(format!("the watch ended: {other:?}")),
    })
}

/// `diff` finds the change, and nothing after it is undone by an apply.
fn diff(kubectl: &Kubectl) -> Result<()> {
    let file = kubectl.kubeconfig.with_file_name("web.yaml");
    std::fs::write(&file, WEB).with_context(|| format!("write {}", file.display()))?;
    let name = file.display().to_string();
    let mut command = kubectl.command(&["diff", "-f", &name]);
    let output = crate::command::output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1) && text.contains("GREETING"),
        "diff should show GREETING: {} {text} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    kubectl.apply(WEB)?;
    kubectl.run(&["diff", "-f", &name])?;
    Ok(())
}
