//! Laws of field sets, and server-side apply against a model that knows only flat maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::fieldset::FieldSet;
use super::*;
use crate::schema::{Any, builtin};
use crate::tests::{LEAVES, any_json};

/// Sets as they come about: from the division of a value.
fn any_set() -> impl Strategy<Value = FieldSet> {
    any_json().prop_map(|value| typed::field_set(&value, &Schema::Any(Any::Custom)))
}

proptest! {
    #[test]
    fn json_round_trip(set in any_set()) {
        prop_assert_eq!(FieldSet::from_json(&set.to_json()), set);
    }

    #[test]
    fn algebra(a in any_set(), b in any_set(), c in any_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(
            a.intersection(&b.union(&c)),
            a.intersection(&b).union(&a.intersection(&c))
        );
        prop_assert_eq!(a.difference(&b.union(&c)), a.difference(&b).difference(&c));
        let coarse = a.recursive_difference(&b);
        prop_assert_eq!(coarse.intersection(&a.difference(&b)), coarse);
    }

    #[test]
    fn what_a_comparison_names_is_what_changed(old in any_json(), new in any_json()) {
        let schema = Schema::Any(Any::Custom);
        let changes = compare(&old, &new, &schema);
        if old == new {
            prop_assert_eq!(changes, Comparison::default());
        } else if old.is_object() && new.is_object() {
            let none = changes.added.is_empty() && changes.removed.is_empty();
            prop_assert!(!none || !changes.modified.is_empty());
            // Merging the new over the old leaves only removals out.
            let merged = merge::merge(&old, &new, &schema);
            let left = compare(&new, &merged, &schema);
            prop_assert!(left.removed.is_empty() && left.modified.is_empty());
        }
    }
}

/// One manager's wish: some of the keys of a ConfigMap.
type Wish = BTreeMap<String, String>;

fn any_steps() -> impl Strategy<Value = Vec<(usize, Wish, bool)>> {
    let wish = prop::collection::btree_map("[a-d]", "[xy]", 0..4);
    prop::collection::vec((0_usize..3, wish, any::<bool>()), 1..8)
}

/// Key → value and its owners.
type Model = BTreeMap<String, (String, BTreeSet<usize>)>;

/// `None` if there is a conflict.
fn model_apply(model: &Model, who: usize, wish: &Wish, force: bool) -> Option<Model> {
    let mut out = model.clone();
    for (key, value) in wish {
        let entry = out.entry(key.clone()).or_insert_with(|| (value.clone(), BTreeSet::new()));
        if entry.0 != *value {
            if entry.1.iter().any(|owner| *owner != who) && !force {
                return None;
            }
            *entry = (value.clone(), BTreeSet::new());
        }
        entry.1.insert(who);
    }
    out.retain(|key, (_, owners)| {
        if !wish.contains_key(key) && owners.remove(&who) {
            return !owners.is_empty();
        }
        true
    });
    Some(out)
}

proptest! {
    #[test]
    fn applying_flat_maps_agrees_with_the_model(steps in any_steps()) {
        let schema = builtin("io.k8s.api.core.v1.ConfigMap").unwrap();
        let mut live = empty(&schema, &LEAVES);
        let mut model = Model::new();
        for (who, wish, force) in steps {
            let mut config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            if !wish.is_empty() {
                config["data"] = json!(wish);
            }
            let manager = format!("m{who}");
            let none = FieldSet::default();
            let writer = Writer {
                manager: &manager, api_version: "v1", subresource: "",
                now: "2026-01-01T00:00:00Z", reset_fields: &none,
            };
            let applied = apply(&live, &config, &schema, &writer, force);
            match model_apply(&model, who, &wish, force) {
                None => prop_assert!(matches!(applied, Err(PatchError::Conflict(_)))),
                Some(next) => {
                    live = decode::value(applied.unwrap(), &schema, &LEAVES).unwrap().value;
                    live["metadata"]["uid"] = json!("u");
                    model = next;
                }
            }
            let wanted: Map<String, Value> =
                model.iter().map(|(key, (value, _))| (key.clone(), json!(value))).collect();
            let got = live["data"].as_object().cloned().unwrap_or_default();
            prop_assert_eq!(got, wanted);
            for (key, (_, owners)) in &model {
                let of = |id: &Id| id.manager.trim_start_matches('m').parse::<usize>().unwrap();
                let field = format!(".data.{key}");
                let managed = Managed::read(&live).unwrap();
                let found: BTreeSet<usize> = managed
                    .0
                    .iter()
                    .filter(|(_, owned)| owned.fields.paths().contains(&field))
                    .map(|(id, _)| of(id))
                    .collect();
                prop_assert_eq!(&found, owners);
            }
        }
    }
}
