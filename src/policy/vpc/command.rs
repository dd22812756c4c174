//! Commands of `ibmcloud is` in, a changed [`Account`] out (section 17, GW-34).

use std::collections::BTreeMap;
use std::path::Path;

use super::chain;
use super::object::{Account, Acl, Group, GroupRuleObject, Reference, RemoteObject, SubnetObject};
use super::read;
use super::shell::Command;
use super::value::{self, Detail, Effect, Ends};
use crate::base::address::Direction;
use crate::base::decode::{Field, Findings};
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean};
use crate::base::document;
use crate::policy::ir::{AclRule, Icmp, Protocols};

/// Commands that change what we know.
const EDITS: [&str; 6] = [
    "network-acl-create",
    "network-acl-rule-add",
    "network-acl-rule-delete",
    "subnet-update",
    "security-group-rule-add",
    "security-group-rule-delete",
];

/// Commands of `is` that only print or choose where to work.
const QUERIES: [&str; 20] = [
    "target",
    "vpcs",
    "vpc",
    "subnets",
    "subnet",
    "network-acls",
    "network-acl",
    "network-acl-rules",
    "network-acl-rule",
    "security-groups",
    "security-group",
    "security-group-rules",
    "security-group-rule",
    "security-group-targets",
    "sgs",
    "sg",
    "instances",
    "instance",
    "load-balancers",
    "load-balancer",
];

/// Command groups beside `is` that scripts use to log in and look around.
const OTHERS: [&str; 9] = ["cr", "config", "ks", "login", "oc", "plugin", "resource", "target", "version"];

/// Options that take no value.
const FLAGS: [&str; 7] = ["-f", "--force", "-q", "--quiet", "--json", "--reset-before-rule", "-i"];

/// Runs one command. Faults are reported at its line. `directory` is where `--rules @FILE` starts.
pub fn run(command: &Command, directory: Option<&Path>, account: &mut Account, findings: &Findings) {
    if let Err(fault) = execute(command, directory, account, findings) {
        findings.push(fault.at(&command.span));
    }
}

fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, message)
}

fn execute(
    command: &Command,
    directory: Option<&Path>,
    account: &mut Account,
    findings: &Findings,
) -> Result<(), Diagnostic> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let (verb, rest) = match words.as_slice() {
        ["ibmcloud" | "ic", "is", verb, rest @ ..] => (*verb, rest),
        ["ibmcloud" | "ic", other, ..] if OTHERS.contains(other) => return Ok(()),
        ["ibmcloud" | "ic", other, ..] => {
            let message = format!("`ibmcloud {other}` is not supported");
            return Err(
                error("unknown-command", message).help("only `ibmcloud is` commands say something about policy")
            );
        }
        [other, ..] => {
            let message = format!("`{other}` is not a command that can be imported: expected `ibmcloud is ...`");
            return Err(error("unknown-command", message));
        }
        [] => return Ok(()),
    };
    if QUERIES.contains(&verb) {
        return Ok(());
    }
    let arguments = Arguments::parse(verb, rest)?;
    match verb {
        "network-acl-create" => create_acl(arguments, command, directory, account, findings),
        "network-acl-rule-add" => add_acl_rule(arguments, command, account),
        "network-acl-rule-delete" => delete_acl_rules(arguments, account),
        "subnet-update" => update_subnet(arguments, account),
        "security-group-rule-add" => add_group_rule(arguments, command, account),
        "security-group-rule-delete" => delete_group_rules(arguments, account),
        _ => {
            let finding = error("unknown-command", format!("`ibmcloud is {verb}` is not supported"));
            Err(match did_you_mean(verb, EDITS) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("supported are {}", EDITS.map(|e| format!("`{e}`")).join(", "))),
            })
        }
    }
}

/// The words after the command's name.
struct Arguments<'w> {
    verb: &'w str,
    positional: std::collections::VecDeque<&'w str>,
    options: BTreeMap<&'w str, &'w str>,
}

impl<'w> Arguments<'w> {
    fn parse(verb: &'w str, words: &[&'w str]) -> Result<Arguments<'w>, Diagnostic> {
        let mut arguments = Arguments { verb, positional: Default::default(), options: BTreeMap::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if FLAGS.contains(word) {
                continue;
            }
            if !word.starts_with("--") {
                arguments.positional.push_back(word);
                continue;
            }
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (*word, words.next().copied()),
            };
            let Some(value) = value else {
                return Err(error("bad-command", format!("option `{option}` needs a value")));
            };
            if arguments.options.insert(option, value).is_some() {
                return Err(error("bad-command", format!("option `{option}` is given twice")));
            }
        }
        arguments.options.remove("--output");
        Ok(arguments)
    }

    fn option(&mut self, name: &str) -> Option<&'w str> {
        self.options.remove(name)
    }

    /// The next positional word, or the option that the oldest form used for it (CLI-2).
    fn next(&mut self, what: &str) -> Result<&'w str, Diagnostic> {
        let option = format!("--{}", what.to_lowercase());
        let found = self.options.remove(option.as_str()).or_else(|| self.positional.pop_front());
        found.ok_or_else(|| error("bad-command", format!("`{}` needs {what}", self.verb)))
    }

    fn number<T: TryFrom<u32>>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<T>, Diagnostic> {
        let Some(text) = self.option(name) else { return Ok(None) };
        let number = text.parse::<u32>().ok().filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
        number.map(Some).ok_or_else(|| {
            let message = format!("`{name}`: expected {} to {}, found `{text}`", range.start(), range.end());
            error("bad-command", message)
        })
    }

    /// A range of ports, for protocols that have them.
    fn ports(&mut self, names: [&str; 2], detail: Detail, ends: Ends) -> Result<Option<(u16, u16)>, Diagnostic> {
        let first = self.number::<u16>(names[0], 1..=65535)?;
        let last = self.number::<u16>(names[1], 1..=65535)?;
        if detail != Detail::Ports && (first.is_some() || last.is_some()) {
            return Err(error("ports-without-protocol", "ports need the protocol `tcp` or `udp`"));
        }
        value::port_range(first, last, ends).map_err(|fault| error("bad-port", fault))
    }

    fn icmp(&mut self, detail: Detail) -> Result<Option<Icmp>, Diagnostic> {
        let kind = self.number::<u8>("--icmp-type", 0..=254)?;
        let code = self.number::<u8>("--icmp-code", 0..=255)?;
        if detail != Detail::Icmp && (kind.is_some() || code.is_some()) {
            return Err(error("icmp-without-protocol", "`--icmp-type` and `--icmp-code` need the protocol `icmp`"));
        }
        match (kind, code) {
            (None, Some(_)) => Err(error("icmp-code-without-type", "`--icmp-code` needs `--icmp-type`")),
            (kind, code) => Ok(kind.map(|kind| Icmp { kind, code })),
        }
    }

    fn direction(&mut self) -> Result<Direction, Diagnostic> {
        let word = self.next("DIRECTION")?;
        value::direction(word)
            .ok_or_else(|| error("bad-command", format!("expected `inbound` or `outbound`, found `{word}`")))
    }

    fn protocols(&mut self, effect: Effect) -> Result<(Protocols, Detail), Diagnostic> {
        value::protocols(self.next("PROTOCOL")?, effect).map_err(|fault| error("bad-protocol", fault))
    }

    /// Nothing may be left: a word that is not understood could change what the rule means.
    fn finish(self) -> Result<(), Diagnostic> {
        if let Some(word) = self.positional.front() {
            return Err(error("bad-command", format!("`{word}` is one argument too many for `{}`", self.verb)));
        }
        match self.options.keys().next() {
            Some(option) => Err(error("bad-command", format!("`{}` has no option `{option}`", self.verb))),
            None => Ok(()),
        }
    }
}

fn prefix(text: &str) -> Result<ipnet::IpNet, Diagnostic> {
    value::prefix(text).map(|(net, _)| net).map_err(|fault| error("bad-cidr", fault))
}

/// Whether something of this VPC may be meant where a command gives the id or name of a VPC, or none.
fn may_be_in(own: &Reference, vpc: Option<&str>) -> bool {
    vpc.is_none_or(|word| own.is_absent() || own.is_called(word))
}

/// The VPC that a word names, as loaded objects name it.
fn vpc_called(account: &Account, word: &str) -> Reference {
    let acls = account.acls.iter().map(|acl| &acl.vpc);
    let others = account.groups.iter().map(|group| &group.vpc).chain(account.subnets.iter().map(|subnet| &subnet.vpc));
    let known = acls.chain(others).find(|vpc| vpc.is_called(word));
    known.cloned().unwrap_or_else(|| Reference { id: String::new(), name: word.to_string() })
}

/// The one element that a word names, by id or name, within a VPC if one is given.
fn find<T>(
    list: &[T],
    word: &str,
    vpc: Option<&str>,
    what: &str,
    parts: fn(&T) -> (&Reference, &Reference),
) -> Result<usize, Diagnostic> {
    let fits = |item: &T| {
        let (own, item_vpc) = parts(item);
        own.is_called(word) && may_be_in(item_vpc, vpc)
    };
    let found: Vec<usize> = (0..).zip(list).filter(|(_, item)| fits(item)).map(|(at, _)| at).collect();
    match found.as_slice() {
        [at] => Ok(*at),
        [] => {
            let finding = error("unknown-reference", format!("there is no {what} `{word}`"));
            let names = list.iter().map(|item| parts(item).0.shown());
            Err(match did_you_mean(word, names) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding,
            })
        }
        _ => Err(error("ambiguous-reference", format!("several VPCs have a {what} `{word}`: give its id"))),
    }
}

fn acl_at(account: &Account, word: &str, vpc: Option<&str>) -> Result<usize, Diagnostic> {
    find(&account.acls, word, vpc, "network ACL", |acl| (&acl.own, &acl.vpc))
}

fn group_at(account: &Account, word: &str, vpc: Option<&str>) -> Result<usize, Diagnostic> {
    find(&account.groups, word, vpc, "security group", |group| (&group.own, &group.vpc))
}

fn acl_of<'a>(account: &'a mut Account, word: &str, vpc: Option<&str>) -> Result<&'a mut Acl, Diagnostic> {
    let at = acl_at(account, word, vpc)?;
    account.acls.get_mut(at).ok_or_else(|| error("unknown-reference", format!("there is no network ACL `{word}`")))
}

fn group_of<'a>(account: &'a mut Account, word: &str, vpc: Option<&str>) -> Result<&'a mut Group, Diagnostic> {
    let at = group_at(account, word, vpc)?;
    account.groups.get_mut(at).ok_or_else(|| error("unknown-reference", format!("there is no security group `{word}`")))
}

fn create_acl(
    mut arguments: Arguments<'_>,
    command: &Command,
    directory: Option<&Path>,
    account: &mut Account,
    findings: &Findings,
) -> Result<(), Diagnostic> {
    let name = arguments.next("NAME")?;
    let vpc = arguments.option("--vpc").or_else(|| arguments.positional.pop_front());
    let rules = arguments.option("--rules");
    let source = arguments.option("--source-acl-id").or_else(|| arguments.option("--source-acl"));
    arguments.option("--resource-group-id");
    arguments.option("--resource-group-name");
    arguments.finish()?;
    if account.acls.iter().any(|acl| acl.own.is_called(name) && may_be_in(&acl.vpc, vpc)) {
        return Err(error("duplicate-resource", format!("there is a network ACL `{name}` already")));
    }
    let rules = match (rules, source) {
        (Some(_), Some(_)) => {
            return Err(error("bad-command", "`--rules` and `--source-acl-id` cannot stand together"));
        }
        (Some(rules), None) => given_rules(rules, command, directory, findings)?,
        (None, Some(source)) => {
            let at = acl_at(account, source, None)?;
            account.acls.get(at).map(|acl| acl.rules.clone()).unwrap_or_default()
        }
        (None, None) => [(Direction::Inbound, "inbound"), (Direction::Outbound, "outbound")]
            .map(|(direction, word)| allow_all(direction, format!("allow-all-{word}-rule-{name}"), &command.span))
            .into(),
    };
    let vpc = vpc.map(|word| vpc_called(account, word)).unwrap_or_default();
    account.acls.push(Acl {
        own: Reference { id: String::new(), name: name.to_string() },
        vpc,
        subnets: Vec::new(),
        rules,
        span: command.span.clone(),
    });
    Ok(())
}

/// A new ACL lets everything through until its rules are changed (ACL-4).
fn allow_all(direction: Direction, name: String, span: &Span) -> AclRule {
    let everywhere = ipnet::IpNet::from(ipnet::Ipv4Net::default());
    AclRule {
        id: String::new(),
        name,
        allow: true,
        direction,
        protocols: Protocols::Of(vec![1, 6, 17]),
        source: everywhere,
        destination: everywhere,
        source_ports: None,
        destination_ports: None,
        icmp: None,
        index: 0,
        span: span.clone(),
    }
}

/// `--rules` with JSON or `@FILE`; the order of the list counts (JSON-2).
fn given_rules(
    rules: &str,
    command: &Command,
    directory: Option<&Path>,
    findings: &Findings,
) -> Result<Vec<AclRule>, Diagnostic> {
    let mut read_findings = Diagnostics::new();
    let (file, text) = match rules.strip_prefix('@') {
        None => (command.span.file.clone(), rules.to_string()),
        Some(path) => {
            let full = directory.map_or_else(|| Path::new(path).to_path_buf(), |directory| directory.join(path));
            let text = std::fs::read_to_string(&full)
                .map_err(|fault| error("unreadable-file", format!("`{path}` cannot be read: {fault}")))?;
            (path.into(), text)
        }
    };
    let documents = document::parse(&file, &text, &mut read_findings);
    let is_inline = !rules.starts_with('@');
    // Places inside the command's own text mean nothing to the reader.
    let mut collected = Vec::new();
    let inner = if findings.is_lenient() { Findings::lenient() } else { Findings::new() };
    inner.extend(read_findings);
    for document in &documents {
        let root = Field::root(&document.root, &inner);
        collected.extend(read::acl_rules(&root.list().unwrap_or_default(), chain::Next::Ignored));
    }
    let mut found = Diagnostics::new();
    for finding in inner.into_diagnostics().iter() {
        found.push(if is_inline { finding.clone().at(&command.span) } else { finding.clone() });
    }
    findings.extend(found);
    if is_inline {
        collected.iter_mut().for_each(|rule| rule.span = command.span.clone());
    }
    Ok(collected)
}

fn add_acl_rule(mut arguments: Arguments<'_>, command: &Command, account: &mut Account) -> Result<(), Diagnostic> {
    let vpc = arguments.option("--vpc");
    let mut name = arguments.option("--name");
    // An older form has the new rule's name before everything else (CLI-2).
    if arguments.positional.len() == 7 && name.is_none() {
        name = arguments.positional.pop_front();
    }
    let wanted = arguments.next("ACL")?;
    let action = arguments.next("ACTION")?;
    let effect = match action {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        other => return Err(error("bad-command", format!("expected `allow` or `deny`, found `{other}`"))),
    };
    let direction = arguments.direction()?;
    let (protocols, detail) = arguments.protocols(effect)?;
    let source = prefix(arguments.next("SOURCE")?)?;
    let destination = prefix(arguments.next("DESTINATION")?)?;
    let rule = AclRule {
        id: String::new(),
        name: name.unwrap_or_default().to_string(),
        allow: effect == Effect::Allow,
        direction,
        protocols,
        source,
        destination,
        source_ports: arguments.ports(["--source-port-min", "--source-port-max"], detail, Ends::Optional)?,
        destination_ports: arguments.ports(
            ["--destination-port-min", "--destination-port-max"],
            detail,
            Ends::Optional,
        )?,
        icmp: arguments.icmp(detail)?,
        index: 0,
        span: command.span.clone(),
    };
    let before = ["--before-rule", "--before-rule-id", "--before-rule-name"].map(|name| arguments.option(name));
    let before: Vec<&str> = before.into_iter().flatten().collect();
    arguments.finish()?;
    let acl = acl_of(account, wanted, vpc)?;
    if !rule.name.is_empty() && acl.rules.iter().any(|other| other.name == rule.name) {
        return Err(error("duplicate-rule-name", format!("ACL `{wanted}` has a rule `{}` already", rule.name)));
    }
    // CLI-1: at the end, or immediately in front of another.
    let at = match before.as_slice() {
        [] => acl.rules.len(),
        [next] => rule_at(&acl.rules, next, wanted)?,
        _ => return Err(error("bad-command", "only one rule can be the next one")),
    };
    acl.rules.insert(at, rule);
    Ok(())
}

fn rule_at(rules: &[AclRule], word: &str, acl: &str) -> Result<usize, Diagnostic> {
    let is_called = |rule: &AclRule| !word.is_empty() && (rule.id == word || rule.name == word);
    rules.iter().position(is_called).ok_or_else(|| {
        let finding = error("unknown-reference", format!("ACL `{acl}` has no rule `{word}`"));
        match did_you_mean(word, rules.iter().map(|rule| rule.name.as_str())) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding,
        }
    })
}

fn delete_acl_rules(mut arguments: Arguments<'_>, account: &mut Account) -> Result<(), Diagnostic> {
    let vpc = arguments.option("--vpc");
    let wanted = arguments.next("ACL")?;
    let mut words = vec![arguments.next("RULE")?];
    words.extend(std::mem::take(&mut arguments.positional));
    arguments.finish()?;
    let acl = acl_of(account, wanted, vpc)?;
    for word in words {
        let at = rule_at(&acl.rules, word, wanted)?;
        acl.rules.remove(at);
    }
    Ok(())
}

/// GW-34: beats what the subnet itself says; a subnet that is not loaded is only listed.
fn update_subnet(mut arguments: Arguments<'_>, account: &mut Account) -> Result<(), Diagnostic> {
    let vpc = arguments.option("--vpc");
    let wanted = arguments.next("SUBNET")?;
    let acl = arguments.option("--network-acl-id").or_else(|| arguments.option("--network-acl"));
    // Neither says anything about filtering.
    for ignored in ["--name", "--public-gateway-id", "--pgw", "--routing-table-id", "--rt"] {
        arguments.option(ignored);
    }
    arguments.finish()?;
    let Some(acl) = acl else { return Ok(()) };
    let acl_index = acl_at(account, acl, vpc)?;
    let fits = |subnet: &&mut SubnetObject| subnet.own.is_called(wanted) && may_be_in(&subnet.vpc, vpc);
    let mut fitting = account.subnets.iter_mut().filter(fits);
    let known = fitting.next();
    if fitting.next().is_some() {
        let message = format!("several VPCs have a subnet `{wanted}`: give its id");
        return Err(error("ambiguous-reference", message));
    }
    let reference = known
        .as_ref()
        .map_or_else(|| Reference { id: wanted.to_string(), name: wanted.to_string() }, |subnet| subnet.own.clone());
    if let (Some(subnet), Some(acl)) = (known, account.acls.get(acl_index)) {
        subnet.acl = Some(acl.own.clone());
    }
    for (at, acl) in account.acls.iter_mut().enumerate() {
        acl.subnets.retain(|listed| !listed.is(&reference));
        if at == acl_index {
            acl.subnets.push(reference.clone());
        }
    }
    Ok(())
}

fn add_group_rule(mut arguments: Arguments<'_>, command: &Command, account: &mut Account) -> Result<(), Diagnostic> {
    let vpc = arguments.option("--vpc");
    let wanted = arguments.next("GROUP")?;
    let direction = arguments.direction()?;
    let (protocols, detail) = arguments.protocols(Effect::Allow)?;
    let remote = match arguments.option("--remote") {
        None => RemoteObject::Any,
        Some(word) => match value::prefix(word) {
            Ok((net, _)) => RemoteObject::Net(net),
            // Whatever is written like an address is no group.
            Err(fault) if word.contains(['/', ':']) => return Err(error("bad-cidr", fault)),
            Err(_) => {
                let at = group_at(account, word, vpc)?;
                RemoteObject::Group(account.groups.get(at).map(|group| group.own.clone()).unwrap_or_default())
            }
        },
    };
    let local = arguments.option("--local").map(prefix).transpose()?;
    let rule = GroupRuleObject {
        own: Reference { id: String::new(), name: arguments.option("--name").unwrap_or_default().to_string() },
        direction,
        protocols,
        remote,
        local,
        ports: arguments.ports(["--port-min", "--port-max"], detail, Ends::Both)?,
        icmp: arguments.icmp(detail)?,
        span: command.span.clone(),
    };
    arguments.finish()?;
    group_of(account, wanted, vpc)?.rules.push(rule);
    Ok(())
}

fn delete_group_rules(mut arguments: Arguments<'_>, account: &mut Account) -> Result<(), Diagnostic> {
    let vpc = arguments.option("--vpc");
    let wanted = arguments.next("GROUP")?;
    let mut words = vec![arguments.next("RULE")?];
    words.extend(std::mem::take(&mut arguments.positional));
    arguments.finish()?;
    let group = group_of(account, wanted, vpc)?;
    for word in words {
        let at = group.rules.iter().position(|rule| rule.own.is_called(word));
        let at = at.ok_or_else(|| error("unknown-reference", format!("group `{wanted}` has no rule `{word}`")))?;
        group.rules.remove(at);
    }
    Ok(())
}
