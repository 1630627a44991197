//! Pods and what is planned for them, as tables. The cases follow upstream's
//! `TestComputePodActions` and its relatives.

use std::collections::BTreeMap;

use runtime::{ContainerSpec, Exit, SandboxSeen, SandboxSpec, Seccomp};
use serde_json::{Value, json};

use super::*;
use crate::observe::{Condemned, Problem};
use crate::record::Probed;
use crate::restart::BACKOFF;

const NOW_SECS: i64 = 1_000_000;

fn now() -> Timestamp {
    at(0)
}

/// So many seconds after now.
fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(NOW_SECS + secs).unwrap()
}

fn nanos(secs: i64) -> i128 {
    i128::from(NOW_SECS + secs) * 1_000_000_000
}

/// A pod with init containers, sidecars (`name+`) and main containers of these names.
pub(crate) fn pod(init: &[&str], main: &[&str]) -> Pod {
    let init: Vec<Value> = init
        .iter()
        .map(|name| match name.strip_suffix('+') {
            Some(name) => json!({"name": name, "image": "i", "restartPolicy": "Always"}),
            None => json!({"name": name, "image": "i"}),
        })
        .collect();
    let main: Vec<Value> = main.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"initContainers": init, "containers": main, "terminationGracePeriodSeconds": 30},
    }))
    .unwrap()
}

/// A pod that is connected and has its volumes and images, with nothing running.
pub(crate) fn ready_seen(pod: &Pod) -> PodSeen {
    let images = pod.listed().into_iter().map(|container| {
        let image = images::Image {
            id: "sha256:1".into(),
            tags: vec!["i".into()],
            digests: Vec::new(),
            size_bytes: 1,
            config: images::ImageConfig::default(),
            pinned: false,
        };
        (container.name().to_owned(), Prepared::Yes(image))
    });
    PodSeen {
        sandbox: Some(SandboxSeen {
            spec: SandboxSpec {
                pod_uid: "u".into(),
                pod_namespace: "n".into(),
                pod_name: "p".into(),
                hostname: "p".into(),
                host_network: false,
                host_pid: false,
                host_ipc: false,
                share_process_namespace: false,
                sysctls: BTreeMap::new(),
                cgroup: "besteffort/podu".into(),
                resources: Resources::default(),
            },
            netns: Some("/run/netns/u".into()),
            containers: Vec::new(),
            created_at_nanos: nanos(-100),
        }),
        addresses: vec!["10.1.0.2".parse().unwrap()],
        volumes: Prepared::Yes(()),
        images: images.collect(),
        ..PodSeen::default()
    }
}

/// Adds an attempt of a container. `state`: `created`, `running` or an exit code. It began 50 s and
/// ended 5 s ago.
pub(crate) fn attempt(seen: &mut PodSeen, name: &str, number: u32, state: &str) {
    let state = match state {
        "created" => ContainerState::Created,
        "running" => ContainerState::Running { pid: 1, started_at_nanos: nanos(-50) },
        code => ContainerState::Exited(Exit {
            code: code.parse().unwrap(),
            signal: None,
            oom_killed: false,
            start_error: None,
            started_at_nanos: nanos(-50),
            finished_at_nanos: nanos(-5),
        }),
    };
    let backoff = [0, 10, 20, 40, 80, 160, 300];
    let backoff = backoff[(number as usize).min(backoff.len() - 1)];
    let spec = ContainerSpec {
        id: format!("{name}-{number}"),
        pod_uid: "u".into(),
        name: name.into(),
        attempt: number,
        rootfs: "/".into(),
        args: vec!["x".into()],
        env: Vec::new(),
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        tty: false,
        stdin: false,
        stdin_once: false,
        privileged: false,
        capabilities: Vec::new(),
        read_only_rootfs: false,
        no_new_privileges: false,
        unmasked_proc: false,
        seccomp: Seccomp::Unconfined,
        mounts: Vec::new(),
        devices: Vec::new(),
        oom_score_adj: 1000,
        cgroup: String::new(),
        resources: Resources { cpu_shares: Some(2), ..Resources::default() },
        log_path: "/log".into(),
        log_max_bytes: 0,
        log_max_files: 1,
        annotations: BTreeMap::from([
            (BACKOFF.to_owned(), backoff.to_string()),
            (IMAGE_WANTED.to_owned(), "i".to_owned()),
        ]),
    };
    let container = ContainerSeen { spec, state, created_at_nanos: nanos(-51) };
    seen.sandbox.as_mut().unwrap().containers.push(container);
}

fn shown(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| match step {
        Step::End(ended) => format!("end({})", ended.reason),
        Step::PrepareVolumes => "volumes".into(),
        Step::CreateSandbox => "sandbox".into(),
        Step::PullImage { container } => format!("image({container})"),
        Step::Start { container, attempt, backoff_secs } => {
            format!("start({container},{attempt},{backoff_secs})")
        }
        Step::Stop { id, grace_secs, .. } => format!("stop({id},{grace_secs})"),
        Step::RemoveContainer { id } => format!("remove({id})"),
        Step::Resize { id, .. } => format!("resize({id})"),
        Step::Release => "release".into(),
        Step::RemoveAll => "remove-all".into(),
        Step::Forget => "forget".into(),
    });
    let mut shown = steps.collect::<Vec<_>>().join(" ");
    if let Some(at) = plan.wake_at {
        shown.push_str(&format!(" wake+{}", at.as_second() - NOW_SECS));
    }
    shown.trim().to_owned()
}

fn planned(pod: &Pod, seen: &PodSeen) -> String {
    shown(&plan(pod, Intent::Run, seen, now()))
}

fn deleted(pod: &Pod, seen: &PodSeen, began_secs_ago: i64) -> String {
    let intent = Intent::Stop { since: at(-began_secs_ago), grace_secs: 30, remove: true };
    shown(&plan(pod, intent, seen, now()))
}

#[test]
fn a_new_pod_is_prepared_side_by_side() {
    let pod = pod(&[], &["a", "b"]);
    let mut seen = PodSeen::default();
    assert_eq!(planned(&pod, &seen), "volumes sandbox image(a) image(b)");
    seen.in_flight.insert(Operation::Volumes);
    seen.in_flight.insert(Operation::Image("a".into()));
    assert_eq!(planned(&pod, &seen), "sandbox image(b)");
}

#[test]
fn main_containers_start_in_order() {
    let pod = pod(&[], &["a", "b"]);
    let mut seen = ready_seen(&pod);
    assert_eq!(planned(&pod, &seen), "start(a,0,0)");
    seen.in_flight.insert(Operation::Start("a".into()));
    assert_eq!(planned(&pod, &seen), "");
    seen.in_flight.clear();
    attempt(&mut seen, "a", 0, "running");
    assert_eq!(planned(&pod, &seen), "start(b,0,0)");
    seen.in_flight.insert(Operation::PostStart("a".into()));
    assert_eq!(planned(&pod, &seen), "");
}

#[test]
fn a_container_without_its_image_does_not_hold_back_the_next_for_ever() {
    let pod = pod(&[], &["a", "b"]);
    let mut seen = ready_seen(&pod);
    seen.images.remove("a");
    seen.in_flight.insert(Operation::Image("a".into()));
    assert_eq!(planned(&pod, &seen), "");
    seen.in_flight.clear();
    let problem = Problem {
        reason: "ErrImagePull".into(),
        message: "m".into(),
        failed_at: now(),
        retry_at: at(10),
        failures: 1,
    };
    seen.images.insert("a".into(), Prepared::Failed(problem));
    assert_eq!(planned(&pod, &seen), "start(b,0,0) wake+2");
}

#[test]
fn restarts_follow_the_policy() {
    for (policy, code, wanted) in [
        ("Always", "0", "start(a,1,10)"),
        ("Always", "1", "start(a,1,10)"),
        ("OnFailure", "1", "start(a,1,10)"),
        ("OnFailure", "0", "release"),
        ("Never", "1", "release"),
    ] {
        let mut pod = pod(&[], &["a"]);
        pod.spec.as_mut().unwrap().restart_policy = Some(policy.into());
        let mut seen = ready_seen(&pod);
        attempt(&mut seen, "a", 0, code);
        assert_eq!(planned(&pod, &seen), wanted, "{policy} {code}");
    }
}

#[test]
fn container_rules_go_before_the_pods_policy() {
    let mut pod = pod(&[], &["a"]);
    let spec = pod.spec.as_mut().unwrap();
    spec.restart_policy = Some("Never".into());
    spec.containers[0].restart_policy = Some("Never".into());
    spec.containers[0].restart_policy_rules = serde_json::from_value(json!([
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
    ]))
    .unwrap();
    for (code, wanted) in [("42", "start(a,1,10)"), ("1", "release")] {
        let mut seen = ready_seen(&pod);
        attempt(&mut seen, "a", 0, code);
        assert_eq!(planned(&pod, &seen), wanted, "{code}");
    }
}

#[test]
fn back_off_doubles_and_is_reset() {
    let pod = pod(&[], &["a"]);
    for (number, wanted) in
        [(0, "start(a,1,10)"), (1, "wake+5"), (2, "wake+15"), (5, "wake+155"), (9, "wake+295")]
    {
        let mut seen = ready_seen(&pod);
        attempt(&mut seen, "a", number, "1");
        assert_eq!(planned(&pod, &seen), wanted, "attempt {number}");
    }
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 9, "1");
    let container = &mut seen.sandbox.as_mut().unwrap().containers[0];
    let ContainerState::Exited(exit) = &mut container.state else { unreachable!() };
    exit.started_at_nanos = nanos(-700);
    assert_eq!(planned(&pod, &seen), "start(a,10,10)");
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(&["i1", "i2"], &["a"]);
    let mut seen = ready_seen(&pod);
    assert_eq!(planned(&pod, &seen), "start(i1,0,0)");
    attempt(&mut seen, "i1", 0, "running");
    assert_eq!(planned(&pod, &seen), "");
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "i1", 0, "0");
    assert_eq!(planned(&pod, &seen), "start(i2,0,0)");
    attempt(&mut seen, "i2", 0, "3");
    assert_eq!(planned(&pod, &seen), "start(i2,1,10)");
    attempt(&mut seen, "i2", 1, "0");
    assert_eq!(planned(&pod, &seen), "start(a,0,0) remove(i2-0)");
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let mut pod = pod(&["i1"], &["a"]);
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "i1", 0, "3");
    assert_eq!(planned(&pod, &seen), "release");
}

#[test]
fn sidecars_start_before_and_stop_after_the_rest() {
    let mut pod = pod(&["s1+", "i", "s2+"], &["a"]);
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "s1", 0, "running");
    assert_eq!(planned(&pod, &seen), "start(i,0,0)");
    attempt(&mut seen, "i", 0, "0");
    attempt(&mut seen, "s2", 0, "running");
    attempt(&mut seen, "a", 0, "running");
    assert_eq!(planned(&pod, &seen), "");
    assert_eq!(deleted(&pod, &seen, 10), "stop(a-0,20)");

    // The main container is done: sidecars go from the last to the first.
    seen.sandbox.as_mut().unwrap().containers.pop();
    attempt(&mut seen, "a", 0, "0");
    assert_eq!(planned(&pod, &seen), "stop(s2-0,30)");
    seen.sandbox.as_mut().unwrap().containers.remove(2);
    attempt(&mut seen, "s2", 0, "0");
    assert_eq!(planned(&pod, &seen), "stop(s1-0,30)");
    assert_eq!(deleted(&pod, &seen, 60), "stop(s1-0,2)");
}

#[test]
fn a_sidecar_that_ends_runs_again_and_holds_nothing_back_then() {
    let pod = pod(&["s+"], &["a"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    attempt(&mut seen, "s", 0, "0");
    assert_eq!(planned(&pod, &seen), "start(s,1,10)");
}

#[test]
fn a_sidecar_with_a_startup_probe_is_waited_for() {
    let mut pod = pod(&["s+"], &["a"]);
    let spec = pod.spec.as_mut().unwrap();
    let probe = json!({"tcpSocket": {"port": 1}});
    spec.init_containers.as_mut().unwrap()[0].startup_probe =
        serde_json::from_value(probe).unwrap();
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "s", 0, "running");
    assert_eq!(planned(&pod, &seen), "");
    seen.probed.insert("s-0".into(), Probed { ready: None, started: Some(true) });
    assert_eq!(planned(&pod, &seen), "start(a,0,0)");
}

#[test]
fn probes_and_changed_images_stop_containers() {
    let mut pod = pod(&[], &["a"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    let condemned = Condemned { message: "m".into(), grace_secs: Some(7) };
    seen.condemned.insert("a-0".into(), condemned);
    assert_eq!(planned(&pod, &seen), "stop(a-0,7)");
    seen.in_flight.insert(Operation::Stop("a-0".into()));
    assert_eq!(planned(&pod, &seen), "");
    seen.in_flight.clear();
    seen.condemned.clear();
    pod.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    assert_eq!(planned(&pod, &seen), "stop(a-0,30)");
}

#[test]
fn limits_change_in_place() {
    let mut pod = pod(&[], &["a"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    let resources = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
    pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(resources).unwrap();
    assert_eq!(planned(&pod, &seen), "resize(a-0)");
    let wanted = container_resources(&pod.spec.as_ref().unwrap().containers[0]);
    seen.resized.insert("a-0".into(), wanted);
    assert_eq!(planned(&pod, &seen), "");
}

#[test]
fn a_deleted_pod_is_stopped_then_released_then_removed_then_forgotten() {
    let pod = pod(&[], &["a", "b"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    attempt(&mut seen, "b", 0, "created");
    assert_eq!(deleted(&pod, &seen, 0), "stop(a-0,30) stop(b-0,30)");
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "0");
    assert_eq!(deleted(&pod, &seen, 0), "release");
    seen.record.released = true;
    assert_eq!(deleted(&pod, &seen, 0), "remove-all");
    let mut seen = PodSeen { gone: true, ..PodSeen::default() };
    assert_eq!(deleted(&pod, &seen, 0), "forget");
    // What is being made is waited for, or it would stay behind.
    seen.in_flight.insert(Operation::Sandbox);
    assert_eq!(deleted(&pod, &seen, 0), "");
}

#[test]
fn deadlines_end_pods() {
    let mut pod = pod(&[], &["a"]);
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let seen = ready_seen(&pod);
    for (started, wanted) in [(-10, "start(a,0,0) wake+50"), (-60, "end(DeadlineExceeded)")] {
        let start = at(started).to_string();
        pod.status = serde_json::from_value(json!({"startTime": start})).unwrap();
        assert_eq!(planned(&pod, &seen), wanted);
    }
}

#[test]
fn attempts_count_on_when_nothing_is_left_of_the_last() {
    let mut pod = pod(&[], &["a"]);
    pod.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [
        {"name": "a", "image": "i", "imageID": "", "ready": true, "restartCount": 4,
         "containerID": "skeg://old"}]}))
    .unwrap();
    let seen = ready_seen(&pod);
    assert_eq!(planned(&pod, &seen), "start(a,5,0)");
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    assert_eq!(planned(&pod, &seen), "release");
}

#[test]
fn finished_pods_stay_finished() {
    let mut pod = pod(&[], &["a"]);
    pod.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
    let seen = PodSeen::default();
    assert_eq!(planned(&pod, &seen), "");
}

#[test]
fn a_lost_sandbox_is_made_again_and_init_containers_run_again() {
    let pod = pod(&["i"], &["a"]);
    let mut seen = ready_seen(&pod);
    seen.sandbox = None;
    seen.addresses.clear();
    assert_eq!(planned(&pod, &seen), "sandbox");
    let seen = ready_seen(&pod);
    assert_eq!(planned(&pod, &seen), "start(i,0,0)");
}
