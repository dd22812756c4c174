//! Control line at scale: a cluster written as YAML in, seconds of load and compile and bytes of the program out. Run with
//! `cargo bench --bench scale`, or with the names of some clusters, or `rebuild`,
//! behind `--`. Each is measured in a process of its own, so that
//! the peak of memory is its own too.

use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ringwall::base::address::Family;
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::cli::bench::generate::{End, Recipe, generate};
use ringwall::cli::bench::profile::Kind;
use ringwall::cli::bench::ruleset::{Burst, RuleSet, build, lookup};
use ringwall::cli::bench::traffic::{Traffic, headers};
use ringwall::compile::{self, Options};
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::Source;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Cluster {
    name: &'static str,
    namespaces: usize,
    pods: usize,
    /// Different sets of labels that the pods have.
    label_sets: usize,
    policies: usize,
    network_sets: usize,
    /// Prefixes of each network set.
    prefixes: usize,
}

const NONE: Cluster =
    Cluster { name: "", namespaces: 200, pods: 0, label_sets: 1, policies: 0, network_sets: 0, prefixes: 0 };

const CLUSTERS: [Cluster; 9] = [
    Cluster { name: "small", pods: 1_000, label_sets: 200, policies: 100, ..NONE },
    Cluster { name: "pods-25k", pods: 25_000, label_sets: 2_000, policies: 2_500, ..NONE },
    Cluster { name: "pods-50k", pods: 50_000, label_sets: 2_000, policies: 2_500, ..NONE },
    Cluster { name: "pods-100k", pods: 100_000, label_sets: 2_000, policies: 2_500, ..NONE },
    Cluster { name: "policies-5k", pods: 100_000, label_sets: 2_000, policies: 5_000, ..NONE },
    Cluster { name: "policies-10k", pods: 100_000, label_sets: 2_000, policies: 10_000, ..NONE },
    Cluster { name: "own-labels", pods: 100_000, label_sets: 100_000, policies: 10_000, ..NONE },
    Cluster { name: "network-sets", network_sets: 5, prefixes: 100_000, policies: 10_000, ..NONE },
    Cluster {
        name: "everything",
        pods: 100_000,
        label_sets: 100_000,
        policies: 10_000,
        network_sets: 5,
        prefixes: 100_000,
        ..NONE
    },
];

impl Cluster {
    /// The label of a pod's kind: pods of one kind in one namespace have equal labels.
    fn kinds(&self) -> usize {
        (self.label_sets / self.namespaces).max(1)
    }

    fn pods(&self) -> String {
        let mut text = String::new();
        for n in 0..self.namespaces {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns-{n}\n  labels: {{ team: team-{} }}\n",
                n % 20
            );
        }
        for p in 0..self.pods {
            let namespace = p % self.namespaces;
            let kind = (p / self.namespaces) % self.kinds();
            let address = format!("10.{}.{}.{}", 64 + (p >> 16), p >> 8 & 255, p & 255);
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{p}\n  namespace: ns-{namespace}\n  labels:\n    \
                 app: app-{kind}\n    part: part-{}\n    release: stable\nspec:\n  containers:\n  - name: main\n    ports:\n    \
                 - {{ name: http, containerPort: {} }}\nstatus:\n  phase: Running\n  podIP: {address}\n",
                kind % 4,
                8080 + kind % 3
            );
        }
        text
    }

    fn endpoints(&self) -> String {
        let mut text = String::new();
        for n in 0..100 {
            let _ = write!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata:\n  name: worker-{n}\n  labels:\n    \
                 ibm.role: worker_{}\nspec:\n  node: node-{n}\n  interfaceName: eth1\n  expectedIPs: [192.168.0.{n}]\n",
                ["public", "private"][n % 2]
            );
        }
        for set in 0..self.network_sets {
            let _ = write!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: set-{set}\n  labels: {{ \
                 threat: feed-{set} }}\nspec:\n  nets:\n"
            );
            for p in 0..self.prefixes {
                // Every other network, so that neighbours do not join.
                let n = (set * self.prefixes + p) * 2;
                let _ = writeln!(text, "  - {}.{}.{}.{}/30", 20 + (n >> 22), n >> 14 & 255, n >> 6 & 255, (n & 63) * 4);
            }
        }
        text
    }

    /// Of ten policies seven are of Kubernetes, two of Calico in a namespace and one global.
    fn policies(&self) -> String {
        let mut text = String::new();
        for i in 0..self.policies {
            let (namespace, kind) = (i % self.namespaces, (i / self.namespaces) % self.kinds());
            let other = (kind + 1) % self.kinds();
            let _ = match i % 10 {
                0..=6 => write!(
                    text,
                    "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: allow-{i}\n  namespace: \
                     ns-{namespace}\nspec:\n  podSelector:\n    matchLabels: {{ app: app-{kind} }}\n  policyTypes: [Ingress]\n  \
                     ingress:\n  - from:\n    - podSelector:\n        matchLabels: {{ app: app-{other} }}\n    - \
                     namespaceSelector:\n        matchLabels: {{ team: team-{} }}\n    - ipBlock: {{ cidr: 172.16.{}.0/24 \
                     }}\n    ports:\n    - {{ protocol: TCP, port: {} }}\n",
                    i % 20,
                    i % 256,
                    ["http", "443", "8080"][i % 3]
                ),
                7 | 8 => write!(
                    text,
                    "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: calico-{i}\n  namespace: \
                     ns-{namespace}\nspec:\n  order: {i}\n  selector: app in {{'app-{kind}', 'app-{other}'}} && part != \
                     'part-{}'\n  types: [Ingress, Egress]\n  ingress:\n  - action: Allow\n    protocol: TCP\n    source: {{ \
                     selector: \"part == 'part-{}'\" }}\n    destination: {{ ports: [{}] }}\n  egress:\n  - action: Allow\n    \
                     destination: {{ namespaceSelector: all() }}\n",
                    i % 4,
                    i % 3,
                    1000 + i % 5000
                ),
                _ => write!(
                    text,
                    "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: global-{i}\nspec:\n  \
                     order: {i}\n  selector: ibm.role == 'worker_public' || app == 'app-{kind}'\n  preDNAT: {}\n  \
                     applyOnForward: true\n  types: [Ingress]\n  ingress:\n  - action: Deny\n    source: {{ selector: \
                     \"threat == 'feed-{}'\" }}\n",
                    i % 20 == 9,
                    i % self.network_sets.max(1)
                ),
            };
        }
        text
    }
}

/// Kilobytes of resident memory, now or at most.
fn resident(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim_matches([':', '\t', ' ']).split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Seconds of processor time so far: on a machine that others use too, they say more than the clock.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    // utime and stime are fields 14 and 15 in hundredths; the state behind the name is field 3.
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn measure(cluster: &Cluster) {
    let sources = [
        Source::new("pods.yaml", cluster.pods()),
        Source::new("endpoints.yaml", cluster.endpoints()),
        Source::new("policies.yaml", cluster.policies()),
    ];
    let text: usize = sources.iter().map(|source| source.text.len()).sum();
    let mut findings = Diagnostics::new();
    let (start, before) = (Instant::now(), processor());
    let policy = load(&sources, &LoadOptions::default(), &mut findings);
    let (loaded, loaded_processor) = (start.elapsed(), processor() - before);
    let load_peak = resident("VmHWM");
    drop(sources);
    let Some(policy) = policy else {
        let first = findings.iter().next().map(ToString::to_string);
        panic!("{}: the cluster does not load: {}", cluster.name, first.unwrap_or_default());
    };
    let (start, before) = (Instant::now(), processor());
    let program = compile::compile(&policy, &Site::default(), &Options::default(), &mut findings);
    let (compiled, compiled_processor) = (start.elapsed(), processor() - before);
    let program = program.unwrap_or_else(|| panic!("{}: the cluster does not compile", cluster.name));
    println!(
        "{:<14}{:>8}{:>9}{:>8}{:>8}{:>8.1}{:>9.2}{:>7.2}{:>10.2}{:>7.2}{:>9}{:>9.1}{:>8}{:>8}",
        cluster.name,
        cluster.pods,
        policy.rulesets.len(),
        cluster.label_sets,
        cluster.network_sets * cluster.prefixes,
        text as f64 / 1e6,
        loaded.as_secs_f64(),
        loaded_processor,
        compiled.as_secs_f64(),
        compiled_processor,
        program.entries.len(),
        program.bytes() as f64 / 1e6,
        load_peak / 1000,
        resident("VmHWM") / 1000,
    );
}

/// The classifier of a hundred thousand rules: seconds of the first build, and of the build after one rule changed, while another
/// thread looks up.
fn rebuild() {
    let recipe = Recipe { kind: Kind::Acl, family: Family::V4, rules: 100_000, seed: 1, end: End::CatchAll };
    let mut set = generate(&recipe);
    let keys = headers(&set, Traffic::Uniform, 1 << 16, 1);
    let timed = |set: &RuleSet| {
        let matches = set.matches();
        let start = Instant::now();
        let built = build(&matches).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        (built, start.elapsed().as_secs_f64())
    };
    let (classifier, first) = timed(&set);
    let is_over = AtomicBool::new(false);
    let (again, looked_up) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut answers = vec![0; keys.len()];
            let mut burst = Burst::default();
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                lookup(&classifier, &mut burst, &keys, &mut answers);
                count += keys.len();
            }
            count
        });
        set.rules[50_000].dport = (7, 7);
        let (_, again) = timed(&set);
        is_over.store(true, Ordering::Relaxed);
        (again, looking.join().unwrap_or(0))
    });
    println!(
        "\nrules of one list: 100000, build {first:.2} s; one of them changed: {again:.2} s, beside {:.1} M look-ups",
        looked_up as f64 / 1e6
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [only] = &wanted[..]
        && let Some(cluster) = CLUSTERS.iter().find(|c| c.name == only)
        && std::env::var_os("RINGWALL_SCALE_HEADER").is_some()
    {
        return measure(cluster);
    }
    println!(
        "{:<14}{:>8}{:>9}{:>8}{:>8}{:>8}{:>9}{:>7}{:>10}{:>7}{:>9}{:>9}{:>8}{:>8}",
        "CLUSTER",
        "PODS",
        "POLICIES",
        "LABELS",
        "NETS",
        "MB YAML",
        "LOAD S",
        "CPU S",
        "COMPILE S",
        "CPU S",
        "ENTRIES",
        "MB",
        "LOAD MB",
        "PEAK MB"
    );
    let program = std::env::current_exe().expect("a running program has a path");
    for cluster in CLUSTERS.iter().filter(|c| wanted.is_empty() || wanted.iter().any(|w| w == c.name)) {
        let status = Command::new(&program).arg(cluster.name).env("RINGWALL_SCALE_HEADER", "").status();
        assert!(status.is_ok_and(|s| s.success()), "{} failed", cluster.name);
    }
    if wanted.is_empty() || wanted.iter().any(|wanted| wanted == "rebuild") {
        rebuild();
    }
}
