//! A converted policy in, the YAML that `calicoctl get -o yaml` would print of it out (A3, A4).

use std::fmt::Write as _;

use super::convert::{ConvertedPeer, ConvertedPolicy, ConvertedRule, NAME_PREFIX, ORDER};
use crate::policy::ir::{PolicyDirection, Port};

/// The policy as a `projectcalico.org/v3` NetworkPolicy document, keys sorted.
pub fn yaml(policy: &ConvertedPolicy) -> String {
    let mut text = String::from("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n");
    line(&mut text, 1, format_args!("name: {}", scalar(&format!("{NAME_PREFIX}{}", policy.name))));
    line(&mut text, 1, format_args!("namespace: {}", scalar(&policy.namespace)));
    text.push_str("spec:\n");
    rules(&mut text, "egress", policy.egress.as_deref(), PolicyDirection::Egress);
    rules(&mut text, "ingress", policy.ingress.as_deref(), PolicyDirection::Ingress);
    line(&mut text, 1, format_args!("order: {ORDER}"));
    line(&mut text, 1, format_args!("selector: {}", scalar(&policy.selector)));
    line(&mut text, 1, format_args!("types:"));
    for (name, governed) in [("Ingress", policy.ingress.is_some()), ("Egress", policy.egress.is_some())] {
        if governed {
            line(&mut text, 1, format_args!("- {name}"));
        }
    }
    text
}

fn line(text: &mut String, level: usize, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    _ = writeln!(text, "{:width$}{content}", "", width = level * 2);
}

fn rules(text: &mut String, key: &str, rules: Option<&[ConvertedRule]>, direction: PolicyDirection) {
    let rules = rules.unwrap_or_default();
    if rules.is_empty() {
        return;
    }
    line(text, 1, format_args!("{key}:"));
    for rule in rules {
        line(text, 1, format_args!("- action: Allow"));
        let (source, destination) = match direction {
            PolicyDirection::Ingress => (peer(&rule.peer), ports(&rule.ports)),
            PolicyDirection::Egress => (Vec::new(), [peer(&rule.peer), ports(&rule.ports)].concat()),
        };
        entity(text, "destination", &destination);
        if let Some(protocol) = rule.protocol {
            line(text, 2, format_args!("protocol: {}", protocol.name()));
        }
        entity(text, "source", &source);
    }
}

fn entity(text: &mut String, key: &str, lines: &[String]) {
    if lines.is_empty() {
        return line(text, 2, format_args!("{key}: {{}}"));
    }
    line(text, 2, format_args!("{key}:"));
    for content in lines {
        line(text, 3, format_args!("{content}"));
    }
}

fn peer(peer: &ConvertedPeer) -> Vec<String> {
    let mut lines = Vec::new();
    match peer {
        ConvertedPeer::Any => {}
        ConvertedPeer::Block { net, except } => {
            lines.extend(["nets:".to_string(), format!("- {}", scalar(&net.to_string()))]);
            if !except.is_empty() {
                lines.push("notNets:".to_string());
                lines.extend(except.iter().map(|net| format!("- {}", scalar(&net.to_string()))));
            }
        }
        ConvertedPeer::Pods { selector, namespace_selector, .. } => {
            lines.extend(namespace_selector.iter().map(|text| format!("namespaceSelector: {}", scalar(text))));
            lines.push(format!("selector: {}", scalar(selector)));
        }
    }
    lines
}

fn ports(ports: &[Port]) -> Vec<String> {
    let mut lines = Vec::new();
    if !ports.is_empty() {
        lines.push("ports:".to_string());
    }
    lines.extend(ports.iter().map(|port| match port {
        Port::Range(first, last) if first == last => format!("- {first}"),
        // Quoted: YAML 1.1 readers take `22:50` for a number of base 60 (IN-9).
        Port::Range(first, last) => format!("- \"{first}:{last}\""),
        Port::Named(name) => format!("- {}", scalar(name)),
    }));
    lines
}

/// The text as a YAML scalar that every reader takes for a string: plain where that is certain, else in quotes.
fn scalar(text: &str) -> String {
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !is_word
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' ']);
    // Prefixes start with a digit; a slash keeps them from being numbers.
    let is_prefix = text.contains('/') && text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b'/'));
    if is_plain || is_prefix {
        return text.to_string();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_strings_for_every_reader() {
        let check = |text: &str, expected: &str| assert_eq!(scalar(text), expected);
        check("http", "http");
        check("8080-tcp", "\"8080-tcp\"");
        check("1e5", "\"1e5\"");
        check("no", "\"no\"");
        check("! has(x)", "\"! has(x)\"");
        check("10.0.0.0/8", "10.0.0.0/8");
        check("2001:db8::/32", "\"2001:db8::/32\"");
        check("a == 'b' && c in { 'd' }", "a == 'b' && c in { 'd' }");
    }
}
