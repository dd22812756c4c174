//! `ringwall lab`: a small network on this machine to try the gateway in, and the tutorial's lessons played through it.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::lab_gen::{self, GenArguments, seconds};
use crate::lab::exercise::{self, Outcome, Report};
use crate::lab::lesson::COLUMNS;
use crate::lab::place::{self, DEFAULT_PREFIX, Lab, Place, Prefix};
use crate::lab::probe::{Seen, TIMEOUT, Transport, probe};
use crate::lab::session::{Datapath, Mode, Session, Settings};
use crate::lab::{LabError, echo, namespace, process};

/// Prints a line of the result; a reader that has seen enough is no error.
macro_rules! say {
    ($($text:tt)*) => {
        super::print::result(&(format!($($text)*) + "\n"), 0)
    };
}

/// Arguments of `ringwall lab`.
#[derive(Debug, Args)]
pub struct LabArguments {
    /// Beginning of all names that this lab owns; labs with different prefixes do not touch each other
    #[arg(long, global = true, env = "RINGWALL_LAB_PREFIX", default_value = DEFAULT_PREFIX)]
    prefix: Prefix,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the lab, start the gateway in it and say what to try
    Up(Build),
    /// Play the tutorial's lessons with real connections and compare each with what must become of it
    Test {
        #[command(flatten)]
        build: Build,
        /// Leave the lab up afterwards
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        silence: Silence,
        /// Form of the result
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Have the gateway read the lab's policy directory again, and wait until it is in force or refused
    Reload,
    /// Remove the lab, or whatever is left of it
    Down,
    /// Run a command, or a shell, in one of the namespaces
    Shell {
        /// `gen` (clients), `gw` (gateway) or `workers`
        place: String,
        /// The command; the user's shell without one
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Try one connection from a client; exit code 0 when the echo comes back, 1 otherwise
    Probe {
        /// Protocol
        #[arg(value_enum)]
        transport: TransportArgument,
        /// Address and port, such as `169.1.1.1:80`; ping takes an address
        to: String,
        /// Source address: one of the clients'
        #[arg(long)]
        from: Option<IpAddr>,
        #[command(flatten)]
        silence: Silence,
    },
    /// Send traffic from one interface and count what comes of it on another: loss, duplication, reordering, corruption
    Gen(Box<GenArguments>),
    /// Answer on all ports of the workers' side
    #[command(hide = true)]
    Serve,
    /// Write down this process under a role, then become the command
    #[command(hide = true)]
    Record {
        role: String,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Clone, Copy, Debug, Args)]
struct Silence {
    /// Seconds without an answer that count as a drop
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT.as_secs_f64(), value_parser = seconds)]
    patience: f64,
}

impl Silence {
    fn duration(self) -> Duration {
        Duration::from_secs_f64(self.patience)
    }
}

#[derive(Debug, Args)]
struct Build {
    /// Queues of each veth end, which is also the number of workers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    queues: Option<u32>,
    /// How the gateway attaches to its ports
    #[arg(long, value_enum)]
    mode: Option<ModeArgument>,
    /// What joins the two ports
    #[arg(long, value_enum, hide = true)]
    datapath: Option<DatapathArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArgument {
    Auto,
    Copy,
    Generic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DatapathArgument {
    Ringwall,
    KernelBridge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportArgument {
    Tcp,
    Udp,
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Queues of a lab that is not told otherwise.
const DEFAULT_QUEUES: u32 = 2;

impl Build {
    fn settings(&self) -> Settings {
        Settings {
            queues: self.queues.unwrap_or(DEFAULT_QUEUES),
            mode: match self.mode {
                None | Some(ModeArgument::Auto) => Mode::Auto,
                Some(ModeArgument::Copy) => Mode::Copy,
                Some(ModeArgument::Generic) => Mode::Generic,
            },
            datapath: match self.datapath {
                None | Some(DatapathArgument::Ringwall) => Datapath::Ringwall,
                Some(DatapathArgument::KernelBridge) => Datapath::KernelBridge,
            },
        }
    }

    /// Whether what was asked for is what a running lab has; what was not asked for fits.
    fn fits(&self, running: Settings) -> bool {
        let asked = self.settings();
        self.queues.is_none_or(|_| asked.queues == running.queues)
            && self.mode.is_none_or(|_| asked.mode == running.mode)
            && self.datapath.is_none_or(|_| asked.datapath == running.datapath)
    }
}

/// Does what `ringwall lab` was asked for and returns the exit code.
pub fn run(arguments: LabArguments) -> u8 {
    let lab = Lab::new(arguments.prefix, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    let done = match arguments.verb {
        Verb::Up(build) => up(lab, &build),
        Verb::Test { build, keep, silence, output } => test(lab, &build, keep, silence, output),
        Verb::Reload => reload(lab),
        Verb::Down => down(lab),
        Verb::Shell { place, command } => shell(&lab, &place, command),
        Verb::Probe { transport, to, from, silence } => probe_once(&lab, transport, &to, from, silence),
        Verb::Gen(arguments) => stop_flag().and_then(|stop| lab_gen::run(&lab, &arguments, &stop)),
        Verb::Serve => echo::serve(&place::SERVERS, &echo::PORTS, || eprintln!("ready")).map(|()| 0),
        Verb::Record { role, command } => Err(process::record_and_become(&lab, &role, &command)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        error.exit_code()
    })
}

/// A flag that an interrupt sets from now on, instead of ending this process.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, LabError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|e| LabError::system("waiting for signals", e))?;
    }
    Ok(interrupted)
}

/// The program that runs now, to be started again inside the namespaces.
fn own_binary() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(|e| LabError::system("finding this program's own file", e))
}

fn up(lab: Lab, build: &Build) -> Result<u8, LabError> {
    let session = Session::open(lab)?;
    let running = session.settings();
    match running {
        Some(running) => require_fit(build, running)?,
        None => start(&session, build.settings())?,
    }
    let lab = session.lab();
    let gateway = lab.gateway_file();
    let prefix = match lab.prefix().to_string() {
        name if name == DEFAULT_PREFIX => String::new(),
        name => format!(" --prefix {name}"),
    };
    let state = if running.is_some() { "the lab was up already" } else { "the lab is up" };
    let policies = lab.policies();
    eprintln!("{state}; edit the policies in {}, then `ringwall lab{prefix} reload`", policies.display());
    let _ = say!("allowed:  ringwall lab{prefix} probe tcp 169.1.1.1:80");
    let _ = say!("denied:   ringwall lab{prefix} probe tcp 10.1.1.1:31024");
    let _ = say!(
        "why:      ringwall explain --gateway {} --in uplink 'tcp 1.1.1.1:40000 > 10.1.1.1:31024 [S]'",
        gateway.display()
    );
    eprintln!("look around with `ringwall lab{prefix} shell gen`; remove all of it with `ringwall lab{prefix} down`");
    Ok(0)
}

fn start(session: &Session, settings: Settings) -> Result<(), LabError> {
    if settings.mode == Mode::Generic {
        eprintln!("generic mode: segmentation offload (TSO, GSO) is switched off on both peers of the gateway");
    }
    session.up(settings, &own_binary()?)?;
    if let Some(line) = session.ready_line() {
        eprintln!("gateway: {line}");
    }
    Ok(())
}

fn require_fit(build: &Build, running: Settings) -> Result<(), LabError> {
    if build.fits(running) {
        return Ok(());
    }
    let Settings { queues, mode, .. } = running;
    let mode = mode.word();
    Err(LabError::Usage(format!("a lab with {queues} queues in mode {mode} is up: run `ringwall lab down` first")))
}

fn reload(lab: Lab) -> Result<u8, LabError> {
    let session = Session::open(lab)?;
    match session.settings() {
        Some(Settings { datapath: Datapath::Ringwall, .. }) => session.reload()?,
        Some(_) => return Err(LabError::Usage("a bridge of the kernel joins the ports: nothing to reload".to_owned())),
        None => return Err(LabError::Usage("the lab is not up: run `ringwall lab up` first".to_owned())),
    }
    eprintln!("the policies in {} are in force", session.lab().policies().display());
    Ok(0)
}

fn down(lab: Lab) -> Result<u8, LabError> {
    let removed = Session::open(lab)?.down()?;
    eprintln!("ended {} processes, removed {} namespaces", removed.processes, removed.namespaces);
    Ok(0)
}

fn shell(lab: &Lab, word: &str, mut command: Vec<OsString>) -> Result<u8, LabError> {
    let name = lab.namespace(Lab::place(word)?);
    require_up(&name)?;
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    // `ip netns exec` also shows the namespace's own interfaces under /sys.
    let failure = Command::new("ip").args(["netns", "exec", &name]).args(command).exec();
    Err(LabError::system("starting `ip`", failure))
}

fn require_up(namespace: &str) -> Result<(), LabError> {
    if namespace::exists(namespace) {
        return Ok(());
    }
    Err(LabError::Usage(format!("there is no namespace `{namespace}`: run `ringwall lab up` first")))
}

fn probe_once(
    lab: &Lab,
    transport: TransportArgument,
    to: &str,
    from: Option<IpAddr>,
    silence: Silence,
) -> Result<u8, LabError> {
    let name = lab.namespace(Place::Generator);
    require_up(&name)?;
    let (transport, to) = match transport {
        TransportArgument::Tcp => (Transport::Tcp, to.parse().ok()),
        TransportArgument::Udp => (Transport::Udp, to.parse().ok()),
        TransportArgument::Ping => (Transport::Ping, to.parse().ok().map(|address| SocketAddr::new(address, 0))),
    };
    let to: SocketAddr = to.ok_or_else(|| {
        LabError::Usage("expected an address and a port such as `169.1.1.1:80`, for ping an address".to_owned())
    })?;
    let from = from.unwrap_or(if to.is_ipv4() { place::CLIENT } else { place::CLIENT_V6 });
    match namespace::inside(&name, || probe(transport, from, 0, to, silence.duration()))? {
        Seen::Pass(time) => {
            let _ = say!("pass in {:.1} ms", time.as_secs_f64() * 1e3);
            Ok(0)
        }
        Seen::Drop => {
            let _ = say!("drop: no answer in {:.1} s", silence.patience);
            Ok(1)
        }
        refused @ Seen::Refused(_) => {
            let _ = say!("{refused}");
            Ok(1)
        }
    }
}

fn test(lab: Lab, build: &Build, keep: bool, silence: Silence, output: Output) -> Result<u8, LabError> {
    let interrupted = stop_flag()?;
    let session = Session::open(lab)?;
    let (settings, was_up) = match session.settings() {
        Some(running) => {
            require_fit(build, running)?;
            (running, true)
        }
        None => {
            start(&session, build.settings())?;
            (build.settings(), false)
        }
    };
    let played = exercise::play(&session, settings, silence.duration(), &interrupted, |lesson| {
        eprintln!("lesson {}: {}", lesson.name, lesson.change);
    });
    let ready_line = session.ready_line();
    if !was_up && !keep {
        session.down()?;
    }
    let report = played?;
    match output {
        Output::Table => print_tables(&report, settings),
        Output::Json => print_json(&report, settings, ready_line)?,
    }
    Ok(if report.score().1 == 0 { 0 } else { 1 })
}

fn word(is_as_expected: bool) -> &'static str {
    if is_as_expected { "PASS" } else { "FAIL" }
}

fn print_tables(report: &Report, settings: Settings) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let titles = ["lesson", "policy", "over"].into_iter().chain(COLUMNS.map(|(title, _, _)| title)).chain(["result"]);
    table.set_header(titles);
    for row in &report.rows {
        let cells = row.outcomes.iter().map(|outcome| match outcome.is_as_expected() {
            true => outcome.seen.to_string(),
            false => format!("{}, not {}", outcome.seen, outcome.expected.word()),
        });
        let head = [row.lesson.name, row.lesson.change, row.transport.word()].map(str::to_owned);
        let result = word(row.outcomes.iter().all(Outcome::is_as_expected)).to_owned();
        table.add_row(head.into_iter().chain(cells).chain([result]));
    }
    let _ = say!("{table}\n");

    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["lesson", "also", "connection", "expected", "seen", "result"]);
    for check in &report.checks {
        let Outcome { transport, from, to, expected, seen } = &check.outcome;
        let to = if *transport == Transport::Ping { to.ip().to_string() } else { to.to_string() };
        table.add_row([
            check.lesson.name.to_owned(),
            check.what.clone(),
            format!("{} {from} > {to}", transport.word()),
            expected.word().to_owned(),
            seen.to_string(),
            word(check.outcome.is_as_expected()).to_owned(),
        ]);
    }
    let _ = say!("{table}\n");
    if let Some(bulk) = report.bulk {
        let (megabytes, seconds) = (bulk.length / 1_000_000, bulk.time.as_secs_f64());
        let mode = settings.mode.word();
        let _ = say!("{megabytes} MB each way in {seconds:.2} s over veth, mode {mode}: no figure for a network card");
    }
    let (passed, failed) = report.score();
    let _ = say!("{} in {:.1} s: {passed} as expected, {failed} not", word(failed == 0), report.time.as_secs_f64());
}

/// The result for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson {
    schema_version: u32,
    result: &'static str,
    passed: usize,
    failed: usize,
    seconds: f64,
    queues: u32,
    mode: &'static str,
    gateway: Option<String>,
    bulk: Option<BulkJson>,
    connections: Vec<ConnectionJson>,
}

#[derive(Serialize)]
struct BulkJson {
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct ConnectionJson {
    lesson: &'static str,
    what: String,
    proto: &'static str,
    src: IpAddr,
    dst: IpAddr,
    dport: Option<u16>,
    expected: &'static str,
    seen: &'static str,
    detail: Option<String>,
    milliseconds: Option<f64>,
    result: &'static str,
}

impl ConnectionJson {
    fn new(lesson: &'static str, what: String, outcome: &Outcome) -> ConnectionJson {
        let Outcome { transport, from, to, expected, seen } = outcome;
        let (detail, milliseconds) = match seen {
            Seen::Pass(time) => (None, Some(time.as_secs_f64() * 1e3)),
            Seen::Drop => (None, None),
            Seen::Refused(why) => (Some(why.clone()), None),
        };
        ConnectionJson {
            lesson,
            what,
            proto: transport.word(),
            src: *from,
            dst: to.ip(),
            dport: (*transport != Transport::Ping).then_some(to.port()),
            expected: expected.word(),
            seen: seen.word(),
            detail,
            milliseconds,
            result: word(outcome.is_as_expected()),
        }
    }
}

fn print_json(report: &Report, settings: Settings, gateway: Option<String>) -> Result<(), LabError> {
    let (passed, failed) = report.score();
    let table = report.rows.iter().flat_map(|row| {
        let columns = row.outcomes.iter().zip(COLUMNS);
        columns.map(|(outcome, (title, _, _))| ConnectionJson::new(row.lesson.name, title.to_owned(), outcome))
    });
    let checks = report.checks.iter().map(|c| ConnectionJson::new(c.lesson.name, c.what.clone(), &c.outcome));
    let result = ReportJson {
        schema_version: 1,
        result: word(failed == 0),
        passed,
        failed,
        seconds: report.time.as_secs_f64(),
        queues: settings.queues,
        mode: settings.mode.word(),
        gateway,
        bulk: report.bulk.map(|bulk| BulkJson { bytes: bulk.length, seconds: bulk.time.as_secs_f64() }),
        connections: table.chain(checks).collect(),
    };
    let text = serde_json::to_string_pretty(&result).map_err(|e| LabError::system("writing the result", e.into()))?;
    let _ = say!("{text}");
    Ok(())
}
