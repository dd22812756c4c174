//! The JSON of a whole account and one packet in, what its ACLs and groups say out: written against the fields of the API alone, so
//! that it knows nothing of how the project reads them. For TCP, UDP and ICMP between IPv4 addresses.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

/// A packet as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub content: Content,
}

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Tcp { sport: u16, dport: u16 },
    Udp { sport: u16, dport: u16 },
    Icmp { kind: u8, code: u8 },
}

/// A whole account.
pub struct Account(Value);

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn net(value: &Value) -> Ipv4Net {
    let text = value.as_str().expect("an address or a prefix");
    text.parse().unwrap_or_else(|_| Ipv4Net::from(text.parse::<Ipv4Addr>().expect("an address")))
}

fn number(value: &Value, default: u64) -> u64 {
    value.as_u64().unwrap_or(default)
}

impl Account {
    pub fn new(text: &str) -> Account {
        Account(serde_json::from_str(text).expect("valid JSON"))
    }

    /// Addresses of instances and endpoint gateways, with the ids of their groups.
    pub fn interfaces(&self) -> Vec<(Ipv4Addr, Vec<String>)> {
        let mut found = Vec::new();
        let instances = list(&self.0, "instances").iter();
        for nic in instances.flat_map(|instance| list(instance, "network_interfaces")) {
            found.push((nic, &nic["primary_ip"]["address"]));
        }
        for gateway in list(&self.0, "endpoint_gateways") {
            found.extend(list(gateway, "ips").iter().map(|ip| (gateway, &ip["address"])));
        }
        let groups = |owner: &Value| {
            let own = list(owner, "security_groups").iter().map(|group| group["id"].clone());
            let listing = list(&self.0, "security_groups")
                .iter()
                .filter(|group| list(group, "targets").iter().any(|target| target["id"] == owner["id"]))
                .map(|group| group["id"].clone());
            own.chain(listing).map(|id| id.as_str().expect("an id").to_string()).collect()
        };
        found.into_iter().map(|(owner, address)| (net(address).addr(), groups(owner))).collect()
    }

    /// Prefixes of the subnets.
    pub fn subnets(&self) -> Vec<Ipv4Net> {
        list(&self.0, "subnets").iter().map(|subnet| net(&subnet["ipv4_cidr_block"])).collect()
    }

    /// Every rule of every ACL and group.
    pub fn rules(&self) -> impl Iterator<Item = &Value> {
        let owners = list(&self.0, "network_acls").iter().chain(list(&self.0, "security_groups"));
        owners.flat_map(|owner| list(owner, "rules"))
    }

    fn groups(&self, address: Ipv4Addr) -> Vec<String> {
        self.interfaces().into_iter().filter(|(own, _)| *own == address).flat_map(|(_, groups)| groups).collect()
    }

    /// Whether a group guards the address.
    pub fn is_guarded(&self, address: Ipv4Addr) -> bool {
        !self.groups(address).is_empty()
    }

    /// Whether the ACL of the subnet that holds `local` lets the packet through; no subnet or one subnet for both: it is not asked.
    pub fn acl_allows(&self, is_inbound: bool, packet: &Packet) -> bool {
        let (local, remote) = if is_inbound { (packet.dst, packet.src) } else { (packet.src, packet.dst) };
        let holds = |subnet: &&Value| net(&subnet["ipv4_cidr_block"]).contains(&local);
        let Some(subnet) = list(&self.0, "subnets").iter().find(holds) else { return true };
        if net(&subnet["ipv4_cidr_block"]).contains(&remote) {
            return true;
        }
        let acls = list(&self.0, "network_acls");
        let acl = acls.iter().find(|acl| acl["id"] == subnet["network_acl"]["id"]).expect("the subnet's ACL");
        let deciding = list(acl, "rules").iter().find(|rule| {
            (rule["direction"] == "inbound") == is_inbound
                && net(&rule["source"]).contains(&packet.src)
                && net(&rule["destination"]).contains(&packet.dst)
                && fits(
                    rule,
                    packet.content,
                    ["source_port_min", "source_port_max"],
                    ["destination_port_min", "destination_port_max"],
                )
        });
        deciding.is_some_and(|rule| rule["action"] == "allow")
    }

    /// Whether some rule of some group of `local` lets a new packet through; without a group it passes.
    pub fn groups_allow(&self, is_inbound: bool, packet: &Packet) -> bool {
        let (local, remote) = if is_inbound { (packet.dst, packet.src) } else { (packet.src, packet.dst) };
        let mine = self.groups(local);
        let guarding =
            list(&self.0, "security_groups").iter().filter(|group| mine.iter().any(|id| group["id"] == **id));
        let mut rules = guarding.flat_map(|group| list(group, "rules"));
        mine.is_empty()
            || rules.any(|rule| {
                (rule["direction"] == "inbound") == is_inbound
                    && self.remote_fits(&rule["remote"], remote)
                    && self.remote_fits(&rule["local"], local)
                    && fits(rule, packet.content, ["", ""], ["port_min", "port_max"])
            })
    }

    fn remote_fits(&self, remote: &Value, address: Ipv4Addr) -> bool {
        let written = [&remote["address"], &remote["cidr_block"]].into_iter().find(|value| !value.is_null());
        match (written, remote["id"].as_str()) {
            (Some(value), _) => net(value).contains(&address),
            (None, Some(id)) => self.groups(address).iter().any(|group| group == id),
            (None, None) => true,
        }
    }
}

fn fits(rule: &Value, content: Content, source: [&str; 2], destination: [&str; 2]) -> bool {
    let between = |keys: [&str; 2], port: u16| {
        let port = u64::from(port);
        number(&rule[keys[0]], 1) <= port && port <= number(&rule[keys[1]], 65535)
    };
    let protocol = rule["protocol"].as_str().expect("a protocol");
    match (protocol, content) {
        ("all", _) => true,
        ("tcp", Content::Tcp { sport, dport }) | ("udp", Content::Udp { sport, dport }) => {
            between(source, sport) && between(destination, dport)
        }
        ("icmp", Content::Icmp { kind, code }) => {
            let (kind, code) = (u64::from(kind), u64::from(code));
            number(&rule["type"], kind) == kind && number(&rule["code"], code) == code
        }
        ("tcp" | "udp" | "icmp", _) => false,
        (other, _) => panic!("the accounts have no rule for {other}"),
    }
}
