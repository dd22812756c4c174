//! `ringwall lab gen`: traffic between two interfaces, and what the way between them did to it.

use std::fmt::Write;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::arguments::{Output, exit};
use super::print;
use super::run::seed as random_seed;
use crate::lab::LabError;
use crate::lab::generator::ends::EndName;
use crate::lab::generator::traffic::{Hosts, MOST_FLOWS, Path};
use crate::lab::generator::{Elapsed, Protocol, Rate, Sizes, Traffic, Way, drive};
use crate::lab::place::{Lab, Place};
use crate::lab::topology::{CLIENT_INTERFACE, WORKER_INTERFACE};

/// Slots of the generator's rings.
const SLOTS: u32 = 4096;
/// How long to wait for packets under way after the last one that came (RFC 2544 section 26.1: two seconds).
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest run, in seconds.
const LONGEST: f64 = 3600.0;

/// Arguments of `ringwall lab gen`.
#[derive(Debug, Args)]
pub struct GenArguments {
    /// Interface that sends, as NAMESPACE/INTERFACE; the lab's words `gen`, `gw` and `workers` name its namespaces [default: the
    /// clients' interface]
    #[arg(long, value_name = "[NS/]IFACE")]
    from: Option<EndName>,
    /// Interface that receives [default: the workers' interface]
    #[arg(long, value_name = "[NS/]IFACE")]
    to: Option<EndName>,
    /// Send answers the other way, too: as many packets of the same flows
    #[arg(long)]
    both_ways: bool,
    /// Packets per second and direction, such as `1500`, `20k`, `0.8M`, or `max`
    #[arg(long, value_name = "PPS", default_value = "10k")]
    rate: Rate,
    /// Seconds to send for
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    duration: f64,
    /// Packets to send per direction, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Packets that are sent together, at the same rate over all
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    burst: u64,
    /// Frame sizes with check sequence, in turn: `64`, `64,512,1518`, or `imix` (7 of 64, 4 of 570, 1 of 1518)
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: Sizes,
    /// Flows; each packet is of a flow drawn by the seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_FLOWS)))]
    flows: u32,
    /// Protocols, which flows take in turn
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp")]
    protocol: Vec<ProtocolArgument>,
    /// Address families, which flows take in turn
    #[arg(long, value_name = "4|6|both", default_value = "4")]
    ip: FamilyArgument,
    /// Sources, an address or a prefix, instead of 198.18.0.0/24 or 2001:2:0:1::/64; needs `--dst`
    #[arg(long, value_name = "PREFIX", requires = "dst", conflicts_with = "ip")]
    src: Option<Hosts>,
    /// Destinations, instead of 198.19.0.0/24 or 2001:2:0:2::/64; needs `--src`
    #[arg(long, value_name = "PREFIX", requires = "src", conflicts_with = "ip")]
    dst: Option<Hosts>,
    /// Destination port of UDP and TCP
    #[arg(long, default_value_t = 7)]
    port: u16,
    /// Draws flows and content
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Exit with 1 unless every packet came, once, whole and in order
    #[arg(long)]
    strict: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArgument {
    Udp,
    Tcp,
    Icmp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyArgument {
    #[value(name = "4")]
    V4,
    #[value(name = "6")]
    V6,
    Both,
}

/// Seconds as an argument: more than none, an hour at most.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    match seconds > 0.0 && seconds <= LONGEST {
        true => Ok(seconds),
        false => Err(format!("expected more than 0 and at most {LONGEST} seconds")),
    }
}

impl GenArguments {
    fn traffic(&self) -> Result<Traffic, LabError> {
        let paths = match (self.src, self.dst, self.ip) {
            (Some(from), Some(to), _) if from.family() != to.family() => {
                let text = "`--src` and `--dst` are of different families: expected both IPv4 or both IPv6";
                return Err(LabError::Usage(text.to_owned()));
            }
            (Some(from), Some(to), _) => vec![Path { from, to }],
            (_, _, FamilyArgument::V4) => vec![Path::ipv4()],
            (_, _, FamilyArgument::V6) => vec![Path::ipv6()],
            (_, _, FamilyArgument::Both) => vec![Path::ipv4(), Path::ipv6()],
        };
        let protocols = self.protocol.iter().map(|protocol| match protocol {
            ProtocolArgument::Udp => Protocol::Udp,
            ProtocolArgument::Tcp => Protocol::Tcp,
            ProtocolArgument::Icmp => Protocol::Icmp,
        });
        Ok(Traffic {
            sizes: self.size.clone(),
            flows: self.flows,
            protocols: protocols.collect(),
            paths,
            port: self.port,
            seed: self.seed,
            ..Traffic::default()
        })
    }

    fn ends(&self, lab: &Lab) -> [EndName; 2] {
        let usual =
            |place, interface: &str| EndName { namespace: Some(lab.namespace(place)), interface: interface.to_owned() };
        let from = self.from.clone().unwrap_or_else(|| usual(Place::Generator, CLIENT_INTERFACE));
        let to = self.to.clone().unwrap_or_else(|| usual(Place::Workers, WORKER_INTERFACE));
        [from.of_lab(lab), to.of_lab(lab)]
    }
}

/// Sends and counts; returns the exit code.
///
/// # Errors
/// When an interface cannot be opened.
pub fn run(lab: &Lab, arguments: &GenArguments, stop: &AtomicBool) -> Result<u8, LabError> {
    let traffic = arguments.traffic()?;
    let names = arguments.ends(lab);
    let [mut near, mut far] = [names[0].open(SLOTS)?, names[1].open(SLOTS)?];
    let mut queues = [std::mem::take(&mut near.queues), std::mem::take(&mut far.queues)];
    let duration = Duration::from_secs_f64(arguments.duration);
    let total = arguments.rate.total(duration.as_nanos() as u64).min(arguments.count.unwrap_or(u64::MAX));
    let way = |traffic: &Traffic, run: u64| {
        let way = Way::new(traffic, arguments.rate, run as u16, total);
        Way { sender: way.sender.in_bursts(arguments.burst), ..way }
    };
    let [run, _] = random_seed();
    let mut ways = vec![way(&traffic, run)];
    if arguments.both_ways {
        ways.push(way(&traffic.answers(), !run));
    }
    let elapsed = drive(&mut queues, &mut ways, [duration, PATIENCE], stop, |_, _| ());
    let result = result(&names, arguments, &ways, elapsed);
    let code = match arguments.strict && !result.ways.iter().all(WayJson::is_clean) {
        true => exit::DENIED,
        false => exit::DONE,
    };
    let text = match arguments.output {
        Output::Table => text(&result),
        Output::Json => {
            serde_json::to_string(&result).map_err(|e| LabError::system("writing the result", e.into()))? + "\n"
        }
    };
    Ok(print::result(&text, code))
}

/// The result for scripts.
#[derive(Serialize)]
struct GenJson {
    schema_version: u32,
    rate: String,
    size: String,
    flows: u32,
    seed: u64,
    seconds: f64,
    was_stopped: bool,
    ways: Vec<WayJson>,
}

/// One direction.
#[derive(Serialize)]
struct WayJson {
    from: String,
    to: String,
    sent: u64,
    sent_bytes: u64,
    packets_per_second: f64,
    received: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    reordered_by_most: u32,
    corrupted: u64,
    foreign: u64,
    delay_ns: Delay,
}

impl WayJson {
    fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.corrupted == 0
    }
}

/// Nanoseconds; all 0 without a packet.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Delay {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

impl Delay {
    /// The percentiles of a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Delay {
        if histogram.is_empty() {
            return Delay::default();
        }
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| histogram.value_at_quantile(q));
        Delay { p50, p90, p99, p999, max: histogram.max() }
    }
}

fn result(names: &[EndName; 2], arguments: &GenArguments, ways: &[Way], elapsed: Elapsed) -> GenJson {
    let seconds = elapsed.sending.as_secs_f64();
    let row = |(number, way): (usize, &Way)| {
        let [first, second] = names.each_ref().map(ToString::to_string);
        let (from, to) = if number == 0 { (first, second) } else { (second, first) };
        let account = way.receiver.account();
        let (tally, sent) = (account.tally(), way.sender.sent());
        WayJson {
            from,
            to,
            sent,
            sent_bytes: way.sender.bytes(),
            packets_per_second: sent as f64 / seconds.max(1e-9),
            received: tally.received,
            lost: tally.lost(sent),
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            reordered_by_most: tally.latest,
            corrupted: tally.corrupted,
            foreign: tally.foreign,
            delay_ns: Delay::of(account.delays()),
        }
    };
    GenJson {
        schema_version: 1,
        rate: arguments.rate.to_string(),
        size: arguments.size.to_string(),
        flows: arguments.flows,
        seed: arguments.seed,
        seconds,
        was_stopped: elapsed.was_stopped,
        ways: ways.iter().enumerate().map(row).collect(),
    }
}

fn text(result: &GenJson) -> String {
    let mut text = String::new();
    for way in &result.ways {
        let megabits = way.sent_bytes as f64 * 8.0 / result.seconds.max(1e-9) / 1e6;
        let _ = writeln!(
            text,
            "{} > {}: sent {} packets in {:.2} s, {:.0} per second, {megabits:.1} Mbit/s",
            way.from, way.to, way.sent, result.seconds, way.packets_per_second
        );
        let _ = writeln!(
            text,
            "  received {}, lost {}, duplicated {}, reordered {} (by {} at most), corrupted {}, foreign {}",
            way.received, way.lost, way.duplicated, way.reordered, way.reordered_by_most, way.corrupted, way.foreign
        );
        let [p50, p90, p99, p999, max] =
            [way.delay_ns.p50, way.delay_ns.p90, way.delay_ns.p99, way.delay_ns.p999, way.delay_ns.max]
                .map(|nanoseconds| nanoseconds as f64 / 1e3);
        let _ = writeln!(
            text,
            "  one-way delay in us: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}"
        );
    }
    if result.was_stopped {
        text.push_str("stopped before the end\n");
    }
    text
}
