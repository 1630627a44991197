//! The default profile in OCI's form. PURE.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::default::{self, Test};

/// What [`crate::Seccomp::RuntimeDefault`] means for a container with these capabilities (`CAP_`
/// names), in the JSON form of OCI: to be looked at, or to begin a profile of one's own with.
pub fn default_seccomp_profile(capabilities: &BTreeSet<String>) -> Value {
    let rules = default::rules(capabilities);
    let mut syscalls = vec![
        json!({"names": rules.allowed, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": rules.denied, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}),
    ];
    for condition in &rules.conditional {
        let (operator, value, value_two) = match condition.test {
            Test::Equal(value) => ("SCMP_CMP_EQ", value, 0),
            Test::NotEqual(value) => ("SCMP_CMP_NE", value, 0),
            Test::NoneOf(mask) => ("SCMP_CMP_MASKED_EQ", mask, 0),
        };
        syscalls.push(json!({
            "names": [condition.name],
            "action": "SCMP_ACT_ALLOW",
            "args": [{
                "index": condition.argument,
                "value": value,
                "valueTwo": value_two,
                "op": operator,
            }],
        }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": architectures(),
        "syscalls": syscalls,
    })
}

fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &[]
    }
}
