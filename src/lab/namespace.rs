//! The name of a network namespace and some work in, the work's result from inside that namespace out.

use std::fs::File;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::LabError;
use super::error::AtPath;

/// Where `ip netns` keeps the names.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Whether a namespace of this name exists.
pub fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Does the work on a thread of its own that lives in the namespace; sockets it opens and processes it starts belong there.
/// The caller's thread stays where it is.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    let file = File::open(path(name)).at(path(name))?;
    let thread_body = move || {
        setns(&file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| LabError::system(format!("entering namespace `{name}`"), e.into()))?;
        Ok(work())
    };
    thread::scope(|scope| match scope.spawn(thread_body).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
