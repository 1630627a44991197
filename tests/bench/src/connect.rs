//! TCP connect to a ClusterIP among 1,000 Services, beside the pod's address. The measurement
//! itself lives with the services crate; here it is run and its last line read.

use anyhow::Result;

use crate::report::{Limit, Report};

/// Runs the services crate's own measurement.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    crate::report::from_example(
        report,
        ("services", "connect_bench"),
        &[
            ("ratio", "connect to ClusterIP of 1,000 / pod address", "", Limit::AtMost(1.10)),
            ("cluster_ip_micros", "connect to a ClusterIP", "µs", Limit::None),
            ("direct_micros", "connect to the pod's address", "µs", Limit::None),
        ],
    )
}
