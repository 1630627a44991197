//! The demo's steps, as a test.

use anyhow::{Context, Result};
use host::scenario::{STEPS, Scenario, figures::Figures, server_args};

#[test]
fn every_step_of_the_demo() -> Result<()> {
    let (cluster, _guard) = it::cluster("it-demo", 1, server_args())?;
    let mut scenario = Scenario { cluster, figures: Figures::default() };
    for (name, carry_out) in STEPS {
        carry_out(&mut scenario)
            .with_context(|| format!("step {name:?}\n{}", scenario.cluster.log_tails(60)))?;
    }
    Ok(())
}
