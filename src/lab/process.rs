//! Command lines in, recorded background processes out; and the reverse: only what is recorded, and still is the same process, is ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LabError;
use super::error::AtPath;
use super::place::Lab;

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process as the kernel knows it: the start time tells it from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    started: u64,
}

impl Identity {
    /// The process that now has this id; `None` when there is none, or only its exit status is left.
    pub fn of(pid: i32) -> Option<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Identity { pid, started })
    }

    /// Whether this very process still runs.
    pub fn is_alive(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }

    /// Its process id.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Sends a signal if this very process still runs.
    pub fn signal(self, signal: Signal) -> Result<(), LabError> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(LabError::system(format!("sending {signal} to process {}", self.pid), e.into())),
        }
    }
}

/// State letter and start time. The command name, in parentheses, may contain anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Writes down this process under a role, then becomes the command, which keeps the identity. Returns only on failure. A process
/// recorded before it starts its work cannot be lost, whoever is killed when.
pub fn record_and_become(lab: &Lab, role: &str, command: &[OsString]) -> LabError {
    if let Err(e) = record(lab, role) {
        return e;
    }
    let Some((program, arguments)) = command.split_first() else {
        return LabError::Usage("no command given".to_owned());
    };
    let source = Command::new(program).args(arguments).exec();
    LabError::system(format!("starting `{}`", program.to_string_lossy()), source)
}

fn record(lab: &Lab, role: &str) -> Result<(), LabError> {
    let path = lab.record(role);
    let own = std::process::id() as i32;
    let identity =
        Identity::of(own).ok_or_else(|| LabError::Privilege("`/proc` is not mounted: mount it".to_owned()))?;
    let mut file = File::create(&path).at(&path)?;
    writeln!(file, "{} {}", identity.pid, identity.started).at(&path)
}

/// The process recorded under a role, dead or alive.
pub fn recorded(lab: &Lab, role: &str) -> Option<Identity> {
    let text = fs::read_to_string(lab.record(role)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some(Identity { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

/// The process recorded under a role, if it runs.
pub fn running(lab: &Lab, role: &str) -> Option<Identity> {
    recorded(lab, role).filter(|identity| identity.is_alive())
}

/// Starts a command in the background, in a process group of its own so that an interrupt at the terminal does not reach it, with
/// its talk in the lab's log for the role. `command` is this binary's hidden verb that ends in [`record_and_become`].
pub fn start(lab: &Lab, role: &str, command: &[OsString]) -> Result<Child, LabError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(LabError::Usage("no command given".to_owned()));
    };
    let log_path = lab.log(role);
    let log = File::create(&log_path).at(&log_path)?;
    let errors = log.try_clone().at(&log_path)?;
    Command::new(program)
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|e| LabError::system(format!("starting `{}`", program.to_string_lossy()), e))
}

/// Ends the processes recorded under these roles: SIGTERM to all, SIGKILL to those that do not listen. Those that are gone, or
/// whose id now belongs to another process, are left alone. Returns how many were ended.
pub fn end(lab: &Lab, roles: &[&str]) -> Result<usize, LabError> {
    let alive: Vec<Identity> = roles.iter().filter_map(|role| running(lab, role)).collect();
    for identity in &alive {
        identity.signal(Signal::SIGTERM)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while alive.iter().any(|identity| identity.is_alive()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    for identity in &alive {
        identity.signal(Signal::SIGKILL)?;
    }
    while alive.iter().any(|identity| identity.is_alive()) && Instant::now() < deadline + PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    for role in roles {
        remove_file_if_present(lab, role)?;
    }
    Ok(alive.len())
}

fn remove_file_if_present(lab: &Lab, role: &str) -> Result<(), LabError> {
    let path = lab.record(role);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LabError::file(&path, e)),
        _ => Ok(()),
    }
}

/// Runs a tool to its end with text on its standard input and returns its standard output. A missing tool is reported with the
/// Debian package that has it.
pub fn tool<S: AsRef<OsStr>>(program: &str, package: &str, arguments: &[S], input: &str) -> Result<String, LabError> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            LabError::Privilege(format!("`{program}` is not installed: run `apt-get install {package}`"))
        }
        _ => LabError::system(format!("starting `{program}`"), e),
    })?;
    let command = || {
        let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        format!("{program} {}", words.join(" "))
    };
    if let Some(mut pipe) = child.stdin.take() {
        // A tool that refuses early closes the pipe; its own message says more than ours could.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| LabError::system(format!("running `{program}`"), e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Tool {
        command: command(),
        message: explain_failure(&String::from_utf8_lossy(&output.stderr), input),
    })
}

/// `ip -batch` names a line of its input by number only; the line itself is what people need.
fn explain_failure(stderr: &str, input: &str) -> String {
    let failed_line = stderr
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:"))
        .and_then(|number| number.trim().parse::<usize>().ok())
        .and_then(|number| input.lines().nth(number.saturating_sub(1)));
    let said: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("Command failed -:")).collect();
    match failed_line {
        Some(line) => format!("{} (at `{line}`)", said.join(", ")),
        None => said.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_read_behind_any_command_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        let check = |stat: &str, expected| assert_eq!(parse_stat(stat), expected, "{stat}");
        check(&format!("12 (name) {tail}"), Some(('S', 777)));
        check(&format!("12 (a ) b) Z (c) {tail}"), Some(('S', 777)));
        check("12 (name", None);
        check("12 (name) S 1", None);
    }

    #[test]
    fn a_process_is_itself_until_it_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id() as i32).unwrap();
        assert!(identity.is_alive());
        assert!(!Identity { started: identity.started + 1, ..identity }.is_alive(), "a later process with the same id");
        identity.signal(Signal::SIGKILL).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while identity.is_alive() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!identity.is_alive(), "a process of which only the exit status is left counts as gone");
        child.wait().unwrap();
    }

    #[test]
    fn batch_failures_name_the_line() {
        let message = explain_failure("RTNETLINK answers: File exists\nCommand failed -:2", "link a\nlink b\n");
        assert_eq!(message, "RTNETLINK answers: File exists (at `link b`)");
        assert_eq!(explain_failure("no such device", ""), "no such device");
    }
}
