//! An [`Account`] in, network ACLs, security groups and subnets of the policy out, with every reference resolved (GW-3, GW-13, SG-7).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::object::{Account, Acl, Group, Reference, RemoteObject, SubnetObject};
use crate::base::decode::Findings;
use crate::base::diagnostic::{Diagnostic, Span};
use crate::policy::ir::{AclRule, GroupRule, NetworkAcl, Policy, Remote, SecurityGroup, Subnet};

/// Fills `acls`, `groups` and `subnets` of the policy. References to what is not loaded are errors.
pub(super) fn resolve(account: Account, policy: &mut Policy, findings: &Findings) {
    let acl_owners: Vec<Owner<'_>> = account.acls.iter().map(|a| Owner::new(&a.own, &a.vpc, &a.span)).collect();
    let acl_names = unique_names("network ACL", &acl_owners, findings);
    let group_owners: Vec<Owner<'_>> = account.groups.iter().map(|g| Owner::new(&g.own, &g.vpc, &g.span)).collect();
    let group_names = unique_names("security group", &group_owners, findings);
    policy.subnets = subnets(&account, &acl_names, findings);
    policy.groups = groups(&account, &group_names, findings);
    warn_of_shared_addresses(&account.groups, &policy.groups, findings);
    policy.acls = account.acls.into_iter().zip(acl_names).map(|(acl, name)| network_acl(acl, name)).collect();
    policy.acls.sort_by(|a, b| a.name.cmp(&b.name));
    policy.groups.sort_by(|a, b| a.name.cmp(&b.name));
    policy.subnets.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
}

struct Owner<'a> {
    own: &'a Reference,
    vpc: &'a Reference,
    span: &'a Span,
}

impl<'a> Owner<'a> {
    fn new(own: &'a Reference, vpc: &'a Reference, span: &'a Span) -> Owner<'a> {
        Owner { own, vpc, span }
    }
}

/// A name for each object that no other has: names are unique inside a VPC only, so the VPC goes before a name that repeats.
fn unique_names(what: &str, owners: &[Owner<'_>], findings: &Findings) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner.own.shown()).or_default() += 1;
    }
    let mut taken: BTreeMap<String, &Span> = BTreeMap::new();
    let mut names = Vec::with_capacity(owners.len());
    for owner in owners {
        let shown = owner.own.shown();
        let is_repeated = counts.get(shown).is_some_and(|count| *count > 1);
        let name = if is_repeated && !owner.vpc.is_absent() {
            format!("{}/{shown}", owner.vpc.shown())
        } else {
            shown.to_string()
        };
        if name != shown {
            let message = format!("several VPCs have a {what} `{shown}`: this one is called `{name}` here");
            findings.push(Diagnostic::note("ambiguous-name", message).at(owner.span));
        }
        if let Some(first) = taken.insert(name.clone(), owner.span) {
            let message = format!("{what} `{name}` is given twice");
            let help = format!("it is also at {first}; keep one of the two");
            findings.push(Diagnostic::error("duplicate-resource", message).at(owner.span).help(help));
        }
        names.push(name);
    }
    names
}

fn network_acl(acl: Acl, name: String) -> NetworkAcl {
    let called = |subnet: Reference| if subnet.id.is_empty() { subnet.name } else { subnet.id };
    let mut rules: Vec<AclRule> = acl.rules;
    let mut next = [0u32; 2];
    for rule in &mut rules {
        let counter = &mut next[rule.direction as usize];
        rule.index = *counter;
        *counter += 1;
    }
    NetworkAcl { id: acl.own.id, name, subnets: acl.subnets.into_iter().map(called).collect(), rules, span: acl.span }
}

/// GW-3: a subnet's own word on its ACL wins over the lists of the ACLs. A subnet without any has no ACL layer.
fn subnets(account: &Account, acl_names: &[String], findings: &Findings) -> Vec<Subnet> {
    let mut found = Vec::new();
    for subnet in &account.subnets {
        let acl = match &subnet.acl {
            Some(wanted) => {
                let acl = account.acls.iter().position(|acl| wanted.is(&acl.own));
                if acl.is_none() {
                    findings.push(unknown(
                        "network ACL",
                        wanted,
                        &subnet.span,
                        &format!("Subnet {}", subnet.own.shown()),
                    ));
                }
                acl
            }
            None => account.acls.iter().position(|acl| acl.subnets.iter().any(|s| s.is(&subnet.own))),
        };
        if let Some(name) = acl.and_then(|index| acl_names.get(index)) {
            found.push(attached(subnet, name));
        }
    }
    found
}

fn attached(subnet: &SubnetObject, acl: &str) -> Subnet {
    Subnet {
        id: subnet.own.id.clone(),
        name: subnet.own.name.clone(),
        cidr: subnet.cidr,
        acl: acl.to_string(),
        span: subnet.span.clone(),
    }
}

fn groups(account: &Account, names: &[String], findings: &Findings) -> Vec<SecurityGroup> {
    let mut found = Vec::with_capacity(account.groups.len());
    for (group, name) in account.groups.iter().zip(names) {
        let mut next = [0u32; 2];
        let mut rules = Vec::with_capacity(group.rules.len());
        for rule in &group.rules {
            let counter = &mut next[rule.direction as usize];
            let index = *counter;
            *counter += 1;
            let remote = match &rule.remote {
                RemoteObject::Any => Remote::Any,
                RemoteObject::Net(net) => Remote::Net(*net),
                RemoteObject::Group(wanted) => {
                    let known = account.groups.iter().position(|other| wanted.is(&other.own));
                    let Some(name) = known.and_then(|index| names.get(index)) else {
                        findings.push(unknown("security group", wanted, &rule.span, &format!("SecurityGroup {name}")));
                        continue;
                    };
                    Remote::Group(name.clone())
                }
            };
            rules.push(GroupRule {
                direction: rule.direction,
                protocols: rule.protocols.clone(),
                remote,
                local: rule.local,
                ports: rule.ports,
                icmp: rule.icmp,
                index,
                span: rule.span.clone(),
            });
        }
        found.push(SecurityGroup {
            id: group.own.id.clone(),
            name: name.clone(),
            rules,
            members: members(group, account).into_iter().collect(),
            span: group.span.clone(),
        });
    }
    found
}

/// Addresses of interfaces that list the group or that it lists among its targets (GW-13).
fn members(group: &Group, account: &Account) -> BTreeSet<IpAddr> {
    (account.interfaces.iter())
        .filter(|interface| {
            interface.groups.iter().any(|listed| listed.is(&group.own))
                // Names of interfaces are unique on their instance only; ids decide.
                || group.targets.iter().any(|target| !target.id.is_empty() && target.id == interface.own.id)
        })
        .flat_map(|interface| interface.addresses.iter().copied())
        .collect()
}

/// Addresses are unique inside a VPC only: where two VPCs use one, the rules of both would add up for it. One warning per group.
fn warn_of_shared_addresses(written: &[Group], resolved: &[SecurityGroup], findings: &Findings) {
    let mut owners: BTreeMap<IpAddr, &Group> = BTreeMap::new();
    for (group, members) in written.iter().zip(resolved).filter(|(group, _)| !group.vpc.is_absent()) {
        let foreign = |address: &IpAddr| owners.get(address).copied().filter(|first| !first.vpc.is(&group.vpc));
        if let Some((address, first)) = members.members.iter().find_map(|address| Some((address, foreign(address)?))) {
            let message = format!(
                "{address} is a member of group `{}` of VPC `{}` and of group `{}` of VPC `{}`: the rules of both hold for it",
                first.own.shown(),
                first.vpc.shown(),
                group.own.shown(),
                group.vpc.shown()
            );
            let help = "load only the VPC that is behind this gateway";
            findings.push(Diagnostic::warning("address-in-two-vpcs", message).at(&group.span).help(help));
        }
        for address in &members.members {
            owners.entry(*address).or_insert(group);
        }
    }
}

fn unknown(what: &str, wanted: &Reference, span: &Span, about: &str) -> Diagnostic {
    let message = format!("names the {what} `{}`, which is not loaded", wanted.shown());
    Diagnostic::error("unknown-reference", message).at(span).about(about).help("load its JSON too")
}
