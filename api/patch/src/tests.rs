//! What the tests of several modules share.

mod recorded;

use proptest::prelude::*;
use serde_json::Value;

use crate::decode::Leaves;

/// The leaves of the `objects` crate, which the API server also passes in.
pub(crate) const LEAVES: Leaves = Leaves {
    quantity: objects::quantity::canonical,
    time: objects::time::canonical_time,
    micro_time: objects::time::canonical_micro_time,
};

/// Small JSON values whose maps share keys often.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_i64..4).prop_map(Value::from),
        "[xy]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
