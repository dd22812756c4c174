//! Where lines of the Log action go: a file, syslog, or a file of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::Local;

use super::line::{Entry, Ports, json, kernel, prefix};
use crate::policy::ir::LogSettings;

/// Where the user wants lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Kernel-style lines at the end of a file.
    File(PathBuf),
    /// JSON lines at the end of a file.
    Json(PathBuf),
    /// Facility kern, level notice (LOG-4).
    Syslog,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Target::File(path.into())),
            Some(("json", path)) if !path.is_empty() => Ok(Target::Json(path.into())),
            None if text == "syslog" => Ok(Target::Syslog),
            _ => Err("expected `syslog`, `file:PATH` or `json:PATH`".to_string()),
        }
    }
}

/// The socket that a system's log daemon listens on.
pub const SYSLOG: &str = "/dev/log";
/// `<facility * 8 + level>`: kern is 0, notice is 5.
const PRIORITY: &str = "<5>";

/// An open target.
pub enum Sink {
    /// Kernel-style lines.
    File(BufWriter<File>),
    /// JSON lines.
    Json(BufWriter<File>),
    /// Datagrams.
    Syslog(UnixDatagram),
}

impl Sink {
    /// Opens a target.
    ///
    /// # Errors
    /// Those of the operating system, with the target's name.
    pub fn open(target: &Target) -> Result<Sink, String> {
        let append = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map(BufWriter::new).map_err(|e| format!("cannot write the log `{}`: {e}", path.display()))
        };
        match target {
            Target::File(path) => append(path).map(Sink::File),
            Target::Json(path) => append(path).map(Sink::Json),
            Target::Syslog => syslog().map(Sink::Syslog).map_err(|e| format!("cannot reach syslog at `{SYSLOG}`: {e}")),
        }
    }

    /// Writes one line. A target that cannot take it loses the line; the next one is tried again.
    pub fn write(&mut self, entry: &Entry<'_>, settings: &LogSettings, ports: &Ports) {
        let now = Local::now();
        let line = || {
            format!(
                "{} {} kernel: [{}] {}{}",
                now.format("%b %-d %H:%M:%S"),
                host(),
                uptime(),
                prefix(settings, entry.origin),
                kernel(entry, ports)
            )
        };
        let _ = match self {
            Sink::File(file) => writeln!(file, "{}", line()),
            Sink::Json(file) => writeln!(file, "{}", json(entry, ports, now.to_rfc3339())),
            Sink::Syslog(socket) => socket.send(format!("{PRIORITY}{}", line()).as_bytes()).map(|_| ()),
        };
    }

    /// Hands buffered lines to the system.
    pub fn flush(&mut self) {
        if let Sink::File(file) | Sink::Json(file) = self {
            let _ = file.flush();
        }
    }
}

fn syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".into(), |h| h.trim().to_string())
}

/// Seconds since boot as the kernel prints them, padded to twelve characters.
fn uptime() -> String {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split_whitespace().next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    format!("{seconds:12.6}")
}
