//! Requests from inside another pod, to the Service by its DNS name.

use std::collections::BTreeMap;
use std::process::Child;

use crate::Kubectl;
use anyhow::{Context, Result, ensure};

use super::Scenario;

const URL: &str = "http://web.demo.svc.cluster.local/";

/// What a run of requests met.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Answers by body (`HOSTNAME VERSION`).
    pub(super) answers: BTreeMap<String, usize>,
    /// Requests without an answer.
    pub(super) failed: usize,
}

impl Outcome {
    fn parse(text: &str) -> Self {
        let mut outcome = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "FAILED" {
                outcome.failed += 1;
            } else {
                *outcome.answers.entry(line.to_string()).or_default() += 1;
            }
        }
        outcome
    }

    /// Requests that were answered.
    pub(super) fn answered(&self) -> usize {
        self.answers.values().sum()
    }
}

fn in_client(kubectl: &Kubectl, script: &str) -> Result<String> {
    kubectl.run(&["exec", "-n", "demo", "client", "--", "sh", "-c", script])
}

/// 1,000 requests: all answered, spread over the three pods.
pub(super) fn thousand(scenario: &mut Scenario) -> Result<()> {
    let script = format!(
        "i=0; while [ $i -lt 1000 ]; do timeout 5 wget -q -O - {URL} || echo FAILED; i=$((i+1)); done"
    );
    let outcome = Outcome::parse(&in_client(&scenario.cluster.kubectl(), &script)?);
    ensure!(outcome.failed == 0, "{} of 1,000 requests failed", outcome.failed);
    ensure!(outcome.answers.len() == 3, "not spread over 3 pods: {:?}", outcome.answers);
    let counts: Vec<String> = outcome.answers.values().map(usize::to_string).collect();
    scenario.figures.add(
        "1,000 requests through the Service",
        format!("all answered, by pod {}", counts.join("/")),
    );
    Ok(())
}

/// Requests that go on until they are stopped.
pub(super) struct Load {
    child: Child,
    kubectl: Kubectl,
}

impl Load {
    /// Starts sending, one request after the other.
    pub(super) fn start(scenario: &Scenario) -> Result<Self> {
        let kubectl = scenario.cluster.kubectl();
        in_client(&kubectl, "rm -f /tmp/stop")?;
        let script = format!(
            "while [ ! -e /tmp/stop ]; do timeout 5 wget -q -O - {URL} || echo FAILED; done"
        );
        let child = kubectl.spawn(&["exec", "-n", "demo", "client", "--", "sh", "-c", &script])?;
        Ok(Self { child, kubectl })
    }

    /// Stops and counts.
    pub(super) fn stop(self) -> Result<Outcome> {
        in_client(&self.kubectl, "touch /tmp/stop")?;
        let output = self.child.wait_with_output().context("wait for the requests to end")?;
        ensure!(
            output.status.success(),
            "the sending command failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Outcome::parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Requests that go on without a client connection (the API server may die meanwhile); the answers
/// gather in a file in the pod. The name is looked up for each: while the agent is down a look-up
/// waits for the resolver's second try, 5 s later.
pub(super) struct DetachedLoad(Kubectl);

impl DetachedLoad {
    /// Starts sending.
    pub(super) fn start(scenario: &Scenario) -> Result<Self> {
        let kubectl = scenario.cluster.kubectl();
        let script = format!(
            "rm -f /tmp/stop /tmp/answers /tmp/ended; (while [ ! -e /tmp/stop ]; do \
             timeout 15 wget -q -O - {URL} || echo FAILED; done > /tmp/answers 2>&1; touch /tmp/ended) \
             < /dev/null > /dev/null 2>&1 &"
        );
        in_client(&kubectl, &script)?;
        Ok(Self(kubectl))
    }

    /// Stops and counts.
    pub(super) fn stop(self) -> Result<Outcome> {
        let script =
            "touch /tmp/stop; while [ ! -e /tmp/ended ]; do usleep 20000; done; cat /tmp/answers";
        Ok(Outcome::parse(&in_client(&self.0, script)?))
    }
}
