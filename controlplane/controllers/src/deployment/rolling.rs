//! How large each ReplicaSet is to be. PURE arithmetic.
//!
//! Source of the rules: kubernetes pkg/controller/deployment/{rolling,sync,recreate}.go and
//! util/deployment_util.go, v1.36.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, annotation};

/// A Deployment's size and how far a rollout may stray from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Replicas asked for.
    pub(super) replicas: i32,
    /// Pods beyond that.
    pub(super) surge: i32,
    /// Pods below that.
    pub(super) unavailable: i32,
    /// Whether the strategy is RollingUpdate.
    pub(super) rolling: bool,
}

impl Bounds {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        let rolling = strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate");
        if !rolling {
            return Self { replicas, surge: 0, unavailable: 0, rolling };
        }
        let limits = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = limits.and_then(|limits| limits.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable =
            limits.and_then(|limits| limits.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = resolve(surge, replicas, Round::Up);
        let mut unavailable = resolve(unavailable, replicas, Round::Down);
        // Both zero (two percentages of a small number) would never get anywhere.
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas), rolling }
    }

    /// Most pods at any time.
    pub(super) fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// Fewest available pods during a rollout.
    pub(super) fn least_available(self) -> i32 {
        self.replicas - self.unavailable
    }
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

fn resolve(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredfold = i64::from(total) * percent;
            let whole = match round {
                Round::Up => (hundredfold + 99).div_euclid(100),
                Round::Down => hundredfold.div_euclid(100),
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// A ReplicaSet and the size planned for it.
#[derive(Debug, Clone)]
pub(super) struct Sized {
    pub(super) set: Arc<ReplicaSet>,
    pub(super) size: i32,
}

impl Sized {
    pub(super) fn as_is(set: &Arc<ReplicaSet>) -> Self {
        Self { set: Arc::clone(set), size: replicas(set) }
    }
}

/// `spec.replicas`.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `status.availableReplicas`.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn number(set: &ReplicaSet, name: &str) -> Option<i32> {
    annotation(&set.metadata, name).and_then(|text| text.parse().ok())
}

fn total(sets: &[Sized]) -> i32 {
    sets.iter().map(|one| one.size).fold(0, i32::saturating_add)
}

/// Whether the Deployment's size has changed since its ReplicaSets were sized.
pub(super) fn is_scaling(bounds: Bounds, sets: &[Sized]) -> bool {
    let active = sets.iter().filter(|one| one.size > 0);
    active.filter_map(|one| number(&one.set, DESIRED_REPLICAS)).any(|n| n != bounds.replicas)
}

/// Size of the new ReplicaSet in a rollout: as large as the surge allows beside the old ones.
pub(super) fn new_size(bounds: Bounds, new: i32, old: &[Sized]) -> i32 {
    if !bounds.rolling {
        return bounds.replicas;
    }
    if new >= bounds.replicas {
        return bounds.replicas;
    }
    let room = bounds.most() - new.saturating_add(total(old));
    new + room.clamp(0, bounds.replicas - new)
}

/// Shrinks the old ReplicaSets (given oldest first) as far as availability allows: unhealthy pods
/// first, for they serve nobody.
pub(super) fn shrink_old(bounds: Bounds, new: &Sized, old: &mut [Sized]) {
    let all = total(old).saturating_add(new.size);
    let new_unavailable = new.size - available(&new.set);
    let mut unhealthy_max = all - bounds.least_available() - new_unavailable;
    if unhealthy_max <= 0 {
        return;
    }
    for one in old.iter_mut() {
        let unhealthy = (one.size - available(&one.set)).clamp(0, unhealthy_max);
        one.size -= unhealthy;
        unhealthy_max -= unhealthy;
    }
    let all_available: i32 = old.iter().map(|one| available(&one.set)).sum();
    let mut spare = all_available + available(&new.set) - bounds.least_available();
    for one in old.iter_mut() {
        let step = one.size.clamp(0, spare.max(0));
        one.size -= step;
        spare -= step;
    }
}

/// Spreads a change of the Deployment's size over its ReplicaSets while no rollout step is due:
/// in proportion to their sizes, so that a rollout under way keeps its balance.
pub(super) fn spread(bounds: Bounds, new: Option<&mut Sized>, old: &mut [Sized], reported: i32) {
    let has_new = new.is_some();
    let mut sets: Vec<&mut Sized> = new.into_iter().chain(old.iter_mut()).collect();
    let active: Vec<usize> = (0..sets.len()).filter(|at| sets[*at].size > 0).collect();
    // With none or one active set all of the change is that one's, or the newest's.
    match active.as_slice() {
        [] => {
            // The new one is first; without one, the newest of the old is last.
            let newest = if has_new { sets.first_mut() } else { sets.last_mut() };
            if let Some(newest) = newest {
                newest.size = bounds.replicas;
            }
            return;
        }
        [only] => {
            sets[*only].size = bounds.replicas;
            return;
        }
        _ => {}
    }
    if has_new && is_saturated(bounds, sets[0]) {
        sets.iter_mut().skip(1).for_each(|one| one.size = 0);
        return;
    }
    if !bounds.rolling {
        return;
    }
    let allowed = if bounds.replicas > 0 { bounds.most() } else { 0 };
    let mut active: Vec<&mut Sized> = sets.into_iter().filter(|one| one.size > 0).collect();
    let now: i32 = active.iter().map(|one| one.size).sum();
    let change = allowed - now;
    // Largest first; of equals the newer grows first and the older shrinks first.
    active.sort_by_key(|one| one.set.metadata.creation_timestamp.as_ref().map(|time| time.0));
    if change > 0 {
        active.reverse();
    }
    active.sort_by_key(|one| std::cmp::Reverse(one.size));
    let mut given = 0;
    for one in &mut active {
        let share = proportion(bounds, one, change, given, reported);
        one.size += share;
        given += share;
    }
    // What rounding left over is the largest's.
    if let Some(largest) = active.first_mut() {
        largest.size = (largest.size + change - given).max(0);
    }
}

/// Whether the new ReplicaSet already is what the Deployment asks for.
fn is_saturated(bounds: Bounds, new: &Sized) -> bool {
    new.size == bounds.replicas
        && number(&new.set, DESIRED_REPLICAS) == Some(bounds.replicas)
        && available(&new.set) == bounds.replicas
}

fn proportion(bounds: Bounds, one: &Sized, change: i32, given: i32, reported: i32) -> i32 {
    if one.size == 0 || change == 0 || change == given {
        return 0;
    }
    let rest = change - given;
    let share = fraction(bounds, one, reported);
    if change > 0 { share.min(rest) } else { share.max(rest) }
}

/// By how much a set grows or shrinks to keep its share of the whole.
fn fraction(bounds: Bounds, one: &Sized, reported: i32) -> i32 {
    if bounds.replicas == 0 {
        return -one.size;
    }
    let before = number(&one.set, MAX_REPLICAS).filter(|n| *n != 0).unwrap_or(reported);
    if before == 0 {
        return 0;
    }
    // Rounded half away from zero, in integers: (2ab + c) / 2c.
    let product = i64::from(one.size) * i64::from(bounds.most());
    let before = i64::from(before);
    let rounded = (2 * product + before).div_euclid(2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - one.size
}

#[cfg(test)]
mod tests;
