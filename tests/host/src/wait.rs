//! Level-triggered waiting with a bound: the only way tests wait.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks at the condition: short against what is waited for, long against the
/// cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives a value, at most `bound` long. A condition that is not met
/// says why in its `Err`, which is reported when the bound is reached.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(why) if start.elapsed() >= bound => {
                bail!("{what}: not reached within {} s: {why}", bound.as_secs_f32())
            }
            Err(_) => pause(),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks of a bounded, level-triggered wait"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
