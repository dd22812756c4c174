//! Broken input in, errors that name place and cure out; nothing is applied (section 3, IN-3 to IN-9, GW-21).

use ringwall::base::diagnostic::Diagnostics;
use ringwall::policy::load::{Limits, LoadOptions, load};
use ringwall::policy::source::Source;

fn read_with(options: &LoadOptions, files: &[(&str, &str)]) -> (bool, Vec<String>) {
    let mut out = Diagnostics::new();
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    let is_accepted = load(&sources, options, &mut out).is_some();
    (is_accepted, out.iter().map(|d| format!("[{}] {d}", d.code)).collect())
}

fn read(text: &str) -> (bool, Vec<String>) {
    read_with(&LoadOptions::default(), &[("a.yaml", text)])
}

/// One error that contains all of `expected`.
fn refuse(id: &str, text: &str, expected: &[&str]) {
    let (is_accepted, findings) = read(text);
    assert!(!is_accepted, "{id}: accepted\n{text}");
    let errors: Vec<&String> = findings.iter().filter(|f| f.contains("] error: ")).collect();
    assert_eq!(errors.len(), 1, "{id} {text}\n{errors:#?}");
    for wanted in expected {
        assert!(errors[0].contains(wanted), "{id} {text}\nwanted {wanted}\nfound {}", errors[0]);
    }
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

fn policy(spec: &str) -> String {
    resource("GlobalNetworkPolicy", "p", spec)
}

fn rule(rule: &str) -> String {
    policy(&format!("{{ ingress: [{{ action: Allow, {rule} }}] }}"))
}

#[test]
fn policies_that_contradict_themselves() {
    let check = |id: &str, spec: &str, expected: &str| refuse(id, &policy(spec), &["a.yaml:4", expected]);
    check("V-1", "{ preDNAT: true, doNotTrack: true, applyOnForward: true }", "together with `doNotTrack`");
    check("V-2", "{ preDNAT: true, applyOnForward: true, egress: [{ action: Deny }] }", "`spec.egress`");
    check("V-2", "{ preDNAT: true, applyOnForward: true, types: [Ingress, Egress] }", "`spec.types`");
    check("V-3", "{ preDNAT: true }", "needs `applyOnForward: true`");
    check("V-3", "{ doNotTrack: true, applyOnForward: false }", "needs `applyOnForward: true`");
    check("V-4", "{ types: [Ingress, Ingress] }", "twice");
    check("V-4", "{ types: [Engress] }", "expected one of `Ingress`, `Egress`, found `Engress` (did you mean");
    check("V-4", "{ types: [ingress] }", "did you mean `Ingress`?");
    check("V-4", "{ types: [] }", "no direction");
    check("V-12", "{ selector: a = 'b' }", "equality is written `==` at character 3");
    check("V-13", "{ selector: global() }", "`global()`");
    check("V-13", "{ selector: \"a == 'global('\" }", "`global()`");
    check("V-13", "{ namespaceSelector: global() }", "`global()`");
    check("V-13", "{ serviceAccountSelector: global() }", "`global()`");
    check("2.2", "{ order: '1000' }", "remove the quotes");
    check("2.2", "{ order: .inf }", "finite");
    check("2.2", "{ preDNAT: yes }", "expected a boolean");
    check("2.2", "{ tier: 5 }", "expected a string");
}

#[test]
fn selectors_have_limits_v_12() {
    let long = format!("{{ selector: \"a == '{}'\" }}", "x".repeat(1018));
    refuse("V-12", &policy(&long), &["longer than 1024"]);
    let fits = format!("{{ selector: \"a == '{}'\" }}", "x".repeat(1017));
    assert!(read(&policy(&fits)).0);
    refuse("V-12", &policy(&format!("{{ selector: has({}) }}", "x".repeat(513))), &["512"]);
}

#[test]
fn rules_that_cannot_work() {
    let check = |id: &str, text: &str, expected: &str| refuse(id, &rule(text), &["a.yaml:4", expected]);
    check("V-5", "destination: { ports: [80] }", "ports need a protocol");
    check("V-5", "source: { notPorts: [http, '1:2'] }", "ports need a protocol");
    check("V-7", "notProtocol: TCP, destination: { ports: [80] }", "ports need a protocol");
    check("V-6", "protocol: ICMP, destination: { ports: [80] }", "TCP, UDP or SCTP");
    check("V-6", "protocol: UDPLite, destination: { ports: [80] }", "TCP, UDP or SCTP");
    check("V-6", "protocol: 50, destination: { ports: [http] }", "TCP, UDP or SCTP");
    check("V-8", "protocol: TCP, destination: { ports: ['10-20'] }", "`\"10:20\"`");
    check("V-8", "protocol: TCP, destination: { ports: [0] }", "1 to 65535");
    check("V-9", "icmp: { type: 8 }", "needs protocol ICMP");
    check("V-9", "protocol: TCP, icmp: { type: 8 }", "needs protocol ICMP");
    check("V-9", "protocol: ICMP, ipVersion: 6", "ipVersion 4");
    check("V-9", "protocol: 58, ipVersion: 4", "ipVersion 6");
    check("V-9", "notProtocol: ICMP, ipVersion: 6", "ipVersion 4");
    check("V-10", "protocol: ICMP, icmp: { code: 1 }", "a code needs a type");
    check("V-10", "protocol: ICMP, icmp: { type: 255 }", "0 to 254");
    check("V-10", "protocol: ICMP, icmp: { type: 1, code: 256 }", "0 to 255");
    check("V-11", "protocol: 0", "1 to 255");
    check("V-11", "protocol: 256", "1 to 255");
    check("V-11", "protocol: tcp", "did you mean `TCP`?");
    check("V-13", "source: { selector: global() }", "`global()`");
    check("V-13", "source: { notSelector: global() }", "`global()`");
    check("V-13", "source: { namespaceSelector: global() || has(a) }", "combined");
    check("V-14", "http: { methods: [GET] }", "layer-7");
    check("V-17", "destination: { services: { name: a, namespace: b } }", "only in `source`");
    check("V-17", "source: { services: { name: a, namespace: b }, selector: has(a) }", "beside `services`");
    check("V-17", "source: { services: { name: a, namespace: b }, nets: [1.1.1.1/32] }", "beside `services`");
    check("V-17", "source: { services: { name: a } }", "namespace");
    check("V-17", "source: { services: { namespace: a } }", "`spec.ingress[0].source.services.name` is required");
    check("V-20", "source: { nets: [ten] }", "not an address prefix");
    check("V-20", "source: { nets: [10.0.0.0/33] }", "not an address prefix");
    check("V-21", "source: { nets: [10.0.0.1/24] }", "did you mean `10.0.0.0/24`, or `10.0.0.1/32`?");
    check("V-21", "source: { notNets: ['2001:db8::1/64'] }", "2001:db8::/64");
    check("V-22", "source: { nets: [10.0.0.1] }", "write `10.0.0.1/32`");
    check("V-23", "source: { nets: [10.0.0.0/8], notNets: ['2001:db8::/32'] }", "one rule for each family");
    check(
        "V-23",
        "source: { nets: [10.0.0.0/8] }, destination: { nets: ['2001:db8::/32'] }",
        "one rule for each family",
    );
    check("V-23", "ipVersion: 6, source: { nets: [10.0.0.0/8] }", "`ipVersion`");
    check("V-24", "source: { notNets: [0.0.0.0/0] }", "excludes every address");
    check("V-24", "source: { notNets: ['0::/0'] }", "excludes every address");
    check("V-25", "source: { nets: [10.0.0.0/8, 10.0.0.0/8] }", "twice");
    check("IN-9", "source: { nets: [10.0.0.0/8, ] , notNets: [~] }", "empty entry");
    check("2.4", "ipVersion: 5", "4 or 6");
    check("2.4", "metadata: { annotations: { '...': a } }", "annotation");
    refuse("2.4", &policy("{ ingress: [{ action: allow }] }"), &["did you mean `Allow`?"]);
    refuse("2.4", &policy("{ ingress: [{ protocol: TCP }] }"), &["`spec.ingress[0].action` is required"]);
    refuse(
        "V-17",
        &policy("{ egress: [{ action: Allow, source: { services: { name: a, namespace: b } } }] }"),
        &["destination"],
    );
    let ports = "{ egress: [{ action: Allow, protocol: TCP, destination: { ports: [1], services: { name: a, namespace: b } } }] }";
    refuse("V-17", &policy(ports), &["ports are those of the service"]);
}

#[test]
fn limits_can_be_raised_v_25() {
    let nets = |count: u32| -> String {
        let all: Vec<String> = (0..count).map(|i| format!("10.{}.{}.0/24", i / 256, i % 256)).collect();
        rule(&format!("source: {{ nets: [{}] }}", all.join(", ")))
    };
    assert!(read(&nets(256)).0);
    refuse("V-25", &nets(257), &["257 prefixes, at most 256"]);
    let limits = Limits { nets: 1000, ..Limits::default() };
    let raised = LoadOptions { limits, ..LoadOptions::default() };
    assert!(read_with(&raised, &[("a.yaml", &nets(257))]).0);
    let ports: Vec<String> = (1..=51).map(|i| i.to_string()).collect();
    refuse("V-25", &rule(&format!("protocol: TCP, source: {{ ports: [{}] }}", ports.join(", "))), &["at most 50"]);
    let rules = vec!["{ action: Allow }"; 1025].join(", ");
    refuse("V-25", &policy(&format!("{{ ingress: [{rules}] }}")), &["at most 1024"]);
}

#[test]
fn other_kinds_are_checked_too() {
    let check = |id: &str, kind: &str, name: &str, spec: &str, expected: &str| {
        refuse(id, &resource(kind, name, spec), &["a.yaml:", expected]);
    };
    check("V-15", "Tier", "a.b", "{ order: 1 }", "without a dot");
    check("V-15", "Tier", "default", "{ order: 1, defaultAction: Deny }", "order 1000000");
    check("V-15", "Tier", "kube-admin", "{ order: 1000 }", "`Pass`");
    check("V-16", "HostEndpoint", "h", "{ interfaceName: eth0 }", "`spec.node` is required");
    check("V-16", "HostEndpoint", "h", "{ node: w }", "neither an interface nor addresses");
    check("V-16", "HostEndpoint", "h", "{ node: w, interfaceName: '', expectedIPs: [] }", "neither");
    check("V-16", "HostEndpoint", "h", "{ node: w, expectedIPs: [10.0.0.1/32] }", "without a mask");
    check("V-16", "HostEndpoint", "h", "{ node: w, interfaceName: sixteen-chars-xx }", "at most 15");
    check(
        "V-16",
        "HostEndpoint",
        "h",
        "{ node: w, interfaceName: a, ports: [{ protocol: TCP, port: 1 }] }",
        "name` is required",
    );
    check(
        "V-16",
        "HostEndpoint",
        "h",
        "{ node: w, interfaceName: a, ports: [{ name: a, protocol: ICMP, port: 1 }] }",
        "TCP",
    );
    check("V-18", "HostEndpoint", "H", "{ node: w, interfaceName: a }", "not a valid name");
    check("V-18", "GlobalNetworkPolicy", "a_b", "{}", "not a valid name");
    check("V-18", "GlobalNetworkPolicy", "knp.default.a", "{}", "not a valid name");
    check("V-18", "NetworkPolicy", "a.b.c", "{}", "not a valid name");
    check("2.1", "NetworkPolicy", "''", "{}", "must not be empty");
    check("2.1", "NetworkPolicy", "p, namespace: A", "{}", "not a namespace name");
    check("2.1", "GlobalNetworkPolicy", "a, namespace: b", "{}", "has no namespace");
    check("2.1", "GlobalNetworkPolicy", "a, labels: { 'a b': c }", "{}", "not a label name");
    check("2.1", "GlobalNetworkPolicy", "a, labels: { a: 5 }", "{}", "put it in quotes");
    check("2.8", "GlobalNetworkSet", "s, labels: { projectcalico.org/namespace: a }", "{}", "reserved");
    check("2.8", "GlobalNetworkSet", "s", "{ nets: [~] }", "empty entry");
    check("2.8", "NetworkSet", "s", "{ nets: [x] }", "not an address prefix");
    check(
        "FS-5",
        "FelixConfiguration",
        "default",
        "{ failsafeInboundHostPorts: [{ protocol: tcp }] }",
        "port` is required",
    );
    check("2.2", "NetworkPolicy", "p", "{ preDNAT: true }", "unknown field `spec.preDNAT`");
    check("2.2", "NetworkPolicy", "p", "{ namespaceSelector: has(a) }", "unknown field `spec.namespaceSelector`");
}

#[test]
fn unknown_things_are_named_with_what_is_known() {
    refuse(
        "IN-2",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\n",
        &["a.yaml:2:7", "`GlobalNetworkPolicy`, `NetworkPolicy`"],
    );
    refuse(
        "IN-2",
        "apiVersion: projectcalico.org/v3\nkind: globalNetworkPolicy\n",
        &["did you mean `GlobalNetworkPolicy`?"],
    );
    refuse(
        "IN-2",
        "apiVersion: projectcalico.org/v4\nkind: Tier\n",
        &["`Tier` is accepted with apiVersion `projectcalico.org/v3`"],
    );
    refuse("IN-2", "kind: Tier\n", &["`apiVersion` is required"]);
    refuse("IN-2", "apiVersion: v9\n", &["`kind` is required"]);
    refuse("IN-4", "apiVersion: v1\nKind: Tier\n", &["`Kind` is written `kind`"]);
    refuse("IN-2", "just some text\n", &["expected a resource, found a string"]);
    refuse("ORD-1", &policy("{ tier: defualt }"), &["[unknown-tier]", "a.yaml:4:15", "did you mean `default`?"]);
    let cased = policy("{ Selector: all() }");
    refuse(
        "IN-4",
        &cased,
        &["[unknown-field]", "a.yaml:4:9", "`spec.Selector`", "`selector`? field names are case sensitive"],
    );
    refuse("IN-3", &policy("{ ingress: [{ action: Allow, source: { net: 1.1.1.1/32 } }] }"), &["did you mean `nets`?"]);
}

#[test]
fn lenient_mode_warns_of_unknown_fields_only_in_3() {
    let lenient = LoadOptions { lenient: true, ..LoadOptions::default() };
    let check = |text: &str, is_accepted: bool, expected: &str| {
        let (accepted, findings) = read_with(&lenient, &[("a.yaml", text)]);
        assert_eq!(accepted, is_accepted, "{text}\n{findings:#?}");
        assert!(findings.len() == 1 && findings[0].contains(expected), "{text}\n{findings:#?}");
    };
    check(&policy("{ colour: red }"), true, "[unknown-field] warning");
    check(&rule("source: { nets: [1.1.1.1] }"), true, "[missing-mask] warning");
    check(&policy("{ order: high }"), false, "[wrong-type] error");
    check("apiVersion: v9\nkind: X\n", false, "[unknown-kind] error");
}

#[test]
fn placeholders_and_formatting_slips_get_advice_in_6() {
    refuse("IN-6", &rule("source: { nets: [<ip>/32] }"), &["unfilled placeholder"]);
    refuse(
        "IN-6",
        &resource("HostEndpoint", "<worker>-public", "{ node: w, interfaceName: a }"),
        &["unfilled placeholder"],
    );
    refuse("IN-6", &rule("protocol: TCP, source: { ports: [<port>] }"), &["unfilled placeholder"]);
    refuse("IN-9", &policy("{ selector: !has(a) }"), &["a.yaml:4", "quote a selector that starts with `!`"]);
    refuse("IN-9", &policy("\n  selector: !has(a)"), &["a.yaml:5", "quote a selector that starts with `!`"]);
    refuse("H7", &policy("{ selector: a == \u{201c}b\u{201d} }"), &["curly quotes"]);
    refuse("H6", "apiVersion: a\n\\- kind: b\n\\- c: d\n", &["backslash"]);
}

#[test]
fn broken_files_do_not_break_the_reader() {
    let twice = policy("{}").replace("kind", "apiVersion: projectcalico.org/v3\nkind");
    refuse("IN-3", &twice, &["[duplicate-key]", "a.yaml:2:1", "first on line 1, again on line 2"]);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
    }
    refuse("bounds", &bomb, &["[alias-expansion]"]);
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "- - ".repeat(60) + "a"] {
        refuse("bounds", &text, &["[too-deep]"]);
    }
    let (is_accepted, findings) = read_with(&LoadOptions::default(), &[("a.json", &"[{\"a\":".repeat(50_000))]);
    assert!(!is_accepted && findings.len() == 1 && findings[0].contains("[too-deep]"));
    let (is_accepted, findings) = read_with(&LoadOptions::default(), &[("a.yaml", ""), ("b.yaml", "# nothing\n---\n")]);
    assert!(is_accepted && findings.len() == 2 && findings.iter().all(|f| f.starts_with("[empty-file] warning")));
}

#[test]
fn all_errors_of_all_files_are_reported_at_once_gw_21() {
    let seed = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: accounts-allow\n  Namespace: accounts\nspec:\n  ingress:\n  \
                - action: Allow\n    source: { NamespaceSelector: has(a) }\n    destination: { ports: { port: 3111 } }\n";
    let broken = "a: [1\nb: 2\n---\n";
    let (is_accepted, findings) = read_with(
        &LoadOptions::default(),
        &[
            ("seed.yaml", seed),
            ("broken.yaml", &format!("{broken}{}", policy("{ order: x }"))),
            ("good.yaml", &resource("GlobalNetworkPolicy", "good", "{}")),
            ("json.json", "{\"apiVersion\": }"),
        ],
    );
    assert!(!is_accepted);
    let places: Vec<String> = findings.iter().map(|f| f.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "[yaml-syntax] error broken.yaml:2:2",
        "[wrong-type] error broken.yaml:7:16",
        "[json-syntax] error json.json:1:16",
        "[unknown-field] error seed.yaml:5:3",
        "[unknown-field] error seed.yaml:9:15",
        "[wrong-type] error seed.yaml:10:27",
    ];
    assert_eq!(places, expected, "{findings:#?}");
}

#[test]
fn a_file_that_cannot_be_read_refuses_the_rest_in_7() {
    let mut out = Diagnostics::new();
    let missing =
        ringwall::policy::source::collect(&["gone.yaml".into()], std::path::Path::new("/nonexistent"), &mut out);
    assert!(missing.is_empty() && out.has_errors());
    let good = Source::new("a.yaml", policy("{}"));
    assert!(load(&[good], &LoadOptions::default(), &mut out).is_none());
}

#[test]
fn names_are_resolved_beside_other_errors_gw_21() {
    let tier = resource("Tier", "own", "{ order: high }");
    let text = format!("{}---\n{tier}---\n", policy("{ tier: own }"));
    refuse("a tier in error is still known", &text, &["[wrong-type]", "`spec.order`"]);
    let (_, findings) = read(&format!("{text}{}", resource("GlobalNetworkPolicy", "q", "{ tier: other }")));
    assert_eq!(findings.iter().filter(|f| f.contains("] error: ")).count(), 2, "{findings:#?}");
    assert!(findings.iter().any(|f| f.contains("[unknown-tier]")), "{findings:#?}");
}

#[test]
fn negative_namespace_selectors_are_pointed_out() {
    let check = |text: &str, count: usize| {
        let (is_accepted, findings) = read(text);
        assert!(is_accepted, "{findings:#?}");
        let found = findings.iter().filter(|f| f.contains("[negative-namespace-selector] warning")).count();
        assert_eq!(found, count, "{text} {findings:#?}");
    };
    check(&policy("{ namespaceSelector: \"a != 'b'\" }"), 1);
    check(&policy("{ namespaceSelector: \"a == 'b'\" }"), 0);
    check(&policy("{ namespaceSelector: all() }"), 0);
    check(&rule("source: { namespaceSelector: '!has(a)' }"), 1);
    check(&rule("source: { namespaceSelector: global() }"), 0);
}

#[test]
fn rules_of_a_direction_that_types_leaves_out_are_pointed_out() {
    let check = |spec: &str, count: usize| {
        let (is_accepted, findings) = read(&policy(spec));
        assert!(is_accepted, "2.3 {findings:#?}");
        let found = findings.iter().filter(|f| f.contains("[rules-without-effect] warning")).count();
        assert_eq!(found, count, "2.3 {spec} {findings:#?}");
    };
    check("{ egress: [{ action: Allow }], types: [Ingress] }", 1);
    check("{ egress: [], types: [Ingress] }", 0);
    check("{ egress: [{ action: Allow }] }", 0);
}
