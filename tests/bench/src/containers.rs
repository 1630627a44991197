//! Create and start of a container, beside crun on the same bundle. The measurement itself lives
//! with the runtime; here it is run and its last line read.

use anyhow::Result;

use crate::report::{Limit, Report};

/// Runs the runtime's own measurement.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    crate::report::from_example(
        report,
        ("runtime", "container_bench"),
        &[
            ("create_start_ratio", "container create + start / crun", "", Limit::AtMost(1.0)),
            (
                "create_start_with_seccomp_ratio",
                "the same with the default filter",
                "",
                Limit::AtMost(1.0),
            ),
            ("ours_ms", "container create + start", "ms", Limit::None),
            ("crun_ms", "crun, same bundle", "ms", Limit::None),
        ],
    )
}
