//! Stops a container: hook, signal, wait, kill.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go
//! `killContainer`, v1.36: the hook's time counts; whoever used it all up gets two seconds more.

use std::time::Duration;

use informer::EventType;
use k8s_openapi::api::core::v1::Pod;
use runtime::ContainerSeen;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{hook, whole};
use crate::context::Context;
use crate::pod::PodExt;
use crate::spec::STOP_SIGNAL;

/// Time between the signal and the kill for a container whose hook took all of its grace period.
const AFTER_HOOK_MIN: Duration = Duration::from_secs(2);
/// A kill is repeated after this time: the kernel may have been unable to kill at once.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// How the worker reaches a container's stop while it is under way.
pub(crate) struct Stopping {
    /// When it is killed; may be moved forward.
    pub(crate) deadline: watch::Sender<Instant>,
    /// Cancelled when it has ended.
    pub(crate) ended: CancellationToken,
}

/// Stops a container; returns when it has ended.
pub(crate) async fn stop(
    context: &Context,
    pod: &Pod,
    container: &ContainerSeen,
    message: String,
    pod_ip: &str,
    mut deadline: watch::Receiver<Instant>,
    ended: CancellationToken,
) {
    let id = &container.spec.id;
    let listed = pod.find(&container.spec.name);
    context.event(pod, listed.as_ref(), EventType::Normal, "Killing", message);
    let lifecycle = listed.as_ref().and_then(|listed| listed.spec.lifecycle.as_ref());
    let pre_stop = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let mut kill_at = *deadline.borrow();
    if let (Some(handler), Some(listed)) = (pre_stop, &listed)
        && kill_at > Instant::now()
    {
        let runtime = &context.deps.runtime;
        let hook = hook::hook(runtime, id, &listed.spec, handler, pod_ip);
        let outcome = tokio::select! {
            outcome = hook => outcome,
            () = passed(&mut deadline) => Err("the grace period was over before it ended".into()),
            () = ended.cancelled() => return,
        };
        if let Err(reason) = outcome {
            let text = format!("PreStopHook failed: {reason}");
            context.event(pod, Some(listed), EventType::Warning, "FailedPreStopHook", text);
        }
        kill_at = (*deadline.borrow()).max(Instant::now() + AFTER_HOOK_MIN);
    }
    if kill_at > Instant::now() {
        send(context, id, signal_number(container.spec.annotations.get(STOP_SIGNAL))).await;
        let was = *deadline.borrow();
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep_until(kill_at) => {}
            () = moved_before(&mut deadline, was) => {}
        }
    }
    loop {
        send(context, id, nix::libc::SIGKILL).await;
        if tokio::time::timeout(KILL_AGAIN, ended.cancelled()).await.is_ok() {
            return;
        }
    }
}

async fn send(context: &Context, id: &str, signal: i32) {
    if let Err(error) = context.deps.runtime.signal(id, signal).await {
        // It has ended meanwhile, or is killed later.
        tracing::debug!(container = id, error = whole(&error), signal, "signal not sent");
    }
}

/// Waits until the deadline, which may move, has passed.
async fn passed(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                tokio::time::sleep_until(at).await;
                return;
            },
        }
    }
}

/// Waits until the deadline was moved to before `was` and has passed.
async fn moved_before(deadline: &mut watch::Receiver<Instant>, was: Instant) {
    // The sender lives as long as the worker; without it the old deadline holds.
    let moved = deadline.wait_for(|at| *at < was).await.map(|at| *at);
    match moved {
        Ok(at) => tokio::time::sleep_until(at).await,
        Err(_) => std::future::pending().await,
    }
}

/// The number of a signal by name (`SIGUSR1`, `USR1`, `SIGRTMIN+3`) or number; SIGTERM if there is
/// none. PURE.
pub(crate) fn signal_number(name: Option<&String>) -> i32 {
    use nix::sys::signal::Signal;
    let Some(name) = name.map(|name| name.trim().to_uppercase()) else {
        return nix::libc::SIGTERM;
    };
    if let Ok(number) = name.parse() {
        return number;
    }
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Ok(signal) = full.parse::<Signal>() {
        return signal as i32;
    }
    // Real-time signals count from 34, as the first two are the C library's own.
    let offset = full.strip_prefix("SIGRTMIN").map(|rest| rest.trim_start_matches('+'));
    match offset {
        Some("") => 34,
        Some(offset) => offset.parse::<i32>().map_or(nix::libc::SIGTERM, |offset| 34 + offset),
        None => nix::libc::SIGTERM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, wanted) in [
            (None, 15),
            (Some("SIGTERM"), 15),
            (Some("sigusr1"), 10),
            (Some("QUIT"), 3),
            (Some("9"), 9),
            (Some("SIGRTMIN+3"), 37),
            (Some("nonsense"), 15),
        ] {
            assert_eq!(signal_number(name.map(str::to_owned).as_ref()), wanted, "{name:?}");
        }
    }
}
