//! A random policy in, with network ACLs, security groups and perhaps a subnet out.

use ringwall::base::address::Direction;
use ringwall::policy::ir::*;

use super::{Dice, PORTS, address, icmp, span, v4_net};

/// Adds the layers of a VPC.
pub fn vpc(dice: &mut Dice, policy: &mut Policy) {
    let protocols = |dice: &mut Dice| match dice.below(4) {
        0 => Protocols::Any,
        1 => Protocols::Of(vec![1, 6, 17]),
        2 => Protocols::Of(vec![1]),
        _ => Protocols::Of(vec![*dice.pick(&[6, 17])]),
    };
    let range = |dice: &mut Dice| {
        let first = *dice.pick(&PORTS);
        (first, first.saturating_add(dice.below(2000) as u16))
    };
    let directions = [Direction::Inbound, Direction::Outbound];
    for a in 0..1 + dice.below(2) {
        let mut counts = [0; 2];
        let rules = dice.list(6, |d| {
            let protocols = protocols(d);
            let is_ported = matches!(&protocols, Protocols::Of(p) if p.len() == 1 && p[0] != 1);
            let is_icmp = protocols == Protocols::Of(vec![1]);
            let direction = *d.pick(&directions);
            let index = counts[direction as usize];
            counts[direction as usize] += 1;
            AclRule {
                id: String::new(),
                name: String::new(),
                allow: d.chance(70),
                direction,
                protocols,
                source: v4_net(d),
                destination: v4_net(d),
                source_ports: if is_ported { d.some(20, range) } else { None },
                destination_ports: if is_ported { d.some(60, range) } else { None },
                icmp: if is_icmp { d.some(60, icmp) } else { None },
                index,
                span: span(index + 1),
            }
        });
        policy.acls.push(NetworkAcl {
            id: format!("acl-{a}"),
            name: format!("acl{a}"),
            subnets: Vec::new(),
            rules,
            span: span(1),
        });
    }
    for g in 0..dice.below(3) {
        let mut counts = [0; 2];
        let rules = dice.list(5, |d| {
            let protocols = protocols(d);
            let is_ported = matches!(&protocols, Protocols::Of(p) if p.len() == 1 && p[0] != 1);
            let is_icmp = protocols == Protocols::Of(vec![1]);
            let direction = *d.pick(&directions);
            let index = counts[direction as usize];
            counts[direction as usize] += 1;
            let remote = match d.below(3) {
                0 => Remote::Any,
                1 => Remote::Net(v4_net(d)),
                _ => Remote::Group("sg0".to_string()),
            };
            GroupRule {
                direction,
                protocols,
                remote,
                local: d.some(20, v4_net),
                ports: if is_ported { d.some(60, range) } else { None },
                icmp: if is_icmp { d.some(50, icmp) } else { None },
                index,
                span: span(index + 1),
            }
        });
        let members = dice.list(3, address);
        policy.groups.push(SecurityGroup {
            id: format!("sg-{g}"),
            name: format!("sg{g}"),
            rules,
            members,
            span: span(1),
        });
    }
    if dice.chance(40) {
        policy.subnets.push(Subnet {
            id: "subnet-0".to_string(),
            name: "subnet0".to_string(),
            cidr: v4_net(dice),
            acl: "acl0".to_string(),
            span: span(1),
        });
    }
}
