use super::*;

fn dump(settings: &[Setting]) -> String {
    settings
        .iter()
        .map(|setting| format!("{} {}={}", setting.controller, setting.file, setting.value))
        .collect::<Vec<_>>()
        .join("\n")
}

fn resources() -> Resources {
    Resources {
        cpu_shares: Some(256),
        cpu_quota_micros: Some(25_000),
        cpu_period_micros: Some(100_000),
        memory_bytes: Some(64 << 20),
        pids: Some(100),
        hugepages_bytes: BTreeMap::from([("2MB".to_owned(), 4 << 20)]),
    }
}

#[test]
fn limits_become_v1_files() {
    expect_test::expect![[r#"
        cpu cpu.shares=256
        cpu cpu.cfs_period_us=100000
        cpu cpu.cfs_quota_us=25000
        memory memory.limit_in_bytes=67108864
        memory memory.memsw.limit_in_bytes=67108864
        pids pids.max=100
        hugetlb hugetlb.2MB.limit_in_bytes=4194304"#]]
    .assert_eq(&dump(&settings_v1(&resources())));
    assert!(settings_v1(&Resources::default()).is_empty());
}

#[test]
fn limits_become_v2_files() {
    expect_test::expect![[r#"
        cpu cpu.weight=10
        cpu cpu.max=25000 100000
        memory memory.max=67108864
        memory memory.swap.max=0
        pids pids.max=100
        hugetlb hugetlb.2MB.max=4194304"#]]
    .assert_eq(&dump(&settings_v2(&resources())));
    let unlimited =
        Resources { cpu_quota_micros: Some(-1), pids: Some(-1), ..Resources::default() };
    assert_eq!(dump(&settings_v2(&unlimited)), "cpu cpu.max=max 100000\npids pids.max=max");
}

#[test]
fn shares_keep_their_ends_as_weights() {
    for (shares, weight) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
        let settings = settings_v2(&Resources { cpu_shares: Some(shares), ..Resources::default() });
        assert_eq!(settings[0].value, weight.to_string(), "shares {shares}");
    }
}

#[test]
fn a_hybrid_group_is_in_every_hierarchy() {
    let layout = Layout::Legacy {
        controllers: BTreeMap::from([("memory".to_owned(), PathBuf::from("/c/memory"))]),
        unified: Some(PathBuf::from("/c/unified")),
    };
    let tree = Tree::new(layout.clone(), PathBuf::from("/skeg-n1"), None);
    let group = tree.group("burstable/pod1");
    assert_eq!(group.path, Path::new("/skeg-n1/burstable/pod1"));
    assert_eq!(group.controllers["memory"], Path::new("/c/memory/skeg-n1/burstable/pod1"));
    assert_eq!(group.unified.as_deref(), Some(Path::new("/c/unified/skeg-n1/burstable/pod1")));
    // A folder outside of the v2 mount cannot be used.
    let tree = Tree::new(layout, PathBuf::from("/skeg-n1"), Some(PathBuf::from("/elsewhere")));
    assert_eq!(tree.group("x").unified, None);
}

#[test]
fn mountinfo_lines_are_understood() {
    let line = "31 24 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
    let (place, kind, options) = parse_mount(line).unwrap();
    assert_eq!(
        (place.to_str().unwrap(), kind, options),
        ("/sys/fs/cgroup/memory", "cgroup", "rw,memory")
    );
    assert_eq!(parse_mount("nonsense"), None);
}
