//! Calico resources in, the intermediate form out: one line of data per rule of the specification.

use ringwall::base::address::Family;
use ringwall::base::diagnostic::Diagnostics;
use ringwall::policy::ir::{Hook, Icmp, Labels, Policy, PolicyDirection, Port, Rule, RuleSet, TierDefault};
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::Source;

fn read_with(options: &LoadOptions, files: &[(&str, &str)]) -> (Option<Policy>, Vec<String>) {
    let mut out = Diagnostics::new();
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    let policy = load(&sources, options, &mut out);
    assert_eq!(policy.is_none(), out.has_errors());
    (policy, out.iter().map(ToString::to_string).collect())
}

fn read(text: &str) -> (Option<Policy>, Vec<String>) {
    read_with(&LoadOptions::default(), &[("a.yaml", text)])
}

fn accept(text: &str) -> Policy {
    let (policy, findings) = read(text);
    policy.unwrap_or_else(|| panic!("{text}\n{findings:#?}"))
}

fn global(spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\nspec: {spec}\n")
}

fn namespaced(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{ name: p, namespace: n }}\nspec: {spec}\n"
    )
}

/// Puts a spec into a policy.
type Wrap = fn(&str) -> String;

fn only(policy: &Policy) -> &RuleSet {
    assert_eq!(policy.rulesets.len(), 1);
    &policy.rulesets[0]
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn default_of_types_pol_t() {
    let check = |spec: &str, ingress: bool, egress: bool| {
        let policy = accept(&global(spec));
        let found = only(&policy);
        assert_eq!((found.ingress.is_some(), found.egress.is_some()), (ingress, egress), "POL-T {spec}");
    };
    let rules = "[{ action: Allow }]";
    check("{}", true, false);
    check("{ ingress: [], egress: [] }", true, false);
    check(&format!("{{ ingress: {rules} }}"), true, false);
    check(&format!("{{ egress: {rules} }}"), false, true);
    check(&format!("{{ ingress: [], egress: {rules} }}"), false, true);
    check(&format!("{{ ingress: {rules}, egress: {rules} }}"), true, true);
    check(&format!("{{ egress: {rules}, types: [Ingress] }}"), true, false);
    check("{ types: [Egress, Ingress] }", true, true);
    check("", true, false);
}

#[test]
fn hooks_of_a_global_policy() {
    let check = |spec: &str, hook: Hook| assert_eq!(only(&accept(&global(spec))).hook, hook, "{spec}");
    check("{}", Hook::Normal);
    check("{ applyOnForward: true }", Hook::NormalAndForward);
    check("{ preDNAT: true, applyOnForward: true }", Hook::PreDnat);
    check("{ doNotTrack: true, applyOnForward: true, types: [Ingress, Egress] }", Hook::Untracked);
    check("{ doNotTrack: false, preDNAT: false, applyOnForward: false }", Hook::Normal);
}

#[test]
fn scope_of_a_policys_selector() {
    let check = |id: &str, text: String, expected: &str| {
        let policy = accept(&text);
        assert_eq!(only(&policy).selector.to_string(), expected, "{id} {text}");
    };
    check("2.2", global("{ selector: '' }"), "all()");
    check("2.2", global("{}"), "all()");
    check("2.2", global("{ selector: \"a == 'b'\" }"), r#"a == "b""#);
    check("ID-3", global("{ namespaceSelector: all() }"), "has(projectcalico.org/namespace)");
    check(
        "ID-3",
        global("{ namespaceSelector: \"a == 'b'\", selector: has(c), serviceAccountSelector: has(d) }"),
        r#"pcns.a == "b" && has(c) && has(pcsa.d)"#,
    );
    check("ID-9", namespaced("{}"), r#"projectcalico.org/namespace == "n""#);
    check("ID-9", namespaced("{ selector: has(c) }"), r#"projectcalico.org/namespace == "n" && has(c)"#);
    let unnamed = namespaced("{}").replace(", namespace: n", "");
    check("2.1", unnamed, r#"projectcalico.org/namespace == "default""#);
    let empty = namespaced("{}").replace("namespace: n", "namespace: ''");
    check("2.1", empty, r#"projectcalico.org/namespace == "default""#);
}

#[test]
fn scope_of_a_rules_selector() {
    let check = |id: &str, text: Wrap, source: &str, expected: [&str; 2]| {
        let policy = accept(&text(&format!("{{ ingress: [{{ action: Allow, source: {source} }}] }}")));
        let rule = &only(&policy).rules(PolicyDirection::Ingress).unwrap()[0];
        let show = |s: &Option<_>| s.as_ref().map(|s: &ringwall::policy::selector::Selector| s.to_string());
        let found = [show(&rule.source.selector), show(&rule.source.not_selector)];
        assert_eq!(found.map(Option::unwrap_or_default), expected, "{id} {source}");
    };
    let (g, n): (Wrap, Wrap) = (global, namespaced);
    check("ID-4", g, "{}", ["", ""]);
    check("ID-4", n, "{}", ["", ""]);
    check("IN-9", n, "", ["", ""]);
    check("ID-4", g, "{ selector: all() }", ["all()", ""]);
    check("ID-4", n, "{ selector: all() }", [r#"projectcalico.org/namespace == "n""#, ""]);
    check("ID-4", g, "{ namespaceSelector: ' global( ) ' }", ["!has(projectcalico.org/namespace)", ""]);
    check(
        "ID-4",
        n,
        "{ namespaceSelector: global(), selector: has(a) }",
        ["!has(projectcalico.org/namespace) && has(a)", ""],
    );
    check("ID-4", n, "{ namespaceSelector: has(a) }", ["has(pcns.a)", ""]);
    check("ID-4", n, "{ notSelector: has(a) }", [r#"projectcalico.org/namespace == "n" && !has(a)"#, ""]);
    check("ID-4", g, "{ notSelector: has(a) }", ["", "has(a)"]);
    check("ID-6", g, "{ selector: has(b), notSelector: has(a) }", ["has(b) && !has(a)", ""]);
    check(
        "ID-3",
        n,
        "{ serviceAccounts: { names: [x, y], selector: has(z) } }",
        [r#"projectcalico.org/namespace == "n" && projectcalico.org/serviceaccount in {"x", "y"} && has(pcsa.z)"#, ""],
    );
    check("ID-4", n, "{ serviceAccounts: {} }", ["", ""]);
}

#[test]
fn criteria_of_a_rule() {
    let check = |rule: &str, test: &dyn Fn(&Rule) -> bool| {
        let policy = accept(&global(&format!("{{ ingress: [{{ action: Deny, {rule} }}] }}")));
        let found = &only(&policy).rules(PolicyDirection::Ingress).unwrap()[0];
        assert!(test(found), "{rule}: {found:?}");
    };
    check("protocol: 112", &|r| r.protocol == Some(112));
    check("protocol: '112'", &|r| r.protocol == Some(112));
    check("notProtocol: UDPLite", &|r| r.not_protocol == Some(136));
    check("ipVersion: 6", &|r| r.family == Some(Family::V6));
    check("protocol: ICMP", &|r| r.family.is_none() && r.protocol == Some(1));
    check("protocol: ICMP, icmp: { type: 8 }", &|r| r.icmp == Some(Icmp { kind: 8, code: None }));
    check("protocol: 58, icmp: { type: 0, code: 0 }", &|r| r.icmp == Some(Icmp { kind: 0, code: Some(0) }));
    check("protocol: ICMP, icmp: {}", &|r| r.icmp.is_none());
    check("notICMP: { type: 8, code: 1 }", &|r| r.not_icmp == Some(Icmp { kind: 8, code: Some(1) }));
    check("source: { nets: [10.0.0.0/8, 1.1.1.1/32] }", &|r| r.source.nets.len() == 2);
    check("source: { notNets: ['2001:db8::/32'] }", &|r| r.source.not_nets.len() == 1);
    check("protocol: TCP, destination: { ports: [80, '90:95', http, 22:50] }", &|r| {
        let named = Port::Named("http".into());
        r.destination.ports == [Port::Range(80, 80), Port::Range(90, 95), named, Port::Range(22, 50)]
    });
    check("destination: { notPorts: [http] }", &|r| r.destination.not_ports == [Port::Named("http".into())]);
    check("source: { services: { name: a, namespace: b } }", &|r| {
        r.source.service == Some(("b".to_string(), "a".to_string()))
    });
    let policy = accept(&namespaced("{ egress: [{ action: Allow, destination: { services: { name: a } } }] }"));
    let rule = &only(&policy).rules(PolicyDirection::Egress).unwrap()[0];
    assert_eq!(rule.destination.service, Some(("n".to_string(), "a".to_string())));
}

#[test]
fn orders_and_ties() {
    let mut text = String::new();
    for (name, tier, order) in
        [("b", "default", "10"), ("a", "default", "10"), ("last", "default", ""), ("neg", "default", "-1.5")]
    {
        let head = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n";
        text += &format!("{head}metadata: {{ name: {name} }}\nspec: {{ tier: {tier}, order: {order} }}\n---\n");
    }
    text += "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: { name: knp.default.aa, namespace: z }\nspec: { order: 1e1 }\n---\n";
    text += "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: { name: a, namespace: z }\nspec: { order: 10.0 }\n---\n";
    text += "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: { name: first }\nspec: { order: 1, defaultAction: Pass }\n---\n";
    text += "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: { name: endless }\n---\n";
    text += "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: first.z }\nspec: { tier: first, order: 99 }\n";
    let policy = accept(&text);
    let names: Vec<&str> = policy.rulesets.iter().map(|r| r.display.as_str()).collect();
    assert_eq!(names, ["first.z", "neg", "a", "z/a", "z/knp.default.aa", "b", "last"], "ORD-1, ORD-2");
    let tiers: Vec<(&str, TierDefault)> = policy.tiers.iter().map(|t| (t.name.as_str(), t.default_action)).collect();
    let expected = [
        ("first", TierDefault::Pass),
        ("kube-admin", TierDefault::Pass),
        ("default", TierDefault::Deny),
        ("kube-baseline", TierDefault::Pass),
        ("endless", TierDefault::Deny),
    ];
    assert_eq!(tiers, expected, "ORD-1");
}

#[test]
fn labels_and_profiles_are_inherited() {
    let policy = accept(
        "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: { name: web }\n\
         spec: { labelsToApply: { role: web, zone: a }, ingress: [{ action: Allow }] }\n---\n\
         apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: { name: h, labels: { zone: b } }\n\
         spec: { node: w, interfaceName: '*', expectedIPs: [10.1.1.1, '2001:db8::1'], profiles: [web, projectcalico-default-allow],\n\
           ports: [{ name: http, protocol: TCP, port: 80 }] }\n---\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: { name: s, labels: { kind: bad } }\n\
         spec: { nets: [10.1.2.3/8, 1.1.1.1] }\n---\n\
         apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: { name: s, namespace: n }\nspec: { nets: ['::1'] }\n",
    );
    let endpoint = &policy.host_endpoints[0];
    assert_eq!(endpoint.labels, labels(&[("role", "web"), ("zone", "b")]), "2.9");
    assert_eq!((endpoint.interface.as_str(), endpoint.addresses.len(), endpoint.ports.len()), ("*", 2, 1), "2.6");
    assert_eq!(policy.profiles["web"].ingress.len(), 1);
    assert_eq!(policy.profiles["projectcalico-default-allow"].egress.len(), 1, "2.9");
    let sets: Vec<_> =
        policy.network_sets.iter().map(|s| (s.display.as_str(), s.nets.len(), s.labels.clone())).collect();
    let namespace = [
        ("pcns.kubernetes.io/metadata.name", "n"),
        ("pcns.projectcalico.org/name", "n"),
        ("projectcalico.org/namespace", "n"),
    ];
    assert_eq!(sets, [("n/s", 1, labels(&namespace)), ("s", 2, labels(&[("kind", "bad")]))], "2.8, ID-8");
    assert_eq!(policy.network_sets[1].nets[0].to_string(), "10.0.0.0/8", "2.8");
}

#[test]
fn felix_configuration_sets_failsafe_ports_and_logging() {
    let text = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: { name: default }\n\
         spec: { failsafeInboundHostPorts: [{ protocol: tcp, port: 22, net: 10.0.0.0/8 }], logPrefix: a, bpfEnabled: true,\n\
           failsafeOutboundHostPorts: none }\n---\n\
         apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: { name: node.gw-1 }\n\
         spec: { failsafeInboundHostPorts: [], logActionRateLimit: 10/minute, logActionRateLimitBurst: 7 }\n";
    let check = |node: Option<&str>, inbound: usize, limit: Option<&str>| {
        let options = LoadOptions { node: node.map(str::to_string), ..LoadOptions::default() };
        let (policy, findings) = read_with(&options, &[("a.yaml", text)]);
        let policy = policy.unwrap();
        assert_eq!(policy.failsafe_inbound.map(|l| l.len()), Some(inbound), "GW-20 {node:?}");
        assert_eq!(policy.failsafe_outbound.map(|l| l.len()), Some(0), "FS-5");
        assert_eq!((policy.log.prefix.as_deref(), policy.log.rate_limit.as_deref()), (Some("a"), limit), "LOG-3");
        assert_eq!(findings, ["note: a.yaml:1:1: these fields have no effect here: `bpfEnabled`"]);
    };
    check(None, 1, None);
    check(Some("other"), 1, None);
    check(Some("gw-1"), 0, Some("10/minute"));
    let default = accept(&global("{}"));
    assert_eq!((default.failsafe_inbound, default.failsafe_outbound), (None, None));
}

#[test]
fn documents_lists_and_sequences_in_1() {
    let check = |name: &str, text: &str, expected: usize| {
        let (policy, findings) = read_with(&LoadOptions::default(), &[(name, text)]);
        let policy = policy.unwrap_or_else(|| panic!("{text}\n{findings:#?}"));
        assert_eq!(policy.rulesets.len(), expected, "IN-1 {text}");
    };
    let one = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: a }\n";
    let two = "apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: { name: b }\n";
    check("a.yaml", &format!("---\n---\n# empty\n---\n{one}---\n{two}...\n"), 2);
    let item = |text: &str| text.replace('\n', "\n  ");
    check("a.yaml", &format!("- {}\n- {}\n", item(one), item(two)), 2);
    check(
        "a.yaml",
        &format!("apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n- {}\n- {}\n", item(one), item(two)),
        2,
    );
    let head = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicyList\nitems:\n";
    check("a.yaml", &format!("{head}- metadata: {{ name: a }}\n  spec: {{}}\n- {}\n", item(two)), 2);
    let json =
        r#"{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"a"},"spec":null}"#;
    check("a.json", json, 1);
    check("a.yaml", json, 1);
    check("a.json", &format!("[{json}]"), 1);
    // IN-5
    let server = "{ name: a, uid: x, resourceVersion: '1', creationTimestamp: null, generation: 2, managedFields: [], selfLink: /x, annotations: { a.b/c: d } }";
    check("a.yaml", &format!("{}status: {{ x: y }}\n", one.replace("{ name: a }", server)), 1);
}

#[test]
fn tool_settings_beside_policies_are_noted() {
    let check = |text: &str, kind: &str| {
        let (policy, findings) = read(text);
        assert!(policy.is_some());
        assert_eq!(findings, [format!("note: a.yaml:1:1: `{kind}` says how to reach a data store and is ignored")]);
    };
    check(
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: { datastoreType: etcdv3 }\n",
        "CalicoAPIConfig",
    );
    check("apiVersion: v1\nkind: calicoApiConfig\nspec: { etcdEndpoints: x }\n", "calicoApiConfig");
}

#[test]
fn repeats_are_errors_or_warnings_in_8() {
    let one = global("{ order: 1 }");
    let other = global("{ order: 2 }");
    let server = one.replace("name: p", "name: p, uid: x").replace("order: 1", "order: 1.0");
    let files = |second: &str| read_with(&LoadOptions::default(), &[("a.yaml", &one), ("b.yaml", second)]);
    let (policy, findings) = files(&one);
    assert_eq!(policy.unwrap().rulesets.len(), 1);
    let expected =
        "GlobalNetworkPolicy p is given twice with the same content (it is also at a.yaml:1:1; keep one of the two)";
    assert_eq!(findings, [format!("warning: b.yaml:1:1: {expected}")]);
    assert!(files(&server).0.is_some(), "IN-5 {:?}", files(&server).1);
    let (policy, findings) = files(&other);
    assert!(policy.is_none() && findings[0].contains("twice with different content"), "{findings:?}");
    let both = format!("{}---\n{}", namespaced("{}"), namespaced("{}").replace("namespace: n", "namespace: m"));
    assert_eq!(accept(&format!("{one}---\n{both}")).rulesets.len(), 3, "same name, other kind or namespace");
}
