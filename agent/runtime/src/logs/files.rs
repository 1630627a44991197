//! The files of a log, read as one: rotated ones first, then the current one, wherever it goes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::shim::log::rotated;

/// Bytes looked at in one go when lines are counted from the end.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Where reading has come to.
///
/// The writer may put files aside at any moment, several between two steps of the reader. So which
/// file comes next is asked anew at each end, and never by the name of the current file alone.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    reading: Option<Reading>,
    /// The line being read, or the one that was handed out last.
    line: Vec<u8>,
    handed_out: bool,
}

/// The file being read. While it is open its inode is nobody else's.
#[derive(Debug)]
struct Reading {
    inode: u64,
    text: BufReader<File>,
}

impl Reading {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self { inode: file.metadata()?.ino(), text: BufReader::new(file) })
    }
}

impl Files {
    /// Opens a log, at its beginning or so many lines before its end.
    pub(super) fn open(path: PathBuf, tail_lines: Option<u64>) -> io::Result<Self> {
        let reading = match tail_lines {
            None => None,
            Some(count) => start_of_tail(&path, count)?,
        };
        Ok(Self { path, reading, line: Vec::new(), handed_out: false })
    }

    /// The next whole line without its newline; `None` when nothing more is there now.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        // A line without its end stays until the rest of it is there.
        if std::mem::take(&mut self.handed_out) {
            self.line.clear();
        }
        loop {
            let Some(reading) = &mut self.reading else {
                self.reading = successor(&self.path, None)?;
                if self.reading.is_none() {
                    return Ok(None);
                }
                continue;
            };
            reading.text.read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                self.handed_out = true;
                let end = self.line.len() - 1;
                return Ok(Some(&self.line[..end]));
            }
            let Some(next) = successor(&self.path, Some(reading.inode))? else { return Ok(None) };
            // What was written to the old file just before it was put aside comes first.
            if reading.text.fill_buf()?.is_empty() {
                self.line.clear();
                self.reading = Some(next);
            }
        }
    }
}

/// The file of the log `path` that follows the one with the inode `after`, or the oldest one.
/// `None` while that is the current file, or when there is none.
///
/// The current file is opened before the rotated ones are listed: whatever was put aside before it
/// began is then in the list, so that no file between the two can be missed.
fn successor(path: &Path, after: Option<u64>) -> io::Result<Option<Reading>> {
    loop {
        let current = open_if_there(path)?;
        if current.is_some() && current.as_ref().map(|current| current.inode) == after {
            return Ok(None);
        }
        let mut newer = rotated_if_there(path)?;
        let is_own = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|metadata| Some(metadata.ino()) == after)
        };
        // A file that was removed as too old has all that are left behind it.
        if let Some(own) = newer.iter().position(is_own) {
            newer.drain(..=own);
        }
        let Some(next) = newer.first() else { return Ok(current) };
        if let Some(next) = open_if_there(next)? {
            return Ok(Some(next));
        }
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<Reading>> {
    match File::open(path) {
        Ok(file) => Reading::new(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rotated files, oldest first; none when not even the folder is there.
fn rotated_if_there(path: &Path) -> io::Result<Vec<PathBuf>> {
    match rotated(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// Where the last `count` lines begin. `None` when that is the beginning of the log.
fn start_of_tail(path: &Path, count: u64) -> io::Result<Option<Reading>> {
    let current = open_if_there(path)?;
    let current_inode = current.as_ref().map(|current| current.inode);
    let mut missing = count;
    let mut newest_first = rotated_if_there(path)?;
    let mut next = current;
    loop {
        if let Some(mut reading) = next.take() {
            let (found, start) = tail_of(reading.text.get_mut(), missing)?;
            missing -= found;
            if missing == 0 {
                reading.text.seek(SeekFrom::Start(start))?;
                return Ok(Some(reading));
            }
        }
        let Some(older) = newest_first.pop() else { return Ok(None) };
        // The current file may have been put aside meanwhile: it was counted.
        next = open_if_there(&older)?.filter(|older| Some(older.inode) != current_inode);
    }
}

/// How many of the last `count` lines are in a file, and where they start. A container's line that
/// was cut into parts counts once, by its end.
fn tail_of(file: &mut File, count: u64) -> io::Result<(u64, u64)> {
    let size = file.metadata()?.len();
    if count == 0 {
        return Ok((0, size));
    }
    let mut newlines = 0;
    let mut end = size;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        block.resize(usize::try_from(end - start).unwrap_or(usize::MAX), 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            if after == size {
                // The newline that ends the last line begins none.
                continue;
            }
            if is_part_before(file, start + index as u64)? {
                continue;
            }
            newlines += 1;
            if newlines == count {
                return Ok((count, after));
            }
        }
        end = start;
    }
    Ok(((newlines + u64::from(size > 0)).min(count), 0))
}

/// Whether the line that ends at `newline` is a part (`P`) of a longer one.
fn is_part_before(file: &mut File, newline: u64) -> io::Result<bool> {
    // Parts are the longest lines there are: 16 KiB of text behind some 50 bytes.
    const PART_BYTES_MIN: u64 = 16 * 1024;
    if newline < PART_BYTES_MIN {
        return Ok(false);
    }
    let start = newline.saturating_sub(PART_BYTES_MIN + 64);
    let mut bytes = vec![0; usize::try_from(newline - start).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    let from = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    Ok(super::line::parse(&bytes[from..]).is_some_and(|line| line.partial))
}
