use std::collections::BTreeMap;

use super::*;
use crate::{Mount, Resources, Seccomp};

fn spec() -> ContainerSpec {
    ContainerSpec {
        id: "a".repeat(64),
        pod_uid: "uid".into(),
        name: "web".into(),
        attempt: 0,
        rootfs: "/snap/rootfs".into(),
        args: vec!["/bin/web".into()],
        env: vec!["A=1".into()],
        cwd: PathBuf::new(),
        uid: 1000,
        gid: 1000,
        additional_gids: Vec::new(),
        tty: false,
        stdin: false,
        stdin_once: false,
        privileged: false,
        capabilities: vec!["CAP_CHOWN".into(), "CAP_SYS_RESOURCE".into(), "kill".into()],
        read_only_rootfs: true,
        no_new_privileges: false,
        unmasked_proc: false,
        seccomp: Seccomp::RuntimeDefault,
        mounts: Vec::new(),
        devices: Vec::new(),
        oom_score_adj: 0,
        cgroup: "burstable/poduid/a".into(),
        resources: Resources::default(),
        log_path: "/log".into(),
        log_max_bytes: 1,
        log_max_files: 2,
        annotations: BTreeMap::new(),
    }
}

fn facts() -> Facts {
    Facts {
        namespaces: Namespaces {
            network: Some("/ns/net".into()),
            ipc: None,
            uts: Some("/ns/uts".into()),
            pid: PidNamespace::Private,
        },
        hostname: "web-0".into(),
        home: "/home/web".into(),
        shm: "/sandbox/shm".into(),
        cgroup: "/skeg/a".into(),
        cgroup_version: Version::V1,
        available: ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"].map(str::to_owned).into(),
        mounts: None,
        devices: Vec::new(),
    }
}

fn options(oci: &Spec, place: &str) -> String {
    oci.mounts()
        .iter()
        .flatten()
        .find(|mount| mount.destination() == Path::new(place))
        .and_then(|mount| mount.options().clone())
        .unwrap_or_default()
        .join(",")
}

fn namespace_list(oci: &Spec) -> String {
    oci.linux()
        .iter()
        .flat_map(|linux| linux.namespaces().iter().flatten())
        .map(|ns| match ns.path() {
            Some(path) => format!("{}={}", ns.typ(), path.display()),
            None => ns.typ().to_string(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_plain_container_gets_nothing_it_did_not_ask_for() {
    let oci = container(&spec(), &facts()).unwrap();
    let process = oci.process().as_ref().unwrap();
    assert_eq!(
        process.env().as_deref().unwrap(),
        ["A=1", PATH_DEFAULT, "HOSTNAME=web-0", "HOME=/home/web"]
    );
    assert_eq!(process.rlimits(), &None, "the library's default is 1024 files");
    assert_eq!(process.no_new_privileges(), None);
    assert_eq!(process.cwd(), Path::new("/"));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[1000][..]));
    let capabilities = process.capabilities().as_ref().unwrap();
    let mut names: Vec<String> =
        capabilities.effective().iter().flatten().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names.len(), 2, "CAP_SYS_RESOURCE is not ours to give: {names:?}");
    assert_eq!(capabilities.effective(), capabilities.bounding());
    assert!(capabilities.ambient().iter().flatten().next().is_none());
    assert!(capabilities.inheritable().iter().flatten().next().is_none());
    let linux = oci.linux().as_ref().unwrap();
    assert!(linux.masked_paths().iter().flatten().any(|path| path == "/proc/kcore"));
    assert!(linux.readonly_paths().iter().flatten().any(|path| path == "/proc/sys"));
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("slave"));
    assert_eq!(oci.root().as_ref().unwrap().readonly(), Some(true));
    assert!(options(&oci, "/sys").contains("ro"));
    assert!(options(&oci, "/sys/fs/cgroup").contains("ro"));
}

#[test]
fn namespaces_follow_the_sandbox() {
    let oci = container(&spec(), &facts()).unwrap();
    assert_eq!(namespace_list(&oci), "mnt net=/ns/net uts=/ns/uts pid");
    let mut shared = facts();
    shared.namespaces.pid = PidNamespace::Shared("/proc/7/ns/pid".into());
    shared.cgroup_version = Version::V2;
    let oci = container(&spec(), &shared).unwrap();
    assert_eq!(namespace_list(&oci), "mnt net=/ns/net uts=/ns/uts pid=/proc/7/ns/pid cgroup");
    let node = Facts {
        namespaces: Namespaces { pid: PidNamespace::Node, ..Namespaces::default() },
        ..facts()
    };
    assert_eq!(namespace_list(&container(&spec(), &node).unwrap()), "mnt");
}

#[test]
fn privileged_lifts_every_limit() {
    let mut privileged = spec();
    privileged.privileged = true;
    let mut facts = facts();
    facts.devices.push(DeviceNode {
        path: "/dev/fuse".into(),
        kind: DeviceKind::Character,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        permissions: "rwm".into(),
    });
    let oci = container(&privileged, &facts).unwrap();
    let linux = oci.linux().as_ref().unwrap();
    assert_eq!(linux.masked_paths(), &None);
    assert_eq!(linux.readonly_paths(), &None);
    assert!(options(&oci, "/sys/fs/cgroup").contains("rw"));
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
    let capabilities = oci.process().as_ref().unwrap().capabilities().as_ref().unwrap();
    assert_eq!(capabilities.effective().as_ref().unwrap().len(), 3);
    assert_eq!(device_rules(&privileged, &facts.devices), None, "all devices may be used");
    let rules = device_rules(&spec(), &facts.devices).unwrap();
    assert_eq!(rules.last().map(String::as_str), Some("c 10:229 rwm"));
    assert!(rules.contains(&"c 1:3 rwm".to_owned()));
}

#[test]
fn mounts_of_the_pod_replace_standard_ones_and_keep_their_mode() {
    let mut with_mounts = spec();
    let own = |destination: &str, read_only, recursive_read_only, propagation: &str| Mount {
        source: "/src".into(),
        destination: destination.into(),
        read_only,
        recursive_read_only,
        propagation: propagation.into(),
    };
    with_mounts.mounts = vec![
        own("/dev/shm/", false, false, ""),
        own("/data", true, true, "rslave"),
        own("/shared", false, false, "rshared"),
    ];
    let oci = container(&with_mounts, &facts()).unwrap();
    assert_eq!(options(&oci, "/dev/shm"), "rbind,rprivate,rw");
    assert_eq!(options(&oci, "/data"), "rbind,rslave,ro,rro");
    let at_shm =
        oci.mounts().iter().flatten().filter(|mount| same(mount.destination(), "/dev/shm")).count();
    assert_eq!(at_shm, 1);
    let linux = oci.linux().as_ref().unwrap();
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("shared"));
    assert_eq!(
        propagations(&with_mounts),
        [
            (PathBuf::from("/dev/shm/"), Propagation::Private),
            (PathBuf::from("/data"), Propagation::Slave)
        ]
    );
}

fn same(left: &Path, right: &str) -> bool {
    left.components().eq(Path::new(right).components())
}

#[test]
fn home_is_never_empty_and_a_terminal_has_a_type() {
    let mut odd = spec();
    odd.env = vec!["HOME=".into(), "PATHS=x".into(), "TERM=vt100".into()];
    odd.no_new_privileges = true;
    let oci = exec(&odd, &facts(), 42, &["ps".into()], true).unwrap();
    let process = oci.process().as_ref().unwrap();
    assert_eq!(
        process.env().as_deref().unwrap(),
        ["PATHS=x", "TERM=vt100", PATH_DEFAULT, "HOSTNAME=web-0", "HOME=/home/web"]
    );
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(process.terminal(), Some(true));
    assert!(namespace_list(&oci).contains("mnt=/proc/42/ns/mnt"));
}

#[test]
fn devices_cannot_be_made_where_nothing_refuses_them() {
    let mut maker = spec();
    maker.capabilities = vec!["CAP_MKNOD".into(), "CAP_CHOWN".into()];
    let available: Capabilities = ["CAP_CHOWN", "CAP_MKNOD"].map(str::to_owned).into();
    let names = |maker: &ContainerSpec, version| {
        granted(maker, &available, version).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&maker, Version::V1), "CAP_CHOWN CAP_MKNOD");
    assert_eq!(names(&maker, Version::V2), "CAP_CHOWN");
    maker.privileged = true;
    assert_eq!(names(&maker, Version::V2), "CAP_CHOWN CAP_MKNOD");
}
