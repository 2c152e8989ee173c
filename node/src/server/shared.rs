//! What the event loop and a thread of it share: a state behind a lock, a wake-up in either direction.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{ServerError, system};

/// `S` is what both see.
pub(super) struct Shared<S> {
    state: Mutex<S>,
    work: Condvar,
    news: EventFd,
}

impl<S: Default + Send + 'static> Shared<S> {
    /// Starts a thread of this name.
    pub(super) fn with_thread(
        name: &'static str,
        run: impl FnOnce(&Shared<S>) + Send + 'static,
    ) -> Result<Arc<Shared<S>>, ServerError> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let news = EventFd::from_value_and_flags(0, flags).map_err(system("make an event descriptor"))?;
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), news });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&theirs))
            .map_err(|source| ServerError::System { action: "start a thread", source })?;
        Ok(shared)
    }
}

impl<S> Shared<S> {
    /// A panicked thread leaves the state as it was after a whole assignment; there is nothing to repair.
    pub(super) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop tells the thread that there is something to do.
    pub(super) fn tell_thread(&self) {
        self.work.notify_one();
    }

    /// The thread waits for that, or for as long as `at_most`.
    pub(super) fn wait<'s>(
        &'s self,
        state: MutexGuard<'s, S>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'s, S> {
        match at_most {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// The thread tells the loop that there is news.
    pub(super) fn tell_loop(&self) {
        // Full only if the loop has not read 2^64 - 2 wake-ups: it will wake anyway.
        let _ = self.news.write(1);
    }

    /// Whether there is news since the last call.
    pub(super) fn has_news(&self) -> Result<bool, ServerError> {
        match self.news.read() {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(errno) => Err(system("read an event descriptor")(errno)),
        }
    }

    /// Readable when there is news.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}
