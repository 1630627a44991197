//! Sandboxes and containers as text, for `skeg debug pods`.

use std::fmt::Write;

use runtime::{ContainerSeen, ContainerState, SandboxSeen};

/// A line per sandbox, and one per container below it.
pub(crate) fn text(sandboxes: &[SandboxSeen]) -> String {
    let mut out = String::new();
    for sandbox in sandboxes {
        let spec = &sandbox.spec;
        let netns = sandbox.netns.as_ref().map(|path| path.display().to_string());
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "{}/{} uid={} netns={}",
            spec.pod_namespace,
            spec.pod_name,
            spec.pod_uid,
            netns.as_deref().unwrap_or("of the node")
        );
        for container in &sandbox.containers {
            let _infallible = writeln!(out, "  {}", line(container));
        }
    }
    out
}

fn line(container: &ContainerSeen) -> String {
    let spec = &container.spec;
    let state = match &container.state {
        ContainerState::Created => "created".to_string(),
        ContainerState::Running { pid, .. } => format!("running pid={pid}"),
        ContainerState::Exited(exit) => match &exit.start_error {
            Some(why) => format!("not started: {why}"),
            None if exit.oom_killed => format!("exited code={} out of memory", exit.code),
            None => format!("exited code={}", exit.code),
        },
    };
    format!("{} attempt={} {:.12} {state}", spec.name, spec.attempt, spec.id)
}
