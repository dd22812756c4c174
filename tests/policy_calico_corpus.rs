//! Files that people have in, a policy or a listed refusal out: seeds, published samples and documentation.

use std::path::{Path, PathBuf};

use ringwall::base::diagnostic::{Diagnostic, Diagnostics, Severity};
use ringwall::policy::ir::{Hook, Kind, Policy, PolicyDirection, Port};
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::collect;

fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let root = if beside.is_dir() { Some(beside) } else { std::env::var_os("RINGWALL_SHARED").map(PathBuf::from) };
    if root.is_none() {
        println!("skipped: the shared corpus is not there");
    }
    root
}

/// Loads paths below `base`.
fn read(base: &Path, paths: &[&str]) -> (Option<Policy>, Vec<Diagnostic>) {
    let mut out = Diagnostics::new();
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let sources = collect(&paths, base, &mut out);
    let policy = load(&sources, &LoadOptions::default(), &mut out);
    (policy, out.iter().cloned().collect())
}

fn errors(findings: &[Diagnostic]) -> Vec<&Diagnostic> {
    findings.iter().filter(|d| d.severity == Severity::Error).collect()
}

/// Files below a directory that hold Calico v3 resources, as paths relative to it.
fn calico_files(root: &Path) -> Vec<String> {
    let mut out = Diagnostics::new();
    let sources = collect(&[PathBuf::from(".")], root, &mut out);
    assert!(!out.has_errors(), "{out:?}");
    sources.iter().filter(|s| s.text.contains("projectcalico.org/v3")).map(|s| s.path.to_string()).collect()
}

/// Loads every Calico file of a folder by itself. `refused` lists the only ones that may fail: the end of the path, and the
/// codes of all their errors.
fn check_folder(folder: &str, refused: &[(&str, &[&str])], expected: usize) {
    let Some(shared) = shared() else { return };
    let root = shared.join(folder);
    let files = calico_files(&root);
    let mut surprises = Vec::new();
    for file in &files {
        let (policy, findings) = read(&root, &[file]);
        let mut codes: Vec<&str> = errors(&findings).iter().map(|d| d.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let wanted = refused.iter().find(|(end, _)| file.ends_with(end)).map_or(&[][..], |(_, codes)| codes);
        if codes != wanted || policy.is_some() != wanted.is_empty() {
            surprises.push(format!("{file}: {findings:#?}"));
        }
        assert!(errors(&findings).iter().all(|d| d.span.is_some()), "an error without a place in {file}");
    }
    println!("{folder}: {} files", files.len());
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert_eq!(files.len(), expected, "{folder}");
}

#[test]
fn published_samples_load_or_are_refused_for_a_known_reason() {
    let placeholder: &[&str] = &["bad-address", "bad-name"];
    let refused: &[(&str, &[&str])] = &[
        // Templates to be filled in (E9).
        ("generic-privatehostendpoint.yaml", placeholder),
        ("calico-v3/bootstrap.private.yaml", &["yaml-syntax"]),
        // An empty list entry (IN-9).
        ("calico-v3/allow-sys-mgmt-private.yaml", &["null-entry"]),
        ("public-network-isolation/deny-egress-pods-other.yaml", &["null-entry"]),
        // Prefixes without a mask (V-22) or with host bits (V-21), in files that were deleted upstream.
        ("history/calico-policies/public-network-isolation/eu-de/allow-public-services-pods.yaml", &["missing-mask"]),
        ("history/calico-policies/public-network-isolation/eu-gb/allow-public-services-pods.yaml", &["missing-mask"]),
        (
            "history/calico-policies/public-network-isolation/jp-tok/allow-public-services-pods.yaml",
            &["host-bits", "missing-mask"],
        ),
    ];
    check_folder("corpus/kube-samples", refused, 72);
}

#[test]
fn documentation_loads_or_is_refused_for_a_known_reason() {
    let refused: &[(&str, &[&str])] = &[
        // Templates to be filled in.
        ("bare-metal/policy/index-01.yaml", &["bad-port", "bad-prefix"]),
        ("bare-metal/policy/objects-01.yaml", &["bad-name"]),
        ("bare-metal/policy/objects-02.yaml", &["bad-name"]),
        // `interface` is not a field.
        ("resources/index-01.yaml", &["unknown-field"]),
        // Workloads come from Pods; the sample repeats a key as well.
        ("resources/workloadendpoint-01.yaml", &["duplicate-key", "unknown-kind"]),
    ];
    check_folder("corpus/calico-docs/v3.1", refused, 17);
}

#[test]
fn seeds_load_or_name_their_placeholders() {
    let Some(shared) = shared() else { return };
    let root = shared.join("corpus/seeds");
    let loads = |file: &str| {
        let (policy, findings) = read(&root, &[file]);
        policy.unwrap_or_else(|| panic!("{file}: {findings:#?}"))
    };
    for file in ["000-01.yaml", "001-02.yaml", "002-01.yaml"] {
        // D1
        let policy = loads(file);
        let [deny] = policy.rulesets.as_slice() else { panic!("{file}") };
        assert_eq!((deny.display.as_str(), deny.order, deny.hook), ("deny-nodeports", Some(1100.0), Hook::PreDnat));
        assert_eq!(deny.selector.to_string(), r#"ibm.role == "worker_public""#);
        let rules = deny.rules(PolicyDirection::Ingress).unwrap();
        let ports: Vec<_> = rules.iter().map(|r| (r.protocol, r.destination.ports.clone())).collect();
        let range = vec![Port::Range(30000, 32767)];
        assert_eq!(ports, [(Some(6), range.clone()), (Some(17), range)]);
        assert!(deny.egress.is_none());
    }
    // D11, D12
    let converted = loads("002-04.yaml");
    let [policy] = converted.rulesets.as_slice() else { panic!() };
    assert_eq!((policy.name.as_str(), policy.kind), ("access-nginx", Kind::NetworkPolicy));
    assert_eq!(policy.display, "default/knp.default.access-nginx");
    let log = loads("002-05.yaml");
    assert_eq!(log.rulesets[0].namespace.as_deref(), Some("default"));
    // D7, D8, D9
    for (file, count) in [("001-03.yaml", 2), ("001-04.yaml", 2), ("001-05.yaml", 4), ("002-02.yaml", 2)] {
        let (policy, findings) = read(&root, &[file]);
        let errors = errors(&findings);
        assert!(policy.is_none() && errors.len() == count, "{file}: {findings:#?}");
        for error in errors {
            assert_eq!(error.code, "bad-prefix", "{file}");
            let help = error.help.as_deref().unwrap_or_default();
            assert!(help.contains("unfilled placeholder"), "IN-6 {file}: {error}");
        }
    }
}

#[test]
fn raw_text_of_the_seeds_is_refused_with_place_and_advice() {
    let Some(shared) = shared() else { return };
    let root = shared.join("corpus/seeds");
    let check = |file: &str, line: u32, help: &str| {
        let (policy, findings) = read(&root, &[file]);
        let all: Vec<String> = errors(&findings).iter().map(|d| d.to_string()).collect();
        assert!(policy.is_none(), "{file}");
        let found = errors(&findings).iter().any(|d| {
            d.span.as_ref().is_some_and(|s| s.line == line) && d.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found, "{file}: wanted line {line} and {help}: {all:#?}");
    };
    check("002-03.yaml", 2, "indent"); // H5
    check("002-03-raw-indentation.txt", 2, "indent");
    check("004-raw.txt", 32, "backslash"); // D20, H6
}

#[test]
fn rules_and_policies_start_where_the_examples_say() {
    let Some(shared) = shared() else { return };
    let check = |example: &str, policy: &str, direction, index: usize, origin: &str| {
        let root = shared.join("spec/examples").join(example);
        let files: Vec<String> = calico_files(&root.join("policies")).iter().map(|f| format!("policies/{f}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).filter(|f| !f.ends_with("inventory.yaml")).collect();
        let (loaded, findings) = read(&root, &files);
        let loaded = loaded.unwrap_or_else(|| panic!("{example}: {findings:#?}"));
        let ruleset = loaded.rulesets.iter().find(|r| r.display == policy).unwrap();
        let span = &ruleset.rules(direction).unwrap()[index].span;
        assert_eq!(format!("{}:{}", span.file, span.line), origin);
    };
    let (ingress, egress) = (PolicyDirection::Ingress, PolicyDirection::Egress);
    check("acl-group-prednat", "node-ports", ingress, 0, "policies/calico.yaml:17");
    check("acl-group-prednat", "node-ports", ingress, 2, "policies/calico.yaml:19");
    check("kubernetes-stand-in", "perimeter.bad-nets", ingress, 0, "policies/hosts.yaml:41");
    check("kubernetes-stand-in", "perimeter.bad-nets", egress, 0, "policies/hosts.yaml:43");
    check("kubernetes-stand-in", "worker-basics", ingress, 1, "policies/hosts.yaml:24");
    check("lesson-3-whitelist", "whitelist", ingress, 0, "policies/whitelist.yaml:32");
    check("lesson-3-whitelist", "deny-lb-port-80", ingress, 0, "policies/whitelist.yaml:13");
    check("lesson-3-whitelist", "deny-nodeports", ingress, 1, "policies/deny-nodeports.yaml:16");
}
