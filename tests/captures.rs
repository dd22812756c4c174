//! Capture files made by hand in, frames out; pcapng out, read back by this crate and by tcpdump.

use std::io::Cursor;

use ringwall::base::address::Direction;
use ringwall::base::time::Now;
use ringwall::io::pcap::{Capture, CapturePort, Merge, PcapngWriter, Reading, Record, Seen};
use ringwall::io::{Frames, Port};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn open(file: Vec<u8>) -> Result<Capture, String> {
    Capture::from_reader("x.pcap", Cursor::new(file)).map_err(|error| error.to_string())
}

const READINGS: [Reading; 2] = [Reading::Beside, Reading::Between];

/// Each packet as `time bytes original-length`, an error as its text; the same one by one and by bursts.
fn packets(file: Vec<u8>) -> Vec<String> {
    let one_by_one = packets_one_by_one(file.clone());
    let mut expected = one_by_one.clone();
    for line in expected.iter_mut().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        // A port does not say how long a packet was.
        line.truncate(line.rfind(' ').unwrap());
    }
    for reading in READINGS {
        assert_eq!(packets_of_a_port(file.clone(), reading), expected, "{reading:?}");
    }
    one_by_one
}

/// Each packet as `time bytes`, an error as its text.
fn packets_of_a_port(file: Vec<u8>, reading: Reading) -> Vec<String> {
    let capture = match open(file) {
        Ok(capture) => capture,
        Err(error) => return vec![error],
    };
    let [mut port, _] = CapturePort::pair(Merge::new(vec![(capture, Direction::Inbound)]), None, reading);
    let (mut list, mut frames) = (Vec::new(), Frames::new());
    while !port.is_finished() {
        port.receive(&mut frames);
        for position in 0..frames.len() {
            let frame = frames.get(position).unwrap();
            let hex: String = port.bytes(frame).iter().map(|byte| format!("{byte:02x}")).collect();
            list.push(format!("{} {hex}", port.captured(frame).unwrap().0));
        }
        while let Some(frame) = frames.pop() {
            port.recycle(frame);
        }
    }
    list.extend(port.take_error().map(|error| error.to_string()));
    list
}

fn packets_one_by_one(file: Vec<u8>) -> Vec<String> {
    let mut capture = match open(file) {
        Ok(capture) => capture,
        Err(error) => return vec![error],
    };
    let mut list = Vec::new();
    while let Some(record) = capture.next() {
        list.push(match record {
            Ok(Record { time, bytes, original_length }) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{} {hex} {original_length}", time.0)
            }
            Err(error) => error.to_string(),
        });
    }
    list
}

/// A little-endian microsecond pcap header of a link type.
fn pcap_header(link_type: u16) -> String {
    let [low, high] = link_type.to_le_bytes();
    format!("d4c3b2a1 0200 0400 00000000 00000000 00000400 {low:02x}{high:02x}0000")
}

/// Twenty bytes that begin like an IPv4 packet, and what a frame of them looks like.
const IP4: &str = "4500001400000000401100000101010102020202";

#[test]
fn pcap_files_of_both_orders_and_resolutions() {
    let check = |name: &str, hex: &str, expected: &[&str]| assert_eq!(packets(bytes(hex)), expected, "{name}");
    check(
        "little-endian, microseconds, cut packet",
        "d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000 \
         01000000 02000000 03000000 03000000 aabbcc 02000000 00000000 01000000 40000000 dd",
        &["1000002000 aabbcc 3", "2000000000 dd 64"],
    );
    check(
        "big-endian, microseconds, frame check sequence announced",
        "a1b2c3d4 0002 0004 00000000 00000000 0000ffff 24000001 00000001 00000002 00000003 00000003 aabbcc",
        &["1000002000 aabbcc 3"],
    );
    check(
        "little-endian, nanoseconds",
        "4d3cb2a1 0200 0400 00000000 00000000 ffff0000 01000000 01000000 02000000 03000000 03000000 aabbcc",
        &["1000000002 aabbcc 3"],
    );
    check(
        "big-endian, nanoseconds, empty packet",
        "a1b23c4d 0002 0004 00000000 00000000 0000ffff 00000001 00000001 3b9ac9ff 00000000 00000000",
        &["1999999999  0"],
    );
    check("no packets", &pcap_header(1), &[]);
}

#[test]
fn packets_without_ethernet_header_get_one() {
    let check = |name: &str, link_type: u16, packet: &str, expected: &str| {
        let length = bytes(packet).len();
        let record = format!("01000000 00000000 {length:02x}000000 {length:02x}000000 {packet}");
        // Twice, as the header is written over bytes that were read.
        let file = bytes(&format!("{}{record}{record}", pcap_header(link_type)));
        let frame = expected.replace(' ', "");
        let line = format!("1000000000 {frame} {}", frame.len() / 2);
        assert_eq!(packets(file), [line.clone(), line], "{name}");
    };
    let ip6 = "6000000000003b40";
    for raw in [12, 14, 101, 228] {
        check("raw IPv4", raw, IP4, &format!("000000000000 000000000000 0800 {IP4}"));
    }
    for raw in [101, 229] {
        check("raw IPv6", raw, ip6, &format!("000000000000 000000000000 86dd {ip6}"));
    }
    check(
        "cooked, version 1",
        113,
        &format!("0000 0001 0006 0200000000010000 0800 {IP4}"),
        &format!("000000000000 020000000001 0800 {IP4}"),
    );
    check(
        "cooked, version 2",
        276,
        &format!("0800 0000 00000003 0001 00 06 0200000000010000 {IP4}"),
        &format!("000000000000 020000000001 0800 {IP4}"),
    );
    check("empty raw packet", 101, "", "000000000000 000000000000 0800");
}

#[test]
fn a_packet_cut_in_its_cooked_header_is_empty() {
    let file = bytes(&format!("{} 01000000 00000000 04000000 40000000 00000001", pcap_header(113)));
    assert_eq!(packets(file), ["1000000000  64"]);
}

/// Section header and one Ethernet interface without options, little-endian.
const SECTION: &str = "0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000";
const INTERFACE: &str = "01000000 14000000 0100 0000 00000000 14000000";

/// An enhanced packet block of interface 0 with three bytes of data, at a time of two words.
fn enhanced(high: u32, low: u32) -> String {
    let word = |word: u32| word.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("06000000 24000000 00000000 {} {} 03000000 05000000 aabbcc00 24000000", word(high), word(low))
}

#[test]
fn pcapng_files() {
    let check = |name: &str, hex: &str, expected: &[&str]| assert_eq!(packets(bytes(hex)), expected, "{name}");
    check("microseconds by default", &format!("{SECTION}{INTERFACE}{}", enhanced(1, 7)), &["4294967303000 aabbcc 5"]);
    // An interface with if_tsresol or if_tsoffset.
    let with = |option: &str| {
        let total = 0x14 + bytes(option).len() + 4;
        format!("{SECTION} 01000000 {total:02x}000000 0100 0000 00000000 {option} 00000000 {total:02x}000000")
    };
    for (name, option, expected) in [
        ("nanoseconds", "0900 0100 09000000", "4294967303 aabbcc 5"),
        ("milliseconds", "0900 0100 03000000", "4294967303000000 aabbcc 5"),
        ("picoseconds", "0900 0100 0c000000", "4294967 aabbcc 5"),
        ("units of 2^-32 seconds", "0900 0100 a0000000", "1000000001 aabbcc 5"),
        ("offset of two seconds", "0e00 0800 0200000000000000", "4296967303000 aabbcc 5"),
        ("name before, unknown option after", "0200 0300 65746800 630a 0000", "4294967303000 aabbcc 5"),
    ] {
        check(name, &format!("{}{}", with(option), enhanced(1, 7)), &[expected]);
    }
    check(
        "big-endian",
        "0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c 00000001 00000014 0001 0000 00000000 00000014 \
         00000006 00000024 00000000 00000001 00000007 00000003 00000005 aabbcc00 00000024",
        &["4294967303000 aabbcc 5"],
    );
    check(
        "a second section starts anew, in the other order",
        &format!(
            "{SECTION}{INTERFACE}{} 0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c \
             00000001 00000014 0065 0000 00000000 00000014 \
             00000006 00000024 00000000 00000000 00000001 00000001 00000001 60000000 00000024",
            enhanced(0, 1)
        ),
        &["1000 aabbcc 5", "1000 00000000000000000000000086dd60 15"],
    );
    check(
        "simple packet has the time of the one before, unknown blocks are skipped",
        &format!(
            "{SECTION}{INTERFACE}{} 0500 0000 10000000 deadbeef 10000000 03000000 14000000 02000000 abcd0000 14000000",
            enhanced(0, 9)
        ),
        &["9000 aabbcc 5", "9000 abcd 2"],
    );
    check(
        "simple packet of raw IP, first in the file",
        &format!(
            "{SECTION} 01000000 14000000 6500 0000 00000000 14000000 03000000 14000000 01000000 45000000 14000000"
        ),
        &["0 000000000000000000000000080045 15"],
    );
    check(
        "obsolete packet block",
        &format!(
            "{SECTION}{INTERFACE} 02000000 24000000 0000 0000 00000000 05000000 03000000 03000000 aabbcc00 24000000"
        ),
        &["5000 aabbcc 3"],
    );
    check(
        "options behind the data",
        &format!(
            "{SECTION}{INTERFACE} 06000000 30000000 00000000 00000000 01000000 03000000 03000000 aabbcc00 \
             0200 0400 01000000 00000000 30000000"
        ),
        &["1000 aabbcc 3"],
    );
}

#[test]
fn what_is_no_capture_is_told_apart() {
    let check = |hex: &str, expected: &str| assert_eq!(packets(bytes(hex)), [expected], "{hex}");
    check("", "truncated capture: `x.pcap` ends inside the file header that starts at byte 0");
    check("d4c3", "truncated capture: `x.pcap` ends inside the file header that starts at byte 0");
    check("d4c3b2a1 0200 0400 0000", "truncated capture: `x.pcap` ends inside the file header that starts at byte 0");
    check("7b0a2020", "`x.pcap` is no capture: it starts with 7b0a2020, expected pcap or pcapng");
    check(
        "1f8b0800",
        "`x.pcap` is no capture: it starts with 1f8b0800, expected pcap or pcapng; it is compressed with gzip, unpack it \
         first",
    );
    check(
        &pcap_header(105),
        "`x.pcap` has packets of link type 105, expected Ethernet (1), raw IP (12, 14, 101, 228, 229) or Linux cooked \
         (113, 276)",
    );
    check(
        &format!("{} 01000000 00000000 ffffff7f 00000000", pcap_header(1)),
        "damaged capture: `x.pcap`, byte 24: a packet of 2147483647 bytes, expected at most 262144",
    );
    check(
        &format!("{SECTION} 06000000 24000000 00000000 00000000 00000000 03000000 05000000 aabbcc00 24000000"),
        "damaged capture: `x.pcap`, byte 28: a packet of interface 0, but the section describes 0",
    );
    check(
        &format!(
            "{SECTION}{INTERFACE} 06000000 24000000 00000000 00000000 00000000 05000000 05000000 aabbcc00 24000000"
        ),
        "damaged capture: `x.pcap`, byte 48: a packet of 5 bytes in a block with room for 4",
    );
    check(
        &format!(
            "{SECTION}{INTERFACE} 06000000 24000000 00000000 00000000 00000000 03000000 05000000 aabbcc00 28000000"
        ),
        "damaged capture: `x.pcap`, byte 48: a block of 36 bytes that ends with the length 40",
    );
    check(
        &format!("{SECTION} 01000000 0d000000 00000000"),
        "damaged capture: `x.pcap`, byte 28: a block of 13 bytes, expected a multiple of 4 from 12 on",
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Capture::open(std::path::Path::new("does/not/exist.pcap")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read capture `does/not/exist.pcap`: "), "{error}");
}

#[test]
fn a_capture_cut_anywhere_gives_its_whole_packets_and_the_place_of_the_cut() {
    let check = |whole: Vec<u8>, ends: &[usize], what: &str| {
        let all = packets(whole.clone());
        for cut in 0..whole.len() {
            let found = packets(whole[..cut].to_vec());
            if ends.contains(&cut) {
                assert!(all.starts_with(&found), "cut at {cut} between {what}s");
                continue;
            }
            let (last, packets) = found.split_last().unwrap();
            assert!(all.starts_with(packets), "cut at {cut}");
            let start = ends.iter().rev().find(|end| **end < cut).copied().unwrap_or(0);
            let what = if start == 0 && cut < 24 && what == "record" { "file header" } else { what };
            let expected = format!("truncated capture: `x.pcap` ends inside the {what} that starts at byte {start}");
            let is_expected = *last == expected || (cut < 4 && last.contains("file header"));
            assert!(is_expected, "cut at {cut}: {last}");
        }
    };
    let record = "01000000 00000000 03000000 03000000 aabbcc";
    check(bytes(&format!("{}{record}{record}", pcap_header(1))), &[24, 43], "record");
    check(bytes(&format!("{SECTION}{INTERFACE}{}{}", enhanced(0, 1), enhanced(0, 2))), &[28, 48, 84], "block");
}

#[test]
fn damaged_captures_never_panic() {
    let ng = bytes(&format!("{SECTION}{INTERFACE}{}{}", enhanced(0, 1), enhanced(0, 2)));
    let raw = bytes(&format!("{} 01000000 00000000 14000000 14000000 {IP4}", pcap_header(113)));
    for file in [ng, raw] {
        for at in 0..file.len() {
            for byte in [0, 1, 3, 5, 0x24, 0x7f, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = byte;
                packets(damaged);
            }
        }
    }
}

/// A pcap file of packets whose first bytes count up, each of this length, one every `step` nanoseconds from `start` on.
fn counting(count: u32, length: u32, start: u64, step: u64) -> Vec<u8> {
    let mut file = bytes("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000");
    for number in 0..count {
        let time = start + u64::from(number) * step;
        for word in [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(number.to_le_bytes());
        file.extend(vec![0x5a; length as usize - 4]);
    }
    file
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

#[test]
fn captures_longer_than_a_block_are_read_whole() {
    for (count, length) in [(40_000, 64), (3_000, 1514), (20, 262_144)] {
        let mut capture = open(counting(count, length, 0, 1)).unwrap();
        for expected in 0..count {
            let record = capture.next().unwrap().unwrap();
            assert_eq!((number(record.bytes), record.bytes.len()), (expected, length as usize));
            assert_eq!(record.time, Now(expected.into()));
        }
        assert!(capture.next().is_none());
        assert!(capture.next().is_none());
    }
}

#[test]
fn a_block_longer_than_the_memory_is_skipped() {
    let mut file = bytes(SECTION);
    let length: u32 = 3 << 20;
    file.extend([bytes("0a000000"), length.to_le_bytes().to_vec()].concat());
    file.extend(vec![0xcd; length as usize - 12]);
    file.extend(length.to_le_bytes());
    file.extend(bytes(&format!("{INTERFACE}{}", enhanced(0, 1))));
    assert_eq!(packets(file.clone()), ["1000 aabbcc 5"]);
    file.truncate(2 << 20);
    assert_eq!(packets(file), ["truncated capture: `x.pcap` ends inside the block that starts at byte 28"]);
}

#[test]
fn captures_merge_by_time_and_then_by_order_given() {
    let check = |first: (u64, u64), second: (u64, u64), expected: &str| {
        let capture = |(start, step)| open(counting(4, 8, start, step)).unwrap();
        let mut merge = Merge::new(vec![(capture(first), Direction::Inbound), (capture(second), Direction::Outbound)]);
        let mut order = String::new();
        while let Some(next) = merge.next() {
            let (record, direction) = next.unwrap();
            let letter = if direction == Direction::Inbound { "ABCD" } else { "abcd" };
            order.push_str(&letter[number(record.bytes) as usize..][..1]);
        }
        assert_eq!(order, expected, "{first:?} {second:?}");
    };
    check((0, 1), (10, 1), "ABCDabcd");
    check((10, 1), (0, 1), "abcdABCD");
    check((0, 2), (1, 2), "AaBbCcDd");
    check((5, 0), (5, 0), "ABCDabcd");
    check((0, 3), (2, 3), "AaBbCcDd");
    check((0, 4), (3, 1), "AaBbcdCD");
}

#[test]
fn a_broken_capture_ends_alone() {
    let mut cut = counting(2, 8, 0, 10);
    cut.pop();
    let mut merge = Merge::new(vec![
        (open(cut).unwrap(), Direction::Inbound),
        (open(counting(2, 8, 5, 10)).unwrap(), Direction::Outbound),
    ]);
    let mut order = Vec::new();
    while let Some(next) = merge.next() {
        order.push(next.map(|(_, direction)| direction).map_err(|error| error.to_string()));
    }
    let error = "truncated capture: `x.pcap` ends inside the record that starts at byte 48".to_owned();
    assert_eq!(order, [Ok(Direction::Inbound), Err(error), Ok(Direction::Outbound), Ok(Direction::Outbound)]);
}

#[test]
fn the_port_gives_what_the_merge_gives() {
    // Long enough for several blocks; frames of a burst are held until the burst is done.
    let (a, b) = (counting(30_000, 100, 0, 7), counting(20_000, 60, 3, 11));
    let merge = || {
        Merge::new(vec![
            (open(a.clone()).unwrap(), Direction::Inbound),
            (open(b.clone()).unwrap(), Direction::Outbound),
        ])
    };
    let mut expected = Vec::new();
    let mut plain = merge();
    while let Some(next) = plain.next() {
        let (record, direction) = next.unwrap();
        expected.push((record.time, direction, number(record.bytes), record.bytes.len()));
    }
    for reading in READINGS {
        let [mut port, mut beside] = CapturePort::pair(merge(), None, reading);
        let mut found = Vec::new();
        let mut frames = Frames::new();
        let mut rounds = 0;
        while !port.is_finished() {
            port.receive(&mut frames);
            for position in 0..frames.len() {
                let frame = frames.get(position).unwrap();
                let bytes = port.bytes(frame);
                found.push((port.captured(frame).unwrap(), port.side(frame).unwrap(), number(bytes), bytes.len()));
            }
            for position in 0..frames.len() {
                let mut frame = frames.take(position).unwrap();
                port.bytes_mut(&mut frame).fill(0);
                if position % 2 == 0 { beside.transmit(frame).unwrap() } else { port.recycle(frame) }
            }
            frames.clear();
            rounds += 1;
            assert!(rounds < 100_000, "no progress");
        }
        assert_eq!(found.len(), 50_000);
        assert!(found == expected);
        assert!(beside.transmitted() >= 25_000);
        assert!(port.take_error().is_none());
    }
}

/// What a port gives when everything is passed on at once: time, side, number in the replay, number in the capture.
fn given(mut port: CapturePort) -> Vec<(Now, Direction, u64, u32)> {
    let (mut found, mut frames) = (Vec::new(), Frames::new());
    while !port.is_finished() {
        port.receive(&mut frames);
        for position in 0..frames.len() {
            let frame = frames.get(position).unwrap();
            let (time, side) = (port.captured(frame).unwrap(), port.side(frame).unwrap());
            found.push((time, side, port.number(frame), number(port.bytes(frame))));
        }
        while let Some(frame) = frames.pop() {
            port.recycle(frame);
        }
    }
    found
}

#[test]
fn any_number_of_captures_merges_in_the_port_as_one_by_one() {
    use Direction::{Inbound, Outbound};
    let check = |captures: &[(u32, u32, u64, u64, Direction)]| {
        let merge = || {
            let capture =
                |&(count, length, start, step, side)| (open(counting(count, length, start, step)).unwrap(), side);
            Merge::new(captures.iter().map(capture).collect())
        };
        let (mut plain, mut expected) = (merge(), Vec::new());
        while let Some(next) = plain.next() {
            let (record, direction) = next.unwrap();
            expected.push((record.time, direction, expected.len() as u64 + 1, number(record.bytes)));
        }
        for reading in READINGS {
            let [port, _] = CapturePort::pair(merge(), None, reading);
            assert!(given(port) == expected, "{captures:?}, {reading:?}");
        }
        // With somebody who passes over what came outbound and turns the rest round.
        let turn = |_: &[u8], side| (side == Inbound).then_some(Outbound);
        expected.retain(|line| line.1 == Inbound);
        expected.iter_mut().for_each(|line| line.1 = Outbound);
        for reading in READINGS {
            let [port, _] = CapturePort::pair(merge(), Some(Box::new(turn)), reading);
            assert!(given(port) == expected, "{captures:?}, {reading:?}, sorted");
        }
    };
    check(&[]);
    check(&[(0, 8, 0, 0, Inbound)]);
    check(&[(20_000, 100, 0, 7, Inbound)]);
    check(&[(20_000, 100, 0, 0, Inbound), (10_000, 60, 0, 0, Outbound)]);
    check(&[(9_000, 200, 3, 5, Outbound), (20_000, 100, 0, 7, Inbound)]);
    // One ends long before the other, and one has no packets.
    check(&[(100, 60, 0, 1, Inbound), (20_000, 100, 50, 1, Outbound), (0, 8, 0, 0, Inbound)]);
    check(&[(5_000, 300, 9, 3, Inbound), (7_000, 64, 0, 2, Outbound), (3_000, 1514, 4, 4, Inbound)]);
    // More than a parcel has room for blocks: some end early, some are long.
    let many = |n: u64| (if n % 4 == 3 { 10 } else { 3_000 }, 40 + 150 * n as u32, n % 3, 1 + n % 5, Inbound);
    check(&(0..11).map(many).collect::<Vec<_>>());
    // Packets longer than what is read at once.
    check(&[(20, 262_144, 0, 3, Inbound), (2_000, 60, 1, 1, Outbound)]);
}

#[test]
fn a_frame_that_is_held_keeps_its_bytes_and_stops_the_rest() {
    let merge = Merge::new(vec![(open(counting(10_000, 100, 0, 1)).unwrap(), Direction::Inbound)]);
    let [mut port, _] = CapturePort::pair(merge, None, Reading::Between);
    let mut frames = Frames::new();
    port.receive(&mut frames);
    let held = frames.pop().unwrap();
    let (time, first) = (port.captured(&held), number(port.bytes(&held)));
    while let Some(frame) = frames.pop() {
        port.recycle(frame);
    }
    for _ in 0..1_000 {
        port.receive(&mut frames);
        while let Some(frame) = frames.pop() {
            port.recycle(frame);
        }
        assert!(!port.is_finished() && !port.is_dry());
    }
    assert!(port.numbered() <= 1_024, "no more than a parcel: {}", port.numbered());
    assert_eq!((port.captured(&held), number(port.bytes(&held))), (time, first));
    port.recycle(held);
    assert_eq!(given(port).last(), Some(&(Now(9_999), Direction::Inbound, 10_000, 9_999)));
}

#[test]
fn the_port_reports_a_broken_capture() {
    let mut cut = counting(3, 8, 0, 1);
    cut.pop();
    let [mut port, _] =
        CapturePort::pair(Merge::new(vec![(open(cut).unwrap(), Direction::Inbound)]), None, Reading::Beside);
    let mut frames = Frames::new();
    while !port.is_finished() {
        port.receive(&mut frames);
        while let Some(frame) = frames.pop() {
            port.recycle(frame);
        }
    }
    assert!(port.take_error().is_some_and(|error| error.to_string().starts_with("truncated capture")));
    assert!(port.take_error().is_none());
}

fn written() -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), &["uplink", "dn0"]).unwrap();
    let record = |time, bytes, original_length| Record { time: Now(time), bytes, original_length };
    let comment = Some("reason=policy-deny");
    writer.write(0, &record(0x1_0000_0002, &[0xaa; 5], 5), Seen::Received, comment).unwrap();
    writer.write(1, &record(7, &[0xbb; 4], 60), Seen::Transmitted, None).unwrap();
    assert!(writer.write(2, &record(8, &[], 0), Seen::Received, None).is_err());
    writer.finish().unwrap()
}

#[test]
fn written_bytes_are_golden() {
    let expected = "
        0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0800 72696e6777616c6c 0000 0000 2c000000
        01000000 2c000000 0100 0000 00000000 0200 0600 75706c696e6b0000 0900 0100 09000000 0000 0000 2c000000
        01000000 28000000 0100 0000 00000000 0200 0300 646e3000 0900 0100 09000000 0000 0000 28000000
        06000000 4c000000 00000000 01000000 02000000 05000000 05000000 aaaaaaaa aa000000
            0100 1200 726561736f6e3d706f6c6963792d64656e79 0000 0200 0400 01000000 0000 0000 4c000000
        06000000 30000000 01000000 00000000 07000000 04000000 3c000000 bbbbbbbb
            0200 0400 02000000 0000 0000 30000000";
    assert_eq!(written(), bytes(expected));
}

#[test]
fn written_packets_read_back() {
    assert_eq!(packets(written()), ["4294967298 aaaaaaaaaa 5", "7 bbbbbbbb 60"]);
}

#[test]
fn long_comments_are_cut_between_characters() {
    let mut writer = PcapngWriter::new(Vec::new(), &["p"]).unwrap();
    let record = Record { time: Now(1), bytes: &[1], original_length: 1 };
    writer.write(0, &record, Seen::Received, Some(&"ä".repeat(40_000))).unwrap();
    assert_eq!(packets(writer.finish().unwrap()), ["1 01 1"]);
}

#[test]
fn tcpdump_reads_what_is_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = PcapngWriter::create(file.path(), &["uplink"]).unwrap();
    let frame = bytes(
        "020000000002020000000001 0800 4500 001f 0000 0000 4011 ceca 0101 0101 a901 0101 14e9 0035 000b 7a53 616263",
    );
    let record = Record { time: Now(1_000_000_001), bytes: &frame, original_length: frame.len() as u32 };
    writer.write(0, &record, Seen::Received, Some("reason=acl-deny")).unwrap();
    writer.finish().unwrap();
    let mut command = std::process::Command::new("tcpdump");
    let Ok(output) = command.args(["-nn", "-tt", "--nano", "-r"]).arg(file.path()).output() else {
        println!("skipped: tcpdump is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1.000000001 ") && text.contains("IP 1.1.1.1.5353 > 169.1.1.1.53"), "{text} {output:?}");
}
