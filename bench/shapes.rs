//! Shapes that real policies have, and the worst that rules can have, in; cost to build, bytes and nanoseconds per look-up out. Run
//! with `cargo bench --bench shapes`, or with the names of some shapes behind `--`. Each is measured in a process of its own, so
//! that the peak of memory is its own too.
//!
//! Policies go through the compiler as files do. A packet is asked of every stage that its two addresses have: network ACL, groups,
//! host endpoint, pod. Only look-ups are timed: the classes of the header once, and the first match of each stage.

use std::collections::HashSet;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ringwall::base::address::Family;
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::cli::bench::generate::{End, Recipe, generate};
use ringwall::cli::bench::profile::Kind;
use ringwall::cli::bench::random::Random;
use ringwall::cli::bench::ruleset::{self, Prefix, ProtocolMask, Rule, RuleSet};
use ringwall::cli::bench::traffic::{Traffic, headers};
use ringwall::compile::{self, Options};
use ringwall::engine::program::classifier::{Classifier, NONE};
use ringwall::engine::program::{Program, StandIn};
use ringwall::packet::Key;
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::{Source, collect};

/// Headers per pass, and passes.
const HEADERS: usize = 200_000;
const PASSES: usize = 5;
/// Headers that are prepared before the clock starts.
const CHUNK: usize = 1_024;

/// What is measured.
struct Shape {
    name: &'static str,
    make: fn() -> Result<Made, String>,
}

/// A classifier with headers, and for each header the scopes that are asked.
struct Made {
    classifier: Classifier,
    build: Duration,
    entries: usize,
    /// Of everything that look-ups touch.
    bytes: usize,
    keys: Vec<Key>,
    stages: Vec<Vec<u32>>,
}

const SHAPES: [Shape; 11] = [
    Shape { name: "selector-set-100k", make: selector_set },
    Shape { name: "labels-1k-x-10k", make: labels },
    Shape { name: "vpc-500", make: vpc },
    Shape { name: "isolation-public", make: || isolation("public") },
    Shape { name: "isolation-private", make: || isolation("private") },
    Shape { name: "port-ranges-5k", make: || port_ranges(5_000, 10_000) },
    Shape { name: "port-ranges-20k", make: || port_ranges(20_000, 50_000) },
    Shape { name: "all-overlap-1k", make: || all_overlap(1_000) },
    Shape { name: "all-overlap-5k", make: || all_overlap(5_000) },
    Shape { name: "crosses-2k", make: || crosses(2_000) },
    Shape { name: "hosts-x-wide-10k", make: hosts_under_wide },
];

/// Compiles policies; `draw` gives two addresses and a destination port.
fn of_policy(sources: &[Source], mut draw: impl FnMut(&mut Random) -> (u32, u32, u16)) -> Result<Made, String> {
    let mut findings = Diagnostics::new();
    let said = |findings: &Diagnostics| findings.iter().next().map(ToString::to_string).unwrap_or_default();
    let Some(policy) = load(sources, &LoadOptions::default(), &mut findings) else { return Err(said(&findings)) };
    let start = Instant::now();
    let program = compile::compile(&policy, &Site::default(), &Options::default(), &mut findings);
    let build = start.elapsed();
    let Some(program) = program else { return Err(said(&findings)) };
    let set = RuleSet { family: Family::V4, rules: Vec::new() };
    let mut random = Random::new(7);
    let keys: Vec<Key> = (0..HEADERS)
        .map(|_| {
            let (src, dst, dport) = draw(&mut random);
            let protocol = if random.below(4) == 0 { 17 } else { 6 };
            set.key(src.into(), dst.into(), 32_768 + random.below(28_000) as u16, dport, protocol)
        })
        .collect();
    let stages = keys.iter().map(|key| stages(&program, key)).collect();
    let (entries, bytes) = (program.entries.len(), program.bytes());
    Ok(Made { classifier: program.classifier, build, entries, bytes, keys, stages })
}

/// The scopes of a packet, of its destination's side first.
fn stages(program: &Program, key: &Key) -> Vec<u32> {
    let mut scopes = Vec::new();
    for (direction, address) in [(0, key.dst), (1, key.src)] {
        let place = program.place(key.family(), address);
        scopes.extend([place.acl[direction], place.groups[direction], place.pod[direction]]);
        if let StandIn::Own(index) | StandIn::Segment(index) = place.stand_in
            && let Some(endpoint) = program.endpoint(index)
        {
            scopes.extend(match direction {
                0 => [endpoint.untracked_in, endpoint.prednat, endpoint.forward_in],
                _ => [endpoint.untracked_out, endpoint.forward_out, NONE],
            });
        }
    }
    scopes.retain(|scope| *scope != NONE);
    scopes
}

fn of_rules(set: &RuleSet) -> Result<Made, String> {
    let matches = set.matches();
    let start = Instant::now();
    let classifier = ruleset::build(&matches).map_err(|refusal| refusal.diagnostic().message)?;
    let build = start.elapsed();
    let keys = headers(set, Traffic::Uniform, HEADERS, 7);
    let (entries, bytes) = (set.rules.len(), classifier.bytes());
    Ok(Made { classifier, build, entries, bytes, stages: vec![vec![0]; keys.len()], keys })
}

/// One rule that denies a set of 100,000 addresses that do not join, for one endpoint.
fn selector_set() -> Result<Made, String> {
    let mut text = String::from(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: { name: w, labels: { role: w } }\nspec: { node: n, \
         interfaceName: eth1, expectedIPs: [10.0.0.1] }\n---\napiVersion: projectcalico.org/v3\nkind: \
         GlobalNetworkPolicy\nmetadata: { name: block }\nspec:\n  selector: role == 'w'\n  applyOnForward: true\n  types: \
         [Ingress]\n  ingress:\n  - { action: Deny, source: { selector: feed == 'bad' } }\n  - { action: Allow }\n---\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: { name: feed, labels: { feed: bad } }\nspec:\n  \
         nets:\n",
    );
    let mut random = Random::new(1);
    let mut known = HashSet::new();
    while known.len() < 100_000 {
        let address = random.between(0x0b00_0000, 0xdfff_ffff) as u32;
        if known.insert(address) {
            let _ = writeln!(text, "  - {}/32", std::net::Ipv4Addr::from(address));
        }
    }
    let mut addresses: Vec<u32> = known.into_iter().collect();
    addresses.sort_unstable();
    of_policy(&[Source::new("set.yaml", text)], |random| {
        let bad = addresses[random.index(addresses.len())];
        (bad + random.below(2) as u32, 0x0a00_0001, random.word() as u16)
    })
}

/// 1,000 policies whose selectors overlap, over 10,000 pods.
fn labels() -> Result<Made, String> {
    const PODS: u64 = 10_000;
    let mut text = String::new();
    for n in 0..20 {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: ns-{n}, labels: {{ team: t{} }} }}\n",
            n % 5
        );
    }
    for p in 0..PODS {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: pod-{p}, namespace: ns-{}, labels: {{ app: a{}, tier: t{}, env: e{}, \
             zone: z{} }} }}\nspec: {{ containers: [{{ name: main }}] }}\nstatus: {{ phase: Running, podIP: 10.64.{}.{} }}\n",
            p % 20,
            p / 20 % 50,
            p / 7 % 5,
            p / 11 % 4,
            p / 13 % 3,
            p >> 8,
            p & 255
        );
    }
    let mut random = Random::new(2);
    let mut policies = String::new();
    for i in 0..1_000 {
        let mut some = |count: usize| {
            let terms = [("app", 'a', 50), ("tier", 't', 5), ("env", 'e', 4), ("zone", 'z', 3)];
            let mut picked: Vec<String> = Vec::new();
            for _ in 0..count {
                let (key, value, values) = terms[random.index(terms.len())];
                let (one, other) = (random.below(values), random.below(values));
                picked.push(match random.below(3) {
                    0 => format!("{key} == '{value}{one}'"),
                    1 => format!("{key} in {{'{value}{one}', '{value}{other}'}}"),
                    _ => format!("{key} != '{value}{one}'"),
                });
            }
            picked.join(" && ")
        };
        let (subject, peer, other) = (some(2), some(2), some(1));
        let _ = write!(
            policies,
            "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{ name: p-{i}, namespace: ns-{} }}\nspec:\n  order: \
             {i}\n  selector: \"{subject}\"\n  types: [Ingress, Egress]\n  ingress:\n  - action: Allow\n    protocol: TCP\n    source: \
             {{ selector: \"{peer}\" }}\n    destination: {{ ports: [{}] }}\n  egress:\n  - action: Allow\n    destination: {{ \
             namespaceSelector: \"team == 't{}'\", selector: \"{other}\" }}\n",
            i % 20,
            1_000 + i % 300,
            i % 5
        );
    }
    let sources = [Source::new("pods.yaml", text), Source::new("policies.yaml", policies)];
    of_policy(&sources, |random| {
        let pod = |random: &mut Random| 0x0a40_0000 + random.below(PODS) as u32;
        (pod(random), pod(random), 1_000 + random.below(330) as u16)
    })
}

/// 500 subnets, each with an ACL and a group of its own, as the API's collections.
fn vpc() -> Result<Made, String> {
    const SUBNETS: u32 = 500;
    let net = |n: u32| format!("10.{}.{}.0/24", 240 + (n >> 8), n & 255);
    let (mut subnets, mut acls, mut groups, mut instances) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..SUBNETS {
        subnets.push(format!(
            r#"{{"id": "s{n}", "name": "s{n}", "ipv4_cidr_block": "{}", "network_acl": {{"id": "a{n}", "name": "a{n}"}}}}"#,
            net(n)
        ));
        let rule = |at: u32, action: &str, direction: &str, source: &str, destination: &str, port: Option<u32>| {
            let (protocol, ports) = match port {
                Some(port) => {
                    ("tcp", format!(r#", "destination_port_min": {port}, "destination_port_max": {}"#, port + 9))
                }
                None => ("all", String::new()),
            };
            let before = if at < 19 {
                format!(r#", "before": {{"id": "r{n}-{0}", "name": "r{n}-{0}"}}"#, at + 1)
            } else {
                String::new()
            };
            format!(
                r#"{{"id": "r{n}-{at}", "name": "r{n}-{at}", "action": "{action}", "direction": "{direction}", "ip_version": "ipv4", "protocol": "{protocol}", "source": "{source}", "destination": "{destination}"{ports}{before}}}"#
            )
        };
        let rules: Vec<String> = (0..20)
            .map(|at| {
                let other = net((n * 7 + at * 31) % SUBNETS);
                match at {
                    0..=8 => rule(at, "allow", "inbound", &other, &net(n), Some(80 + at * 100)),
                    9 => rule(at, "deny", "inbound", "0.0.0.0/0", "0.0.0.0/0", None),
                    10..=18 => rule(at, "allow", "outbound", &net(n), &other, Some(80 + at * 100)),
                    _ => rule(at, "deny", "outbound", "0.0.0.0/0", "0.0.0.0/0", None),
                }
            })
            .collect();
        acls.push(format!(
            r#"{{"id": "a{n}", "name": "a{n}", "subnets": [{{"id": "s{n}", "name": "s{n}"}}], "rules": [{}]}}"#,
            rules.join(", ")
        ));
        let remote = |of: u32| format!(r#"{{"id": "g{of}", "name": "g{of}"}}"#);
        let group_rules: Vec<String> = (0..8)
            .map(|at| {
                let direction = if at % 2 == 0 { "inbound" } else { "outbound" };
                let other = remote((n * 3 + at * 17) % SUBNETS);
                format!(
                    r#"{{"id": "q{n}-{at}", "direction": "{direction}", "ip_version": "ipv4", "protocol": "tcp", "remote": {other}, "port_min": {0}, "port_max": {0}}}"#,
                    80 + at * 100
                )
            })
            .collect();
        groups.push(format!(
            r#"{{"id": "g{n}", "name": "g{n}", "targets": [{{"id": "nic{n}", "name": "eth"}}], "rules": [{}]}}"#,
            group_rules.join(", ")
        ));
        instances.push(format!(
            r#"{{"id": "i{n}", "name": "i{n}", "network_interfaces": [{{"id": "nic{n}", "name": "eth", "primary_ip": {{"address": "10.{}.{}.4"}}}}]}}"#,
            240 + (n >> 8),
            n & 255
        ));
    }
    let text = format!(
        r#"{{"vpcs": [{{"id": "v", "name": "v"}}], "subnets": [{}], "network_acls": [{}], "security_groups": [{}], "instances": [{}]}}"#,
        subnets.join(", "),
        acls.join(", "),
        groups.join(", "),
        instances.join(", ")
    );
    of_policy(&[Source::new("account.json", text)], |random| {
        let host = |random: &mut Random| 0x0af0_0004 + ((random.below(SUBNETS.into()) as u32) << 8);
        (host(random), host(random), (80 + random.below(20) * 100) as u16)
    })
}

/// The published isolation set of one network, with 50 workers.
fn isolation(network: &str) -> Result<Made, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/corpus/kube-samples/HEAD/calico-policies")
        .join(format!("{network}-network-isolation/us-south"));
    if !folder.exists() {
        return Err("skipped: the isolation sets are not beside the project".to_string());
    }
    let mut findings = Diagnostics::new();
    let mut sources = collect(&[folder], Path::new("."), &mut findings);
    sources.retain(|source| !source.path.contains("hostendpoint"));
    let mut workers = String::new();
    for n in 0..50 {
        let _ = write!(
            workers,
            "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{ name: w{n}, labels: {{ ibm.role: worker_{network}, \
             worker.id: w{n} }} }}\nspec: {{ node: n{n}, interfaceName: eth1, expectedIPs: [10.176.48.{n}] }}\n"
        );
    }
    sources.push(Source::new("workers.yaml", workers));
    of_policy(&sources, |random| {
        let worker = 0x0ab0_3000 + random.below(50) as u32;
        let port = [80, 443, 53, 6443, 10_250, 2040, 30_000, 22][random.index(8)];
        let remote =
            [random.word() as u32, 0xa12c_0000 | random.word() as u32 & 0xffff, 0x0ab0_3000 | random.below(50) as u32];
        let remote = remote[random.index(3)];
        if random.below(2) == 0 { (remote, worker, port) } else { (worker, remote, port) }
    })
}

/// An access list in which many rules have ranges of ports that no other rule has.
fn port_ranges(ranges: usize, rules: usize) -> Result<Made, String> {
    let mut set = generate(&Recipe { kind: Kind::Acl, family: Family::V4, rules, seed: 11, end: End::CatchAll });
    let mut random = Random::new(12);
    let last = set.rules.len() - 1;
    for rule in set.rules.iter_mut().take(last).take(ranges) {
        let first = random.below(60_000) as u16;
        rule.dport = (first, first + random.below(2_000) as u16);
        if random.below(4) == 0 {
            rule.sport = (random.below(30_000) as u16, 30_000 + random.below(30_000) as u16);
        }
        rule.protocol = ProtocolMask::one(if random.below(3) == 0 { 17 } else { 6 });
    }
    of_rules(&set)
}

/// Every rule overlaps every other: all have one header in common, and no two are alike.
fn all_overlap(rules: usize) -> Result<Made, String> {
    let mut random = Random::new(13);
    let centre = 0x0a14_1e28;
    let mut known = HashSet::new();
    while known.len() < rules {
        let mut side = || Prefix::of(Family::V4, centre, random.below(33) as u8);
        let (src, dst) = (side(), side());
        let mut ports = || (random.below(32_768) as u16, 32_768 + random.below(32_768) as u16);
        let (sport, dport) = (ports(), ports());
        let protocol = if random.below(2) == 0 { ProtocolMask::ANY } else { ProtocolMask::one(6) };
        known.insert(Rule { src, dst, sport, dport, protocol });
    }
    let mut rules: Vec<Rule> = known.into_iter().collect();
    rules.sort_by_key(|rule| (64 - rule.src.length - rule.dst.length, rule.sport, rule.dport));
    of_rules(&RuleSet { family: Family::V4, rules })
}

/// Every rule with a source crosses every rule with a destination: products of both sides are as large as they get.
fn crosses(rules: usize) -> Result<Made, String> {
    let mut random = Random::new(14);
    let rule = |at: usize, random: &mut Random| {
        let prefix = Prefix::of(Family::V4, random.wide() & 0xffff_ffff, 8 + random.below(25) as u8);
        match at % 2 {
            0 => Rule { src: prefix, ..Rule::EVERYTHING },
            _ => Rule { dst: prefix, ..Rule::EVERYTHING },
        }
    };
    let rules = (0..rules).map(|at| rule(at, &mut random)).collect();
    of_rules(&RuleSet { family: Family::V4, rules })
}

/// 9,000 pairs of hosts under 1,000 rules with short prefixes and many ports.
fn hosts_under_wide() -> Result<Made, String> {
    let mut random = Random::new(15);
    let mut rules = Vec::new();
    for at in 0..10_000 {
        let mut side = |length| Prefix::of(Family::V4, random.wide() & 0xffff_ffff, length);
        let (src, dst) =
            if at < 9_000 { (side(32), side(32)) } else { (side((at % 5) as u8), side((at / 5 % 5) as u8)) };
        let port = (at % 700) as u16 + 1;
        rules.push(Rule { src, dst, dport: (port, port), protocol: ProtocolMask::one(6), ..Rule::EVERYTHING });
    }
    of_rules(&RuleSet { family: Family::V4, rules })
}

/// What the packet line asks of one header: its classes once, then the first match of each stage.
#[inline]
fn lookup_stages(classifier: &Classifier, key: &Key, stages: &[u32]) -> u32 {
    let header = classifier.header(key);
    stages.iter().fold(0, |sum, scope| sum ^ classifier.first(header, *scope, 0).unwrap_or(NONE))
}

/// Nanoseconds per header, the best of the passes.
fn time(made: &Made) -> f64 {
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut best = Duration::MAX;
    for _ in 0..PASSES {
        let mut spent = Duration::ZERO;
        for (keys, stages) in made.keys.chunks(CHUNK).zip(made.stages.chunks(CHUNK)) {
            buffer.clear();
            buffer.extend_from_slice(keys);
            let start = Instant::now();
            for (key, stages) in buffer.iter().zip(stages) {
                black_box(lookup_stages(&made.classifier, key, stages));
            }
            spent += start.elapsed();
        }
        best = best.min(spent);
    }
    best.as_secs_f64() * 1e9 / made.keys.len() as f64
}

/// Megabytes of resident memory at most.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok()).unwrap_or(0) / 1000
}

fn measure(shape: &Shape) {
    let made = match (shape.make)() {
        Ok(made) => made,
        Err(reason) => return println!("{:<20}{reason}", shape.name),
    };
    let peak = peak();
    let asked: usize = made.stages.iter().map(Vec::len).sum();
    let stages = asked as f64 / made.keys.len() as f64;
    let ns = time(&made);
    println!(
        "{:<20}{:>8}{:>10.1}{:>9.2}{:>9.2}{:>8}{:>8.2}{:>10.1}{:>10.1}  {}",
        shape.name,
        made.entries,
        made.build.as_secs_f64() * 1e3,
        made.classifier.bytes() as f64 / 1e6,
        made.bytes as f64 / 1e6,
        peak,
        stages,
        ns,
        ns / stages.max(1.0),
        made.classifier.shapes().first().map_or("none", |shape| shape.structure)
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [only] = &wanted[..]
        && let Some(shape) = SHAPES.iter().find(|shape| shape.name == only)
        && std::env::var_os("RINGWALL_SHAPES_CHILD").is_some()
    {
        return measure(shape);
    }
    println!(
        "{:<20}{:>8}{:>10}{:>9}{:>9}{:>8}{:>8}{:>10}{:>10}  STRUCTURE",
        "SHAPE", "ENTRIES", "BUILD MS", "CLASS MB", "ALL MB", "PEAK MB", "STAGES", "NS/PACKET", "NS/STAGE"
    );
    let program = std::env::current_exe().expect("a running program has a path");
    let mut failed = Vec::new();
    for shape in SHAPES.iter().filter(|shape| wanted.is_empty() || wanted.iter().any(|w| w == shape.name)) {
        let status = Command::new(&program).arg(shape.name).env("RINGWALL_SHAPES_CHILD", "").status();
        if !status.is_ok_and(|status| status.success()) {
            failed.push(shape.name);
        }
    }
    assert!(failed.is_empty(), "these shapes could not be measured: {failed:?}");
}
