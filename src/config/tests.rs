use std::fs;
use std::path::Path;

use super::*;
use crate::base::site::{DefaultVerdict, ExistingFlows, FailsafeMode, FragmentMode, V1Forward};

const HEAD: &str = "apiVersion: ringwall/v1\nkind: Gateway\n";

fn gateway(body: &str) -> Result<Plan, Vec<String>> {
    parse(Path::new("site/gateway.yaml"), &format!("{HEAD}{body}"))
        .map_err(|found| found.iter().map(ToString::to_string).collect())
}

fn profile(body: &str) -> Result<Profile, Vec<String>> {
    let findings = Findings::new();
    let text = format!("apiVersion: ringwall/v1\nkind: HardwareProfile\nname: p\n{body}");
    let profile = decode_profile(Path::new("p.yaml"), &text, &findings);
    let found = findings.into_diagnostics();
    profile.filter(|_| !found.has_errors()).ok_or_else(|| found.iter().map(ToString::to_string).collect())
}

#[test]
fn a_file_with_nothing_but_its_kind_has_the_documented_defaults() {
    let plan = gateway("").unwrap();
    assert_eq!(plan, Plan { directory: "site".into(), ..Plan::default() });
    let timeouts = plan.flows.timeouts;
    assert_eq!((plan.flows.capacity, plan.flows.is_loose), (1_048_576, true), "GW-25");
    assert_eq!((timeouts.tcp_established, timeouts.udp, timeouts.udp_stream), (432_000, 30, 120), "GW-26");
    assert_eq!(plan.pass_ethertypes, [0x0806, 0x88cc, 0x8809, 0x888e], "GW-28");
    assert_eq!(plan.for_run().unwrap_err().code, "no-ports");
}

#[test]
fn every_documented_field_arrives() {
    let plan = gateway(
        "node: gw-1
ports:
  uplink:   { interface: up0 }
  downlink: { interface: dn0 }
policy: [policies/, /etc/more.yaml]
segments:
  - name: workers-public
    cidrs: [10.176.48.0/24, '2001:db8::/32']
    hostEndpoint: worker-1-public
    networkACL: mysubnet1-acl
    securityGroups: [kube-c1]
securityGroupMembers:
  kube-c1: [10.176.48.67, 10.176.48.78]
failsafe: own
fragments: portless
existingFlows: revalidate
default: deny
v1_forward: legacy
flows: { capacity: 4096, loose: false, timeouts: { tcpEstablished: 7200, other: 1 } }
passEthertypes: [0x0806, '0x88CC', 2048]
verifyL4Checksum: true
",
    )
    .unwrap();
    let ports = plan.for_run().unwrap();
    assert_eq!((ports.uplink, ports.downlink), ("up0", "dn0"));
    let paths: Vec<_> = plan.policy.iter().map(|policy| policy.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["policies/", "/etc/more.yaml"]);
    assert_eq!(plan.directory, Path::new("site"));
    let site = &plan.site;
    let segment = &site.segments[0];
    assert_eq!((segment.name.as_str(), segment.cidrs.len()), ("workers-public", 2), "GW-3");
    assert_eq!(segment.host_endpoint.as_deref(), Some("worker-1-public"), "GW-5");
    assert_eq!(segment.network_acl.as_deref(), Some("mysubnet1-acl"));
    assert_eq!(segment.security_groups, ["kube-c1"]);
    assert_eq!(segment.span.as_ref().unwrap().line, 9);
    assert_eq!(site.security_group_members["kube-c1"].len(), 2, "GW-13");
    assert_eq!(site.node.as_deref(), Some("gw-1"), "GW-4");
    assert_eq!(site.failsafe, FailsafeMode::Own, "GW-20");
    assert_eq!(site.fragments, FragmentMode::Portless, "GW-22");
    assert_eq!(plan.existing_flows, ExistingFlows::Revalidate, "GW-23");
    assert_eq!(site.default, DefaultVerdict::Deny, "GW-31");
    assert_eq!(site.v1_forward, V1Forward::Legacy, "GW-32");
    assert_eq!((plan.flows.capacity, plan.flows.is_loose), (4096, false));
    assert_eq!((plan.flows.timeouts.tcp_established, plan.flows.timeouts.other), (7200, 1), "GW-26");
    assert_eq!(plan.flows.timeouts.udp, 30, "what is not written keeps its default");
    assert_eq!(plan.pass_ethertypes, [0x0800, 0x0806, 0x88cc], "GW-28");
    assert!(plan.verify_l4_checksum, "GW-29");
    let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(warnings, ["pass-ethertype-without-effect"]);
}

#[test]
fn every_fault_names_its_place_and_the_cure() {
    let check = |body: &str, expected: &str| {
        let found = gateway(body).expect_err(body);
        assert_eq!(found, [format!("error: site/gateway.yaml:{expected}")], "{body}");
    };
    check(
        "existingflows: keep",
        "3:1: unknown field `existingflows` (did you mean `existingFlows`? field names are case sensitive)",
    );
    check("ports: { uplink: { interface: a } }", "3:8: `ports.downlink` is required");
    check(
        "ports: { uplink: { interface: a }, downlink: { interface: a } }",
        "3:59: uplink and downlink are the same interface `a`: expected two",
    );
    check(
        "ports: { uplink: { interface: a/b }, downlink: { interface: c } }",
        "3:31: `a/b` is not the name of an interface: expected 1 to 15 characters without blanks, `/` and `:` \
         (`ip link` lists the interfaces)",
    );
    check(
        "failsafe: calicos",
        "3:11: `failsafe`: expected one of `calico`, `own`, `none`, found `calicos` (did you mean `calico`?)",
    );
    check(
        "flows: { timeouts: { tcpEstablishd: 5 } }",
        "3:22: unknown field `flows.timeouts.tcpEstablishd` (did you mean `tcpEstablished`?)",
    );
    check("flows: { capacity: 0 }", "3:20: `flows.capacity`: expected 1 to 268435456, found `0`");
    check("flows: { capacity: 268435457 }", "3:20: `flows.capacity`: expected 1 to 268435456, found `268435457`");
    check("flows: { timeouts: { udp: 0 } }", "3:27: `flows.timeouts.udp`: expected 1 to 315360000, found `0`");
    check("passEthertypes: [5]", "3:18: `passEthertypes[0]`: expected 1536 to 65535, found `5`");
    check(
        "passEthertypes: ['ARP']",
        "3:18: `passEthertypes[0]`: expected an ethertype, 0x0600 to 0xffff, found `ARP` \
         (write it as a number such as `0x88cc`)",
    );
    check(
        "securityGroupMembers: { g: [10.0.0.0/24] }",
        "3:29: expected an IP address, found `10.0.0.0/24` \
         (members are single addresses; a segment's `securityGroups` covers a prefix)",
    );
    check(
        "profile: none.yaml",
        "3:10: cannot read the hardware profile `site/none.yaml`: No such file or directory (os error 2) \
         (the path is relative to the gateway file; leave `profile` out for portable defaults)",
    );
}

#[test]
fn segments_are_distinct_prefixes() {
    let check = |body: &str, expected: &[&str]| {
        let found = gateway(&format!("segments:\n{body}")).expect_err(body);
        let expected: Vec<_> = expected.iter().map(|e| format!("error: site/gateway.yaml:{e}")).collect();
        assert_eq!(found, expected, "{body}");
    };
    check(
        "- { name: a, cidrs: [10.1.1.1/24] }",
        &["4:22: `10.1.1.1/24` has bits set beyond its prefix length (did you mean `10.1.1.0/24` or `10.1.1.1/32`?)"],
    );
    check(
        "- { name: a, cidrs: [10.1.1.1] }",
        &["4:22: expected a prefix such as `10.0.0.0/24`, found `10.1.1.1` (for one address write `10.1.1.1/32`)"],
    );
    check("- { name: a, cidrs: [10.0.0.0/33] }", &["4:22: `10.0.0.0/33`: expected a prefix length from 0 to 32"]);
    check("- { name: a, cidrs: [10.0.0.0/+8] }", &["4:22: `10.0.0.0/+8`: expected a prefix length from 0 to 32"]);
    check("- { name: a, cidrs: [] }", &["4:11: segment `a` covers nothing: expected at least one prefix in `cidrs`"]);
    check(
        "- { name: a, cidrs: [10.0.0.0/8] }\n- { name: a, cidrs: [10.0.0.0/8] }",
        &[
            "5:11: segment `a` is defined twice, first in line 4",
            "5:22: `10.0.0.0/8` is a prefix of segment `a` already, in line 4",
        ],
    );
    check("- { cidrs: [10.0.0.0/8] }", &["4:3: `segments[0].name` is required"]);
    let nested = gateway("segments:\n- { name: a, cidrs: [10.0.0.0/8] }\n- { name: b, cidrs: [10.1.0.0/16] }");
    assert_eq!(nested.unwrap().site.segments.len(), 2, "GW-3: the longest prefix decides");
}

#[test]
fn all_faults_are_reported_in_one_run() {
    let found =
        gateway("nod: x\nfragments: 5\nsegments:\n- { name: a, cidrs: [x] }\nprofile: none.yaml\n").unwrap_err();
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn another_kind_of_file_is_told_in_one_line() {
    let check = |text: &str, expected: &str| {
        let found = parse(Path::new("g.yaml"), text).unwrap_err();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("error: {expected}")], "{text}");
    };
    check(
        "apiVersion: ringwall/v1\nkind: Gatway\nx: 1\n",
        "g.yaml:2:7: `kind`: expected `Gateway`, found `Gatway` (did you mean `Gateway`?)",
    );
    check(
        "apiVersion: ringwall/v2\nkind: Gateway\n",
        "g.yaml:1:13: `apiVersion`: expected `ringwall/v1`, found `ringwall/v2` (did you mean `ringwall/v1`?)",
    );
    check("# nothing\n", "`g.yaml` is empty: expected one document of kind `Gateway`");
    check(&format!("{HEAD}---\n{HEAD}"), "g.yaml:4:1: a second document: expected one document of kind `Gateway` only");
    let json =
        parse(Path::new("g.json"), r#"{"apiVersion": "ringwall/v1", "kind": "Gateway", "passEthertypes": ["0x0806"]}"#);
    assert_eq!(json.unwrap().pass_ethertypes, [0x0806]);
    let absent = load(Path::new("no-such-directory/gateway.yaml")).unwrap_err();
    assert_eq!(absent.iter().map(|d| d.code).collect::<Vec<_>>(), ["unreadable-file"]);
}

#[test]
fn the_profile_lies_beside_the_gateway_file_and_its_faults_come_along() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("gateway.yaml", &format!("{HEAD}profile: hw.yaml\nnod: x\n"));
    write("hw.yaml", "apiVersion: ringwall/v1\nkind: HardwareProfile\nname: p\nqueues: 0\n");
    let path = directory.path().join("gateway.yaml");
    let codes: Vec<_> = load(&path).unwrap_err().iter().map(|d| d.code).collect();
    assert_eq!(codes, ["unknown-field", "out-of-range"]);
    write("gateway.yaml", &format!("{HEAD}profile: hw.yaml\n"));
    write("hw.yaml", "apiVersion: ringwall/v1\nkind: HardwareProfile\nname: p\nqueues: 3\n");
    assert_eq!(load(&path).unwrap().profile.queues, 3);
}

#[test]
fn a_profile_without_fields_is_portable() {
    assert_eq!(profile("").unwrap(), Profile { name: "p".to_owned(), ..Profile::default() });
    let usual = Profile::default();
    assert_eq!((usual.mode, usual.queues, usual.fill_ring()), (XdpMode::Auto, 1, 4096));
}

#[test]
fn every_profile_field_arrives() {
    let read = profile(
        "driver: ice\ntested: true\nmode: zero-copy\nqueues: 2\nrings: { receive: 1024, transmit: 512, fill: 2048 }\n\
         frames: { size: 4096, count: 16384 }\ncores: [2, 3]\nnumaNode: 1\nhugePages: true\npoll: busy\nrss: spread\n\
         busyPoll: { microseconds: 30, budget: 32, napiDeferHardIrqs: 2, groFlushTimeout: 200000 }\n",
    );
    let expected = Profile {
        name: "p".to_owned(),
        driver: Some("ice".to_owned()),
        is_tested: true,
        mode: XdpMode::ZeroCopy,
        queues: 2,
        receive_ring: 1024,
        transmit_ring: 512,
        frame_size: 4096,
        frame_count: Some(16384),
        cores: vec![2, 3],
        numa_node: Some(1),
        huge_pages: true,
        poll: Poll::Busy,
        busy_poll: Some(BusyPoll {
            microseconds: 30,
            budget: 32,
            napi_defer_hard_irqs: Some(2),
            gro_flush_timeout: Some(200_000),
        }),
        rss: Some("spread".to_owned()),
    };
    assert_eq!(read.unwrap(), expected);
}

#[test]
fn profile_faults_name_their_place_and_the_cure() {
    let check = |body: &str, expected: &str| {
        assert_eq!(profile(body).expect_err(body), [format!("error: p.yaml:{expected}")], "{body}");
    };
    check(
        "rings: { receive: 1000 }",
        "4:19: `rings.receive`: expected a power of two from 64 to 65536, found `1000` (`1024` is the next)",
    );
    check(
        "rings: { transmit: 131072 }",
        "4:20: `rings.transmit`: expected a power of two from 64 to 65536, found `131072` (`65536` is the next)",
    );
    check(
        "rings: { receive: 1024, fill: 1024 }",
        "4:31: `rings.fill`: expected 2048, which is twice `rings.receive`, found `1024` (leave it out)",
    );
    check(
        "queues: 2\nframes: { count: 20000 }",
        "5:18: `frames.count`: 20000 chunks are too few for the rings: expected 24576 or more \
         (2 ports x 2 queues x (4096 fill + 2048 transmit); leave `count` out to get as many as needed)",
    );
    check(
        "frames: { size: 1500 }",
        "4:17: `frames.size`: expected 2048 or 4096, found `1500` (the kernel takes chunks of these sizes only)",
    );
    check("queues: 2\ncores: [1, 1]", "5:12: `cores`: core 1 is listed twice: two workers would share it");
    check(
        "queues: 2\ncores: [1]",
        "5:8: `cores`: expected one core for each of the 2 queues, found 1 \
         (leave `cores` out to let the workers run anywhere)",
    );
    check("queues: 2\ncores: [1023, 5000]", "5:15: `cores[1]`: expected 0 to 1023, found `5000`");
    check(
        "busyPoll: { budget: 32 }",
        "4:11: `busyPoll`: expected `poll: busy` beside it: workers that sleep leave the devices to interrupts \
         (add `poll: busy` or leave `busyPoll` out)",
    );
    check("queues: 0", "4:9: `queues`: expected 1 to 256, found `0`");
    check(
        "mode: zerocopy",
        "4:7: `mode`: expected one of `auto`, `zero-copy`, `copy`, `generic`, found `zerocopy` (did you mean `zero-copy`?)",
    );
}
