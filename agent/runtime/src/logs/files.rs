//! The files of a log, read as one: rotated ones first, then the current one, wherever it goes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::shim::log::rotated;

/// Bytes looked at in one go when lines are counted from the end.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Where reading has come to.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Files after the one being read, oldest first. The current one is opened when they are done.
    waiting: VecDeque<PathBuf>,
    reading: Option<BufReader<File>>,
    /// Inode of the file being read, to find it again after it was rotated.
    inode: u64,
    /// The line being read, or the one that was handed out last.
    line: Vec<u8>,
    handed_out: bool,
}

impl Files {
    /// Opens a log, at its beginning or so many lines before its end.
    pub(super) fn open(path: PathBuf, tail_lines: Option<u64>) -> io::Result<Self> {
        let mut all: VecDeque<PathBuf> = match rotated(&path) {
            Ok(old) => old.into(),
            // Not even the folder is there yet: nothing was written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
            Err(error) => return Err(error),
        };
        all.push_back(path.clone());
        let mut files = Self {
            path,
            waiting: VecDeque::new(),
            reading: None,
            inode: 0,
            line: Vec::new(),
            handed_out: false,
        };
        let start = match tail_lines {
            None => 0,
            Some(count) => skip_to_tail(&mut all, count)?,
        };
        files.waiting = all;
        files.open_next()?;
        if let Some(reading) = &mut files.reading {
            reading.seek(SeekFrom::Start(start))?;
        }
        Ok(files)
    }

    fn open_next(&mut self) -> io::Result<()> {
        while let Some(path) = self.waiting.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    self.inode = file.metadata()?.ino();
                    self.reading = Some(BufReader::new(file));
                    return Ok(());
                }
                // Rotated away between listing and opening.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next whole line without its newline; `None` when nothing more is there now.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        // A line without its end stays until the rest of it is there.
        if std::mem::take(&mut self.handed_out) {
            self.line.clear();
        }
        loop {
            if self.reading.is_none() {
                // The log did not exist when it was opened.
                self.waiting.push_back(self.path.clone());
                self.open_next()?;
            }
            let Some(reading) = &mut self.reading else { return Ok(None) };
            reading.read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                self.handed_out = true;
                let end = self.line.len() - 1;
                return Ok(Some(&self.line[..end]));
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// At the end of a file: whether there is a file after it, which is then being read.
    fn go_on(&mut self) -> io::Result<bool> {
        if self.waiting.is_empty() {
            self.waiting = self.after_current()?;
        }
        if self.waiting.is_empty() {
            return Ok(false);
        }
        // What was written to the old file just before it was put aside comes first.
        if let Some(reading) = &mut self.reading
            && !reading.fill_buf()?.is_empty()
        {
            return Ok(true);
        }
        self.line.clear();
        self.open_next()?;
        Ok(true)
    }

    /// Files that are newer than the one being read; none while that is still the current one.
    fn after_current(&self) -> io::Result<VecDeque<PathBuf>> {
        let inode_of = |path: &Path| std::fs::metadata(path).map(|meta| meta.ino()).ok();
        if inode_of(&self.path) == Some(self.inode) {
            return Ok(VecDeque::new());
        }
        let mut newer: VecDeque<PathBuf> = match rotated(&self.path) {
            Ok(old) => old.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
            Err(error) => return Err(error),
        };
        if let Some(own) = newer.iter().position(|path| inode_of(path) == Some(self.inode)) {
            newer.drain(..=own);
        }
        if self.path.exists() {
            newer.push_back(self.path.clone());
        }
        Ok(newer)
    }
}

/// Drops files from the front of `files` that lie wholly before the last `count` lines, and returns
/// the offset in the first that is left.
fn skip_to_tail(files: &mut VecDeque<PathBuf>, count: u64) -> io::Result<u64> {
    let mut missing = count;
    for index in (0..files.len()).rev() {
        let (found, start) = match File::open(&files[index]) {
            Ok(mut file) => tail_of(&mut file, missing)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(error),
        };
        missing -= found;
        if missing == 0 {
            files.drain(..index);
            return Ok(start);
        }
    }
    Ok(0)
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
