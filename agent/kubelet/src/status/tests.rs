//! Statuses of pods in all the shapes that people look for.

use serde_json::{Value, json};

use super::*;
use crate::observe::{Prepared, Problem};
use crate::plan::tests::{attempt, pod, ready_seen};
use crate::record::{Ended, Probed};

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn made(pod: &Pod, intent: Intent, seen: &PodSeen, before: Value) -> PodStatus {
    let before: PodStatus = serde_json::from_value(before).unwrap();
    let host_ips = ["192.0.2.1".parse().unwrap()];
    status(&View { pod, intent, seen, before: &before, host_ips: &host_ips, now: now() })
}

/// `phase name=state(reason) … !conditions that do not hold`.
fn shown(status: &PodStatus) -> String {
    let mut parts = vec![status.phase.clone().unwrap_or_default()];
    let lists = [&status.init_container_statuses, &status.container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        let state = container.state.clone().unwrap_or_default();
        let reason = |reason: Option<String>| reason.unwrap_or_default();
        let text = if let Some(waiting) = state.waiting {
            format!("waiting({})", reason(waiting.reason))
        } else if let Some(ended) = state.terminated {
            format!("ended({},{})", reason(ended.reason), ended.exit_code)
        } else {
            format!("running{}", if container.ready { "+ready" } else { "" })
        };
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.map_or(String::new(), |last| format!("/last={}", last.exit_code));
        parts.push(format!("{}={text}{last}#{}", container.name, container.restart_count));
    }
    for condition in status.conditions.iter().flatten().filter(|c| c.status != "True") {
        parts.push(format!("!{}", condition.type_));
    }
    parts.join(" ")
}

fn run(pod: &Pod, seen: &PodSeen) -> String {
    shown(&made(pod, Intent::Run, seen, json!({})))
}

const NOT_READY: &str = "!Ready !ContainersReady";

#[test]
fn on_the_way_up() {
    let one = pod(&[], &["a"]);
    assert_eq!(
        run(&one, &PodSeen::default()),
        format!("Pending a=waiting(ContainerCreating)#0 !PodReadyToStartContainers {NOT_READY}")
    );
    let mut seen = ready_seen(&one);
    attempt(&mut seen, "a", 0, "running");
    assert_eq!(run(&one, &seen), "Running a=running+ready#0");

    let with_init = pod(&["i"], &["a"]);
    let mut seen = ready_seen(&with_init);
    attempt(&mut seen, "i", 0, "running");
    assert_eq!(
        run(&with_init, &seen),
        format!("Pending i=running#0 a=waiting(PodInitializing)#0 !Initialized {NOT_READY}")
    );
}

#[test]
fn failing_images() {
    let pod = pod(&[], &["a"]);
    for (reason, age_secs, wanted) in [
        ("ErrImagePull", 0, "ErrImagePull"),
        ("ErrImagePull", 5, "ImagePullBackOff"),
        ("ErrImageNeverPull", 5, "ErrImageNeverPull"),
        ("InvalidImageName", 5, "InvalidImageName"),
    ] {
        let mut seen = ready_seen(&pod);
        let failed_at = Timestamp::from_second(1_000_000 - age_secs).unwrap();
        let problem = Problem {
            reason: reason.into(),
            message: "m".into(),
            failed_at,
            retry_at: failed_at,
            failures: 1,
        };
        seen.images.insert("a".into(), Prepared::Failed(problem));
        assert_eq!(run(&pod, &seen), format!("Pending a=waiting({wanted})#0 {NOT_READY}"));
    }
}

#[test]
fn restarting_and_ending() {
    let mut always = pod(&[], &["a"]);
    let mut seen = ready_seen(&always);
    attempt(&mut seen, "a", 1, "3");
    assert_eq!(
        run(&always, &seen),
        format!("Running a=waiting(CrashLoopBackOff)/last=3#1 {NOT_READY}")
    );
    let status = made(&always, Intent::Run, &seen, json!({}));
    let state = status.container_statuses.unwrap().remove(0).state.unwrap();
    assert_eq!(
        state.waiting.unwrap().message.unwrap(),
        "back-off 10s restarting failed container=a pod=p_n(u)"
    );
    attempt(&mut seen, "a", 2, "running");
    assert_eq!(run(&always, &seen), "Running a=running+ready/last=3#2");

    always.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    for (code, phase, reason) in [("0", "Succeeded", "Completed"), ("4", "Failed", "Error")] {
        let mut seen = ready_seen(&always);
        attempt(&mut seen, "a", 0, code);
        assert_eq!(run(&always, &seen), format!("{phase} a=ended({reason},{code})#0 {NOT_READY}"));
    }
}

#[test]
fn a_final_phase_stays() {
    let pod = pod(&[], &["a"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    let status = made(&pod, Intent::Run, &seen, json!({"phase": "Failed"}));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn probes_decide_readiness() {
    let mut pod = pod(&[], &["a"]);
    let probe = json!({"tcpSocket": {"port": 1}});
    pod.spec.as_mut().unwrap().containers[0].readiness_probe =
        serde_json::from_value(probe).unwrap();
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    assert_eq!(run(&pod, &seen), format!("Running a=running#0 {NOT_READY}"));
    // What the last agent knew holds until this one knows better.
    seen.record.probed.insert("a-0".into(), Probed { ready: Some(true), started: None });
    assert_eq!(run(&pod, &seen), "Running a=running+ready#0");
    seen.probed.insert("a-0".into(), Probed { ready: Some(false), started: None });
    assert_eq!(run(&pod, &seen), format!("Running a=running#0 {NOT_READY}"));
}

#[test]
fn readiness_gates() {
    let mut pod = pod(&[], &["a"]);
    pod.spec.as_mut().unwrap().readiness_gates =
        serde_json::from_value(json!([{"conditionType": "x/gate"}])).unwrap();
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    assert_eq!(run(&pod, &seen), "Running a=running+ready#0 !Ready");
    let gate = json!({"conditions": [{"type": "x/gate", "status": "True"}]});
    assert_eq!(shown(&made(&pod, Intent::Run, &seen, gate)), "Running a=running+ready#0");
}

#[test]
fn refused_and_lost_pods() {
    let pod = pod(&[], &["a"]);
    let ended =
        Ended { reason: "OutOfcpu".into(), message: "m".into(), rejected: true, grace_secs: None };
    let mut seen = PodSeen::default();
    seen.record.ended = Some(ended);
    let status = made(&pod, Intent::Run, &seen, json!({}));
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("OutOfcpu"))
    );

    let before = json!({"phase": "Running", "containerStatuses": [{"name": "a", "image": "i",
        "imageID": "", "ready": true, "restartCount": 2, "containerID": "skeg://x",
        "state": {"running": {}}}]});
    let mut lost = pod.clone();
    lost.status = serde_json::from_value(before.clone()).unwrap();
    let seen = ready_seen(&lost);
    assert_eq!(
        shown(&made(&lost, Intent::Run, &seen, before)),
        format!("Running a=waiting(ContainerCreating)/last=137#2 {NOT_READY}")
    );
}

#[test]
fn deleted_pods_end_by_their_exit_codes() {
    let pod = pod(&[], &["a"]);
    let stop = Intent::Stop { since: now(), grace_secs: 30, remove: true };
    for (state, wanted) in [("running", "Running"), ("0", "Succeeded"), ("143", "Failed")] {
        let mut seen = ready_seen(&pod);
        attempt(&mut seen, "a", 0, state);
        let status = made(&pod, stop, &seen, json!({"phase": "Running"}));
        assert_eq!(status.phase.as_deref(), Some(wanted), "{state}");
    }
}

#[test]
fn transition_times_move_with_the_status_only() {
    let pod = pod(&[], &["a"]);
    let mut seen = ready_seen(&pod);
    attempt(&mut seen, "a", 0, "running");
    let since = "2020-01-01T00:00:00Z";
    let before = json!({"startTime": since, "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": since},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": since},
        {"type": "Other", "status": "False", "lastTransitionTime": since},
    ]});
    let status = made(&pod, Intent::Run, &seen, before);
    let moved: Vec<String> = status
        .conditions
        .unwrap()
        .into_iter()
        .filter(|condition| condition.last_transition_time != Some(Time(since.parse().unwrap())))
        .map(|condition| condition.type_)
        .collect();
    assert_eq!(
        moved,
        ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"]
    );
}
