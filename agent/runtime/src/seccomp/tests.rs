use super::*;

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn capabilities_open_the_calls_they_guard() {
    let plain = default::rules(&names(&["CAP_CHOWN"]));
    for denied in ["mount", "unshare", "setns", "bpf", "chroot", "keyctl", "io_uring_setup"] {
        assert!(!plain.allowed.contains(denied) && plain.denied.contains(denied), "{denied}");
    }
    assert!(plain.conditional.iter().any(|condition| condition.name == "clone"));
    assert!(!plain.denied.contains("clone3"), "an unknown clone3 makes C libraries fall back");
    let admin = default::rules(&names(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]));
    for allowed in ["mount", "unshare", "setns", "clone", "clone3", "chroot"] {
        assert!(admin.allowed.contains(allowed), "{allowed}");
    }
    assert!(!admin.conditional.iter().any(|condition| condition.name == "clone"));
}

#[test]
fn no_call_is_both_allowed_and_denied() {
    for set in [names(&[]), names(&["CAP_SYS_ADMIN"]), names(&["CAP_BPF", "CAP_SYSLOG"])] {
        let rules = default::rules(&set);
        assert_eq!(rules.allowed.intersection(&rules.denied).next(), None);
        assert!(rules.allowed.len() > 300);
    }
}

#[test]
fn filters_are_compiled_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = filter(folder.path(), &Seccomp::RuntimeDefault, &names(&[])).unwrap().unwrap();
    let program = fs::read(&first).unwrap();
    assert!(program.len() > 8 && program.len().is_multiple_of(8), "{} bytes", program.len());
    assert!(program.len() / 8 <= usize::from(u16::MAX), "the kernel's limit");
    fs::write(&first, b"kept").unwrap();
    let again = filter(folder.path(), &Seccomp::RuntimeDefault, &names(&[])).unwrap().unwrap();
    assert_eq!(fs::read(again).unwrap(), b"kept");
    let other = filter(folder.path(), &Seccomp::RuntimeDefault, &names(&["CAP_SYS_ADMIN"]));
    assert_ne!(other.unwrap().unwrap(), first);
    assert_eq!(filter(folder.path(), &Seccomp::Unconfined, &names(&[])).unwrap(), None);
}

#[test]
fn a_profile_of_the_node_is_compiled_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("profile.json");
    let check = |text: &str| {
        fs::write(&source, text).unwrap();
        filter(folder.path(), &Seccomp::Localhost(source.clone()), &names(&[]))
            .map_err(|error| error.to_string())
    };
    let good = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":1,
        "args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert!(check(good).unwrap().is_some());
    assert!(check("{").unwrap_err().contains("decode seccomp profile"));
    let notify = good.replace("SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY");
    assert!(check(&notify).unwrap_err().contains("not supported"));
}

#[test]
fn the_default_profile_can_be_written_down_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("default.json");
    let profile = default_seccomp_profile(&names(&["CAP_CHOWN"]));
    fs::write(&source, profile.to_string()).unwrap();
    let local = filter(folder.path(), &Seccomp::Localhost(source), &names(&[])).unwrap().unwrap();
    let own = filter(folder.path(), &Seccomp::RuntimeDefault, &names(&["CAP_CHOWN"]));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    // The file says nothing of refused sockets, which get ENOSYS there.
    let (local, own) = (size(&local), size(&own.unwrap().unwrap()));
    assert!(local.abs_diff(own) <= 64 * 8, "{local} and {own} bytes are not the same filter");
}
