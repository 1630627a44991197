use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::deployment::revision::size_annotations;

fn bounds(replicas: i32, surge: i32, unavailable: i32) -> Bounds {
    Bounds { replicas, surge, unavailable, rolling: true }
}

/// A set of `size`, of which `available` are, sized when the Deployment had `was` (and surge 0
/// beyond `most`).
fn sized(age_secs: i64, size: i32, available: i32, was: Option<(i32, i32)>) -> Sized {
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("rs{age_secs}"));
    set.metadata.creation_timestamp =
        Some(Time(Timestamp::from_second(10_000 - age_secs).unwrap()));
    set.metadata.annotations =
        was.map(|(desired, most)| size_annotations(desired, most - desired).into());
    set.spec = Some(ReplicaSetSpec { replicas: Some(size), ..ReplicaSetSpec::default() });
    set.status = Some(ReplicaSetStatus {
        replicas: size,
        available_replicas: Some(available),
        ..ReplicaSetStatus::default()
    });
    Sized::as_is(&Arc::new(set))
}

fn sizes(sets: &[Sized]) -> Vec<i32> {
    sets.iter().map(|one| one.size).collect()
}

#[test]
fn limits_resolve_by_rounding_apart() {
    let deployment = |replicas: i32, surge: &str, unavailable: &str| {
        let value = serde_json::json!({"spec": {
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }});
        serde_json::from_value::<Deployment>(value).unwrap()
    };
    for (replicas, surge, unavailable, wanted) in [
        (10, "25%", "25%", (3, 2)),
        (3, "25%", "25%", (1, 0)),
        (1, "0%", "0%", (0, 1)),
        (10, "0%", "1%", (0, 1)),
        (2, "100%", "100%", (2, 2)),
        (0, "25%", "25%", (0, 0)),
    ] {
        let got = Bounds::of(&deployment(replicas, surge, unavailable));
        assert_eq!((got.surge, got.unavailable), wanted, "{replicas} {surge} {unavailable}");
    }
}

#[test]
fn the_new_set_grows_into_the_room_that_the_surge_leaves() {
    for (replicas, surge, new, old, wanted) in [
        (10, 2, 0, 10, 2),
        (10, 2, 2, 10, 2),
        (10, 2, 2, 5, 7),
        (10, 2, 5, 0, 10),
        (10, 2, 12, 0, 10),
        (10, 0, 0, 10, 0),
        (10, 5, 0, 20, 0),
    ] {
        let old = [sized(9, old, old, None)];
        assert_eq!(new_size(bounds(replicas, surge, 0), new, &old), wanted);
    }
}

#[test]
fn old_sets_shrink_unhealthy_first_and_oldest_first() {
    // Ten wanted, two may be missing; the new one has two that are not yet available.
    let mut old = [sized(20, 4, 4, None), sized(10, 6, 3, None)];
    shrink_old(bounds(10, 2, 2), &sized(1, 2, 0, None), &mut old);
    // 12 pods, 8 needed, 2 new ones unavailable: two unhealthy may go. 7 < 8 available: no more.
    assert_eq!(sizes(&old), [4, 4]);

    let mut old = [sized(20, 4, 4, None), sized(10, 6, 6, None)];
    shrink_old(bounds(10, 2, 2), &sized(1, 2, 2, None), &mut old);
    assert_eq!(sizes(&old), [0, 6], "12 available, 8 needed");

    let mut old = [sized(20, 10, 10, None)];
    shrink_old(bounds(10, 2, 0), &sized(1, 2, 0, None), &mut old);
    assert_eq!(sizes(&old), [10], "nothing goes before the new ones are available");
}

#[test]
fn a_size_change_is_spread_in_proportion() {
    // Upstream's example: 10 to 15 with surge 3 during a rollout of 5 old and 8 new.
    let mut new = sized(1, 8, 8, Some((10, 13)));
    let mut old = [sized(9, 5, 5, Some((10, 13)))];
    spread(bounds(15, 3, 0), Some(&mut new), &mut old, 13);
    assert_eq!((new.size, sizes(&old)), (11, vec![7]));

    let mut new = sized(1, 5, 5, Some((10, 10)));
    let mut old = [sized(9, 5, 5, Some((10, 10)))];
    spread(bounds(5, 0, 0), Some(&mut new), &mut old, 10);
    assert_eq!(new.size + old[0].size, 5);

    let mut new = sized(1, 5, 5, Some((10, 10)));
    let mut old = [sized(9, 5, 5, Some((10, 10)))];
    spread(bounds(0, 0, 0), Some(&mut new), &mut old, 10);
    assert_eq!((new.size, sizes(&old)), (0, vec![0]));
}

#[test]
fn a_single_active_set_takes_the_whole_change() {
    let mut new = sized(1, 0, 0, None);
    let mut old = [sized(9, 3, 3, Some((3, 4)))];
    spread(bounds(8, 1, 0), Some(&mut new), &mut old, 3);
    assert_eq!((new.size, sizes(&old)), (0, vec![8]));

    let mut new = sized(1, 0, 0, None);
    spread(bounds(8, 1, 0), Some(&mut new), &mut [], 0);
    assert_eq!(new.size, 8);
}

#[test]
fn a_saturated_new_set_ends_the_old_ones() {
    let mut new = sized(1, 4, 4, Some((4, 5)));
    let mut old = [sized(9, 1, 1, Some((4, 5)))];
    spread(bounds(4, 1, 0), Some(&mut new), &mut old, 5);
    assert_eq!((new.size, sizes(&old)), (4, vec![0]));
}

proptest! {
    /// Whatever the state, a step never exceeds the surge by its own doing, never takes more
    /// available pods than it may, and never makes sizes negative.
    #[test]
    fn steps_stay_within_bounds(
        replicas in 0..30_i32, surge in 0..10_i32, unavailable in 0..10_i32,
        new in (0..30_i32, 0..30_i32), old in proptest::collection::vec((0..30_i32, 0..30_i32), 0..4),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let bounds = bounds(replicas, surge, unavailable.min(replicas));
        let new = sized(0, new.0, new.1.min(new.0), None);
        let mut old: Vec<Sized> = old.iter().enumerate()
            .map(|(age, (size, up))| sized(age as i64 + 1, *size, *up.min(size), None)).collect();
        let before = new.size + total(&old);
        let grown = new_size(bounds, new.size, &old);
        if grown > new.size {
            prop_assert!(grown + total(&old) <= bounds.most());
            prop_assert!(grown <= replicas);
        }
        let up_before: i32 = available(&new.set) + old.iter().map(|o| available(&o.set)).sum::<i32>();
        shrink_old(bounds, &new, &mut old);
        prop_assert!(old.iter().all(|one| one.size >= 0));
        let up_after: i32 = available(&new.set)
            + old.iter().map(|one| available(&one.set).min(one.size)).sum::<i32>();
        prop_assert!(up_after >= bounds.least_available().min(up_before));
        prop_assert!(new.size + total(&old) <= before);
    }

    /// A spread gives exactly the size asked for.
    #[test]
    fn a_spread_adds_up(
        from in 2..40_i32, to in 1..60_i32, surge in 0..6_i32, share in 1..100_i32,
    ) {
        let most = from + surge;
        let new_size = (most * share / 100).clamp(1, most - 1);
        let mut new = sized(1, new_size, 0, Some((from, most)));
        let mut old = [sized(9, most - new_size, most - new_size, Some((from, most)))];
        spread(bounds(to, surge, 0), Some(&mut new), &mut old, most);
        prop_assert_eq!(new.size + old[0].size, to + surge);
        prop_assert!(new.size >= 0 && old[0].size >= 0);
    }
}
