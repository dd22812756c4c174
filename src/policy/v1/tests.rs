//! Documents of calicoctl 1.x in, rule sets and endpoints or findings out: one line per case of section 19.

use std::path::PathBuf;

use super::forward_warnings;
use crate::base::diagnostic::Diagnostics;
use crate::policy::ir::{Hook, Labels, Policy, Port, Rule};
use crate::policy::load::{LoadOptions, load};
use crate::policy::source::Source;

fn load_text(text: &str) -> (Option<Policy>, Vec<String>) {
    let mut out = Diagnostics::new();
    let policy = load(&[Source::new("a.yaml", text)], &LoadOptions::default(), &mut out);
    (policy, out.iter().map(|d| format!("{:?} {}", d.severity, d.code)).collect())
}

fn load_clean(text: &str) -> Policy {
    let (policy, codes) = load_text(text);
    assert_eq!(codes, Vec::<String>::new(), "{text}");
    policy.unwrap()
}

fn policy(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: policy, metadata: {{name: p}}, spec: {{{spec}}}}}\n")
}

fn rule_of(rule: &str) -> Rule {
    load_clean(&policy(&format!("ingress: [{{action: allow, {rule}}}]"))).rulesets[0].ingress.clone().unwrap()[0]
        .clone()
}

#[test]
fn faults_are_errors_v1_5_and_section_19() {
    let check = |spec: &str, expected: &[&str]| assert_eq!(load_text(&policy(spec)).1, expected, "{spec}");
    let rule = |rule: &str, expected: &[&str]| check(&format!("ingress: [{{{rule}}}]"), expected);
    rule("action: allow", &[]);
    rule("action: Allow", &["Error unknown-value"]);
    rule("protocol: tcp", &["Error missing-field"]);
    rule("action: allow, protocol: TCP", &["Error unknown-value"]);
    rule("action: allow, protocol: 0", &["Error out-of-range"]);
    rule("action: allow, protocol: 256", &["Error out-of-range"]);
    rule("action: allow, protocol: 112", &[]);
    rule("action: allow, destination: {ports: [80]}", &["Error ports-without-protocol"]);
    rule("action: allow, protocol: sctp, destination: {ports: [80]}", &["Error ports-without-protocol"]);
    rule("action: allow, protocol: tcp, destination: {ports: [http]}", &["Error bad-port"]);
    rule("action: allow, protocol: tcp, destination: {ports: [0]}", &["Error out-of-range"]);
    rule("action: allow, protocol: tcp, destination: {ports: ['20:10']}", &["Error bad-port"]);
    rule("action: allow, icmp: {type: 8}", &["Error icmp-without-protocol"]);
    rule("action: allow, protocol: icmp, icmp: {type: 255}", &["Error out-of-range"]);
    rule("action: allow, protocol: icmp, icmp: {code: 1}", &["Error icmp-code-without-type"]);
    rule("action: allow, protocol: icmp, ipVersion: 6", &["Error protocol-family"]);
    rule("action: allow, ipVersion: 5", &["Error out-of-range"]);
    rule("action: allow, source: {net: 10.0.0.0/8, nets: [11.0.0.0/8]}", &["Error net-and-nets"]);
    rule("action: allow, source: {nets: [10.0.0.0/33]}", &["Error bad-cidr"]);
    rule("action: allow, source: {nets: [10.0.0.0/8], notNets: ['2001:db8::/32']}", &["Error mixed-families"]);
    rule("action: allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}", &["Error mixed-families"]);
    rule("action: allow, source: {notNets: [0.0.0.0/0]}", &["Error contradiction"]);
    rule("action: allow, source: {selector: a = 'b'}", &["Error bad-selector"]);
    rule("action: allow, source: {selector: a contains 'b'}", &["Error bad-selector"]);
    rule("action: allow, source: {selector: global()}", &["Error bad-selector"]);
    rule("action: allow, source: {namespaceSelector: all()}", &["Error unknown-field"]);
    rule("action: allow, source: {tag: a b}", &["Error bad-tag"]);
    check("types: [Ingress]", &["Error unknown-value"]);
    check("types: [ingress, ingress]", &["Error repeated-type"]);
    check("applyOnForward: true", &["Error unknown-field"]);
    check("order: '1'", &["Error wrong-type"]);
    check("preDNAT: true, doNotTrack: true", &["Error prednat-and-untracked"]);
    check("preDNAT: true, egress: [{action: allow}]", &["Error prednat-egress"]);
    check("preDNAT: true, types: [ingress, egress]", &["Error prednat-egress"]);
    let named = |name: &str, expected: &[&str]| {
        let text = format!("{{apiVersion: v1, kind: Policy, metadata: {{name: {name}}}, spec: {{}}}}");
        assert_eq!(load_text(&text).1, expected, "{name}");
    };
    named("a/B_c.d-e", &[]);
    named("<name>", &["Error bad-name"]);
}

#[test]
fn policies_become_global_ones_v1_1_v1_2_pol_t() {
    let check = |spec: &str, hook: Hook, ingress: Option<usize>, egress: Option<usize>| {
        let found = load_clean(&policy(spec)).rulesets.remove(0);
        let counts = (found.ingress.as_ref().map(Vec::len), found.egress.as_ref().map(Vec::len));
        assert_eq!((found.hook, counts.0, counts.1, found.is_v1), (hook, ingress, egress, true), "{spec}");
    };
    check("", Hook::Normal, Some(0), None);
    check("ingress: [{action: allow}]", Hook::Normal, Some(1), None);
    check("egress: [{action: allow}]", Hook::Normal, None, Some(1));
    check("ingress: [{action: log}], egress: [{action: pass}]", Hook::Normal, Some(1), Some(1));
    check("types: [egress], ingress: [{action: deny}]", Hook::Normal, None, Some(0));
    check("preDNAT: true", Hook::PreDnat, Some(0), None);
    check("doNotTrack: true", Hook::Untracked, Some(0), None);
    let text = "{apiVersion: v1, kind: policy, metadata: {name: Web/One}, spec: {order: 5, selector: calico/k8s_ns == 'a' && has(calico/k8s_ns)}}";
    let found = load_clean(text).rulesets.remove(0);
    assert!(found.name.starts_with("web-one-") && found.name.len() == 16, "{}", found.name);
    assert_eq!((found.display.as_str(), found.order), ("Web/One", Some(5.0)));
    assert_eq!(found.selector_text, "projectcalico.org/namespace == 'a' && has(projectcalico.org/namespace)");
}

#[test]
fn nets_are_masked_and_may_lack_a_mask() {
    let check = |peer: &str, nets: &[&str], not_nets: &[&str]| {
        let found = rule_of(&format!("source: {{{peer}}}")).source;
        let show = |list: &[ipnet::IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (show(&found.nets), show(&found.not_nets)),
            (nets.iter().map(ToString::to_string).collect(), not_nets.iter().map(ToString::to_string).collect())
        );
    };
    check("net: 10.1.2.3/8", &["10.0.0.0/8"], &[]);
    check("nets: [10.1.2.3, 11.0.0.1/24], notNets: [11.0.0.7/32]", &["10.1.2.3/32", "11.0.0.0/24"], &["11.0.0.7/32"]);
    check("notNet: '2001:db8::1/64'", &[], &["2001:db8::/64"]);
}

#[test]
fn tags_and_selectors_fold_id_6() {
    let labels = |text: &str| -> Labels {
        text.split_whitespace().filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    };
    let check = |peer: &str, matching: &[&str], other: &[&str]| {
        let found = rule_of(&format!("source: {{{peer}}}")).source;
        let matches = |text: &str| {
            found.selector.as_ref().is_none_or(|s| s.evaluate(&labels(text)))
                && !found.not_selector.as_ref().is_some_and(|s| s.evaluate(&labels(text)))
        };
        matching.iter().for_each(|text| assert!(matches(text), "{peer}: {text}"));
        other.iter().for_each(|text| assert!(!matches(text), "{peer}: {text}"));
    };
    check("tag: web", &["web="], &["", "web=x"]);
    check("tag: web, selector: a == 'b' || c == 'd'", &["web= a=b", "web= c=d"], &["a=b", "web="]);
    check("notTag: web, notSelector: a == 'b'", &["", "a=c"], &["web=", "a=b", "web= a=b"]);
    check("selector: has(a), notTag: web", &["a=1"], &["", "a=1 web="]);
    let both = rule_of("source: {selector: has(a), notSelector: has(b)}").source;
    assert!(both.selector.is_some() && both.not_selector.is_none());
    let negative = rule_of("source: {notTag: web}").source;
    assert!(negative.selector.is_none() && negative.not_selector.is_some());
}

#[test]
fn host_endpoints_and_profiles_convert_v1_1() {
    let text = "
- {apiVersion: v1, kind: HOSTENDPOINT, metadata: {name: eth0, node: Node1, labels: {role: web}}, spec: {interfaceName: eth0, expectedIPs: [10.0.0.1], profiles: [prof1], ports: [{name: http, protocol: tcp, port: 80}]}}
- {apiVersion: v1, kind: profile, metadata: {name: prof1, tags: [web], labels: {tier: one}}, spec: {ingress: [{action: deny}], egress: [{action: allow}]}}
";
    let policy = load_clean(text);
    let found = &policy.host_endpoints[0];
    assert_eq!((found.name.as_str(), found.node.as_str(), found.interface.as_str()), ("node1.eth0", "node1", "eth0"));
    let labels: Vec<(&str, &str)> = found.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("role", "web"), ("tier", "one"), ("web", "")]);
    assert_eq!((policy.profiles["prof1"].ingress.len(), policy.profiles["prof1"].egress.len()), (1, 1));
    let check = |metadata: &str, spec: &str, expected: &[&str]| {
        let text = format!("{{apiVersion: v1, kind: hostEndpoint, metadata: {{{metadata}}}, spec: {{{spec}}}}}");
        assert_eq!(load_text(&text).1, expected, "{metadata} {spec}");
    };
    check("name: a, node: b", "interfaceName: eth0", &[]);
    check("name: a, node: b", "", &["Error endpoint-without-place"]);
    check("name: a", "interfaceName: eth0", &["Error missing-field"]);
    check("name: a, node: b", "interface: eth0", &["Error unknown-field"]);
    check("name: a, node: b", "interfaceName: sixteen-lettersx", &["Error bad-interface-name"]);
    check("name: a, node: b", "expectedIPs: [10.0.0.1/32]", &["Error bad-address"]);
    check("name: a/b, node: b", "interfaceName: eth0", &["Error bad-name"]);
}

#[test]
fn other_kinds_are_noted_or_refused() {
    let check = |kind: &str, expected: &[&str]| {
        let text = format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: a}}, spec: {{anything: 1}}}}");
        assert_eq!(load_text(&text).1, expected, "{kind}");
    };
    check("ipPool", &["Note ignored-resource"]);
    check("node", &["Note ignored-resource"]);
    check("bgpPeer", &["Note ignored-resource"]);
    check("workloadEndpoint", &["Error unknown-kind"]);
}

#[test]
fn normal_policies_on_host_endpoints_are_warned_about_v1_3() {
    let check = |spec: &str, expected: usize| {
        let endpoint = "{apiVersion: v1, kind: hostEndpoint, metadata: {name: e, node: n, labels: {a: b}}, spec: {interfaceName: x}}";
        let policy = load_clean(&format!("{}---\n{endpoint}\n", policy(spec)));
        assert_eq!(forward_warnings(&policy).iter().count(), expected, "{spec}");
    };
    check("selector: a == 'b'", 1);
    check("selector: a == 'c'", 0);
    check("selector: a == 'b', preDNAT: true", 0);
    check("selector: a == 'b', doNotTrack: true", 0);
}

#[test]
fn the_printed_policy_loads_d2_v1_4() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let found = [Some(beside), std::env::var_os("RINGWALL_SHARED").map(PathBuf::from)];
    let Some(shared) = found.into_iter().flatten().find(|path| path.is_dir()) else {
        return println!("skipped: the shared corpus is not there");
    };
    let policy = load_clean(&std::fs::read_to_string(shared.join("corpus/seeds/000-02.yaml")).unwrap());
    let found = &policy.rulesets[0];
    assert_eq!((found.display.as_str(), found.order, found.hook), ("deny-nodeports", None, Hook::PreDnat));
    let rules = found.ingress.as_deref().unwrap();
    assert_eq!(rules.iter().map(|r| r.protocol).collect::<Vec<_>>(), [Some(6), Some(17)]);
    assert!(rules.iter().all(|r| r.destination.ports == [Port::Range(30000, 32767)]));
    let role = |role: &str| Labels::from([("ibm.role".to_string(), role.to_string())]);
    let check = |name: &str, expected| assert_eq!(found.selector.evaluate(&role(name)), expected, "{name}");
    check("worker_public", true);
    check("master_public", true);
    check("worker_private", false);
    // Everything else of these folders loads.
    let refused = [
        ("bootstrap-private.yaml", "Error yaml-syntax"),
        ("generic-privatehostendpoint.yaml", "Error bad-name"),
        ("bare-metal-01.yaml", "Error bad-cidr"),
        ("bare-metal-02.yaml", "Error bad-name"),
        ("bare-metal-03.yaml", "Error bad-name"),
        ("index-01.yaml", "Error unknown-field"),
        ("workloadendpoint-01.yaml", "Error unknown-kind"),
        ("02-backend.yaml", "Error unknown-kind"),
        ("03-frontend.yaml", "Error unknown-kind"),
    ];
    let mut loaded = 0;
    let folders = ["calico-docs/v2.6", "kube-samples/history/calico-policies/private-network-isolation/calico-v2"];
    let mut queue: Vec<PathBuf> = folders.map(|folder| shared.join("corpus").join(folder)).into();
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("apiVersion: v1\n") || text.contains("kind: Namespace") {
            continue;
        }
        let (policy, codes) = load_text(&text);
        let reason = refused.iter().find(|(name, _)| path.ends_with(name)).map(|(_, code)| *code);
        let error = codes.iter().find(|code| code.starts_with("Error")).map(String::as_str);
        assert_eq!(error, reason, "{}", path.display());
        loaded += usize::from(policy.is_some());
    }
    assert!(loaded > 15, "{loaded}");
}
