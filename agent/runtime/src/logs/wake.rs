//! Being told by the kernel that a log was written to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches the folder of a log: writes, and files being put aside.
#[derive(Debug)]
pub(super) struct Wake(AsyncFd<Watch>);

/// nix's type has no raw descriptor, which tokio asks for.
#[derive(Debug)]
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Wake {
    /// Begins watching; what happens from now on wakes.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(folder, events)?;
        // SAFETY: the descriptor is owned by what is registered, and so stays open as long.
        Ok(Self(unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE)? }))
    }

    /// Waits for the next happening; several at once wake once.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                Ok(events) => return events.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
