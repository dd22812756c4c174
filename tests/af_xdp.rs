//! The gateway between real interfaces: namespaces and veth pairs of its own in, traffic through AF_XDP sockets out.
//!
//! Needs root and AF_XDP; skips with a printed reason otherwise. Each test makes three namespaces, `client - gateway - server`,
//! with unique names, and removes them again whatever happens. Everything that has to run inside a namespace is this test
//! binary again, started by `ip netns exec` in one of the [`roles`].

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringwall::io::xdp::Mode;

#[path = "af_xdp/lab.rs"]
mod lab;
#[path = "af_xdp/roles.rs"]
mod roles;

use lab::{BOX, CLIENT, Lab, PATIENCE, SERVER, TRANSFER, figure, ip, is_possible, signal, until, words};

fn forwards(mode: Mode, queues: u32, expected: &str) {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(queues);
    if mode == Mode::Generic {
        // The kernel's generic path hands over super-frames, which fit no chunk.
        for namespace in ["c", "s"] {
            lab.offloads(namespace, "eth0", &["tso", "gso"], "off");
        }
    }
    let (gateway, said) = lab.gateway(&words(mode, queues));
    assert!(said.contains(&format!("uplink up0 ({expected}), downlink dn0 ({expected})")), "{said}");
    // In native mode the driver itself keeps the far end from sending super-frames.
    assert!(!lab.has_offload("c", "eth0", "tcp-segmentation-offload"), "{mode:?}");
    assert!(lab.has_offload("c", "eth0", "tx-checksumming"), "the default, which GW-30 is about");
    assert!(lab.ping(SERVER), "echo requests cross");
    lab.datagrams();
    lab.transfer(TRANSFER);
    let summary = lab.stop(gateway);
    eprintln!("{summary}");
    // GW-30: with offloads on, senders leave TCP checksums half done.
    assert!(figure(&summary, "completed") > 1000, "checksums are completed: {summary}");
    assert!(figure(&summary, "inbound") > 10_000 && figure(&summary, "outbound") > 10_000, "{summary}");
    assert_eq!((figure(&summary, "bad"), figure(&summary, "without_socket")), (0, 0), "{summary}");
    assert_eq!(figure(&summary, "workers"), u64::from(queues), "{summary}");
    assert!(!lab.link("up0").contains("xdp"), "the program is off: {}", lab.link("up0"));
}

#[test]
fn tcp_crosses_native_copy_with_one_queue() {
    forwards(Mode::Copy, 1, "copy");
}

#[test]
fn tcp_crosses_native_copy_with_two_queues() {
    forwards(Mode::Copy, 2, "copy");
}

#[test]
fn tcp_crosses_generic_mode_with_one_queue() {
    forwards(Mode::Generic, 1, "generic");
}

#[test]
fn tcp_crosses_generic_mode_with_two_queues() {
    forwards(Mode::Generic, 2, "generic");
}

#[test]
fn automatic_mode_takes_copy_on_veth_and_says_why() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let strips_tags = |lab: &Lab, port: &str| lab.has_offload("g", port, "rx-vlan-offload");
    let before = strips_tags(&lab, "up0");
    let (gateway, said) = lab.gateway(&words(Mode::Auto, 1));
    assert!(!strips_tags(&lab, "up0") && !strips_tags(&lab, "dn0"), "frames keep their VLAN tags");
    assert!(said.contains("uplink up0 (copy)"), "{said}");
    assert!(said.contains("mode `copy` is used: `up0` refuses zero-copy"), "{said}");
    lab.datagrams();
    lab.stop(gateway);
    assert_eq!(strips_tags(&lab, "up0"), before, "as found");
}

#[test]
fn what_cannot_be_is_refused_with_object_and_cure() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let gateway = lab.namespace("g");
    let check = |mode, queues, code, expected: &str| {
        let (status, said) = lab.refused(mode, queues);
        assert!(status == code && said.contains(expected), "{status} {said}");
    };
    check(Mode::ZeroCopy, 1, 5, "mode `zero-copy` is not available on `up0`");
    check(Mode::Copy, 2, 3, "interface `up0` has 1 receive and 1 transmit queues, the profile asks for 2");
    ip(&["-n", &gateway, "link", "set", "dn0", "down"]);
    check(Mode::Auto, 1, 3, "interface `dn0` is down; `ip link set dn0 up`");
    ip(&["-n", &gateway, "link", "set", "dn0", "up", "mtu", "4000"]);
    let advice = "so the largest MTU is 1770: `ip link set dev dn0 mtu 1770`, or `frames: { size: 4096 }`";
    check(
        Mode::Auto,
        1,
        3,
        &format!("MTU 4000, so frames of up to 4022 bytes; a chunk of 2048 bytes holds 1792, {advice}"),
    );
    ip(&["-n", &gateway, "link", "set", "dn0", "up", "mtu", "1771"]);
    check(Mode::Auto, 1, 3, "has MTU 1771");
    ip(&["-n", &gateway, "link", "set", "dn0", "name", "else0"]);
    check(Mode::Auto, 1, 3, "no interface `dn0`");
}

#[test]
fn huge_pages_are_taken_when_there_are_any_and_missed_with_a_warning() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let mut words = words(Mode::Copy, 1);
    words.push(("RINGWALL_HUGE", "yes".into()));
    let free = || {
        let facts = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = facts.lines().find(|line| line.starts_with("HugePages_Free:")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = free();
    let (gateway, said) = lab.gateway(&words);
    // 2 queues of 3 * 2048 + 2 * 2048 + 256 + 128 chunks of 2048 bytes.
    let needed = 2 * (5 * 2048 + 384) * 2048 / (2 << 20) + 1;
    let warned = said.contains(&format!("no huge pages for the frames; `sysctl vm.nr_hugepages={needed}`"));
    assert_eq!(warned, before < needed, "{before} free, {said}");
    assert_eq!(free(), if warned { before } else { before - needed }, "{said}");
    lab.datagrams();
    lab.stop(gateway);
    assert_eq!(free(), before, "given back");
}

#[test]
fn workers_wait_as_the_profile_says() {
    if !is_possible() {
        return;
    }
    let check = |poll: &str, sleeps: fn(u64) -> bool| {
        let mut lab = Lab::new(1);
        let mut words = words(Mode::Copy, 1);
        words.push(("RINGWALL_POLL", poll.into()));
        let (gateway, _) = lab.gateway(&words);
        lab.datagrams();
        let summary = lab.stop(gateway);
        let (slept, woken) = (figure(&summary, "sleeps"), figure(&summary, "woken"));
        assert!(sleeps(slept) && woken <= slept, "{poll}: {summary}");
        assert!(poll != "interrupt" || woken > 10, "frames wake who sleeps, {poll}: {summary}");
    };
    check("busy", |slept| slept == 0);
    check("adaptive", |slept| slept > 0);
    check("interrupt", |slept| slept > 10);
}

#[test]
fn busy_polling_runs_the_devices_and_leaves_the_interfaces_as_found() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let settings = |lab: &Lab| {
        ["up0", "dn0"].map(|port| {
            ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|name| {
                let out = lab.inside("g", "cat").arg(format!("/sys/class/net/{port}/{name}")).output().unwrap();
                String::from_utf8(out.stdout).unwrap().trim().to_string()
            })
        })
    };
    let before = settings(&lab);
    let mut busy = words(Mode::Copy, 1);
    busy.extend([("RINGWALL_POLL", "busy".into()), ("RINGWALL_BUSY", "yes".into())]);
    let (gateway, said) = lab.gateway(&busy);
    // The words of the ready line are what the kernel says about the sockets.
    assert!(said.contains("uplink up0 (copy, busy polling), downlink dn0 (copy, busy polling)"), "{said}");
    assert_eq!(settings(&lab), [["2", "200000"]; 2].map(|port| port.map(String::from)), "{said}");
    lab.datagrams();
    lab.transfer(TRANSFER / 10);
    let summary = lab.stop(gateway);
    assert!(figure(&summary, "device_polls") > 1000 && figure(&summary, "sleeps") == 0, "{summary}");
    assert_eq!(settings(&lab), before, "as found");
    // After an error, too: zero-copy is refused when the interfaces have been changed already.
    busy[0].1 = Mode::ZeroCopy.name().into();
    let out = lab.role("g", "gateway", &busy).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(settings(&lab), before, "as found after an error");
}

#[test]
fn a_queue_that_sends_nothing_is_counted_and_goes_on_when_it_can() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    lab.datagrams();
    let namespace = lab.namespace("g");
    ip(&["-n", &namespace, "link", "set", "dn0", "down"]);
    // A host that nobody has asked for yet: its neighbour requests wait in the transmit ring.
    let _ = lab.role("c", "knock", &[("RINGWALL_ADDRESS", "10.99.7.9".into())]).output();
    lab.await_talk("queue 0 of `dn0` sends nothing");
    ip(&["-n", &namespace, "link", "set", "dn0", "up"]);
    lab.await_talk("queue 0 of `dn0` moves again");
    // The far end learns of it a little later, and sends nothing before.
    let far = || lab.link_in("s", "eth0");
    until(|| far().contains("state UP"), far);
    lab.datagrams();
    let summary = lab.stop(gateway);
    assert_eq!(figure(&summary, "stalls"), 1, "{summary}");
}

#[test]
fn a_port_that_sends_nothing_stops_no_frame_of_the_other_direction() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    // A full ring of the far end makes the port busy, instead of a loss, where there is a queueing discipline (Linux 6.16).
    let done = lab.inside("g", "tc").args("qdisc add dev dn0 root pfifo".split(' ')).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    lab.datagrams();
    let Some(far) = lab.threaded_end("s", "eth0") else {
        eprintln!("skipped: no threaded NAPI for a veth here");
        return;
    };
    // The thread that takes frames off the far end gets 20 microseconds of a core in 4 seconds.
    let share = "-d -T 20000 -D 4000000000 -P 4000000000 -p 0".split(' ').chain([far.as_str()]);
    if !Command::new("chrt").args(share).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no deadlines for threads here");
        return;
    }
    let start = Instant::now();
    let stream = |lab: &Lab, from: &str, to: &str, first: u32, count: u32| {
        let numbers = [("RINGWALL_FIRST", first.to_string()), ("RINGWALL_COUNT", count.to_string())];
        let words = [&[("RINGWALL_ADDRESS", to.to_owned())][..], &numbers].concat();
        assert!(lab.role(from, "stream", &words).output().unwrap().status.success());
    };
    // More than the gateway's transmit ring and the far end's take.
    stream(&lab, "c", SERVER, 0, 4000);
    // The port is said to stand still, unless the kernel drops what the far end does not take: then nothing is said.
    let is_still = || lab.said().contains("sends nothing") || lab.said().contains("returns nothing");
    while !is_still() && start.elapsed() < PATIENCE / 4 {
        thread::sleep(Duration::from_millis(10));
    }
    let was_still = is_still();
    // In parts that a socket has room for, each when the one before has come: a receiver without a core must lose none.
    let (all, part) = (2000, 100);
    let numbers = [("RINGWALL_COUNT", all.to_string()), ("RINGWALL_PART", part.to_string())];
    let mut sink = lab.role("c", "sink", &numbers).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(sink.stdout.take().unwrap());
    lab.children.push(sink);
    let mut word = "listening".to_owned();
    for first in (0..=all).step_by(part as usize) {
        let mut said = String::new();
        while !said.contains(&word) {
            if told.read_line(&mut said).unwrap() == 0 {
                let sink = lab.children.pop().unwrap().wait_with_output().unwrap();
                let complaint = String::from_utf8_lossy(&sink.stderr).into_owned();
                let summary = lab.stop(gateway);
                panic!("frames of the other direction are missing, no `{word}`: {complaint} {summary}");
            }
        }
        if first < all {
            stream(&lab, "s", CLIENT, first, part);
        }
        word = format!("received {}", first + part);
    }
    // A period of the thread that takes frames off the far end, and the first one, may each end a stall.
    let periods = start.elapsed().as_secs() / 4 + 1;
    assert!(Command::new("chrt").args(["-o", "-p", "0", &far]).status().unwrap().success());
    if was_still {
        lab.await_talk("queue 0 of `dn0` moves again");
    }
    let summary = lab.stop(gateway);
    if figure(&summary, "full") == 0 {
        eprintln!("skipped: this kernel drops what a far end does not take: {summary}");
        return;
    }
    assert!((1..=periods).contains(&figure(&summary, "stalls")), "{periods} periods: {summary}");
}

#[test]
fn the_largest_mtu_that_is_not_refused_crosses_whole() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    for (namespace, port) in [("c", "eth0"), ("g", "up0"), ("g", "dn0"), ("s", "eth0")] {
        ip(&["-n", &lab.namespace(namespace), "link", "set", port, "mtu", "1770"]);
    }
    let mut words = words(Mode::Copy, 1);
    // A node that no machine has: told, and no reason not to run.
    words.push(("RINGWALL_NODE", "1000".into()));
    let (gateway, said) = lab.gateway(&words);
    assert!(said.contains("frames are not kept on NUMA node 1000: "), "{said}");
    // IPv4 and UDP headers take 28 bytes.
    lab.datagrams_up_to(1770 - 28);
    let summary = lab.stop(gateway);
    assert_eq!(figure(&summary, "bad"), 0, "{summary}");
}

#[test]
fn without_privileges_it_names_the_capabilities() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let binary = env::current_exe().unwrap();
    let mut command = lab.inside("g", "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]).arg(binary);
    command.args(["in_a_role", "--exact", "--ignored", "--nocapture"]);
    command.env("RINGWALL_ROLE", "gateway").envs(words(Mode::Auto, 1));
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("setpriv") || said.contains("Permission denied") {
        eprintln!("skipped: no `setpriv`, or nobody may read the test: {said}");
        return;
    }
    assert!(
        said.contains("is not permitted; run as root or with CAP_NET_ADMIN") || said.contains("CAP_NET_RAW"),
        "{said}"
    );
    assert_eq!(out.status.code(), Some(5), "{said}");
}

#[test]
fn an_interface_that_goes_ends_the_gateway() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let (index, _) = lab.gateway(&words(Mode::Copy, 1));
    ip(&["-n", &lab.namespace("g"), "link", "del", "dn0"]);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = lab.children[index].try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it goes on");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(5));
    assert!(!lab.link("up0").contains("xdp"), "{}", lab.link("up0"));
}

#[test]
fn a_port_that_carries_a_program_is_left_alone_and_its_program_named() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    let link = lab.link("up0");
    let id = link.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
    let (status, said) = lab.refused(Mode::Copy, 1);
    assert_eq!(status, 5, "{said}");
    assert!(said.contains(&format!("interface `up0` already carries XDP program {id} (native)")), "{said}");
    assert!(lab.link("up0").contains(&format!("id {id} ")), "it is still there");
    lab.datagrams();
    lab.stop(gateway);
}

#[test]
fn a_busy_queue_is_waited_for_and_named_if_it_stays_busy() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let hold = |lab: &mut Lab| {
        let holder = lab.role("g", "hold", &[]).stdout(Stdio::piped()).spawn().unwrap();
        lab.children.push(holder);
        lab.await_word(lab.children.len() - 1, "bound");
    };
    // A gateway waits for two seconds of real time, in which a busy machine may not get to freeing the queue.
    let mut refusals = Vec::new();
    let gateway = loop {
        hold(&mut lab);
        let mut holder = lab.children.pop().unwrap();
        let freeing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            let _ = holder.kill();
            let _ = holder.wait();
        });
        let started = lab.try_gateway(&words(Mode::Copy, 1));
        freeing.join().unwrap();
        match started {
            Ok((gateway, _)) => break gateway,
            Err(said) => refusals.push(said),
        }
        assert!(refusals.len() < 5, "{refusals:?}");
    };
    lab.datagrams();
    lab.stop(gateway);
    hold(&mut lab);
    let (status, said) = lab.refused(Mode::Copy, 1);
    assert_eq!(status, 5, "{said}");
    let waited = said.split_once("queue 0 of `up0` stays busy after ").map(|(_, rest)| rest.split(' ').next().unwrap());
    assert!(waited.is_some_and(|milliseconds| milliseconds.parse::<u64>().unwrap() >= 2000), "{said}");
}

#[test]
fn a_killed_gateway_leaves_no_program_and_its_successor_starts_at_once() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    for _ in 0..3 {
        let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
        assert!(
            lab.link("up0").contains("prog/xdp") && lab.link("up0").contains("promiscuity 1"),
            "{}",
            lab.link("up0")
        );
        let mut child = lab.children.remove(gateway);
        signal(&child, "KILL");
        child.wait().unwrap();
    }
    let links = || format!("{} {}", lab.link("up0"), lab.link("dn0"));
    until(|| !links().contains("xdp") && !links().contains("promiscuity 1"), links);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    lab.datagrams();
    lab.stop(gateway);
}

#[test]
fn the_box_answers_at_its_own_address_while_it_forwards() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    ip(&["-n", &lab.namespace("g"), "addr", "add", &format!("{BOX}/24"), "dev", "up0"]);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    assert!(lab.ping(BOX) && lab.answers(BOX), "the box answers");
    assert!(lab.ping(SERVER) && lab.answers(SERVER), "the server answers");
    lab.datagrams();
    let summary = lab.stop(gateway);
    assert!(figure(&summary, "to_the_box") >= 2, "{summary}");
}

#[test]
fn a_reload_changes_the_generation_and_no_packet_is_lost() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 2));
    for _ in 0..5 {
        signal(&lab.children[gateway], "HUP");
        lab.datagrams();
    }
    let summary = lab.stop(gateway);
    assert_eq!(figure(&summary, "generation"), 6, "{summary}");
}

#[test]
fn with_an_engine_both_directions_of_a_flow_meet_at_the_worker_that_owns_it() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let mut words = words(Mode::Copy, 2);
    words.push(("RINGWALL_ENGINE", "yes".into()));
    words.push(("RINGWALL_CHUNK", "4096".into()));
    let (gateway, _) = lab.gateway(&words);
    for _ in 0..3 {
        lab.datagrams();
    }
    lab.transfer(TRANSFER);
    let summary = lab.stop(gateway);
    // One pair of addresses has one owner, but its flows come by both queues.
    assert!(figure(&summary, "handed_over") > 100, "{summary}");
    assert!(figure(&summary, "established") > 10_000, "{summary}");
    // A flow whose directions did not meet would be judged invalid.
    assert_eq!(figure(&summary, "invalid"), 0, "{summary}");
    // An owner that gets no core in time loses frames, as a port does; not many.
    assert!(figure(&summary, "full") < figure(&summary, "established") / 10, "{summary}");
}

#[test]
fn a_worker_with_a_defect_ends_the_gateway_and_says_so() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let mut words = words(Mode::Copy, 1);
    words.push(("RINGWALL_DEFECT", "yes".into()));
    let gateway = lab.role("g", "gateway", &words).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    lab.children.push(gateway);
    let start = Instant::now();
    while lab.children[0].try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it goes on");
        // Any frame will do; nobody answers.
        let _ = lab.role("c", "knock", &[("RINGWALL_ADDRESS", SERVER.to_string())]).output();
    }
    let out = lab.children.pop().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(6), "{said}");
    assert!(said.contains("worker 0 stopped by a defect: made to fail"), "{said}");
    assert!(!lab.link("up0").contains("xdp"), "{}", lab.link("up0"));
}

#[test]
#[ignore = "a role that other tests start"]
fn in_a_role() {
    let word = |name: &str| env::var(name).unwrap_or_default();
    let bytes = || word("RINGWALL_BYTES").parse().unwrap();
    let number = |name: &str| word(name).parse().unwrap();
    match word("RINGWALL_ROLE").as_str() {
        "gateway" => roles::gateway(&word("RINGWALL_MODE"), word("RINGWALL_QUEUES").parse().unwrap()),
        "serve" => roles::serve(bytes()),
        "connect" => roles::connect(bytes()),
        "echo" => roles::echo(),
        "datagrams" => roles::datagrams(),
        "hold" => roles::hold(),
        "knock" => {
            // Where nobody answers, nobody is waited for.
            let patience = if word("RINGWALL_ANSWERED").is_empty() { Duration::from_secs(3) } else { PATIENCE };
            roles::knock(&word("RINGWALL_ADDRESS"), patience);
        }
        "end" => roles::end(&word("RINGWALL_ADDRESS")),
        "stream" => roles::stream(&word("RINGWALL_ADDRESS"), number("RINGWALL_FIRST"), number("RINGWALL_COUNT")),
        "sink" => roles::sink(number("RINGWALL_COUNT"), number("RINGWALL_PART")),
        _ => eprintln!("skipped: no role given"),
    }
}
