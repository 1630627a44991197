//! What to do for one Deployment. PURE.
//!
//! Source of behaviour: kubernetes pkg/controller/deployment, v1.36. Different: each plan is one
//! step, made from what the views show; what it writes wakes the Deployment for the next.

use std::sync::Arc;

use informer::{Action, Object, reference};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::revision::{self, REVISION, Sets};
use super::rolling::{self, Bounds, Sized};
use super::status::{self, Conditions, PROGRESSING};
use crate::controller::{Announcement, Context, Plan, Step};
use crate::owner::{self, claim};
use crate::pods;

/// What a plan looks up on demand.
pub(super) struct Seen<'a> {
    /// The pods of a ReplicaSet.
    pub(super) pods_of: &'a dyn Fn(&ReplicaSet) -> Vec<Arc<Pod>>,
    /// Any ReplicaSet of the Deployment's namespace, by name.
    pub(super) set_called: &'a dyn Fn(&str) -> Option<Arc<ReplicaSet>>,
}

/// One Deployment's case.
struct Case<'a> {
    deployment: &'a Deployment,
    bounds: Bounds,
    sets: Sets,
    conditions: Conditions,
    seen: &'a Seen<'a>,
    context: &'a Context,
    steps: Vec<Step>,
    /// Set when the name of the new ReplicaSet is taken by another.
    collisions: Option<i32>,
}

pub(super) fn plan(
    deployment: &Deployment,
    candidates: &[Arc<ReplicaSet>],
    seen: &Seen<'_>,
    context: &Context,
) -> Plan {
    let Some(spec) = &deployment.spec else { return Plan::nothing() };
    let claimed = claim(deployment, &owner::selector(&spec.selector), candidates);
    if !claimed.actions.is_empty() {
        return Plan::of(claimed.actions);
    }
    let mut case = Case {
        deployment,
        bounds: Bounds::of(deployment),
        sets: Sets::sort_out(deployment, claimed.owned),
        conditions: Conditions::of(deployment, context.now),
        seen,
        context,
        steps: Vec::new(),
        collisions: None,
    };
    if deployment.is_terminating() {
        let status = case.counted_status();
        return case.finish(status);
    }
    status::note_pause(deployment, &mut case.conditions);
    let status = case.work();
    case.finish(status)
}

impl Case<'_> {
    fn work(&mut self) -> DeploymentStatus {
        let all: Vec<Sized> = self.sets.all().map(Sized::as_is).collect();
        let paused = status::is_paused(self.deployment);
        // Numbering is a step of its own: sizes follow in the next plan, from what it wrote.
        if self.number_new_set() {
            return if paused { self.counted_status() } else { self.progress_status() };
        }
        if paused || rolling::is_scaling(self.bounds, &all) {
            self.scale();
            if paused {
                self.clean_up();
            }
            return self.counted_status();
        }
        if self.bounds.rolling {
            self.roll()
        } else {
            self.recreate()
        }
        self.progress_status()
    }

    /// One step of a rolling update: grow the new one, or else shrink the old ones.
    fn roll(&mut self) {
        let old: Vec<Sized> = self.sets.old.iter().map(Sized::as_is).collect();
        let Some(new) = self.sets.new.as_ref().map(Sized::as_is) else {
            self.create_new_set(rolling::new_size(self.bounds, 0, &old));
            return;
        };
        let mut grown = new.clone();
        grown.size = rolling::new_size(self.bounds, new.size, &old);
        if grown.size != new.size {
            self.resize(&grown);
            return;
        }
        let mut shrunk = old;
        rolling::shrink_old(self.bounds, &new, &mut shrunk);
        if self.resize_all(&shrunk) {
            return;
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    /// One step of a re-creation: end the old ones, wait for their pods to go, make the new one.
    fn recreate(&mut self) {
        let mut old: Vec<Sized> = self.sets.old.iter().map(Sized::as_is).collect();
        old.iter_mut().for_each(|one| one.size = 0);
        if self.resize_all(&old) || self.has_old_pods() {
            return;
        }
        match self.sets.new.as_ref().map(Sized::as_is) {
            None => self.create_new_set(self.bounds.replicas),
            Some(new) => {
                self.resize(&Sized { size: self.bounds.replicas, ..new });
                if self.is_complete() {
                    self.clean_up();
                }
            }
        }
    }

    fn has_old_pods(&self) -> bool {
        self.sets.old.iter().any(|set| {
            let reported = set.status.as_ref().map_or(0, |status| status.replicas);
            let pods = (self.seen.pods_of)(set);
            reported > 0 || pods.iter().any(|pod| !pods::is_finished(pod))
        })
    }

    fn is_complete(&self) -> bool {
        let status = self.deployment.status.clone().unwrap_or_default();
        status::is_complete(self.deployment, self.bounds, &status)
    }

    /// A change of size without a new template.
    fn scale(&mut self) {
        let mut new = self.sets.new.as_ref().map(Sized::as_is);
        let mut old: Vec<Sized> = self.sets.old.iter().map(Sized::as_is).collect();
        let reported = self.deployment.status.as_ref().and_then(|status| status.replicas);
        rolling::spread(self.bounds, new.as_mut(), &mut old, reported.unwrap_or(0));
        if let Some(new) = &new {
            self.resize(new);
        }
        self.resize_all(&old);
    }

    fn resize_all(&mut self, sets: &[Sized]) -> bool {
        let mut resized = false;
        for one in sets {
            resized |= self.resize(one);
        }
        resized
    }

    /// Gives a ReplicaSet its size and the annotations that say for which size of the Deployment
    /// that is. Returns whether the size changes.
    fn resize(&mut self, one: &Sized) -> bool {
        let before = rolling::replicas(&one.set);
        let wanted = revision::size_annotations(self.bounds.replicas, self.bounds.surge);
        let is_annotated = wanted
            .iter()
            .all(|(name, value)| revision::annotation(&one.set.metadata, name) == Some(value));
        let resized = before != one.size;
        // A set scaled to zero long ago keeps its old annotations, as upstream.
        if !resized && (is_annotated || one.size == 0) {
            return false;
        }
        let annotations: Map<String, Value> =
            wanted.into_iter().map(|(name, value)| (name, json!(value))).collect();
        let mut body = guarded(&*one.set, annotations);
        body["spec"] = json!({"replicas": one.size});
        let action = Action::merge::<ReplicaSet>(one.set.key(), body);
        let step = if resized {
            let name = one.set.key().name;
            Step::announced(action, self.scaled(&name, before, one.size))
        } else {
            Step::from(action)
        };
        self.steps.push(step);
        resized
    }

    fn scaled(&self, set: &str, from: i32, to: i32) -> Announcement {
        let direction = if to > from { "up" } else { "down" };
        let text = format!("Scaled {direction} replica set {set} from {from} to {to}");
        Announcement {
            regarding: reference(self.deployment),
            done: ("ScalingReplicaSet", text),
            failed: None,
        }
    }

    /// Gives an existing new ReplicaSet its revision, what it inherits, and minReadySeconds.
    /// Returns whether any of that has to be written.
    fn number_new_set(&mut self) -> bool {
        let Some(new) = self.sets.new.clone() else { return false };
        let next = revision::next_revision(&self.sets.old);
        let known = new.metadata.annotations.as_ref();
        let wanted = revision::inherited(self.deployment, known, next);
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let known_min_ready = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let same_min_ready = min_ready.unwrap_or(0) == known_min_ready.unwrap_or(0);
        let outdated = known != Some(&wanted) || !same_min_ready;
        if outdated {
            let changed = wanted
                .into_iter()
                .filter(|(name, value)| known.and_then(|all| all.get(name)) != Some(value));
            let changed = changed.map(|(name, value)| (name, json!(value))).collect();
            let mut body = guarded(&*new, changed);
            body["spec"] = json!({"minReadySeconds": min_ready.unwrap_or(0)});
            self.steps.push(Action::merge::<ReplicaSet>(new.key(), body).into());
        }
        if status::deadline_secs(self.deployment).is_some()
            && self.conditions.get(PROGRESSING).is_none()
        {
            let message = format!("Found new replica set {:?}", new.key().name);
            self.conditions.set(PROGRESSING, "True", "FoundNewReplicaSet", message);
        }
        outdated
    }

    fn create_new_set(&mut self, replicas: i32) {
        let next = revision::next_revision(&self.sets.old);
        let known = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let sizes = revision::size_annotations(self.bounds.replicas, self.bounds.surge);
        let Some(set) = revision::new_set(self.deployment, next, known, replicas, sizes) else {
            return;
        };
        let name = set.key().name;
        if let Some(taken) = (self.seen.set_called)(&name) {
            // Ours but with another template, or somebody else's: another name is needed. One
            // that is on its way out is only waited for.
            if !taken.is_terminating() {
                self.collisions = Some(known.unwrap_or(0) + 1);
            }
            return;
        }
        if status::deadline_secs(self.deployment).is_some() {
            let failure = self.context.failure.as_ref().filter(|f| f.verb == "create");
            match failure.filter(|failure| failure.code != 409) {
                Some(failure) => {
                    let message = failure.message.clone();
                    self.conditions.set(PROGRESSING, "False", "ReplicaSetCreateError", message);
                }
                None => {
                    let message = format!("Created new replica set {name:?}");
                    self.conditions.set(PROGRESSING, "True", "NewReplicaSetCreated", message);
                }
            }
        }
        let mut announcement = self.scaled(&name, 0, replicas);
        announcement.failed = Some((
            "ReplicaSetCreateError",
            format!("Failed to create new replica set {name:?}: {{error}}"),
        ));
        self.steps.push(Step::announced(Action::create(&set), announcement));
    }

    /// Deletes the oldest ReplicaSets beyond the history limit.
    fn clean_up(&mut self) {
        let spec = self.deployment.spec.as_ref();
        let Some(limit) = spec.and_then(|spec| spec.revision_history_limit) else { return };
        let mut old: Vec<_> = self.sets.old.iter().filter(|set| !set.is_terminating()).collect();
        let limit = usize::try_from(limit).unwrap_or(0);
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| revision::revision(&set.metadata));
        for set in old.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let observed = status.observed_generation >= set.metadata.generation;
            if rolling::replicas(set) == 0 && status.replicas == 0 && observed {
                self.steps.push(Action::delete::<ReplicaSet>(set.key(), set.uid()).into());
            }
        }
    }

    fn counted_status(&self) -> DeploymentStatus {
        status::counted(self.deployment, &self.sets, self.bounds, self.conditions.clone())
    }

    fn progress_status(&self) -> DeploymentStatus {
        let counted = self.counted_status();
        let now = self.context.now;
        status::with_progress(self.deployment, &self.sets, self.bounds, counted, now)
    }

    /// Adds the writes of the Deployment itself.
    fn finish(mut self, mut status: DeploymentStatus) -> Plan {
        if self.collisions.is_some() {
            status.collision_count = self.collisions;
        }
        let mut steps = std::mem::take(&mut self.steps);
        let again_after = status::look_again_in(self.deployment, &status, self.context.now);
        let number = self.sets.new.as_ref().map(|set| revision::revision(&set.metadata));
        let number = number.filter(|number| {
            *number != 0 && *number != revision::revision(&self.deployment.metadata)
        });
        if self.deployment.status.as_ref() != Some(&status) || number.is_some() {
            let mut changed = self.deployment.clone();
            changed.status = Some(status);
            // Written with the status, as upstream: an update of the Deployment itself would count
            // as a new generation.
            if let Some(number) = number {
                let annotations = changed.metadata.annotations.get_or_insert_default();
                annotations.insert(REVISION.into(), number.to_string());
            }
            let step = Step::from(Action::update_status(&changed));
            // After a failure the status tells of it before the next try fails too.
            let at = if self.context.failure.is_some() { 0 } else { steps.len() };
            steps.insert(at, step);
        }
        Plan { steps, again_after, ..Plan::default() }
    }
}

/// A merge patch of annotations that holds only for the version it was made from.
fn guarded(object: &impl Object, annotations: Map<String, Value>) -> Value {
    json!({"metadata": {
        "resourceVersion": object.meta().resource_version,
        "annotations": annotations,
    }})
}

#[cfg(test)]
mod tests;
