//! Who a container runs as: the image's or the pod's user, looked up in the image's own files.

use std::io::{self, Read as _};
use std::path::Path;

use crate::ImageError;
use crate::io::{broken, failed};
use crate::paths::open_in_root;

/// Largest `/etc/passwd` or `/etc/group` that is read. A container may bring anything.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// A user as the kernel needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Groups that `/etc/group` puts the user in, sorted, without `gid`.
    pub additional_gids: Vec<u32>,
    /// Home folder; `/` if the image does not say.
    pub home: String,
}

/// Resolves `USER[:GROUP]`, each a name or a number, as Docker does: empty is root; a number needs
/// no entry and then has group 0; a name needs one; a group given explicitly leaves out the others.
///
/// # Errors
/// [`ImageError::Broken`] if there is no such user or group, [`ImageError::Io`].
pub fn resolve(rootfs: &Path, spec: &str) -> Result<User, ImageError> {
    let passwd = read(rootfs, "etc/passwd")?;
    let groups = read(rootfs, "etc/group")?;
    lookup(spec, &passwd, &groups).map_err(|reason| broken(format!("user {spec:?}"), reason))
}

/// Groups of `/etc/group` that a user is in, by uid: for pods that set `runAsUser` themselves.
///
/// # Errors
/// [`ImageError::Io`].
pub fn supplementary_groups(rootfs: &Path, uid: u32) -> Result<Vec<u32>, ImageError> {
    let passwd = read(rootfs, "etc/passwd")?;
    let groups = read(rootfs, "etc/group")?;
    let user = entries(&passwd).find(|fields| number(fields, 2) == Some(uid));
    Ok(user.map_or_else(Vec::new, |user| memberships(&groups, user[0])))
}

fn read(rootfs: &Path, path: &str) -> Result<String, ImageError> {
    let place = rootfs.join(path);
    let file = match open_in_root(rootfs, path) {
        // Images without users are common, and so are ones without /etc.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(String::new());
        }
        file => file.map_err(failed("read", &place))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes).map_err(failed("read", &place))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = entries(groups)
        .filter(|fields| {
            fields.get(3).is_some_and(|members| members.split(',').any(|name| name.trim() == user))
        })
        .filter_map(|fields| number(&fields, 2))
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn lookup(spec: &str, passwd: &str, groups: &str) -> Result<User, String> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name wins over a number that looks like it.
    let entry = entries(passwd).find(|fields| fields[0] == user).or_else(|| {
        entries(passwd).find(|fields| number(fields, 2).is_some_and(|uid| uid.to_string() == user))
    });
    let uid = match &entry {
        Some(fields) => number(fields, 2).ok_or("its entry in /etc/passwd is broken")?,
        None => user.parse().map_err(|_| "no such user in the image's /etc/passwd")?,
    };
    let home = entry.as_ref().and_then(|fields| fields.get(5)).filter(|home| home.starts_with('/'));
    let home = home.map_or_else(|| "/".to_owned(), |home| (*home).to_owned());
    let Some(group) = group else {
        let gid = entry.as_ref().and_then(|fields| number(fields, 3)).unwrap_or(0);
        let mut additional_gids =
            entry.as_ref().map_or_else(Vec::new, |fields| memberships(groups, fields[0]));
        additional_gids.retain(|other| *other != gid);
        return Ok(User { uid, gid, additional_gids, home });
    };
    let named = entries(groups).find(|fields| fields[0] == group);
    let gid = match named {
        Some(fields) => number(&fields, 2).ok_or("its group's entry in /etc/group is broken")?,
        None => group.parse().map_err(|_| "no such group in the image's /etc/group")?,
    };
    Ok(User { uid, gid, additional_gids: Vec::new(), home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:33:www:/var/www:\n\
        12:x:99:98::/numeric:\nbad:x:many:1::/:\n";
    const GROUPS: &str =
        "root:x:0:\nweb:x:33:\naudio:x:29:web,other\nvideo:x:44:other, web\nwheel:x:10:web\n";

    fn user(uid: u32, gid: u32, additional_gids: &[u32], home: &str) -> Result<User, String> {
        Ok(User { uid, gid, additional_gids: additional_gids.to_vec(), home: home.into() })
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let cases = [
            ("", user(0, 0, &[], "/root")),
            ("0", user(0, 0, &[], "/root")),
            ("web", user(33, 33, &[10, 29, 44], "/var/www")),
            ("33", user(33, 33, &[10, 29, 44], "/var/www")),
            ("web:audio", user(33, 29, &[], "/var/www")),
            ("web:", user(33, 33, &[10, 29, 44], "/var/www")),
            (":44", user(0, 44, &[], "/root")),
            ("1000", user(1000, 0, &[], "/")),
            ("1000:1000", user(1000, 1000, &[], "/")),
            ("12", user(99, 98, &[], "/numeric")),
            ("nobody", Err("no such user in the image's /etc/passwd".into())),
            ("web:nobody", Err("no such group in the image's /etc/group".into())),
            ("bad", Err("its entry in /etc/passwd is broken".into())),
            ("-1", Err("no such user in the image's /etc/passwd".into())),
        ];
        for (spec, expected) in cases {
            assert_eq!(lookup(spec, PASSWD, GROUPS), expected, "{spec:?}");
        }
    }

    #[test]
    fn files_outside_the_root_are_never_read() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("etc")).expect("create");
        std::os::unix::fs::symlink("/proc/self/root/etc/passwd", root.path().join("etc/passwd"))
            .expect("link");
        assert_eq!(resolve(root.path(), "5").expect("no entry needed").home, "/");
        assert!(resolve(root.path(), "daemon").is_err());
        std::fs::write(root.path().join("etc/group"), GROUPS).expect("write");
        assert_eq!(supplementary_groups(root.path(), 33).expect("read"), [0; 0]);
    }
}
