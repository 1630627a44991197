//! The index as text: for `skeg debug dns`.

use std::fmt::Write as _;

use crate::records::{Records, ServiceRecord};

/// One line per Service and per endpoint of a headless one.
pub(crate) fn dump(records: &Records) -> String {
    let mut text = String::new();
    for (service, record) in records.all() {
        let name = format!("{}.{}.svc", service.name, service.namespace);
        // Writing to a String cannot fail.
        match record {
            ServiceRecord::Cluster { ips, .. } => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                _ = writeln!(text, "{name} {}", ips.join(" "));
            }
            ServiceRecord::External(target) => _ = writeln!(text, "{name} CNAME {target}"),
            ServiceRecord::Headless(endpoints) => {
                _ = writeln!(text, "{name} headless");
                for endpoint in endpoints {
                    _ = writeln!(text, "{}.{name} {}", endpoint.hostname, endpoint.ip);
                }
            }
        }
    }
    text
}
