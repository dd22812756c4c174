//! Documents in, rules or findings out: one line per case of sections 12.1 to 12.3.

use std::path::{Path, PathBuf};

use super::convert::{ConvertedPolicy, convert};
use super::decode::{Decoded, decode};
use super::label_selector::{namespace_selector, pod_selector};
use super::yaml::yaml;
use crate::base::decode::{Field, Findings};
use crate::base::diagnostic::{Diagnostics, Severity};
use crate::base::document::{self, Document};
use crate::policy::load::{LoadOptions, load};
use crate::policy::source::Source;

fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let found = [Some(beside), std::env::var_os("RINGWALL_SHARED").map(PathBuf::from)];
    let found = found.into_iter().flatten().find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: the shared corpus is not there");
    }
    found
}

fn read(text: &str) -> (Vec<Document>, Diagnostics) {
    let mut out = Diagnostics::new();
    let documents = document::parse(&"a.yaml".into(), text, &mut out);
    (documents, out)
}

/// Decodes the first document; the findings as `severity code`, in order.
fn decode_text(text: &str) -> (Decoded, Vec<String>) {
    let (documents, out) = read(text);
    assert!(out.is_empty(), "{text}: {out:?}");
    let findings = Findings::new();
    let field = Field::root(&documents[0].root, &findings);
    let mut root = field.map().unwrap();
    root.ignore(&["apiVersion", "kind"]);
    let decoded = decode(root, field.span());
    let codes = findings.into_diagnostics().iter().map(|d| format!("{:?} {}", d.severity, d.code)).collect();
    (decoded, codes)
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}"
    )
}

fn converted(spec: &str) -> ConvertedPolicy {
    let (decoded, codes) = decode_text(&policy(spec));
    assert_eq!(codes, Vec::<String>::new(), "{spec}");
    convert(&decoded.policy.unwrap())
}

#[test]
fn faults_are_errors_12_2() {
    let check = |spec: &str, expected: &[&str]| {
        let (decoded, codes) = decode_text(&policy(spec));
        assert_eq!(codes, expected, "{spec}");
        assert_eq!(decoded.policy.is_none(), codes.iter().any(|c| c.starts_with("Error")), "{spec}");
    };
    let port = |port: &str, expected: &[&str]| {
        check(&format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}"), expected);
    };
    port("{protocol: tcp, port: 80}", &["Error unknown-value"]);
    port("{protocol: ICMP}", &["Error unknown-value"]);
    port("{port: 0}", &["Error out-of-range"]);
    port("{port: 65536}", &["Error out-of-range"]);
    port("{port: -1}", &["Error out-of-range"]);
    port("{port: 80.5}", &["Error wrong-type"]);
    port("{port: sixteen-lettersx}", &["Error bad-port"]);
    port("{port: Http}", &["Error bad-port"]);
    port("{port: '80'}", &["Error bad-port"]);
    port("{port: 80-90}", &["Error bad-port"]);
    port("{endPort: 90}", &["Error bad-end-port"]);
    port("{port: http, endPort: 90}", &["Error bad-end-port"]);
    port("{port: 80, endPort: 79}", &["Error bad-end-port"]);
    port("{port: 80, endPort: 65536}", &["Error out-of-range"]);
    port("{port: 80, endPort: 80}", &[]);
    port("{port: 80, endport: 90}", &["Error unknown-field"]);
    port("80", &["Error wrong-type"]);
    let peer = |peer: &str, expected: &[&str]| {
        check(&format!("{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}"), expected);
    };
    peer("{}", &["Error empty-peer"]);
    peer("{podSelector: }", &["Error empty-peer"]);
    peer("{NamespaceSelector: {}}", &["Error unknown-field"]);
    peer("{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}", &["Error peer-conflict"]);
    peer("{ipBlock: {}}", &["Error missing-field"]);
    peer("{ipBlock: {cidr: 10.0.0.1}}", &["Error bad-cidr"]);
    peer("{ipBlock: {cidr: <ip>/32}}", &["Error bad-cidr"]);
    peer("{ipBlock: {cidr: 10.0.0.0/33}}", &["Error bad-cidr"]);
    peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.0.0.0/8]}}", &["Error bad-except"]);
    peer("{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}", &["Error bad-except"]);
    peer("{ipBlock: {cidr: 10.0.0.0/8, except: ['2001:db8::/32']}}", &["Error bad-except"]);
    peer("{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}", &["Error bad-except"]);
    peer("{ipBlock: {cidr: 10.0.0.1/8, except: [10.1.0.1/16]}}", &["Warning host-bits", "Warning host-bits"]);
    let selector = |selector: &str, expected: &[&str]| check(&format!("{{podSelector: {selector}}}"), expected);
    selector("{matchLabels: {a: 1}}", &["Error wrong-type"]);
    selector("{matchLabels: {a: 'it''s'}}", &["Error bad-label"]);
    selector("{matchLabels: {-a: b}}", &["Error bad-label"]);
    selector("{matchlabels: {}}", &["Error unknown-field"]);
    selector("{matchExpressions: [{key: a, operator: In}]}", &["Error bad-requirement"]);
    selector("{matchExpressions: [{key: a, operator: NotIn, values: []}]}", &["Error bad-requirement"]);
    selector("{matchExpressions: [{key: a, operator: Exists, values: [b]}]}", &["Error bad-requirement"]);
    selector("{matchExpressions: [{key: a, operator: DoesNotExist, values: [b]}]}", &["Error bad-requirement"]);
    selector("{matchExpressions: [{key: a, operator: Equals, values: [b]}]}", &["Error unknown-value"]);
    selector("{matchExpressions: [{key: a, operator: In, values: b}]}", &["Error wrong-type"]);
    selector("{matchExpressions: {key: a}}", &["Error wrong-type"]);
    check("{podSelector: {}, policyTypes: [ingress]}", &["Error unknown-value"]);
    check("{podSelector: {}, policyTypes: [Ingress, Egress, Ingress]}", &["Error too-many-types"]);
    check("{podSelector: {}, namespaceSelector: {}}", &["Error unknown-field"]);
    check("{podSelector: {}, ingress: [{ports: {port: 3111}}]}", &["Error wrong-type"]);
    check("{podSelector: {}, ingress: {}}", &["Error wrong-type"]);
    check("{podSelector: {}, ingress: [{to: []}]}", &["Error unknown-field"]);
    check("{podSelector: {}}", &[]);
}

#[test]
fn lenient_reading_drops_no_peer_and_no_condition_in_3() {
    let check = |spec: &str, expected: &[&str]| {
        let mut out = Diagnostics::new();
        let options = LoadOptions { lenient: true, ..LoadOptions::default() };
        load(&[Source::new("a.yaml", policy(spec))], &options, &mut out);
        let codes: Vec<String> = out.iter().map(|d| format!("{:?} {}", d.severity, d.code)).collect();
        assert_eq!(codes, expected, "{spec}");
    };
    check("{podSelector: {}, colour: red}", &["Warning unknown-field"]);
    check(
        "{podSelector: {}, ingress: [{from: [{NamespaceSelector: {}}]}]}",
        &["Error empty-peer", "Warning unknown-field"],
    );
    check(
        "{podSelector: {matchExpressions: [{Key: a, operator: Exists}]}}",
        &["Error missing-field", "Warning unknown-field"],
    );
}

#[test]
fn metadata_is_strict_in_3_in_5_v_18() {
    let check = |metadata: &str, expected: &[&str]| {
        let text = format!("{{kind: NetworkPolicy, metadata: {metadata}, spec: {{podSelector: {{}}}}}}");
        assert_eq!(decode_text(&text).1, expected, "{metadata}");
    };
    check("{name: p, uid: x, managedFields: [], annotations: {a: b}, labels: {a: b}}", &[]);
    check("{name: p, Namespace: x}", &["Error unknown-field"]);
    check("{name: P}", &["Error bad-name"]);
    check("{name: a_b}", &["Error bad-name"]);
    check("{name: <name>}", &["Error bad-name"]);
    check("{}", &["Error missing-field"]);
    check("{name: p, namespace: a.b}", &["Error bad-name"]);
    check("{name: p, labels: {a: 1}}", &["Error wrong-type"]);
}

#[test]
fn directions_follow_types_and_sections_knp_1_knp_2_d17() {
    let check = |spec: &str, ingress: Option<usize>, egress: Option<usize>| {
        let rules = converted(spec).rule_set().unwrap();
        let counts = (rules.ingress.map(|list| list.len()), rules.egress.map(|list| list.len()));
        assert_eq!(counts, (ingress, egress), "{spec}");
    };
    check("{podSelector: {}}", Some(0), None);
    check("{podSelector: {}, ingress: []}", Some(0), None);
    check("{podSelector: {}, ingress: [{}]}", Some(1), None);
    check("{podSelector: {}, egress: []}", Some(0), None);
    check("{podSelector: {}, egress: [{}]}", Some(0), Some(1));
    check("{podSelector: {}, ingress: [{}], policyTypes: [Egress]}", None, Some(0));
    check("{podSelector: {}, egress: [{}], policyTypes: [Ingress]}", Some(0), None);
    check("{podSelector: {}, policyTypes: []}", Some(0), None);
    check("{podSelector: {}, policyTypes: [Egress, Ingress]}", Some(0), Some(0));
}

#[test]
fn rules_keep_the_index_of_the_users_list_cnv_4() {
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}], \
                ports: [{port: 53, protocol: UDP}, {port: 53}, {port: dns}]}, {}]}";
    let rules = converted(spec).rule_set().unwrap().ingress.unwrap();
    let seen: Vec<(u32, Option<u8>, usize, bool)> =
        rules.iter().map(|r| (r.index, r.protocol, r.destination.ports.len(), r.source.selector.is_some())).collect();
    assert_eq!(
        seen,
        [
            (0, Some(6), 2, true),
            (0, Some(6), 2, false),
            (0, Some(17), 1, true),
            (0, Some(17), 1, false),
            (1, None, 0, false),
        ]
    );
}

#[test]
fn rule_sets_are_named_ordered_and_scoped_cnv_1_ord_3_id_9() {
    let rules = converted("{podSelector: {matchLabels: {run: nginx}}}").rule_set().unwrap();
    assert_eq!(
        (rules.name.as_str(), rules.display.as_str(), rules.tier.as_str(), rules.order),
        ("p", "shop/knp.default.p", "default", Some(1000.0))
    );
    assert_eq!(rules.selector_text, "projectcalico.org/orchestrator == 'k8s' && run == 'nginx'");
    let labels =
        |text: &str| text.split(' ').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    let check = |text: &str, expected| assert_eq!(rules.selector.evaluate(&labels(text)), expected, "{text}");
    check("projectcalico.org/orchestrator=k8s projectcalico.org/namespace=shop run=nginx", true);
    check("projectcalico.org/orchestrator=k8s projectcalico.org/namespace=other run=nginx", false);
    check("projectcalico.org/orchestrator=k8s projectcalico.org/namespace=shop run=other", false);
    check("projectcalico.org/namespace=shop run=nginx", false);
}

#[test]
fn selectors_convert_as_upstream_does_cnv_2_cnv_3() {
    let Some(shared) = shared() else { return };
    let table = std::fs::read_to_string(shared.join("corpus/calico-fixtures/k8s-selector-conversion.tsv")).unwrap();
    let mut checked = 0;
    for line in table.lines().skip(1) {
        let [kind, selector, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (decoded, codes) = match selector {
            "null" => (None, Vec::new()),
            some => {
                let (decoded, codes) = decode_text(&policy(&format!("{{podSelector: {some}}}")));
                (decoded.policy.map(|p| p.pods), codes)
            }
        };
        assert_eq!(codes, Vec::<String>::new(), "{line}");
        let text = match kind {
            "pod" => pod_selector(decoded.as_ref()),
            _ => namespace_selector(decoded.as_ref()).unwrap_or_default(),
        };
        assert_eq!(text, expected, "{line}");
        checked += 1;
    }
    assert!(checked >= 11, "{checked}");
}

#[test]
fn the_printed_policy_is_the_one_of_the_documentation_d11_cnv_5() {
    let Some(shared) = shared() else { return };
    let file = |name: &str| std::fs::read_to_string(shared.join("corpus/seeds").join(name)).unwrap();
    let (decoded, codes) = decode_text(&file("002-03-corrected.yaml"));
    assert_eq!(codes, Vec::<String>::new());
    let printed = yaml(&convert(&decoded.policy.unwrap()));
    let expected = file("002-04.yaml").replace("  name: knp", "  namespace: default\n  name: knp");
    let (printed_tree, expected_tree) = (read(&printed).0, read(&expected).0);
    assert!(printed_tree[0].root.same_content(&expected_tree[0].root), "{printed}");
}

#[test]
fn the_printed_policy_names_every_part() {
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, \
                {namespaceSelector: {}}], ports: [{port: 80, endPort: 90}, {port: 443}, {port: web}]}]}";
    let expected = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: knp.default.p
  namespace: shop
spec:
  egress:
  - action: Allow
    destination:
      nets:
      - 10.0.0.0/8
      notNets:
      - 10.1.0.0/16
      ports:
      - \"80:90\"
      - 443
      - web
    protocol: TCP
    source: {}
  - action: Allow
    destination:
      namespaceSelector: all()
      selector: projectcalico.org/orchestrator == 'k8s'
      ports:
      - \"80:90\"
      - 443
      - web
    protocol: TCP
    source: {}
  order: 1000
  selector: projectcalico.org/orchestrator == 'k8s'
  types:
  - Egress
";
    assert_eq!(yaml(&converted(spec)), expected);
}

/// Findings of a file that is loaded alone.
fn findings_of(path: &Path) -> Vec<(Severity, &'static str, u32)> {
    let mut out = Diagnostics::new();
    let source = Source::new("a.yaml", std::fs::read_to_string(path).unwrap());
    load(&[source], &LoadOptions::default(), &mut out);
    out.iter().map(|d| (d.severity, d.code, d.span.as_ref().map_or(0, |s| s.line))).collect()
}

#[test]
fn printed_policies_of_the_documentation_are_judged_as_listed_d3_d5_d10_d15_d20() {
    use Severity::{Error, Warning};
    let Some(shared) = shared() else { return };
    let check = |name: &str, expected: &[(Severity, &str, u32)]| {
        let mut found = findings_of(&shared.join("corpus/seeds").join(name));
        found.sort();
        assert_eq!(found, expected, "{name}");
    };
    let misspelt: &[(Severity, &str, u32)] = &[
        (Error, "misplaced-ports", 17),
        (Error, "unknown-field", 4),
        (Error, "unknown-field", 13),
        (Warning, "suspicious-label-key", 10),
    ];
    let capital: &[(Severity, &str, u32)] = &[(Warning, "suspicious-label-key", 15)];
    check("000-03.yaml", capital);
    check("000-05.yaml", misspelt);
    check("000-03-corrected.yaml", &[]);
    check("000-04-corrected.yaml", &[]);
    check("000-05-corrected.yaml", &[]);
    check("002-03.yaml", &[(Error, "yaml-syntax", 2)]);
    check("002-03-corrected.yaml", &[]);
    check("002-03-raw-indentation.txt", &[(Error, "yaml-syntax", 2)]);
    check("003-01.yaml", capital);
    check("003-02.yaml", capital);
    check("003-03.yaml", misspelt);
    check("004-01-corrected.yaml", &[]);
    check("004-02-corrected.yaml", &[]);
    check("004-03-corrected.yaml", &[]);
    check("004-04-corrected.yaml", &[]);
    check("004-05-corrected.yaml", &[]);
    check("004-raw.txt", &[(Error, "yaml-syntax", 32)]);
}

#[test]
fn collections_load() {
    let Some(shared) = shared() else { return };
    let mut checked = 0;
    let mut queue: Vec<PathBuf> = ["recipes", "cyclonus/networkpolicies", "kube-samples/HEAD/k8s-network-policies"]
        .map(|d| shared.join("corpus").join(d))
        .into();
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if !path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            continue;
        }
        checked += 1;
        assert_eq!(findings_of(&path), [], "{}", path.display());
    }
    assert!(checked >= 30, "{checked}");
}
