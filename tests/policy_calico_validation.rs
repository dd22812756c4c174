//! Upstream's table of accepted and rejected resources in, the same judgement out (section 3).

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use ringwall::base::diagnostic::Diagnostics;
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::Source;

fn table() -> Option<Value> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let root = if beside.is_dir() { Some(beside) } else { std::env::var_os("RINGWALL_SHARED").map(PathBuf::from) };
    let path = root.map(|root| root.join("corpus/calico-fixtures/validator-v3-cases.json"));
    let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()) else {
        println!("skipped: validator-v3-cases.json is not there");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// The JSON name of a Go field.
fn field_name(go: &str) -> String {
    match go {
        "ObjectMeta" => "metadata".into(),
        "NotICMP" => "notICMP".into(),
        "ICMP" => "icmp".into(),
        "HTTP" => "http".into(),
        "IPVersion" => "ipVersion".into(),
        "PreDNAT" => "preDNAT".into(),
        "ExpectedIPs" => "expectedIPs".into(),
        _ => go.chars().take(1).flat_map(char::to_lowercase).chain(go.chars().skip(1)).collect(),
    }
}

/// Symbols of the Go test that stand for values.
fn symbol(text: &str) -> Value {
    let word = |n: usize| json!("k".repeat(n));
    match text {
        "value63" => word(63),
        "value64" => word(64),
        "names.DefaultTierName" => json!("default"),
        "names.KubeAdminTierName" => json!("kube-admin"),
        "names.KubeBaselineTierName" => json!("kube-baseline"),
        "tierOrder" => json!(100.0),
        "defaultTierOrder" => json!(1_000_000.0),
        "defaultTierBadOrder" => json!(10.0),
        "adminTierOrder" => json!(1_000.0),
        "baselineTierOrder" => json!(10_000_000.0),
        "defaultActionDeny" => json!("Deny"),
        "defaultActionPass" => json!("Pass"),
        "api.PerfHintAssumeNeededOnEveryNode" => json!("AssumeNeededOnEveryNode"),
        other => json!(other),
    }
}

/// A Go value as the JSON that a user writes. `None` where a struct has no such form.
fn to_json(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(symbol(text)),
        Value::Array(items) => items.iter().map(to_json).collect::<Option<_>>().map(Value::Array),
        Value::Object(fields) if fields.contains_key("call") => None,
        Value::Object(fields) if fields.contains_key("PortName") && fields.len() > 1 => None,
        Value::Object(fields) if fields.contains_key("PortName") => to_json(&fields["PortName"]),
        Value::Object(fields) if fields.contains_key("MinPort") => {
            Some(json!(format!("{}:{}", fields["MinPort"], fields["MaxPort"])))
        }
        Value::Object(fields) => {
            let mut map = Map::new();
            for (key, value) in fields {
                // Keys of labels and annotations are data.
                let value = match key.as_str() {
                    "Labels" | "LabelsToApply" | "Annotations" => {
                        let pairs = value.as_object()?.iter().map(|(k, v)| Some((k.clone(), to_json(v)?)));
                        Value::Object(pairs.collect::<Option<_>>()?)
                    }
                    "Spec" if value.as_array().is_some_and(Vec::is_empty) => json!({}),
                    _ => to_json(value)?,
                };
                map.insert(field_name(key), value);
            }
            Some(Value::Object(map))
        }
        other => Some(other.clone()),
    }
}

/// A whole resource around the part that a case is about.
fn resource(kind: &str, value: &Value) -> Option<Value> {
    let wrap = |kind: &str, spec: Value| {
        Some(json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": "test"}, "spec": spec}))
    };
    let rule = |rule: Value| wrap("GlobalNetworkPolicy", json!({"ingress": [rule]}));
    let body = || to_json(value);
    match kind.strip_prefix("api.").unwrap_or(kind) {
        whole @ ("GlobalNetworkPolicy"
        | "NetworkPolicy"
        | "Tier"
        | "GlobalNetworkSet"
        | "NetworkSet"
        | "HostEndpoint") => {
            let mut all = body()?;
            let map = all.as_object_mut()?;
            map.insert("apiVersion".into(), json!("projectcalico.org/v3"));
            map.insert("kind".into(), json!(whole));
            Some(all)
        }
        "HostEndpointSpec" => wrap("HostEndpoint", body()?),
        "GlobalNetworkSetSpec" => wrap("GlobalNetworkSet", body()?),
        "NetworkSetSpec" => wrap("NetworkSet", body()?),
        "ProfileSpec" => wrap("Profile", body()?),
        "Rule" => rule(body()?),
        "EntityRule" => rule(json!({"action": "Allow", "source": body()?})),
        "ICMPFields" => rule(json!({"action": "Allow", "protocol": "ICMP", "icmp": body()?})),
        "HTTPMatch" => rule(json!({"action": "Allow", "http": body()?})),
        "protocolFromString" | "protocolFromInt" => rule(json!({"action": "Allow", "protocol": value})),
        _ => None,
    }
}

/// Cases that do not apply, by description, and why.
const EXCEPTIONS: &[(&str, &str)] =
    &[("should accept Allow rule with HTTP clause", "a packet filter refuses layer-7 matches")];

#[test]
fn upstreams_table_is_judged_alike() {
    let Some(table) = table() else { return };
    let (mut judged, mut skipped, mut wrong) = (0, Vec::new(), Vec::new());
    for case in table["cases"].as_array().unwrap() {
        let description = case["description"].as_str().unwrap();
        let kind = case["type"].as_str().unwrap();
        let Some(resource) = resource(kind, &case["value"]).filter(|_| !case["value"].is_null()) else {
            skipped.push(format!("{kind} {description}: no value, or one that only a Go struct can hold"));
            continue;
        };
        if let Some((_, why)) = EXCEPTIONS.iter().find(|(d, _)| *d == description) {
            skipped.push(format!("{kind} {description}: {why}"));
            continue;
        }
        let mut out = Diagnostics::new();
        let text = serde_json::to_string_pretty(&resource).unwrap();
        let is_accepted = load(&[Source::new("case.json", text.as_str())], &LoadOptions::default(), &mut out).is_some();
        judged += 1;
        if !is_accepted {
            let codes: Vec<&str> = out.iter().map(|d| d.code).collect();
            println!("{description}: {}", codes.join(" "));
        }
        if is_accepted != (case["expected"] == "accept") {
            let found: Vec<String> = out.iter().map(ToString::to_string).collect();
            wrong.push(format!("{kind} {description}: {text}\n{found:#?}"));
        }
    }
    println!("{judged} cases judged; not applicable:\n  {}", skipped.join("\n  "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(judged > 100 && skipped.len() < 12, "{judged} judged, {} skipped", skipped.len());
}
