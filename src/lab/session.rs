//! A lab and its settings in, a running lab out: *up* builds it and starts what runs inside, *down* removes all of it, whatever is
//! left of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::LabError;
use super::error::AtPath;
use super::lesson::{FIRST_SHOWN, INVENTORY, LESSONS, Lesson};
use super::place::{Lab, Place};
use super::process;
use super::topology::{self, DOWNLINK, Offloads, UPLINK};

/// Role of the gateway process.
pub const GATEWAY: &str = "gateway";
/// Role of the echo servers' process.
pub const ECHO: &str = "echo";
const ROLES: [&str; 2] = [GATEWAY, ECHO];

/// How long a process may take until it is ready, or has loaded new policy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 12;

/// How the gateway attaches to its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The best that the interface can do: on veth, copy mode under the driver's own hook.
    Auto,
    /// Copy mode under the driver's hook, or failure.
    Copy,
    /// The generic hook, after the kernel has built its own packet buffer.
    Generic,
}

impl Mode {
    /// The word used on the command line and in the hardware profile.
    pub const fn word(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Copy => "copy",
            Mode::Generic => "generic",
        }
    }
}

/// What joins the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// This program.
    Ringwall,
    /// A bridge of the kernel that lets everything pass: shows that the lessons fail without a gateway.
    KernelBridge,
}

/// How a lab is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Queues of each veth end, at least 1.
    pub queues: u32,
    /// How the gateway attaches.
    pub mode: Mode,
    /// What joins the ports.
    pub datapath: Datapath,
}

/// What `down` found and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Processes that were still running.
    pub processes: usize,
    /// Namespaces.
    pub namespaces: usize,
}

/// One lab under the lock of whoever changes it. The lock goes with the process.
#[derive(Debug)]
pub struct Session {
    lab: Lab,
    _lock: File,
}

impl Session {
    /// Waits for the lock of a lab.
    ///
    /// # Errors
    /// [`LabError::Privilege`] when the user is not root.
    pub fn open(lab: Lab) -> Result<Session, LabError> {
        if !nix::unistd::geteuid().is_root() {
            let advice = "the lab needs root to make network namespaces: run it with `sudo`";
            return Err(LabError::Privilege(advice.to_owned()));
        }
        let path = lab.lock_file();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        loop {
            let lock = File::create(&path).at(&path)?;
            lock.lock().at(&path)?;
            // Whoever had it before may have removed the file; a lock on a removed file keeps nobody out.
            let held = lock.metadata().at(&path)?.ino();
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held) {
                return Ok(Session { lab, _lock: lock });
            }
        }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The settings of the lab if it is up and whole.
    pub fn settings(&self) -> Option<Settings> {
        let text = fs::read_to_string(self.lab.settings_file()).ok()?;
        let settings: Settings = serde_json::from_str(&text).ok()?;
        let gateway_runs = settings.datapath != Datapath::Ringwall || process::running(&self.lab, GATEWAY).is_some();
        let whole = gateway_runs
            && process::running(&self.lab, ECHO).is_some()
            && topology::present(&self.lab) == Place::ALL.len();
        whole.then_some(settings)
    }

    /// Builds the lab and starts it; `binary` is this program. What an earlier lab of the same prefix left is removed first. The
    /// policies of [`FIRST_SHOWN`] are loaded.
    ///
    /// # Errors
    /// Whatever failed; nothing is left behind then.
    pub fn up(&self, settings: Settings, binary: &Path) -> Result<(), LabError> {
        self.down()?;
        let built = self.build(settings, binary);
        if built.is_err() {
            self.down()?;
        }
        built
    }

    fn build(&self, settings: Settings, binary: &Path) -> Result<(), LabError> {
        let lab = &self.lab;
        fs::create_dir_all(lab.policies()).at(lab.policies())?;
        write(lab.settings_file(), &serde_json::to_string(&settings).unwrap_or_default())?;
        write(lab.profile_file(), &profile_text(settings))?;
        write(lab.gateway_file(), &gateway_text())?;
        self.place_policies(FIRST_SHOWN)?;

        let offloads = match settings.mode {
            Mode::Generic => Offloads::NoSegmentation,
            Mode::Auto | Mode::Copy => Offloads::Default,
        };
        topology::build(lab, settings.queues, offloads)?;
        self.start(ECHO, Place::Workers, binary, &["lab".into(), "serve".into()])?;
        match settings.datapath {
            Datapath::KernelBridge => topology::bridge_ports(lab),
            Datapath::Ringwall => {
                let run = ["run".into(), "--gateway".into(), lab.gateway_file().into_os_string()];
                self.start(GATEWAY, Place::Gateway, binary, &run)
            }
        }
    }

    /// Starts this program in a namespace and waits until it says that it is ready. It is started through `ip netns exec`, so that
    /// it sees the namespace's interfaces under `/sys`, too.
    fn start(&self, role: &str, place: Place, binary: &Path, verb: &[OsString]) -> Result<(), LabError> {
        let namespace = self.lab.namespace(place);
        let mut command: Vec<OsString> = vec![binary.into()];
        command.extend(["lab", "record", "--prefix"].map(OsString::from));
        command.extend([self.lab.prefix().to_string().into(), role.into(), "--".into()]);
        command.extend(["ip", "netns", "exec"].map(OsString::from));
        command.extend([namespace.into(), binary.into()]);
        command.extend_from_slice(verb);
        let mut child = process::start(&self.lab, role, &command)?;
        let log = Log::open(&self.lab, role);
        log.wait(|text| text.lines().any(says_ready), "become ready", || exit_of(&mut child))
    }

    /// Ends the processes of the lab, removes its namespaces and its files. Nothing there is fine: it can be repeated at any time,
    /// also after parts were killed or removed by hand.
    pub fn down(&self) -> Result<Removed, LabError> {
        let processes = process::end(&self.lab, &ROLES)?;
        let namespaces = topology::remove(&self.lab)?;
        match fs::remove_dir_all(self.lab.directory()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LabError::file(self.lab.directory(), e)),
            _ => {}
        }
        Ok(Removed { processes, namespaces })
    }

    /// Loads exactly the policies of a lesson, beside the inventory and files of the user's own, and waits until they are in force.
    ///
    /// # Errors
    /// [`LabError::Gateway`] when the gateway refuses them, has ended or does not answer.
    pub fn load(&self, settings: Settings, lesson: &Lesson) -> Result<(), LabError> {
        self.place_policies(lesson)?;
        match settings.datapath {
            Datapath::KernelBridge => Ok(()),
            Datapath::Ringwall => self.reload(),
        }
    }

    /// Has the gateway read its policy directory again, and waits until what it read is in force.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn reload(&self) -> Result<(), LabError> {
        let log = Log::open(&self.lab, GATEWAY);
        let (before, refused_before) = (latest_generation(&log.text()), refusals(&log.text()));
        let gateway = process::recorded(&self.lab, GATEWAY).filter(|gateway| gateway.is_alive());
        let gateway = gateway.ok_or_else(|| log.failure("the gateway process is gone", None))?;
        gateway.signal(Signal::SIGHUP)?;
        let is_gone = || if gateway.is_alive() { Ok(()) } else { Err(None) };
        let answered = |text: &str| latest_generation(text) > before || refusals(text) > refused_before;
        log.wait(answered, "load the new policy", is_gone)?;
        match refusals(&log.text()) > refused_before {
            true => Err(log.failure("the gateway refuses the policy", Some(3))),
            false => Ok(()),
        }
    }

    fn place_policies(&self, lesson: &Lesson) -> Result<(), LabError> {
        write(self.lab.policies().join(INVENTORY.name), INVENTORY.text)?;
        for file in LESSONS.iter().flat_map(|lesson| lesson.policies) {
            let path = self.lab.policies().join(file.name);
            if lesson.policies.contains(file) {
                write(path, file.text)?;
            } else if path.exists() {
                fs::remove_file(&path).at(path)?;
            }
        }
        Ok(())
    }

    /// The line in which the gateway said what it runs on.
    pub fn ready_line(&self) -> Option<String> {
        let text = Log::open(&self.lab, GATEWAY).text();
        text.lines().find(|line| says_ready(line)).map(str::to_owned)
    }
}

impl Drop for Session {
    /// Without a lab there is nothing to lock.
    fn drop(&mut self) {
        if !self.lab.directory().exists() {
            // Left behind, the empty file would do no harm.
            let _ = fs::remove_file(self.lab.lock_file());
        }
    }
}

fn write(path: PathBuf, text: &str) -> Result<(), LabError> {
    fs::write(&path, text).at(path)
}

fn exit_of(child: &mut Child) -> Result<(), Option<u8>> {
    match child.try_wait() {
        Ok(Some(status)) => Err(status.code().and_then(|code| u8::try_from(code).ok())),
        _ => Ok(()),
    }
}

/// The log of one process.
struct Log {
    role: String,
    path: PathBuf,
}

impl Log {
    fn open(lab: &Lab, role: &str) -> Log {
        Log { role: role.to_owned(), path: lab.log(role) }
    }

    /// What was written up to now, without terminal colours.
    fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        without_colours(&String::from_utf8_lossy(&bytes))
    }

    /// Waits until the text satisfies the condition. `still_runs` says with what code the process ended, if it did.
    fn wait(
        &self,
        satisfied: impl Fn(&str) -> bool,
        to_do: &str,
        mut still_runs: impl FnMut() -> Result<(), Option<u8>>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked first: what a process wrote before it ended is then in the text.
            let runs = still_runs();
            if satisfied(&self.text()) {
                return Ok(());
            }
            if let Err(exit) = runs {
                return Err(self.failure(&format!("the {} process ended before it could {to_do}", self.role), exit));
            }
            if Instant::now() > deadline {
                let seconds = PATIENCE.as_secs();
                return Err(self.failure(&format!("the {} process did not {to_do} in {seconds} s", self.role), None));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn failure(&self, what: &str, exit: Option<u8>) -> LabError {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.len().saturating_sub(SHOWN_LINES);
        let said = lines.get(shown..).unwrap_or_default().join("\n  ");
        let said = if said.is_empty() { "nothing".to_owned() } else { format!("\n  {said}") };
        LabError::Gateway { message: format!("{what}; it said: {said}"), exit }
    }
}

/// Whether a line of the gateway's talk says that packets are taken.
fn says_ready(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "ready")
}

/// How often the gateway kept its policy because the new one is wrong.
fn refusals(text: &str) -> usize {
    text.lines().filter(|line| is_refusal(line)).count()
}

fn is_refusal(line: &str) -> bool {
    line.contains("reload refused")
}

/// The highest policy generation that is spoken of as in force; 0 when none is.
fn latest_generation(text: &str) -> u64 {
    let number_after = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once("generation")?;
        let digits: String =
            rest.trim_start_matches([' ', '=', ':']).chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    text.lines().filter(|line| !is_refusal(line)).filter_map(number_after).max().unwrap_or(0)
}

/// Removes escape sequences that set colours (ECMA-48 section 8.3.117).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut pieces = text.split("\x1b[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// The hardware profile for virtual links, with this lab's mode and queues in the place of its own.
fn profile_text(settings: Settings) -> String {
    let template = include_str!("../../hw-profiles/veth-lab.yaml");
    let own = [format!("mode: {}", settings.mode.word()), format!("queues: {}", settings.queues)];
    let replace = |line: &str| -> String {
        let key = line.split(':').next();
        own.iter().find(|field| field.split(':').next() == key).cloned().unwrap_or_else(|| line.to_owned())
    };
    template.lines().map(|line| replace(line) + "\n").collect()
}

fn gateway_text() -> String {
    format!(
        "apiVersion: ringwall/v1
kind: Gateway
node: lab-gateway                          # no endpoint has this node: all are stand-ins
profile: hw-profile.yaml
ports:
  uplink: {{ interface: {UPLINK} }}
  downlink: {{ interface: {DOWNLINK} }}
policy: [policies/]
segments:
  - name: workers
    cidrs: [10.1.1.0/24, 169.1.1.0/24, \"2001:db8:10::/64\", \"2001:db8:169::/64\"]
    hostEndpoint: worker-1-public          # governs the load balancer's addresses, which no endpoint claims
flows: {{ capacity: 65536 }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_a_word_of_its_own() {
        let check = |line, expected| assert_eq!(says_ready(line), expected, "{line}");
        check("2026-01-01T00:00:00Z INFO ringwall: ready: up0 dn0 mode=copy", true);
        check("INFO ready", true);
        check("WARN already in use", false);
    }

    #[test]
    fn the_latest_generation_is_found_in_any_form() {
        let check = |text, expected| assert_eq!(latest_generation(text), expected, "{text}");
        check("", 0);
        check("INFO reloaded: generation 2 is in force", 2);
        check("INFO reloaded: generation 2 is in force\nINFO reloaded: generation 12 is in force", 12);
        check("ERROR reload refused: generation 1 stays in force", 0);
        check("INFO published generation=7", 7);
        check("INFO a generation without a number", 0);
    }

    #[test]
    fn the_profile_has_the_mode_and_queues_of_the_lab() {
        let text = profile_text(Settings { queues: 5, mode: Mode::Generic, datapath: Datapath::Ringwall });
        let count = |line: &str| text.lines().filter(|l| *l == line).count();
        assert_eq!((count("mode: generic"), count("queues: 5"), count("driver: veth")), (1, 1, 1), "{text}");
    }

    #[test]
    fn colours_are_taken_out() {
        let check = |text, expected| assert_eq!(without_colours(text), expected);
        check("plain", "plain");
        check(
            "\u{1b}[32m INFO\u{1b}[0m policy \u{1b}[3mgeneration\u{1b}[0m\u{1b}[2m=\u{1b}[0m3",
            " INFO policy generation=3",
        );
    }
}
