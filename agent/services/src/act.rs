//! Carries out operations on the maps.

use crate::diff::diff;
use crate::error::ServicesError;
use crate::maps::Maps;
use crate::state::MapSet;

/// Makes the maps hold `desired`, and keeps `actual` in step with what has been done. Stops at the
/// first error; called again, it goes on from there.
pub fn act(
    maps: &mut dyn Maps,
    actual: &mut MapSet,
    desired: &MapSet,
) -> Result<usize, ServicesError> {
    let ops = diff(actual, desired);
    for op in &ops {
        maps.apply(op)?;
        actual.apply(op);
    }
    Ok(ops.len())
}
