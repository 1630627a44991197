//! What a pod may ask for, on a real kernel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::Kubectl;
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);

fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n{}\n",
        spec.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )
}

fn wait(
    kubectl: &Kubectl,
    name: &str,
    what: &str,
    condition: impl FnMut(&Value) -> Option<()>,
) -> Result<()> {
    kubectl.wait_json(&format!("pod {name}: {what}"), BOUND, &["get", "pod", name], condition)
}

fn finished(kubectl: &Kubectl, name: &str, phase: &str) -> Result<Value> {
    wait(kubectl, name, phase, |pod| (pod["status"]["phase"] == phase).then_some(()))?;
    kubectl.json(&["get", "pod", name])
}

#[test]
fn everything_a_pod_may_ask_for() -> Result<()> {
    let (cluster, _guard) = it::ready_cluster("it-pods", 1)?;
    let kubectl = cluster.kubectl();
    type Check = (&'static str, fn(&Kubectl) -> Result<()>);
    let checks: &[Check] = &[
        ("init containers in order", init_containers),
        ("exit codes and restart policy", exit_codes),
        ("a failing liveness probe restarts", liveness),
        ("out of memory is reported", out_of_memory),
        ("environment and volumes", environment_and_volumes),
        ("a changed ConfigMap reaches its volume", changed_config_map),
        ("security context", security_context),
        ("graceful end with preStop", graceful_end),
        ("logs of the attempt before", previous_logs),
        ("attach", attach),
        ("what cannot start says why", cannot_start),
        ("a sidecar outlives init and ends with a Job-like pod", sidecar),
    ];
    for (name, check) in checks {
        check(&kubectl).with_context(|| format!("{name}\n{}", cluster.log_tails(60)))?;
    }
    Ok(())
}

fn init_containers(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "init",
        r#"restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: a, image: "registry.example/web:v1", command: [sh, -c, "echo a > /v/f"], volumeMounts: [{name: v, mountPath: /v}]}
- {name: b, image: "registry.example/web:v1", command: [sh, -c, "echo b >> /v/f"], volumeMounts: [{name: v, mountPath: /v}]}
containers:
- {name: c, image: "registry.example/web:v1", command: [cat, /v/f], volumeMounts: [{name: v, mountPath: /v}]}"#,
    ))?;
    finished(kubectl, "init", "Succeeded")?;
    let log = kubectl.run(&["logs", "init"])?;
    ensure!(log == "a\nb\n", "log: {log:?}");
    Ok(())
}

fn exit_codes(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "fails",
        "restartPolicy: Never\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"echo last words > /dev/termination-log; exit 3\"]}",
    ))?;
    let ended = finished(kubectl, "fails", "Failed")?;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(state["exitCode"] == 3 && state["reason"] == "Error", "state: {state}");
    ensure!(state["message"].as_str().is_some_and(|text| text.contains("last words")), "{state}");
    kubectl.apply(&pod(
        "retries",
        "restartPolicy: OnFailure\nvolumes: [{name: v, emptyDir: {}}]\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"if [ -e /v/f ]; then exit 0; fi; touch /v/f; exit 1\"], volumeMounts: [{name: v, mountPath: /v}]}",
    ))?;
    let ended = finished(kubectl, "retries", "Succeeded")?;
    ensure!(ended["status"]["containerStatuses"][0]["restartCount"] == 1, "{}", ended["status"]);
    Ok(())
}

fn liveness(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "sick",
        "containers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"touch /tmp/well; sleep 3; rm /tmp/well; sleep 1000\"], livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}}",
    ))?;
    wait(kubectl, "sick", "restarted", |pod| {
        (pod["status"]["containerStatuses"][0]["restartCount"].as_u64()? >= 1).then_some(())
    })?;
    kubectl.wait_json(
        "an Unhealthy event",
        BOUND,
        &["get", "events", "--field-selector", "involvedObject.name=sick,reason=Unhealthy"],
        |events| events["items"].as_array().filter(|items| !items.is_empty()).map(|_| ()),
    )?;
    kubectl.run(&["delete", "pod", "sick"])?;
    Ok(())
}

fn out_of_memory(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "greedy",
        "restartPolicy: Never\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"a=x; while true; do a=$a$a$a$a; done\"], resources: {limits: {memory: 32Mi}}}",
    ))?;
    let ended = finished(kubectl, "greedy", "Failed")?;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(state["reason"] == "OOMKilled" && state["exitCode"] == 137, "state: {state}");
    Ok(())
}

const ENVIRONMENT: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: green, file.txt: from-the-map}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {KEY: hidden}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {tier: front}, annotations: {note: "hi"}}
spec:
  restartPolicy: Never
  volumes:
  - {name: map, configMap: {name: settings}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: all, projected: {sources: [{configMap: {name: settings}}, {serviceAccountToken: {path: token, expirationSeconds: 3600}}]}}
  containers:
  - name: c
    image: registry.example/web:v1
    env:
    - {name: GREETING, value: "hello $(NODE) $$(NODE)"}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: secret, key: KEY}}}
    envFrom: [{prefix: S_, configMapRef: {name: settings}}]
    resources: {limits: {memory: 64Mi}}
    command: [sh, -c]
    args:
    - |
      echo "$GREETING|$NODE|$LIMIT|$KEY|$S_COLOR"
      cat /map/file.txt; echo
      stat -c %a /secret/..data/KEY; cat /secret/KEY; echo
      cat /down/labels; echo
      cut -c1-3 /all/token; cat /all/COLOR; echo
      cut -c1-3 /var/run/secrets/kubernetes.io/serviceaccount/token
      mount | grep -c ' /memory type tmpfs'
      grep search /etc/resolv.conf
    volumeMounts:
    - {name: map, mountPath: /map}
    - {name: secret, mountPath: /secret}
    - {name: down, mountPath: /down}
    - {name: memory, mountPath: /memory}
    - {name: all, mountPath: /all}
"#;

fn environment_and_volumes(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(ENVIRONMENT)?;
    finished(kubectl, "env", "Succeeded")?;
    let log = kubectl.run(&["logs", "env"])?;
    let lines: Vec<&str> = log.lines().collect();
    let expected = [
        "hello $(NODE) $(NODE)|n1|64|hidden|green",
        "from-the-map",
        "400",
        "hidden",
        "tier=\"front\"",
        "eyJ",
        "green",
        "eyJ",
        "1",
        "search default.svc.cluster.local svc.cluster.local cluster.local",
    ];
    ensure!(lines == expected, "the container saw:\n{log}");
    Ok(())
}

fn changed_config_map(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["create", "configmap", "changing", "--from-literal=k=one"])?;
    kubectl.apply(&pod(
        "watches",
        "volumes: [{name: v, configMap: {name: changing}}]\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"while ! grep -q two /v/k; do usleep 50000; done; echo seen; sleep 1000\"], volumeMounts: [{name: v, mountPath: /v}]}",
    ))?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/watches", "--timeout=60s"])?;
    kubectl.run(&["patch", "configmap", "changing", "-p", r#"{"data":{"k":"two"}}"#])?;
    host::wait_for("the new value in the volume", Duration::from_secs(10), || {
        let log = kubectl.run(&["logs", "watches"]).map_err(|error| format!("{error:#}"))?;
        if log.contains("seen") { Ok(()) } else { Err(log) }
    })?;
    kubectl.run(&["delete", "pod", "watches"])?;
    Ok(())
}

fn security_context(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "secure",
        "restartPolicy: Never\nsecurityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}\nvolumes: [{name: v, emptyDir: {}}]\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"id -u; id -g; stat -c %g /v; touch /x 2>/dev/null || echo read-only; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -d '[:space:]'\"], securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}, volumeMounts: [{name: v, mountPath: /v}]}",
    ))?;
    finished(kubectl, "secure", "Succeeded")?;
    let log = kubectl.run(&["logs", "secure"])?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines == ["1000", "1000", "2000", "read-only", "NoNewPrivs:1Seccomp:2"], "{log}");
    kubectl.apply(&pod(
        "not-root",
        "containers:\n- {name: c, image: \"registry.example/web:v1\", securityContext: {runAsNonRoot: true}}",
    ))?;
    wait(kubectl, "not-root", "refused", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        (waiting["reason"] == "CreateContainerConfigError").then_some(())
    })?;
    kubectl.run(&["delete", "pod", "not-root"])?;
    Ok(())
}

fn graceful_end(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "polite",
        "volumes: [{name: v, hostPath: {path: /run, type: Directory}}]\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"trap 'echo term; exit 0' TERM; while true; do usleep 20000; done\"], lifecycle: {preStop: {exec: {command: [sh, -c, \"echo hook > /proc/1/fd/1\"]}}}}",
    ))?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/polite", "--timeout=60s"])?;
    let mut follow = kubectl.spawn(&["logs", "-f", "polite"])?;
    kubectl.run(&["delete", "pod", "polite", "--grace-period=10", "--timeout=30s"])?;
    let mut log = String::new();
    use std::io::Read;
    follow.stdout.take().context("stdout is piped")?.read_to_string(&mut log)?;
    follow.wait()?;
    ensure!(log == "hook\nterm\n", "log: {log:?}");
    Ok(())
}

fn previous_logs(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "twice",
        "volumes: [{name: v, emptyDir: {}}]\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [sh, -c, \"if [ -e /v/f ]; then echo second; sleep 1000; fi; touch /v/f; echo first; exit 1\"], volumeMounts: [{name: v, mountPath: /v}]}",
    ))?;
    wait(kubectl, "twice", "running again", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        (status["restartCount"] == 1 && status["state"]["running"].is_object()).then_some(())
    })?;
    ensure!(kubectl.run(&["logs", "twice", "--previous"])? == "first\n", "the attempt before");
    host::wait_for("the second line", BOUND, || {
        let log = kubectl.run(&["logs", "twice"]).map_err(|error| format!("{error:#}"))?;
        if log == "second\n" { Ok(()) } else { Err(log) }
    })?;
    kubectl.run(&["delete", "pod", "twice"])?;
    Ok(())
}

fn attach(kubectl: &Kubectl) -> Result<()> {
    use std::io::Write;
    kubectl.apply(&pod(
        "reads",
        "restartPolicy: Never\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", stdin: true, stdinOnce: true, command: [sh, -c, \"read line; echo got $line\"]}",
    ))?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/reads", "--timeout=60s"])?;
    let mut child = kubectl.spawn(&["attach", "-i", "reads"])?;
    child.stdin.take().context("stdin is piped")?.write_all(b"typed\n")?;
    let output = child.wait_with_output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(
        shown.contains("got typed"),
        "attach: {shown} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    finished(kubectl, "reads", "Succeeded")?;
    Ok(())
}

fn cannot_start(kubectl: &Kubectl) -> Result<()> {
    let waiting = |reason: &'static str| {
        move |pod: &Value| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"].as_str().filter(|found| found.contains(reason)).map(|_| ())
        }
    };
    kubectl.apply(&pod("no-image", "containers:\n- {name: c, image: \"127.0.0.1:9/none:v1\"}"))?;
    wait(kubectl, "no-image", "its image cannot be pulled", waiting("Image"))?;
    kubectl.apply(&pod(
        "no-map",
        "containers:\n- {name: c, image: \"registry.example/web:v1\", envFrom: [{configMapRef: {name: absent}}]}",
    ))?;
    wait(kubectl, "no-map", "its ConfigMap is absent", waiting("CreateContainerConfigError"))?;
    kubectl.apply(&pod(
        "no-program",
        "restartPolicy: Never\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [/absent]}",
    ))?;
    let ended = finished(kubectl, "no-program", "Failed")?;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(state["reason"] == "StartError" && state["exitCode"] == 128, "state: {state}");
    for name in ["no-image", "no-map", "no-program"] {
        kubectl.run(&["delete", "pod", name])?;
    }
    Ok(())
}

fn sidecar(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&pod(
        "with-sidecar",
        "restartPolicy: Never\nvolumes: [{name: v, emptyDir: {}}]\ninitContainers:\n- {name: side, restartPolicy: Always, image: \"registry.example/web:v1\", command: [sh, -c, \"touch /v/up; trap 'exit 0' TERM; while true; do usleep 20000; done\"], volumeMounts: [{name: v, mountPath: /v}], startupProbe: {exec: {command: [ls, /v/up]}, periodSeconds: 1}}\ncontainers:\n- {name: c, image: \"registry.example/web:v1\", command: [ls, /v/up], volumeMounts: [{name: v, mountPath: /v}]}",
    ))?;
    finished(kubectl, "with-sidecar", "Succeeded")?;
    Ok(())
}
