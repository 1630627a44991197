//! One real cluster at work, step by step: the demo shows it, tests pass it.

mod clients;
pub mod figures;
mod healing;
mod images;
mod load;
mod manifest;
mod restart;
mod workload;

use anyhow::Result;

use crate::Cluster;
use figures::Figures;

/// What the steps share.
pub struct Scenario {
    /// The cluster.
    pub cluster: Cluster,
    /// What was measured so far.
    pub figures: Figures,
}

/// A step: what it shows, and how.
pub type Step = (&'static str, fn(&mut Scenario) -> Result<()>);

/// The steps, in the order in which they build on each other.
pub const STEPS: &[Step] = &[
    ("start skeg server: API and Node ready", workload::ready),
    ("load images: import an archive, pull from a registry", images::load),
    ("apply Namespace, ConfigMap, Secret, Deployment, Service", workload::apply),
    ("1,000 requests by DNS name from another pod", load::thousand),
    ("kill a container's process", healing::kill_process),
    ("delete a pod under load", healing::delete_pod),
    ("scale to 10 and back", workload::scale),
    ("roll out a new image under load, roll it back", workload::roll_out),
    ("kubectl logs, exec, describe, get, explain, diff, delete", clients::check),
    ("SIGKILL the server under load, start it again", restart::check),
];

/// Arguments of `skeg server` that the steps count on.
pub fn server_args() -> Vec<String> {
    vec!["--plain-http-registry".into(), images::REGISTRY.into()]
}
