//! Policy changes while generated traffic crosses real links: nothing is lost to a change, every packet is judged by one policy whole,
//! verdicts follow, and what reads and compiles leaves the workers' cores alone. Needs root, iproute2 and AF_XDP; skips with a printed
//! reason otherwise. Bounded in time and packets.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ringwall::base::diagnostic::Diagnostics;
use ringwall::control::cores;
use ringwall::control::daemon::{self, Control, Reload, RunSettings, Summary};
use ringwall::control::load::{Loaded, Request, load};
use ringwall::io::xdp::{Queue, Settings};
use ringwall::lab::generator::ends::EndName;
use ringwall::lab::generator::template::flow_of;
use ringwall::lab::generator::{Rate, Traffic, Way, drive};
use ringwall::lab::place::{Lab, Place};
use ringwall::lab::topology::{self, Offloads};
use ringwall::lab::{LabError, namespace};
use ringwall::worker::{EngineJudge, Load, NoTap};

/// Flows, each from a host of its own by which the policies tell them apart.
const FLOWS: u32 = 4;
const CHANGES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Far longer than any verdict takes to follow; how long it took is printed.
const LONGEST_FOLLOWING: Duration = Duration::from_millis(500);
/// How long to wait for packets under way after the last one that came.
const PATIENCE: Duration = Duration::from_secs(2);
/// Traffic ends with the last change; this only ends a hang.
const LONGEST: Duration = Duration::from_secs(120);
/// Runs that may be disturbed by others who have the cores, at most.
const ATTEMPTS: u32 = 5;

/// Two layers, a network ACL and an untracked policy, in two states.
///
/// | host | ACL, even | policy, even | ACL, odd | policy, odd | passes |
/// |---|---|---|---|---|---|
/// | .1 | yes | yes | yes | yes | always |
/// | .2 | yes | yes | no | no | while even |
/// | .3 | no | no | yes | yes | while odd |
/// | .4 | yes | no | no | yes | never: only a packet judged by a layer of each would |
fn write(directory: &Path, is_even: bool) {
    let (acl, policy): (&[u8], &[u8]) = if is_even { (&[1, 2, 4], &[1, 2]) } else { (&[1, 3], &[1, 3, 4]) };
    let link = |next: Option<&u8>| {
        next.map_or(String::new(), |next| format!(r#", "before": {{ "id": "{next}", "name": "h{next}" }}"#))
    };
    let rules: Vec<String> = acl
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let link = link(acl.get(at + 1));
            format!(
                r#"{{ "id": "{host}", "name": "h{host}", "action": "allow", "direction": "inbound", "ip_version": "ipv4",
                     "protocol": "any", "source": "198.18.0.{host}/32", "destination": "0.0.0.0/0"{link} }}"#
            )
        })
        .collect();
    let acl = format!(
        r#"{{ "network_acls": [ {{ "id": "a", "name": "acl", "subnets": [], "rules": [ {} ] }} ] }}"#,
        rules.join(", ")
    );
    let nets: Vec<String> = policy.iter().map(|host| format!("198.18.0.{host}/32")).collect();
    let calico = format!(
        "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{ name: far, labels: {{ side: far }} }}
spec: {{ node: far, interfaceName: eth0, expectedIPs: [198.19.0.1] }}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{ name: sources }}
spec:
  selector: side == 'far'
  doNotTrack: true
  applyOnForward: true
  types: [Ingress]
  ingress: [{{ action: Allow, source: {{ nets: [{}] }} }}, {{ action: Deny }}]
",
        nets.join(", ")
    );
    let gateway = "apiVersion: ringwall/v1
kind: Gateway
policy: [policies/]
segments: [{ name: far, cidrs: [198.19.0.0/24], hostEndpoint: far, networkACL: acl }]
";
    fs::create_dir_all(directory.join("policies")).unwrap();
    for (name, text) in [("gateway.yaml", gateway), ("policies/acl.json", &acl), ("policies/calico.yaml", &calico)] {
        fs::write(directory.join(name), text).unwrap();
    }
}

/// Reads and compiles, as a reload does.
fn read(directory: &Path, generation: u64) -> Loaded {
    write(directory, generation.is_multiple_of(2));
    let request = Request { gateway: Some(directory.join("gateway.yaml")), ..Request::default() };
    let outcome = load(&request, generation, Some(1));
    outcome.loaded.unwrap_or_else(|| panic!("{:?}", outcome.findings))
}

/// One lab at a time: the gateway and the traffic want a core each.
static TURN: Mutex<()> = Mutex::new(());

/// A lab without processes, removed whatever happens.
struct Built(Lab, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Built {
    /// `None` where this machine cannot have one.
    fn new() -> Option<Built> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("rwr{}-", std::process::id());
        let built = Built(Lab::new(prefix.parse().unwrap(), None), turn);
        // A process of this number that was killed may have left one.
        let _ = topology::remove(&built.0);
        match topology::build(&built.0, 1, Offloads::Default) {
            Ok(()) => Some(built),
            Err(error @ (LabError::Privilege(_) | LabError::Tool { .. })) => {
                println!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn end(&self, place: Place, interface: &str) -> EndName {
        EndName { namespace: Some(self.0.namespace(place)), interface: interface.to_owned() }
    }

    /// Frames that the kernel has dropped so far between the generator and the rings of the gateway and back, because one of its own
    /// queues or a ring was full.
    fn dropped(&self) -> u64 {
        let inside = |place| {
            let read = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let text = namespace::inside(&self.0.namespace(place), read).unwrap();
            let rows = text.lines().skip(2).filter_map(|line| line.split_once(':'));
            // Received: bytes, packets, errors, dropped and four more; sent: the same.
            rows.map(|(_, row)| {
                let numbers: Vec<u64> = row.split_whitespace().map(|number| number.parse().unwrap()).collect();
                numbers[3] + numbers[11]
            })
            .sum::<u64>()
        };
        Place::ALL.map(inside).iter().sum()
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = topology::remove(&self.0);
    }
}

/// A gateway of this process, while some work is done; its summary, and what the work gave.
fn with_gateway<R>(lab: &Lab, first: &Loaded, work: impl FnOnce(&Control<Load>) -> R) -> Option<(Summary, R)> {
    with_pinned(lab, first, &[], || (), work)
}

/// The same with its worker pinned to these cores; `reload` is asked on the thread that reads and compiles.
fn with_pinned<R>(
    lab: &Lab,
    first: &Loaded,
    cores: &[usize],
    reload: impl Fn() + Send,
    work: impl FnOnce(&Control<Load>) -> R,
) -> Option<(Summary, R)> {
    /// Ends the gateway even if the work fails, so that its thread can be waited for.
    struct Ending<'a>(&'a Control<Load>);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    let ports = Settings {
        uplink: topology::UPLINK.to_owned(),
        downlink: topology::DOWNLINK.to_owned(),
        receive_ring: 8192,
        ..Settings::default()
    };
    let settings = RunSettings { cores: cores.to_vec(), ..RunSettings::new(ports) };
    let (started, starts) = mpsc::channel();
    let name = lab.namespace(Place::Gateway);
    thread::scope(|scope| {
        let gateway = scope.spawn(move || {
            let judge = |worker, load: Arc<Load>| (EngineJudge::new(load, &first.settings(worker, 1, [1, 2])), NoTap);
            let started = move |control| started.send(control).unwrap();
            let reload = move || {
                reload();
                Reload::Refuse(Diagnostics::new())
            };
            namespace::inside(&name, || daemon::run(&settings, first.load(), judge, started, reload)).unwrap()
        });
        let done = starts.recv().ok().map(|control| {
            let _ending = Ending(&control);
            work(&control)
        });
        match gateway.join().unwrap() {
            Ok(summary) => Some((summary, done.unwrap())),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    })
}

/// What arrived: of each host, when its packets departed and arrived.
#[derive(Default)]
struct Seen {
    sent: [u64; FLOWS as usize],
    passed: [Vec<[u64; 2]>; FLOWS as usize],
}

/// Sends for so long, or until told to stop.
fn run(
    queues: &mut [Vec<Queue>; 2],
    rate: u64,
    duration: Duration,
    stop: &AtomicBool,
    start: &OnceLock<Instant>,
) -> Seen {
    let traffic = Traffic { flows: FLOWS, ..Traffic::default() };
    let total = rate * duration.as_millis() as u64 / 1000;
    let mut ways = [Way::new(&traffic, Rate::PerSecond(rate), rate as u16, total)];
    let mut seen = Seen::default();
    drive(queues, &mut ways, [2 * duration, PATIENCE], stop, |_, arrival| {
        start.get_or_init(|| Instant::now() - arrival.at.as_duration());
        seen.passed[usize::from(arrival.signature.flow)].push([arrival.signature.departure, arrival.at.0]);
    });
    for sequence in 0..ways[0].sender.sent() {
        seen.sent[flow_of(traffic.seed, FLOWS, sequence as u32) as usize] += 1;
    }
    let tally = ways[0].receiver.account().tally();
    assert_eq!((tally.duplicated, tally.corrupted, tally.reordered), (0, 0, 0));
    seen
}

#[test]
fn a_hundred_changes_under_load_lose_nothing_and_mix_nothing() {
    let Some(built) = Built::new() else { return };
    let near = built.end(Place::Generator, topology::CLIENT_INTERFACE).open(4096);
    let far = built.end(Place::Workers, topology::WORKER_INTERFACE).open(4096);
    let (mut near, mut far) = match (near, far) {
        (Ok(near), Ok(far)) => (near, far),
        (Err(error), _) | (_, Err(error)) => {
            println!("skipped: {error}");
            return;
        }
    };
    let mut queues = [std::mem::take(&mut near.queues), std::mem::take(&mut far.queues)];
    for _ in 0..ATTEMPTS {
        let Some(outcome) = a_hundred_changes(&built, &mut queues) else { return };
        println!("{outcome}");
        if outcome.lost <= outcome.dropped && outcome.slowest < LONGEST_FOLLOWING {
            return;
        }
        // A thread may be without a core for longer than any patience here; a change does not do that to it each time.
    }
    panic!("packets that both policies allow are lost to changes, or verdicts do not follow, in {ATTEMPTS} runs");
}

/// What a run showed of packets that every policy allows, and of when verdicts followed.
struct Outcome {
    rate: u64,
    sent: u64,
    lost: u64,
    /// What the kernel dropped meanwhile because no thread had a core to empty a ring.
    dropped: u64,
    slowest: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { rate, sent, lost, dropped, slowest } = self;
        write!(
            f,
            "{rate} packets per second, {CHANGES} changes: {lost} of {sent} packets lost, {dropped} in full rings; \
             verdicts follow in {slowest:?}"
        )
    }
}

/// One run, of which everything is judged that no busy machine changes; `None` where there can be none.
fn a_hundred_changes(built: &Built, queues: &mut [Vec<Queue>; 2]) -> Option<Outcome> {
    let directory = tempfile::tempdir().unwrap();
    let first = read(directory.path(), 2);
    let (summary, (rate, seen, changes, dropped)) = with_gateway(&built.0, &first, |control| {
        // Four fifths of a rate at which nothing is lost here now.
        let is_whole = |seen: &Seen| seen.passed[0].len() as u64 == seen.sent[0];
        let quarter = Duration::from_millis(250);
        let on = AtomicBool::new(false);
        let rates = [200_000, 100_000, 50_000, 25_000, 12_000, 6_000];
        let clean = rates.into_iter().find(|rate| is_whole(&run(queues, *rate, quarter, &on, &OnceLock::new())));
        let rate = clean.unwrap_or(3_000) * 4 / 5;
        let (start, is_done) = (OnceLock::new(), AtomicBool::new(false));
        let before = built.dropped();
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                /// Ends the traffic even if a change fails.
                struct Done<'a>(&'a AtomicBool);
                impl Drop for Done<'_> {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::Relaxed);
                    }
                }
                let _done = Done(&is_done);
                change(directory.path(), control, &start)
            });
            let seen = run(queues, rate, LONGEST, &is_done, &start);
            (rate, seen, changing.join().unwrap(), built.dropped() - before)
        })
    })?;

    let [always, even, odd, never] = &seen.passed;
    let slowest = changes.iter().map(|change| following(change, if change.is_even { odd } else { even })).max();
    assert_eq!(changes.len() as u32, CHANGES);
    assert_eq!(summary.generation, u64::from(CHANGES) + 1);
    assert_eq!(never.len(), 0, "a packet was judged by a layer of one policy and a layer of the other");
    assert!(even.len() > 100 && odd.len() > 100, "both policies were in force: {} {}", even.len(), odd.len());
    assert_eq!(summary.lost_frames, 0, "frames are conserved");
    let (sent, slowest) = (seen.sent[0], slowest.unwrap_or_default());
    Some(Outcome { rate, sent, lost: sent - always.len() as u64, dropped, slowest })
}

#[test]
fn what_compiles_keeps_off_the_workers_cores_where_others_remain() {
    let allowed = cores::allowed();
    let Some(last) = allowed.last() else { return };
    let Some(built) = Built::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let first = read(directory.path(), 2);
    let check = |cores: &[usize], expected: &[usize]| {
        let (asked, answers) = mpsc::channel();
        let reload = move || asked.send(cores::allowed()).unwrap();
        let compiling = |control: &Control<Load>| {
            control.reload();
            answers.recv_timeout(PATIENCE * 10).unwrap()
        };
        let Some((_, compiled)) = with_pinned(&built.0, &first, cores, reload, compiling) else { return };
        assert_eq!(compiled, expected, "workers on {cores:?}");
    };
    let others: Vec<usize> = allowed.iter().copied().filter(|core| core != last).collect();
    check(&[*last], if others.is_empty() { &allowed } else { &others });
    // Pinned nowhere, and to a core that nobody can be pinned to: told, and no defect.
    check(&[], &allowed);
    check(&[5000], &allowed);
}

/// A change that is in force, in nanoseconds since the traffic began.
struct Change {
    is_even: bool,
    published: u64,
    /// When the next one was about to be published.
    until: u64,
}

/// Reads, compiles and publishes again and again.
fn change(directory: &Path, control: &Control<Load>, start: &OnceLock<Instant>) -> Vec<Change> {
    cores::give_way();
    let mut changes: Vec<Change> = Vec::new();
    let waiting = Instant::now();
    while start.get().is_none() && waiting.elapsed() < LONGEST {
        thread::sleep(Duration::from_millis(1));
    }
    let start = start.get().expect("traffic runs");
    let begun = Instant::now();
    for number in 1..=CHANGES {
        let generation = u64::from(number) + 2;
        let loaded = read(directory, generation);
        thread::sleep((begun + PAUSE * number).saturating_duration_since(Instant::now()));
        if let Some(last) = changes.last_mut() {
            last.until = start.elapsed().as_nanos() as u64;
        }
        control.publish(loaded.load());
        let published = start.elapsed().as_nanos() as u64;
        changes.push(Change { is_even: generation.is_multiple_of(2), published, until: u64::MAX });
    }
    // Traffic goes on under the last one, for longer than it may take to follow: a change that comes to nothing shows.
    thread::sleep(2 * LONGEST_FOLLOWING);
    changes
}

/// From the change to the departure of the last packet that the policy before it let pass. What arrives behind the next change may
/// have been let pass by that one.
fn following(change: &Change, passed: &[[u64; 2]]) -> Duration {
    let by_the_old =
        passed.iter().filter(|[departure, arrival]| *departure >= change.published && *arrival < change.until);
    Duration::from_nanos(by_the_old.map(|[departure, _]| departure - change.published).max().unwrap_or(0))
}
