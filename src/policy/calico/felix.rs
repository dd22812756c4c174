//! FelixConfiguration in, failsafe ports and log settings out (FS-5, LOG-3); its other fields configure a data plane that is not ours.

use ipnet::IpNet;
use std::net::IpAddr;

use super::name;
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Diagnostic;
use crate::policy::ir::{FailsafePort, LogSettings};
use crate::policy::resources::{Context, FelixSettings, Resource};

/// Decodes a configuration.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let span = resource.span.clone();
    let findings = resource.root.findings();
    let spec_field = resource.root.take("spec");
    resource.root.finish();
    let Some(metadata) = metadata else { return };
    if metadata.name != "default" && !metadata.name.starts_with("node.") {
        let message = format!("the FelixConfiguration `{}` has no effect", metadata.name);
        let help = "only `default` and `node.<name>` are looked at";
        findings.push(Diagnostic::warning("unused-configuration", message).at(&span).help(help));
    }
    let mut settings = FelixSettings {
        name: metadata.name,
        failsafe_inbound: None,
        failsafe_outbound: None,
        log: LogSettings::default(),
    };
    if let Some(field) = spec_field
        && let Some(mut spec) = field.map()
    {
        fill(&mut settings, &mut spec);
        let ignored: Vec<String> = spec.rest().map(|key| format!("`{}`", key.text)).collect();
        if !ignored.is_empty() {
            let message = format!("these fields have no effect here: {}", ignored.join(", "));
            findings.push(Diagnostic::note("ignored-field", message).at(&span));
        }
    }
    context.resources.felix.push(settings);
}

fn fill(settings: &mut FelixSettings, spec: &mut Decoder<'_, '_>) {
    settings.failsafe_inbound = spec.take("failsafeInboundHostPorts").and_then(|f| failsafe(&f));
    settings.failsafe_outbound = spec.take("failsafeOutboundHostPorts").and_then(|f| failsafe(&f));
    settings.log.prefix = spec.take("logPrefix").and_then(|f| f.string()).map(str::to_string);
    settings.log.rate_limit = spec.take("logActionRateLimit").and_then(|f| rate(&f));
    settings.log.burst = spec.take("logActionRateLimitBurst").and_then(|f| f.integer(0..=9999));
}

/// A list, or the older `none`.
fn failsafe(field: &Field<'_, '_>) -> Option<Vec<FailsafePort>> {
    if field.node.as_str() == Some("none") {
        return Some(Vec::new());
    }
    Some(field.list()?.iter().filter_map(failsafe_port).collect())
}

fn failsafe_port(field: &Field<'_, '_>) -> Option<FailsafePort> {
    let mut map = field.map()?;
    let protocol = map.take("protocol").map(|f| {
        // Upstream's own lists are in lower case, its rules are not.
        let known = |f: &Field<'_, '_>| match f.string()?.to_ascii_uppercase().as_str() {
            "TCP" => Some(6),
            "UDP" => Some(17),
            "SCTP" => Some(132),
            _ => {
                f.error("bad-protocol", "a failsafe port needs protocol `tcp`, `udp` or `sctp`");
                None
            }
        };
        known(&f)
    });
    let port = map.require("port").and_then(|f| f.integer(1..=65535));
    let net_field = map.take("net").filter(|f| f.node.as_str() != Some(""));
    let net = net_field.as_ref().map(|f| {
        let text = f.string()?;
        let net = text.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        if net.is_err() {
            f.error("bad-prefix", format!("`{text}` is not an address prefix"));
        }
        net.ok()
    });
    map.finish();
    let net = match net {
        None => None,
        Some(net) => Some(net?),
    };
    // Absent means TCP, as in upstream's short form.
    let protocol = protocol.unwrap_or(Some(6))?;
    Some(FailsafePort { protocol, port: port?, net })
}

/// `100/second` and the like.
fn rate(field: &Field<'_, '_>) -> Option<String> {
    let text = field.string()?;
    let is_rate = text.split_once('/').is_some_and(|(count, unit)| {
        count.parse::<u32>().is_ok_and(|count| (1..=10_000).contains(&count))
            && matches!(unit, "second" | "minute" | "hour" | "day")
    });
    if !is_rate {
        let help = "write a number from 1 to 10000 and a unit, such as `100/minute`";
        field.error_with_help("bad-rate", format!("`{text}` is not a rate"), help);
    }
    Some(text.to_string())
}
