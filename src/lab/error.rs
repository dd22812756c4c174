//! What can go wrong in the lab in, one line for people and an exit code out.

use std::io;
use std::path::{Path, PathBuf};

/// Why the lab could not do something. Every message names the object and the cure.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// An option that cannot be used, or cannot be used now.
    #[error("{0}")]
    Usage(String),
    /// A missing privilege, tool or kernel feature.
    #[error("{0}")]
    Privilege(String),
    /// A tool of the system refused.
    #[error("`{command}` failed: {message}")]
    Tool {
        /// The command line.
        command: String,
        /// What the tool said.
        message: String,
    },
    /// The gateway process ended, or did not say in time what was waited for.
    #[error("{message}")]
    Gateway {
        /// What happened, with the end of its log.
        message: String,
        /// Its exit code, if it ended by itself.
        exit: Option<u8>,
    },
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file or socket.
    #[error("{what}: {source}")]
    System {
        /// The object and what was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl LabError {
    /// A failed system call on an object.
    pub fn system(what: impl Into<String>, source: io::Error) -> LabError {
        LabError::System { what: what.into(), source }
    }

    /// A failed operation on a file.
    pub fn file(path: &Path, source: io::Error) -> LabError {
        LabError::system(format!("`{}`", path.display()), source)
    }

    /// Exit code as in the interface: 2 wrong usage, 5 missing privilege or kernel feature, the gateway's own code if it ended
    /// with one, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::Usage(_) => 2,
            LabError::Privilege(_) | LabError::Tool { .. } => 5,
            LabError::Interrupted => 1,
            LabError::Gateway { exit, .. } => exit.filter(|code| *code != 0).unwrap_or(1),
            LabError::System { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => 5,
                _ => 1,
            },
        }
    }
}

/// A file that must be named in an error.
pub(crate) trait AtPath<T> {
    /// Adds the path to the error.
    fn at(self, path: impl Into<PathBuf>) -> Result<T, LabError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T, LabError> {
        self.map_err(|source| LabError::file(&path.into(), source))
    }
}
