use serde_json::{Value, json};

use super::policy::{Level, Policy, Standard};
use super::{checks, is_significant, prioritized, warnings};

fn standard(level: Level, minor: Option<u32>) -> Standard {
    Standard { level, minor }
}

fn said(spec: &Value, standard: Standard) -> String {
    let metadata = json!({"annotations": {
        "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
    }});
    let none = json!({});
    let metadata = if spec["os"].is_null() { &none } else { &metadata };
    checks::details(&checks::evaluate(standard, checks::Pod { metadata, spec }))
}

/// A pod that breaks nothing.
fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        }}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    })
}

#[test]
fn a_plain_pod_breaks_the_restricted_level_in_upstreams_words() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(said(&spec, standard(Level::Baseline, None)), "");
    assert_eq!(
        said(&spec, standard(Level::Restricted, None)),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \
         \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true \
         (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(said(&good(), standard(Level::Restricted, None)), "");
}

#[test]
fn each_way_out_is_named() {
    let container = |more: Value| {
        let mut one = json!({"name": "a"});
        for (key, value) in more.as_object().expect("fields") {
            one[key] = value.clone();
        }
        json!({"containers": [one]})
    };
    let context = |more: Value| container(json!({"securityContext": more}));
    for (spec, text) in [
        (
            json!({"hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            json!({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"x\")",
        ),
        (
            container(json!({"ports": [{"hostPort": 80}, {"hostPort": 8080}]})),
            "hostPort (container \"a\" uses hostPorts 80, 8080)",
        ),
        (
            context(json!({"privileged": true})),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            context(json!({"capabilities": {"add": ["SYS_ADMIN", "KILL"]}})),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            context(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \
             \"Unconfined\")",
        ),
        (
            context(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \
             \"spc_t\"; user may not be set)",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"os": {"name": "linux"}}),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
             \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
        ),
        (
            container(json!({"livenessProbe": {"httpGet": {"host": "h"}}})),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(said(&spec, standard(Level::Baseline, None)), text);
    }
}

#[test]
fn versions_keep_what_they_meant() {
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    assert_ne!(said(&sysctl, standard(Level::Baseline, Some(31))), "");
    assert_eq!(said(&sysctl, standard(Level::Baseline, Some(32))), "");
    let probe =
        json!({"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"host": "h"}}}]});
    assert_eq!(said(&probe, standard(Level::Baseline, Some(33))), "");
    let mut windows = json!({"os": {"name": "windows"}, "containers": [{"name": "a"}]});
    windows["securityContext"] = json!({"runAsNonRoot": true});
    let old = said(&windows, standard(Level::Restricted, Some(24)));
    assert!(old.contains("allowPrivilegeEscalation"), "{old}");
    let new = said(&windows, standard(Level::Restricted, Some(25)));
    assert!(!new.contains("allowPrivilegeEscalation"), "{new}");
    let mut own_users = good();
    own_users["hostUsers"] = json!(false);
    own_users["securityContext"]["runAsUser"] = json!(0);
    assert_eq!(said(&own_users, standard(Level::Restricted, None)), "");
    let root = said(&own_users, standard(Level::Restricted, Some(34)));
    assert_eq!(root, "runAsUser=0 (pod must not set runAsUser=0)");
    let mut volumes = good();
    volumes["volumes"] = json!([{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}]);
    assert_eq!(
        said(&volumes, standard(Level::Restricted, None)),
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \
         \"nfs\")"
    );
}

#[test]
fn labels_make_a_policy() {
    let of = |labels: Value| Policy::of(labels.as_object());
    let (policy, errors) = of(json!({
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/audit": "restricted",
    }));
    assert!(errors.is_empty());
    assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
    assert_eq!(policy.audit.to_string(), "restricted:latest");
    assert_eq!(policy.warn, policy.enforce, "what is refused is warned of");
    let (policy, errors) = of(json!({
        "pod-security.kubernetes.io/enforce": "odd",
        "pod-security.kubernetes.io/warn": "odd",
        "pod-security.kubernetes.io/warn-version": "v1.01",
    }));
    assert_eq!(policy.enforce.level, Level::Restricted);
    assert_eq!(policy.warn.level, Level::Privileged);
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[0],
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"odd\": must be one \
         of privileged, baseline, restricted"
    );
    assert_eq!(texts.len(), 3);
    assert!(of(json!({})).0.is_privileged());
}

#[test]
fn existing_pods_are_counted_by_what_they_break() {
    let pod = |name: &str, owner: &str, host: bool| {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"hostNetwork": host}});
        if !owner.is_empty() {
            pod["metadata"]["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
        }
        pod
    };
    let pods = [pod("b", "1", true), pod("a", "1", true), pod("c", "", false), pod("d", "2", true)];
    let ordered: Vec<&str> = prioritized(&pods)
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(ordered, ["b", "c", "d", "a"]);
    let texts = warnings("ns", standard(Level::Baseline, None), pods.iter().collect());
    assert_eq!(
        texts,
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \
             \"baseline:latest\"",
            "a (and 2 other pods): host namespaces",
        ]
    );
}

#[test]
fn only_what_changes_what_runs_is_looked_at_again() {
    let pod = |image: &str| json!({"spec": {"containers": [{"name": "a", "image": image}]}});
    assert!(!is_significant(&pod("x"), &pod("x")));
    assert!(is_significant(&pod("y"), &pod("x")));
    let mut debugged = pod("x");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "z"}]);
    assert!(is_significant(&debugged, &pod("x")));
    assert!(!is_significant(&debugged, &debugged));
}
