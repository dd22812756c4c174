//! Published Kubernetes policies as truth tables: who may reach whom, said once more in a line of code for each file.

use ringwall::base::address::Direction;
use ringwall::packet::PacketSpec;
use ringwall::policy::source::Source;

use crate::gateway::{Gateway, files, read_sources, shared};

/// Namespaces with one label each.
const NAMESPACES: [(&str, &str); 9] = [
    ("default", "team: none"),
    ("other", "team: operations"),
    ("prod", "purpose: production"),
    ("kube-system", "team: none"),
    ("x", "ns: x"),
    ("y", "ns: y"),
    ("z", "ns: z"),
    ("abcd", "team: none"),
    ("ns-y", "team: none"),
];

/// Pods by namespace, with their labels; the address comes from the position.
const PODS: [(&str, &str); 31] = [
    ("default", "app: web"),
    ("default", "app: bookstore, role: api"),
    ("default", "app: bookstore, role: search"),
    ("default", "app: bookstore, role: db"),
    ("default", "app: inventory, role: web"),
    ("default", "app: inventory, role: api"),
    ("default", "app: foo"),
    ("default", "app: foo, role: db"),
    ("default", "app: foo, role: api"),
    ("default", "app: apiserver"),
    ("default", "role: monitoring"),
    ("default", "type: monitoring"),
    ("other", "type: monitoring"),
    ("other", "role: monitoring"),
    ("other", "app: bookstore, role: api"),
    ("prod", "type: monitoring"),
    ("prod", "app: web"),
    ("kube-system", "k8s-app: kube-dns"),
    ("kube-system", "app: web"),
    ("x", "pod: a"),
    ("x", "pod: b"),
    ("y", "pod: a"),
    ("y", "pod: b"),
    ("y", "pod: c"),
    ("z", "pod: a"),
    ("z", "pod: c"),
    ("abcd", "pod: a"),
    ("abcd", "pod: b"),
    ("ns-y", "app: qrs"),
    ("ns-y", "app: other"),
    ("ns-y", "pod: a"),
];

/// One end of a packet; the last one is outside of the cluster.
#[derive(Clone, Copy)]
struct End {
    namespace: &'static str,
    labels: &'static str,
    address: std::net::Ipv4Addr,
}

impl End {
    fn has(&self, label: &str) -> bool {
        self.labels.split(", ").any(|l| l == label)
    }
    fn is_in(&self, namespace: &str) -> bool {
        self.namespace == namespace
    }
    fn is_pod(&self) -> bool {
        !self.namespace.is_empty()
    }
    fn is_dns(&self) -> bool {
        self.is_in("kube-system") && self.has("k8s-app: kube-dns")
    }
}

/// Source, destination, protocol, destination port.
struct Packet {
    from: End,
    to: End,
    protocol: u8,
    port: u16,
}

impl Packet {
    fn is_tcp(&self, ports: std::ops::RangeInclusive<u16>) -> bool {
        self.protocol == 6 && ports.contains(&self.port)
    }
    fn is_dns_port(&self) -> bool {
        matches!(self.protocol, 6 | 17) && self.port == 53
    }
}

/// Whether a policy lets a packet through.
type Says = fn(&Packet) -> bool;

const KINDS: [(u8, u16); 12] = [
    (6, 80),
    (6, 81),
    (6, 79),
    (6, 103),
    (6, 104),
    (6, 53),
    (17, 53),
    (6, 5000),
    (17, 5000),
    (6, 8080),
    (6, 2040),
    (1, 0),
];

fn ends() -> Vec<End> {
    let pods = PODS.iter().zip(1u8..).map(|(&(namespace, labels), i)| End {
        namespace,
        labels,
        address: std::net::Ipv4Addr::new(172, 30, 50, i),
    });
    let outside = ["203.0.113.9", "0.0.0.200", "172.20.0.1"].map(|address| End {
        namespace: "",
        labels: "",
        address: address.parse().expect("an address"),
    });
    pods.chain(outside).collect()
}

fn inventory() -> String {
    let mut text = String::new();
    for (name, label) in NAMESPACES {
        text += &format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ {label} }} }}\n");
    }
    for (i, end) in ends().iter().enumerate().filter(|(_, end)| end.is_pod()) {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: p{i}, namespace: {}, labels: {{ {} }} }}\n\
             spec: {{ containers: [{{ name: c }}] }}\nstatus: {{ phase: Running, podIP: {} }}\n",
            end.namespace, end.labels, end.address
        );
    }
    text
}

/// Judges every packet between two ends, at the source's and at the destination's side.
fn check(folder: &str, file: &str, ingress: Says, egress: Says) {
    let Some(shared) = shared() else { return };
    let mut sources = files(&shared.join(folder), &[file]);
    sources.push(Source::new("inventory.yaml", inventory()));
    let (policy, _) = read_sources(&sources).unwrap_or_else(|e| panic!("{file}: {e:#?}"));
    let mut gateway = Gateway::with_policy("", policy);
    let ends = ends();
    let mut counts = [0; 2];
    for &from in &ends {
        for &to in ends.iter().filter(|to| to.address != from.address) {
            for (protocol, port) in KINDS {
                let packet = Packet { from, to, protocol, port };
                let base = PacketSpec::new(from.address.into(), to.address.into(), protocol);
                let spec = PacketSpec { sport: 40_000, dport: port, ..base };
                for (side, direction, says) in [(to, Direction::Inbound, ingress), (from, Direction::Outbound, egress)]
                {
                    if !side.is_pod() {
                        continue;
                    }
                    let outcome = gateway.alone_spec(&spec, direction);
                    let expected = says(&packet);
                    let who = |end: &End| format!("{} [{}] {}", end.namespace, end.labels, end.address);
                    assert_eq!(
                        outcome.is_allowed,
                        expected,
                        "{file} {direction:?}: {} to {} protocol {protocol} port {port}: {}",
                        who(&from),
                        who(&to),
                        outcome.line
                    );
                    counts[usize::from(expected)] += 1;
                }
            }
        }
    }
    assert!(counts[1] > 0, "{file}: {counts:?}");
}

/// A direction that the policy does not govern.
const OPEN: Says = |_| true;

#[test]
fn cyclonus() {
    let check =
        |file: &str, ingress: Says, egress: Says| check("corpus/cyclonus/networkpolicies", file, ingress, egress);
    check("allow-all-internal.yaml", |p| !p.to.is_in("abcd") || p.from.is_pod(), OPEN);
    check("allow-all.yaml", OPEN, OPEN);
    check("features/portrange1.yaml", OPEN, |p| {
        !(p.from.is_in("x") && p.from.has("pod: a"))
            || (p.to.is_in("y") && p.to.has("pod: a") && p.is_tcp(80..=103))
            || (p.protocol == 17 && p.port == 53)
    });
    check("simple-example/allow-all-egress-by-label.yaml", OPEN, OPEN);
    check("simple-example/allow-all-for-label.yaml", OPEN, OPEN);
    check(
        "simple-example/allow-by-ip.yaml",
        |p| !(p.to.is_in("y") && p.to.has("pod: c")) || p.from.address.octets()[..3] == [0, 0, 0],
        OPEN,
    );
    check(
        "simple-example/allow-label-to-label.yaml",
        |p| !(p.to.is_in("y") && p.to.has("pod: a")) || (p.from.is_in("y") && p.from.has("pod: c")),
        OPEN,
    );
    check("simple-example/deny-all-egress.yaml", OPEN, |p| !p.from.is_in("y"));
    check("simple-example/deny-all-for-label.yaml", |p| !(p.to.is_in("y") && p.to.has("pod: a")), OPEN);
    check("simple-example/deny-all.yaml", |p| !p.to.is_in("y"), OPEN);
    check("upstream_test_cases/allow-to-ns-y-pod-a.yaml", OPEN, |p| {
        !(p.from.is_in("x") && p.from.has("pod: a"))
            || (p.to.is_in("y") && p.to.has("pod: a") && p.is_tcp(80..=80))
            || (p.protocol == 17 && p.port == 53)
    });
    check(
        "yaml-syntax/yaml-list.yaml",
        |p| {
            !p.to.is_in("ns-y")
                || p.from.is_in("ns-y")
                || (p.from.is_pod() && (p.is_tcp(8080..=8080) || p.to.has("app: qrs")))
        },
        OPEN,
    );
}

#[test]
fn recipes() {
    let check = |file: &str, ingress: Says, egress: Says| check("corpus/recipes", file, ingress, egress);
    check("01-deny-all-traffic-to-an-application-01.yaml", |p| !(p.to.is_in("default") && p.to.has("app: web")), OPEN);
    check(
        "02-limit-traffic-to-an-application-01.yaml",
        |p| {
            !(p.to.is_in("default") && p.to.has("app: bookstore") && p.to.has("role: api"))
                || (p.from.is_in("default") && p.from.has("app: bookstore"))
        },
        OPEN,
    );
    check("02a-allow-all-traffic-to-an-application-01.yaml", OPEN, OPEN);
    check("03-deny-all-non-whitelisted-traffic-in-the-namespace-01.yaml", |p| !p.to.is_in("default"), OPEN);
    check("04-deny-traffic-from-other-namespaces-01.yaml", |p| !p.to.is_in("default") || p.from.is_in("default"), OPEN);
    check(
        "05-allow-traffic-from-all-namespaces-01.yaml",
        |p| !(p.to.is_in("default") && p.to.has("app: web")) || p.from.is_pod(),
        OPEN,
    );
    check(
        "06-allow-traffic-from-a-namespace-01.yaml",
        |p| !(p.to.is_in("default") && p.to.has("app: web")) || p.from.is_in("prod"),
        OPEN,
    );
    check(
        "07-allow-traffic-from-some-pods-in-another-namespace-01.yaml",
        |p| {
            !(p.to.is_in("default") && p.to.has("app: web"))
                || (p.from.is_in("other") && p.from.has("type: monitoring"))
        },
        OPEN,
    );
    check("08-allow-external-traffic-01.yaml", OPEN, OPEN);
    check(
        "09-allow-traffic-only-to-a-port-01.yaml",
        |p| {
            !(p.to.is_in("default") && p.to.has("app: apiserver"))
                || (p.from.is_in("default") && p.from.has("role: monitoring") && p.is_tcp(5000..=5000))
        },
        OPEN,
    );
    check(
        "10-allowing-traffic-with-multiple-selectors-01.yaml",
        |p| {
            !(p.to.is_in("default") && p.to.has("app: bookstore") && p.to.has("role: db"))
                || (p.from.is_in("default")
                    && (p.from.has("app: bookstore") && (p.from.has("role: search") || p.from.has("role: api"))
                        || p.from.has("app: inventory") && p.from.has("role: web")))
        },
        OPEN,
    );
    check("11-deny-egress-traffic-from-an-application-01.yaml", OPEN, |p| {
        !(p.from.is_in("default") && p.from.has("app: foo"))
    });
    check("11-deny-egress-traffic-from-an-application-02.yaml", OPEN, |p| {
        !(p.from.is_in("default") && p.from.has("app: foo")) || (p.to.is_dns() && p.is_dns_port())
    });
    check("12-deny-all-non-whitelisted-traffic-from-the-namespace-01.yaml", OPEN, |p| !p.from.is_in("default"));
    check("14-deny-external-egress-traffic-01.yaml", OPEN, |p| {
        !(p.from.is_in("default") && p.from.has("app: foo")) || (p.to.is_dns() && p.is_dns_port())
    });
}

#[test]
fn samples_for_clusters() {
    let check = |file: &str, ingress: Says, egress: Says| {
        check("corpus/kube-samples/HEAD/k8s-network-policies", file, ingress, egress)
    };
    check("block-egress.yaml", OPEN, |p| !p.from.is_in("default"));
    check("block-egress-allow-dns.yaml", OPEN, |p| !p.from.is_in("default") || p.is_dns_port() || p.to.is_pod());
    check("deny-traffic-from-other-namespaces.yaml", |p| !p.to.is_in("default") || p.from.is_in("default"), OPEN);
    check(
        "limit-traffic-to-a-pod.yaml",
        |p| {
            !(p.to.is_in("default") && p.to.has("app: foo") && p.to.has("role: db"))
                || (p.from.is_in("default") && p.from.has("app: foo") && p.from.has("role: api"))
        },
        OPEN,
    );
    check("only-egress-to-kubeapiserver.yaml", OPEN, |p| {
        !p.from.is_in("default") || (p.to.address == std::net::Ipv4Addr::new(172, 20, 0, 1) && p.is_tcp(2040..=2040))
    });
}
