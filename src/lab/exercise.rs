//! A running lab in, expectation and outcome of every connection of the lessons out.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::LabError;
use super::lesson::{BULK, COLUMNS, Expected, HELD, LESSONS, Lesson};
use super::namespace;
use super::place::Place;
use super::probe::{self, Connection, PATIENCE, Seen, Transport, connect, probe};
use super::session::{Session, Settings};
use super::topology::has_ipv6;

/// Bytes of the bulk transfer, each way.
pub const BULK_LENGTH: u64 = 50_000_000;

/// One connection: what was expected and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Protocol.
    pub transport: Transport,
    /// Source.
    pub from: IpAddr,
    /// Destination; ping has no port.
    pub to: SocketAddr,
    /// What must become of it.
    pub expected: Expected,
    /// What became of it.
    pub seen: Seen,
}

impl Outcome {
    /// Whether expectation and outcome agree.
    pub fn is_as_expected(&self) -> bool {
        matches!((self.expected, &self.seen), (Expected::Pass, Seen::Pass(_)) | (Expected::Drop, Seen::Drop))
    }
}

/// One lesson over one protocol: a row of the tutorial's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The lesson.
    pub lesson: &'static Lesson,
    /// Protocol.
    pub transport: Transport,
    /// One outcome per column.
    pub outcomes: Vec<Outcome>,
}

/// What is tried beside the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The lesson.
    pub lesson: &'static Lesson,
    /// What it shows.
    pub what: String,
    /// The connection.
    pub outcome: Outcome,
}

/// The bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Bytes each way.
    pub length: u64,
    /// How long both ways together took.
    pub time: Duration,
}

/// All that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The table.
    pub rows: Vec<Row>,
    /// What is tried beside it.
    pub checks: Vec<Check>,
    /// The bulk transfer, if it went through.
    pub bulk: Option<Bulk>,
    /// How long everything took.
    pub time: Duration,
}

impl Report {
    /// All connections that were tried.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.rows.iter().flat_map(|row| &row.outcomes).chain(self.checks.iter().map(|check| &check.outcome))
    }

    /// How many of them went as expected, and how many not.
    pub fn score(&self) -> (usize, usize) {
        let passed = self.outcomes().filter(|outcome| outcome.is_as_expected()).count();
        (passed, self.outcomes().count() - passed)
    }
}

/// Plays all lessons in order. Every connection starts with a source port of its own, so that none is taken for part of an earlier
/// flow. Nothing for as long as `silence` is a drop where one is expected; what must pass may come late on a busy machine. `before` is
/// told of each lesson.
///
/// # Errors
/// When the gateway does not load a lesson's policies, or the user interrupts; a connection that goes otherwise than expected is
/// in the report instead.
pub fn play(
    session: &Session,
    settings: Settings,
    silence: Duration,
    interrupted: &AtomicBool,
    mut before: impl FnMut(&Lesson),
) -> Result<Report, LabError> {
    let started = Instant::now();
    let clients = session.lab().namespace(Place::Generator);
    let mut ports = SourcePorts::starting_now();
    let mut report = Report::default();
    let mut held: Option<Connection> = None;
    for (index, lesson) in LESSONS.iter().enumerate() {
        if interrupted.load(Ordering::Relaxed) {
            return Err(LabError::Interrupted);
        }
        before(lesson);
        session.load(settings, lesson)?;
        play_lesson(&clients, lesson, silence, &mut ports, &mut report)?;
        let (what, seen) = if index == 0 {
            let opened = namespace::inside(&clients, || open_held(ports.next()))?;
            let seen = opened.as_ref().map_or_else(Clone::clone, |(_, time)| Seen::Pass(*time));
            held = opened.ok().map(|(connection, _)| connection);
            ("connection opened in lesson 1, to be kept", seen)
        } else {
            ("connection of lesson 1 goes on (CT-5)", held.as_mut().map_or(Seen::Drop, echo_again))
        };
        report.checks.push(check(lesson, what, HELD, seen));
    }
    let last = &LESSONS[LESSONS.len() - 1];
    let moved = namespace::inside(&clients, || {
        let from = SocketAddr::new(BULK.0, ports.next());
        connect(from, BULK.1, PATIENCE).and_then(|connection| connection.transfer(BULK_LENGTH))
    })?;
    let seen = match &moved {
        Ok(time) => Seen::Pass(*time),
        Err(e) => Seen::Refused(e.to_string()),
    };
    report.bulk = moved.ok().map(|time| Bulk { length: BULK_LENGTH, time });
    let what = format!("{} MB both ways at once, every byte compared", BULK_LENGTH / 1_000_000);
    report.checks.push(check(last, what, BULK, seen));
    report.time = started.elapsed();
    Ok(report)
}

fn check(lesson: &'static Lesson, what: impl Into<String>, (from, to): (IpAddr, SocketAddr), seen: Seen) -> Check {
    let outcome = Outcome { transport: Transport::Tcp, from, to, expected: Expected::Pass, seen };
    Check { lesson, what: what.into(), outcome }
}

/// All connections of a lesson at the same time, so that those that are dropped cost one time-out together.
fn play_lesson(
    clients: &str,
    lesson: &'static Lesson,
    silence: Duration,
    ports: &mut SourcePorts,
    report: &mut Report,
) -> Result<(), LabError> {
    let table = [(Transport::Tcp, &lesson.tcp), (Transport::Udp, &lesson.udp)];
    let in_table = table.into_iter().flat_map(|(transport, expected)| {
        COLUMNS.iter().zip(expected).map(move |((_, from, to), expected)| (transport, *from, *to, *expected))
    });
    let extras: Vec<_> = lesson.extras.iter().filter(|extra| extra.from.is_ipv4() || has_ipv6()).collect();
    let beside = extras.iter().map(|extra| (extra.transport, extra.from, extra.to, extra.expected));
    let wanted: Vec<_> = in_table.chain(beside).map(|wanted| (wanted, ports.next())).collect();
    let patience = |expected| if expected == Expected::Pass { PATIENCE.max(silence) } else { silence };
    let try_one = |((transport, from, to, expected), port)| Outcome {
        transport,
        from,
        to,
        expected,
        seen: probe(transport, from, port, to, patience(expected)),
    };
    let mut outcomes = namespace::inside(clients, || {
        thread::scope(|scope| {
            let running: Vec<_> = wanted.into_iter().map(|one| scope.spawn(move || try_one(one))).collect();
            let ended = running.into_iter().map(|one| one.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
            ended.collect::<Vec<_>>()
        })
    })?
    .into_iter();
    for (transport, _) in table {
        let outcomes = outcomes.by_ref().take(COLUMNS.len()).collect();
        report.rows.push(Row { lesson, transport, outcomes });
    }
    for (extra, outcome) in extras.iter().zip(outcomes) {
        report.checks.push(Check { lesson, what: extra.what.to_owned(), outcome });
    }
    Ok(())
}

fn open_held(source_port: u16) -> Result<(Connection, Duration), Seen> {
    let started = Instant::now();
    let attempt = || {
        let mut connection = connect(SocketAddr::new(HELD.0, source_port), HELD.1, PATIENCE)?;
        connection.echo()?;
        Ok(connection)
    };
    attempt().map(|connection| (connection, started.elapsed())).map_err(|e| probe::seen_of(&e))
}

fn echo_again(connection: &mut Connection) -> Seen {
    let started = Instant::now();
    match connection.echo() {
        Ok(()) => Seen::Pass(started.elapsed()),
        Err(e) => probe::seen_of(&e),
    }
}

/// Source ports that neither this run nor one of the last half hour used: a run takes longer than the seconds its ports stand for.
struct SourcePorts(u16);

impl SourcePorts {
    const FIRST: u16 = 10_000;
    const LAST: u16 = 60_000;
    /// Ports that one second of the clock stands for.
    const PER_SECOND: u64 = 25;

    fn starting_now() -> SourcePorts {
        let seconds = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let span = u64::from(Self::LAST - Self::FIRST);
        SourcePorts(Self::FIRST + ((seconds * Self::PER_SECOND) % span) as u16)
    }

    fn next(&mut self) -> u16 {
        let port = self.0;
        self.0 = if port + 1 >= Self::LAST { Self::FIRST } else { port + 1 };
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_word_is_as_expected() {
        let check = |expected, seen, agrees| {
            let outcome = Outcome { transport: Transport::Tcp, from: HELD.0, to: HELD.1, expected, seen };
            assert_eq!(outcome.is_as_expected(), agrees, "{outcome:?}");
        };
        check(Expected::Pass, Seen::Pass(Duration::ZERO), true);
        check(Expected::Pass, Seen::Drop, false);
        check(Expected::Drop, Seen::Drop, true);
        check(Expected::Drop, Seen::Pass(Duration::ZERO), false);
        check(Expected::Drop, Seen::Refused("reset".to_owned()), false);
    }

    #[test]
    fn source_ports_stay_in_their_range() {
        let mut ports = SourcePorts(SourcePorts::LAST - 2);
        let taken: Vec<u16> = (0..4).map(|_| ports.next()).collect();
        assert_eq!(taken, [59_998, 59_999, 10_000, 10_001]);
    }
}
