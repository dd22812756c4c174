//! `ringwall show`: what the files say once it is loaded, as tables, names or documents.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::arguments::{GatewayArguments, exit};
use super::show_rows::{self, Listing, Wanted};
use super::show_yaml::{value, yaml};
use super::{findings, print, show_table::Table};
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean};
use crate::base::document::{self, Kind as NodeKind, Node};
use crate::control::load::{Loaded, load};
use crate::policy::ir::Kind;
use crate::policy::source::Source;

/// Arguments of `ringwall show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// What to show; singular, plural and any case are accepted
    #[arg(value_enum, ignore_case = true)]
    what: What,
    /// Show this one only: its name, with or without `namespace/` and `knp.default.`
    name: Option<String>,
    /// Show what is in this namespace only
    #[arg(short, long)]
    namespace: Option<String>,
    /// Form of the result; `yaml` and `json` of one name give the resource itself, converted if it is of Kubernetes
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Leave the line of headers out
    #[arg(long)]
    no_headers: bool,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Calico and Kubernetes policies in evaluation order
    #[value(alias = "policy")]
    Policies,
    /// Global policies only
    #[value(name = "globalnetworkpolicies", aliases = ["globalnetworkpolicy", "gnp"])]
    GlobalNetworkPolicies,
    /// Policies of namespaces only, those of Kubernetes included
    #[value(name = "networkpolicies", aliases = ["networkpolicy", "np"])]
    NetworkPolicies,
    /// Host endpoints, segments and pods
    #[value(alias = "endpoint")]
    Endpoints,
    /// Host endpoints only
    #[value(name = "hostendpoints", aliases = ["hostendpoint", "hep"])]
    HostEndpoints,
    /// Pods only
    #[value(alias = "pod")]
    Pods,
    /// The service table
    #[value(aliases = ["service", "svc"])]
    Services,
    /// Network sets
    #[value(aliases = ["set", "globalnetworksets", "globalnetworkset", "networksets", "networkset"])]
    Sets,
    /// The compiled program and the sizes of its tables
    Program,
}

/// Form of what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Columns
    #[default]
    Table,
    /// All columns
    Wide,
    /// One object or a list of them
    Json,
    /// The same as YAML
    Yaml,
    /// One name a line
    Name,
}

/// Shows; returns the exit code.
pub fn run(arguments: &ShowArguments) -> u8 {
    let outcome = load(&arguments.gateway.request(), 1, None);
    let Some(loaded) = outcome.loaded else {
        findings::print(&outcome.findings, &outcome.sources);
        return exit::INVALID;
    };
    if arguments.what == What::Program {
        return print::result(&program(&loaded, arguments), exit::DONE);
    }
    let all = listing(&loaded, arguments, None);
    let name = arguments.name.as_deref();
    let shown = if name.is_some() { listing(&loaded, arguments, name) } else { all.clone() };
    if let (Some(name), true) = (name, shown.items.is_empty()) {
        return unknown(name, arguments, &all);
    }
    print::result(&render(&shown, &loaded, &outcome.sources, arguments), exit::DONE)
}

fn listing(loaded: &Loaded, arguments: &ShowArguments, name: Option<&str>) -> Listing {
    let wanted = Wanted { name, namespace: arguments.namespace.as_deref() };
    let (policy, site) = (&loaded.policy, &loaded.plan.site);
    match arguments.what {
        What::Policies | What::Program => show_rows::policies(policy, &wanted, |_| true),
        What::GlobalNetworkPolicies => show_rows::policies(policy, &wanted, |kind| kind == Kind::GlobalNetworkPolicy),
        What::NetworkPolicies => show_rows::policies(policy, &wanted, |kind| kind != Kind::GlobalNetworkPolicy),
        What::Endpoints => show_rows::endpoints(policy, site, &wanted, |_| true),
        What::HostEndpoints => show_rows::endpoints(policy, site, &wanted, |kind| !matches!(kind, "pod" | "segment")),
        What::Pods => show_rows::endpoints(policy, site, &wanted, |kind| kind == "pod"),
        What::Services => show_rows::services(policy, &wanted),
        What::Sets => show_rows::sets(policy, &wanted),
    }
}

fn unknown(name: &str, arguments: &ShowArguments, all: &Listing) -> u8 {
    let what = match arguments.what {
        What::Policies => "policy",
        What::GlobalNetworkPolicies => "global network policy",
        What::NetworkPolicies => "network policy",
        What::Endpoints => "endpoint",
        What::HostEndpoints => "host endpoint",
        What::Pods => "pod",
        What::Services => "service",
        What::Sets => "network set",
        What::Program => "program",
    };
    let within = arguments.namespace.as_ref().map_or(String::new(), |n| format!(" in namespace `{n}`"));
    let mut error = Diagnostic::error("unknown-name", format!("no {what} `{name}` is loaded{within}"));
    // Whoever left out the namespace or the prefix of a converted name did not misspell it.
    let forms = |full: &'_ str| {
        let own = full.rsplit('/').next().unwrap_or(full).to_string();
        [own.strip_prefix("knp.default.").map(str::to_string), Some(own.clone()), Some(full.to_string())]
    };
    let names: Vec<(String, &str)> = all
        .items
        .iter()
        .flat_map(|i| forms(&i.name).into_iter().flatten().map(|form| (form, i.name.as_str())))
        .collect();
    let near = did_you_mean(name, names.iter().map(|(form, _)| form.as_str()));
    let near = near.and_then(|near| names.iter().find(|(form, _)| form == near)).map(|(_, full)| full);
    error = match near {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if all.items.is_empty() => error.help("there is none at all"),
        None => error.help("leave the name out to see all"),
    };
    let mut found = Diagnostics::new();
    found.push(error);
    findings::print(&found, &[]);
    exit::DENIED
}

fn render(shown: &Listing, loaded: &Loaded, sources: &[Source], arguments: &ShowArguments) -> String {
    let objects = || -> Vec<Value> {
        let document = |item: &show_rows::Item| {
            let written = || item.span.as_ref().and_then(|span| resource(span, sources));
            match arguments.name.is_some() {
                true => converted(&item.name, loaded).or_else(written).unwrap_or_else(|| item.object.clone()),
                false => item.object.clone(),
            }
        };
        shown.items.iter().map(document).collect()
    };
    match arguments.output {
        Form::Table => shown.table.text(false, !arguments.no_headers),
        Form::Wide => {
            let mut table = shown.table.clone();
            // `ALL LABELS` takes its place.
            table.remove("LABELS");
            table.text(true, !arguments.no_headers)
        }
        Form::Name => shown.items.iter().map(|item| format!("{}\n", item.name)).collect(),
        Form::Json => format!("{:#}\n", only(objects(), arguments)),
        Form::Yaml => match objects() {
            many if arguments.name.is_none() => yaml(&Value::Array(many)),
            many => many.iter().map(yaml).collect::<Vec<_>>().join("---\n"),
        },
    }
}

/// The object that was asked for by name, or the list.
fn only(mut objects: Vec<Value>, arguments: &ShowArguments) -> Value {
    match (arguments.name.is_some(), objects.len()) {
        (true, 1) => objects.pop().unwrap_or_default(),
        _ => Value::Array(objects),
    }
}

/// The Calico policy that a Kubernetes policy was converted to (CNV-1).
fn converted(display: &str, loaded: &Loaded) -> Option<Value> {
    let text = loaded.policy.converted.get(display)?;
    let documents = document::parse(&"converted".into(), text, &mut Diagnostics::new());
    documents.first().map(|document| value(&document.root))
}

/// The resource as the user wrote it.
fn resource(span: &Span, sources: &[Source]) -> Option<Value> {
    let source = sources.iter().find(|source| *source.path == *span.file)?;
    let documents = document::parse(&source.path, &source.text, &mut Diagnostics::new());
    documents.iter().find_map(|document| find(&document.root, span)).map(value)
}

fn find<'n>(node: &'n Node, span: &Span) -> Option<&'n Node> {
    match &node.kind {
        NodeKind::Map(_) if node.span == *span => Some(node),
        NodeKind::Map(entries) => entries.iter().find_map(|(_, node)| find(node, span)),
        NodeKind::List(items) => items.iter().find_map(|node| find(node, span)),
        _ => None,
    }
}

fn program(loaded: &Loaded, arguments: &ShowArguments) -> String {
    let program = &loaded.program;
    let (level, shapes) = (program.classifier.level().name(), program.classifier.shapes());
    let sizes = program.sizes();
    let object = || {
        let tables = sizes.iter().map(|t| serde_json::json!({"name": t.name, "rows": t.rows, "bytes": t.bytes}));
        let lists = shapes.iter().map(|shape| {
            serde_json::json!({
                "structure": shape.structure,
                "lists": shape.lists,
                "entries": shape.entries,
                "broad": shape.broad,
                "records": shape.records,
                "classes": shape.classes,
                "bytes": shape.bytes,
                "estimatedNs": (shape.ns * 10.0).round() / 10.0,
            })
        });
        serde_json::json!({
            "generation": program.generation,
            "instructions": level,
            "structures": lists.collect::<Vec<Value>>(),
            "rules": program.origins.len(),
            "endpoints": program.endpoints.len(),
            "bytes": program.bytes(),
            "tables": tables.collect::<Vec<Value>>(),
        })
    };
    match arguments.output {
        Form::Json => format!("{:#}\n", object()),
        Form::Yaml => yaml(&object()),
        Form::Name => sizes.iter().map(|t| format!("{}\n", t.name)).collect(),
        Form::Table | Form::Wide => {
            let mut table = Table::new(&[("TABLE", false), ("ROWS", false), ("BYTES", false)]);
            for size in &sizes {
                table.push([size.name.to_string(), size.rows.to_string(), size.bytes.to_string()]);
            }
            table.push(["total".to_string(), String::new(), program.bytes().to_string()]);
            let columns = ["STRUCTURE", "LISTS", "ENTRIES", "BROAD", "RECORDS", "CLASSES", "BYTES", "ESTIMATED NS"];
            let mut lists = Table::new(&columns.map(|column| (column, false)));
            for shape in shapes {
                let counts = [shape.lists, shape.entries, shape.broad, shape.records, shape.classes, shape.bytes];
                let counts = counts.map(|count| count.to_string());
                lists.push([shape.structure.to_string()].into_iter().chain(counts).chain([format!("{:.1}", shape.ns)]));
            }
            let head = format!(
                "generation {}, {level}, {} rules, {} host endpoints\n",
                program.generation,
                program.origins.len(),
                program.endpoints.len()
            );
            let head = if arguments.no_headers { String::new() } else { head };
            let between = if arguments.no_headers { "" } else { "\n" };
            head + &lists.text(true, !arguments.no_headers) + between + &table.text(true, !arguments.no_headers)
        }
    }
}
