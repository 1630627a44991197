//! What the tests of several modules share.

use crate::decode::Leaves;

/// The leaves of the `objects` crate, which the API server also passes in.
pub(crate) const LEAVES: Leaves = Leaves {
    quantity: objects::quantity::canonical,
    time: objects::time::canonical_time,
    micro_time: objects::time::canonical_micro_time,
};
