//! What `check` says about policies that load: every trap as a policy that has it and one that has not.

use ringwall::base::diagnostic::{Diagnostic, Diagnostics, Severity};
use ringwall::base::site::{Cidr, FailsafeMode, Segment, Site, V1Forward};
use ringwall::compile::lint::lint;
use ringwall::compile::{Options, compile};
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::Source;

/// A gateway of node `gw` between `up0` and `dn0`, with a segment 169.1.1.0/24 that endpoint `balancer` governs.
fn site() -> Site {
    let cidr = Cidr { network: "169.1.1.0".parse().unwrap(), length: 24 };
    Site {
        node: Some("gw".into()),
        uplink: Some("up0".into()),
        downlink: Some("dn0".into()),
        segments: vec![Segment {
            name: "balancers".into(),
            cidrs: vec![cidr],
            host_endpoint: Some("balancer".into()),
            network_acl: None,
            security_groups: Vec::new(),
            span: None,
        }],
        ..Site::default()
    }
}

/// An own endpoint, a stand-in with an address, and one that only a segment names.
const HOSTS: &str = "
- {apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: own, labels: {role: own}}, spec: {node: gw, interfaceName: up0}}
- {apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: worker, labels: {role: worker}}, spec: {node: w1, interfaceName: eth0, expectedIPs: [10.1.1.1]}}
- {apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: balancer, labels: {role: balancer}}, spec: {node: w1, interfaceName: eth1}}
";

fn found_in(items: &str, site: &Site) -> Vec<Diagnostic> {
    let indented: String = format!("{HOSTS}{items}").lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{indented}");
    let mut findings = Diagnostics::new();
    let policy = load(&[Source::new("p.yaml", text)], &LoadOptions::default(), &mut findings);
    assert!(!findings.has_errors(), "{findings:?}\n{items}");
    let policy = policy.unwrap();
    assert!(compile(&policy, site, &Options::default(), &mut findings).is_some(), "{findings:?}");
    let found: Vec<Diagnostic> = lint(&policy, site).iter().cloned().collect();
    for finding in &found {
        assert!(finding.severity != Severity::Error, "{finding}");
        assert!(finding.span.is_some() && finding.resource.is_some() && finding.help.is_some(), "{finding:?}");
    }
    found
}

/// A global policy of a spec.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "- {{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
    )
}

fn check(items: &str, site: &Site, code: &str, expected: &[&str]) {
    let found = found_in(items, site);
    let texts: Vec<String> = found
        .iter()
        .filter(|finding| finding.code == code)
        .map(|finding| {
            let word = if finding.severity == Severity::Warning { "warning" } else { "note" };
            format!("{word}: {}", finding.message)
        })
        .collect();
    assert_eq!(texts, expected, "{items}");
}

#[test]
fn gw_20_denies_that_failsafe_ports_bypass_are_reported() {
    let with = |spec: &str, mode, expected: &[&str]| {
        check(&policy("p", spec), &Site { failsafe: mode, ..site() }, "failsafe-bypass", expected);
    };
    let pre = |selector: &str, rule: &str| {
        format!("selector: \"{selector}\", preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{rule}]")
    };
    let ssh = "{action: Deny, protocol: TCP, destination: {ports: [20:30]}}";
    let text = |names: &str| {
        format!(
            "warning: rule 0 of policy `p` does not deny tcp 22: failsafe ports of host endpoint {names} pass before it is asked"
        )
    };
    use FailsafeMode::{Calico, None, Own};
    with(&pre("role == 'worker'", ssh), Calico, &[&text("`worker`")]);
    with(&pre("role == 'balancer'", ssh), Calico, &[&text("`balancer`")]);
    with(
        &pre("all()", ssh),
        Calico,
        &[&text("`own`, `worker`, `balancer`").replace("`own`, `worker`, `balancer`", "`balancer`, `own`, `worker`")],
    );
    with(&pre("all()", ssh), Own, &[&text("`own`")]);
    with(&pre("role == 'worker'", ssh), Own, &[]);
    with(&pre("all()", ssh), None, &[]);
    // Not a failsafe port, another protocol, not a Deny, another stage.
    with(&pre("all()", "{action: Deny, protocol: TCP, destination: {ports: [30000:32767]}}"), Calico, &[]);
    with(&pre("all()", "{action: Deny, protocol: UDP, destination: {ports: [22]}}"), Calico, &[]);
    with(&pre("all()", "{action: Deny, protocol: ICMP}"), Calico, &[]);
    with(&pre("all()", "{action: Allow, protocol: TCP, destination: {ports: [22]}}"), Calico, &[]);
    let normal = |selector: &str, rule: &str| format!("selector: \"{selector}\", types: [Ingress], ingress: [{rule}]");
    with(&normal("role == 'worker'", ssh), Calico, &[&text("`worker`")]);
    with(&normal("role == 'own'", ssh), Calico, &[]);
    with(
        &normal("role == 'worker'", "{action: Deny, protocol: UDP}"),
        Calico,
        &[
            "note: rule 0 of policy `p` does not deny udp 68: failsafe ports of host endpoint `worker` pass before it is asked",
        ],
    );
    let untracked = "selector: \"role == 'worker'\", doNotTrack: true, applyOnForward: true, types: [Egress], \
                     egress: [{action: Allow}, {action: Deny, protocol: UDP, destination: {notPorts: [67]}}]";
    with(
        untracked,
        Calico,
        &[
            "warning: rule 1 of policy `p` does not deny udp 53: failsafe ports of host endpoint `worker` pass before it is asked",
        ],
    );
}

#[test]
fn fs_3_untracked_denies_of_answers_from_failsafe_ports_are_reported() {
    let with = |rule: &str, expected: &[&str]| {
        let spec = "selector: \"role == 'worker'\", doNotTrack: true, applyOnForward: true, types: [Ingress], ingress:";
        let found = policy("p", &format!("{spec} [{rule}]"));
        check(&found, &site(), "failsafe-bypass", expected);
    };
    let text = "warning: rule 0 of policy `p` does not deny answers from udp 53: \
                failsafe ports of host endpoint `worker` pass before it is asked";
    let deny = |source: &str, ports: &str| {
        format!("{{action: Deny, protocol: UDP, source: {{{source}}}, destination: {{ports: [{ports}]}}}}")
    };
    with(&deny("ports: [53]", "1024:65535"), &[text]);
    with(&deny("ports: [54]", "1024:65535"), &[]);
    with(&deny("", "1024:65535"), &[]);
}

#[test]
fn gw_20_lists_of_a_felix_configuration_count_with_their_nets() {
    let felix = "- {apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, \
                 spec: {failsafeInboundHostPorts: [{protocol: tcp, port: 80, net: 10.0.0.0/8}]}}\n";
    let deny = |source: &str| {
        let rule = format!("{{action: Deny, protocol: TCP, source: {{{source}}}, destination: {{ports: [80]}}}}");
        let spec = "selector: \"role == 'worker'\", preDNAT: true, applyOnForward: true, types: [Ingress], ingress:";
        format!("{felix}{}", policy("p", &format!("{spec} [{rule}]")))
    };
    let text = "warning: rule 0 of policy `p` does not deny tcp 80 of 10.0.0.0/8: \
                failsafe ports of host endpoint `worker` pass before it is asked";
    check(&deny(""), &site(), "failsafe-bypass", &[text]);
    check(&deny("nets: [10.1.0.0/16]"), &site(), "failsafe-bypass", &[text]);
    check(&deny("nets: [192.0.2.0/24]"), &site(), "failsafe-bypass", &[]);
    check(&deny("notNets: [10.0.0.0/8]"), &site(), "failsafe-bypass", &[]);
}

const SERVICE: &str = "
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: default}, spec: {type: LoadBalancer, selector: {app: web}, ports: [{protocol: TCP, port: 80, targetPort: 8080, nodePort: 31024}]}, status: {loadBalancer: {ingress: [{ip: 169.1.1.1}]}}}
";

fn pod(name: &str, labels: &str, ip: &str) -> String {
    format!(
        "- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default, labels: {{{labels}}}}}, status: {{phase: Running, podIP: {ip}}}}}\n"
    )
}

#[test]
fn gw_8_services_whose_backends_get_different_verdicts_are_reported() {
    let one = pod("web-1", "app: web, version: one", "172.30.1.10");
    let two = pod("web-2", "app: web, version: two", "172.30.1.11");
    let same = pod("web-2", "app: web, version: one", "172.30.1.11");
    let rule = |selector: &str, rules: &str| {
        format!(
            "- {{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {{name: n, namespace: default}}, spec: {{selector: \"{selector}\", types: [Ingress], ingress: [{rules}]}}}}\n"
        )
    };
    let with = |items: &[&str], expected: &[&str]| {
        check(&format!("{SERVICE}{}", items.concat()), &site(), "backend-verdicts-differ", expected);
    };
    let differs = |source: &str, reason: &str| {
        format!(
            "warning: backends of service `default/web` get different verdicts: from {source} to 169.1.1.1:80, \
             172.30.1.10:8080 is allowed and 172.30.1.11:8080 denied ({reason})"
        )
    };
    // One pod is governed and its policy allows nothing.
    with(
        &[&one, &two, &rule("version == 'two'", "")],
        &[&differs("203.0.113.77", "tier-default-deny of tier default")],
    );
    with(&[&one, &same, &rule("version == 'two'", "")], &[]);
    with(&[&one, &rule("version == 'two'", "")], &[]);
    with(&[&one, &two, &rule("app == 'web'", "{action: Deny, source: {nets: [192.0.2.0/24]}}, {action: Allow}")], &[]);
    // The difference shows for the sources of the one rule only.
    with(
        &[&one, &two, &rule("version == 'two'", "{action: Deny, source: {nets: [192.0.2.0/24]}}, {action: Allow}")],
        &[&differs("192.0.2.0", "policy-deny by default/n rule 0")],
    );
    with(
        &[
            &one,
            &two,
            &rule("app == 'web'", "{action: Deny, destination: {selector: \"version == 'two'\"}}, {action: Allow}"),
        ],
        &[&differs("203.0.113.77", "policy-deny by default/n rule 0")],
    );
    // A policy on forwarded traffic of the endpoint before both, after translation.
    let forward = |nets: &str| {
        let rules = format!("[{{action: Deny, destination: {{nets: [{nets}]}}}}, {{action: Allow}}]");
        let spec =
            format!("selector: \"role == 'balancer'\", applyOnForward: true, types: [Ingress], ingress: {rules}");
        policy("f", &spec)
    };
    with(&[&one, &two, &forward("172.30.1.11/32")], &[&differs("203.0.113.77", "policy-deny by f rule 0")]);
    with(&[&one, &two, &forward("172.30.1.0/24")], &[]);
    // Governed by different policies that come to the same.
    with(&[&one, &two, &rule("version == 'two'", "{action: Allow}")], &[]);
}

#[test]
fn a13_policies_that_select_nothing_are_noted() {
    let with = |spec: &str, expected: &[&str]| check(&policy("p", spec), &site(), "selects-nothing", expected);
    with(
        "selector: \"x == 'y'\", types: [Ingress]",
        &["note: policy `p` has no effect: its selector `x == 'y'` selects 0 endpoints"],
    );
    with("selector: \"role == 'own'\", applyOnForward: true, types: [Ingress]", &[]);
    let pre = "preDNAT: true, applyOnForward: true, types: [Ingress]";
    let one = pod("web-1", "app: web", "172.30.1.10");
    let on_pods = format!("{one}{}", policy("p", &format!("selector: \"app == 'web'\", {pre}")));
    let text = "note: policy `p` has no effect: its selector `app == 'web'` selects 0 host endpoints";
    check(&on_pods, &site(), "selects-nothing", &[text]);
    check(&format!("{one}{}", policy("p", "selector: \"app == 'web'\"")), &site(), "selects-nothing", &[]);
}

#[test]
fn prednat_policies_that_only_allow_are_warned_about() {
    let spec = |selector: &str, order: u32, action: &str| {
        let rule = format!("{{action: {action}, protocol: TCP, destination: {{ports: [80]}}}}");
        format!(
            "selector: \"{selector}\", order: {order}, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{rule}]"
        )
    };
    let text = |names: &str| {
        format!(
            "warning: preDNAT policy `allow` allows, but no preDNAT policy of host endpoint {names} denies: \
             what it does not allow goes on untouched"
        )
    };
    let with = |allow: &str, deny: Option<&str>, expected: &[&str]| {
        let deny = deny.map_or(String::new(), |selector| policy("deny", &spec(selector, 900, "Deny")));
        let items = format!("{}{deny}", policy("allow", &spec(allow, 500, "Allow")));
        check(&items, &site(), "prednat-without-deny", expected);
    };
    with("role == 'worker'", None, &[&text("`worker`")]);
    with("role == 'worker'", Some("role == 'worker'"), &[]);
    with("role in {'worker', 'balancer'}", Some("role == 'worker'"), &[&text("`balancer`")]);
    with("role in {'worker', 'balancer'}", None, &[&text("`balancer`, `worker`")]);
    with("role == 'none'", None, &[]);
}

#[test]
fn log_5_a_policy_with_only_log_rules_turns_on_the_default_deny() {
    let log = |selector: &str, more: &str| {
        policy("log", &format!("selector: \"{selector}\", {more}types: [Ingress], ingress: [{{action: Log}}]"))
    };
    let text = |whom: &str| {
        format!(
            "note: policy `log` has only Log rules for ingress, and no other policy of tier `default` governs {whom}: \
             all ingress traffic that reaches the end of the tier is denied"
        )
    };
    let check = |items: &str, expected: &[&str]| check(items, &site(), "default-deny-applies", expected);
    let one = pod("web-1", "app: web", "172.30.1.10");
    check(&format!("{one}{}", log("app == 'web'", "")), &[&text("pod `default/web-1`")]);
    check(&log("role == 'worker'", ""), &[&text("host endpoint `worker`")]);
    check(&log("role == 'own'", "applyOnForward: true, "), &[&text("host endpoint `own`")]);
    // Not asked at all; no default deny before translation; another policy governs already.
    check(&log("role == 'own'", ""), &[]);
    check(&log("role == 'own'", "preDNAT: true, applyOnForward: true, "), &[]);
    let allow = policy("allow", "selector: \"app == 'web'\", types: [Ingress], ingress: [{action: Allow}]");
    check(&format!("{one}{allow}{}", log("app == 'web'", "order: 2000, ")), &[]);
    let other = policy("allow", "selector: \"app == 'web'\", types: [Egress], egress: [{action: Allow}]");
    check(&format!("{one}{other}{}", log("app == 'web'", "")), &[&text("pod `default/web-1`")]);
}

#[test]
fn pipe_7_normal_policies_on_forwarded_traffic_are_noted() {
    let with = |spec: &str, expected: &[&str]| check(&policy("p", spec), &site(), "lacks-apply-on-forward", expected);
    let text = |names: &str| {
        format!(
            "note: policy `p` has no effect: all traffic through host endpoint {names} is forwarded, and the policy lacks \
             `applyOnForward`"
        )
    };
    with("selector: \"role == 'own'\", types: [Ingress]", &[&text("`own`")]);
    with("selector: \"role in {'own', 'balancer'}\", types: [Ingress]", &[&text("`balancer`, `own`")]);
    with("selector: \"role == 'own'\", applyOnForward: true, types: [Ingress]", &[]);
    with("selector: \"role == 'worker'\", types: [Ingress]", &[]);
    with("selector: all(), types: [Ingress]", &[]);
    with("selector: \"role == 'own'\", preDNAT: true, applyOnForward: true, types: [Ingress]", &[]);
}

#[test]
fn gw_32_legacy_treatment_of_v1_policies_is_no_reason_for_a_note() {
    let site = Site { v1_forward: V1Forward::Legacy, ..site() };
    let log = "- {apiVersion: v1, kind: policy, metadata: {name: log}, spec: {selector: \"role == 'own'\", ingress: [{action: log}], egress: [{action: allow}]}}\n";
    check(log, &site, "lacks-apply-on-forward", &[]);
    check(
        log,
        &site,
        "default-deny-applies",
        &[
            "note: policy `log` has only Log rules for ingress, and no other policy of tier `default` governs host endpoint `own`: \
           all ingress traffic that reaches the end of the tier is denied",
        ],
    );
}
