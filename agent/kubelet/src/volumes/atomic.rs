//! Writes a volume's files so that readers see all old or all new ones.
//!
//! Files live in a folder named by the time; the link `..data` leads to it, and visible names lead
//! through `..data`. A new version is a new folder and one rename. Source of the layout: kubernetes
//! pkg/volume/util/atomic_writer.go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the volume in `folder` hold exactly `payload`. `stamp` names this version; it must not
/// have been used before. Returns whether anything changed.
pub(crate) fn write(
    folder: &Path,
    payload: &Payload,
    gid: Option<u32>,
    stamp: &str,
) -> io::Result<bool> {
    let current = fs::read_link(folder.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| holds(&folder.join(current), payload)) {
        return Ok(false);
    }
    let version = PathBuf::from(format!("..{stamp}"));
    write_version(&folder.join(&version), payload, gid)?;
    let link = folder.join(DATA_NEW);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&version, &link)?;
    fs::rename(&link, folder.join(DATA))?;
    show(folder, payload)?;
    if let Some(old) = current {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(true)
}

/// Whether the folder holds exactly these files. Modes follow from the volume's spec, which does
/// not change.
fn holds(folder: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &super::payload::File)| {
        fs::read(folder.join(path)).is_ok_and(|content| content == file.content)
    };
    count_files(folder).is_ok_and(|count| count == payload.len()) && payload.iter().all(same)
}

fn count_files(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn write_version(folder: &Path, payload: &Payload, gid: Option<u32>) -> io::Result<()> {
    make_folder(folder, gid)?;
    for (path, file) in payload {
        let target = folder.join(path);
        let mut parents: Vec<&Path> = Path::new(path)
            .ancestors()
            .skip(1)
            .filter(|part| !part.as_os_str().is_empty())
            .collect();
        parents.reverse();
        for parent in parents {
            make_folder(&folder.join(parent), gid)?;
        }
        fs::write(&target, &file.content)?;
        // A volume with a group is readable by it, whatever the mode asked for.
        let mode = if gid.is_some() { file.mode | 0o440 } else { file.mode };
        chown(&target, file.uid, gid)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn make_folder(path: &Path, gid: Option<u32>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    chown(path, None, gid)?;
    let mode = if gid.is_some() { 0o2755 } else { 0o755 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Makes the visible names lead to the files, and removes those that lead nowhere any more.
fn show(folder: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = payload.keys().map(first).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| File { content: content.into(), mode: 0o640, uid: None };
        files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
    }

    #[test]
    fn versions_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let first = payload(&[("a", "1"), ("d/b", "2"), ("d/e/c", "3")]);
        assert!(write(folder, &first, None, "one").unwrap());
        assert_eq!(fs::read_to_string(folder.join("d/e/c")).unwrap(), "3");
        assert_eq!(fs::read_link(folder.join("d")).unwrap(), Path::new("..data/d"));
        let mode = fs::metadata(folder.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!write(folder, &first, None, "same").unwrap());

        // Somebody who has the old version open keeps it until he opens again.
        let second = payload(&[("a", "x"), ("n", "y")]);
        assert!(write(folder, &second, None, "two").unwrap());
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "x");
        assert!(!folder.join("d").exists() && !folder.join("..one").exists());
        assert_eq!(fs::read_link(folder.join("..data")).unwrap(), Path::new("..two"));

        assert!(write(folder, &Payload::new(), None, "three").unwrap());
        assert!(!folder.join("a").exists());
    }

    #[test]
    fn a_group_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = payload(&[("a", "1")]);
        files.get_mut("a").unwrap().mode = 0o600;
        let gid = nix::unistd::getgid().as_raw();
        write(folder.path(), &files, Some(gid), "one").unwrap();
        let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
