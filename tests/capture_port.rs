//! Captures through the port that replays them in, whatever their blocks and whoever reads them: the same packets, the same errors out.

use std::io::{self, Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use proptest::prelude::*;
use ringwall::base::address::Direction;
use ringwall::base::time::Now;
use ringwall::io::pcap::{Capture, CapturePort, Merge, PcapngWriter, Reading, Record, Seen, Sorter};
use ringwall::io::{Frames, Port};

const READINGS: [Reading; 2] = [Reading::Beside, Reading::Between];

/// A packet as it comes out: when, on which side, its number in the replay, its bytes.
type Packet = (Now, Direction, u64, Vec<u8>);

/// What comes out: packets, the error behind them, and how many were seen at all.
type Outcome = (Vec<Packet>, Option<String>, u64);

/// One capture to be written.
#[derive(Clone, Debug)]
struct Written {
    form: Form,
    direction: Direction,
    /// Time since the packet before, and length.
    packets: Vec<(u64, usize)>,
    /// Bytes that the file ends too early.
    cut: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nanosecond pcap of a link type.
    Pcap(u16),
    Pcapng,
}

impl Written {
    fn file(&self) -> Vec<u8> {
        let mut time = 1_000_000_000;
        let packets = self.packets.iter().enumerate().map(|(n, &(step, length))| {
            time += step;
            let bytes: Vec<u8> = (0..length).map(|at| (n * 31 + at * 7) as u8).collect();
            (time, bytes)
        });
        let mut file = match self.form {
            Form::Pcap(link_type) => {
                let words = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 0x4_0000, u32::from(link_type)];
                let mut file: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
                for (time, bytes) in packets {
                    let length = bytes.len() as u32;
                    let words = [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, length, length];
                    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                    file.extend(bytes);
                }
                file
            }
            Form::Pcapng => {
                let mut writer = PcapngWriter::new(Vec::new(), &["uplink"]).unwrap();
                for (time, bytes) in packets {
                    let record = Record { time: Now(time), bytes: &bytes, original_length: bytes.len() as u32 };
                    writer.write(0, &record, Seen::Received, None).unwrap();
                }
                writer.finish().unwrap()
            }
        };
        // The header stays, without which it is no capture.
        file.truncate((file.len() - self.cut.min(file.len())).max(28).min(file.len()));
        file
    }
}

/// A file that is read in pieces of these lengths, again and again.
struct Pieces {
    file: Cursor<Vec<u8>>,
    lengths: Vec<usize>,
    reads: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths[self.reads % self.lengths.len()].min(into.len());
        self.reads += 1;
        self.file.read(&mut into[..length])
    }
}

fn merge(captures: &[Written], lengths: &[usize]) -> Merge {
    let open = |(n, written): (usize, &Written)| {
        let source = Pieces { file: Cursor::new(written.file()), lengths: lengths.to_vec(), reads: n };
        (Capture::from_reader(format!("{n}.pcap"), source).unwrap(), written.direction)
    };
    Merge::new(captures.iter().enumerate().map(open).collect())
}

/// By the plain merge, which knows no parcels, up to the first error.
fn expected(captures: &[Written], sorter: Option<&Sorter>) -> Outcome {
    let mut merge = merge(captures, &[usize::MAX]);
    let (mut packets, mut seen) = (Vec::new(), 0);
    while let Some(next) = merge.next() {
        match next {
            Ok((record, direction)) => {
                seen += 1;
                let side = sorter.map_or(Some(direction), |sorter| sorter(record.bytes, direction));
                packets.extend(side.map(|side| (record.time, side, seen, record.bytes.to_vec())));
            }
            Err(error) => return (packets, Some(error.to_string()), seen),
        }
    }
    (packets, None, seen)
}

/// By the port, all frames of a burst held until it is over.
fn found(mut port: CapturePort) -> Outcome {
    let (mut packets, mut frames) = (Vec::new(), Frames::new());
    while !port.is_finished() {
        assert!(port.take_error().is_none(), "errors come behind all packets");
        port.receive(&mut frames);
        for frame in (0..frames.len()).map(|position| frames.get(position).unwrap()) {
            let (time, side) = (port.captured(frame).unwrap(), port.side(frame).unwrap());
            packets.push((time, side, port.number(frame), port.bytes(frame).to_vec()));
        }
        while let Some(mut frame) = frames.pop() {
            port.bytes_mut(&mut frame).fill(0xee);
            port.recycle(frame);
        }
    }
    let times: Vec<Now> = packets.iter().map(|packet| packet.0).collect();
    if let (Some(first), Some(last)) = (times.first(), times.iter().max()) {
        assert_eq!(port.span(), (*first, *last));
    }
    let error = port.take_error().map(|error| error.to_string());
    assert!(port.is_finished() && port.take_error().is_none() && port.receive(&mut frames) == 0);
    (packets, error, port.numbered())
}

/// Passes over some packets and turns others round.
fn sorter() -> Sorter {
    Box::new(|bytes, side| match bytes.last() {
        Some(last) if last % 3 == 0 => None,
        Some(last) if last % 3 == 1 => Some(side.reverse()),
        _ => Some(side),
    })
}

fn captures() -> impl Strategy<Value = Vec<Written>> {
    let form = prop_oneof![Just(Form::Pcap(1)), Just(Form::Pcapng), Just(Form::Pcap(101)), Just(Form::Pcap(113))];
    let direction = prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound)];
    let length = prop_oneof![8 => 0..150usize, 1 => 0..3_000usize];
    // Many of equal times, within a capture and between them.
    let packets = prop::collection::vec((prop_oneof![3 => Just(0u64), 1 => 0..3u64], length), 0..1_500);
    let cut = prop_oneof![2 => Just(0usize), 1 => 1..100usize];
    let written = (form, direction, packets, cut);
    let written = written.prop_map(|(form, direction, packets, cut)| Written { form, direction, packets, cut });
    prop::collection::vec(written, 1..=3)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..50usize, 50..5_000usize, Just(usize::MAX)], 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn blocks_of_any_length_give_the_same_packets(captures in captures(), lengths in lengths(), is_sorted: bool) {
        let sorter = || is_sorted.then(sorter);
        let expected = expected(&captures, sorter().as_ref());
        for reading in READINGS {
            let [port, _beside] = CapturePort::pair(merge(&captures, &lengths), sorter(), reading);
            let found = found(port);
            prop_assert!(found == expected, "{reading:?}: {} of {} packets, {:?} {:?}, {} {}",
                found.0.len(), expected.0.len(), found.1, expected.1, found.2, expected.2);
        }
    }
}

fn plain(count: usize, length: usize) -> Written {
    Written { form: Form::Pcap(1), direction: Direction::Inbound, packets: vec![(1, length); count], cut: 0 }
}

#[test]
fn a_merge_that_has_begun_goes_on_in_the_port() {
    for reading in READINGS {
        let mut merge = merge(&[plain(500, 60), plain(300, 90)], &[1_000]);
        for _ in 0..7 {
            merge.next().unwrap().unwrap();
        }
        let [port, _] = CapturePort::pair(merge, None, reading);
        let (all, error, seen) = expected(&[plain(500, 60), plain(300, 90)], None);
        let rest: Vec<Packet> =
            all.into_iter().skip(7).map(|(time, side, n, bytes)| (time, side, n - 7, bytes)).collect();
        assert!(found(port) == (rest, error, seen - 7), "{reading:?}");
    }
}

/// A capture without end, or with an end of its own kind.
struct Endless {
    head: Cursor<Vec<u8>>,
    record: Vec<u8>,
    records: usize,
    end: fn() -> io::Result<usize>,
    _held: Arc<()>,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.head.read(into)?;
        if count > 0 {
            return Ok(count);
        }
        match self.records.checked_sub(1) {
            None => (self.end)(),
            Some(rest) => {
                self.records = rest;
                into[..self.record.len()].copy_from_slice(&self.record);
                Ok(self.record.len())
            }
        }
    }
}

fn endless(records: usize, end: fn() -> io::Result<usize>, held: &Arc<()>) -> Merge {
    let file = plain(1, 60).file();
    let (head, record) = (Cursor::new(file[..24].to_vec()), file[24..].to_vec());
    let source = Endless { head, record, records, end, _held: Arc::clone(held) };
    Merge::new(vec![(Capture::from_reader("endless.pcap", source).unwrap(), Direction::Inbound)])
}

#[test]
fn packets_do_not_wait_for_what_a_pipe_has_not_given_yet() {
    for reading in READINGS {
        let (tap, mut pipe) = io::pipe().unwrap();
        let file = plain(3, 60).file();
        let (head, records) = file.split_at(24);
        pipe.write_all(head).unwrap();
        let capture = Capture::from_reader("pipe", tap).unwrap();
        let [mut port, _beside] = CapturePort::pair(Merge::new(vec![(capture, Direction::Inbound)]), None, reading);
        let mut frames = Frames::new();
        for record in records.chunks(records.len() / 3) {
            pipe.write_all(record).unwrap();
            assert_eq!(port.receive(&mut frames), 1, "{reading:?}");
            while let Some(frame) = frames.pop() {
                port.recycle(frame);
            }
        }
        drop(pipe);
        assert_eq!((port.receive(&mut frames), port.is_finished()), (0, true), "{reading:?}");
    }
}

#[test]
fn who_is_dropped_early_ends_its_reader() {
    for bursts in [0, 1, 100] {
        let held = Arc::new(());
        let [mut port, _beside] = CapturePort::pair(endless(usize::MAX, || Ok(0), &held), None, Reading::Beside);
        assert_eq!(port.reads(), Reading::Beside);
        let mut frames = Frames::new();
        for _ in 0..bursts {
            assert!(port.receive(&mut frames) > 0);
            while let Some(frame) = frames.pop() {
                port.recycle(frame);
            }
        }
        assert_eq!(Arc::strong_count(&held), 2);
        drop(port);
        assert_eq!(Arc::strong_count(&held), 1, "the file is closed when the port is gone");
    }
}

#[test]
fn an_error_comes_behind_the_packets_before_it() {
    for reading in READINGS {
        for records in [0, 1, 63, 5_000] {
            let held = Arc::new(());
            let merge = endless(records, || Err(io::Error::other("the disk is on fire")), &held);
            let [port, _] = CapturePort::pair(merge, None, reading);
            let (packets, error, seen) = found(port);
            assert_eq!((packets.len(), seen), (records, records as u64), "{reading:?}");
            assert_eq!(error.as_deref(), Some("cannot read capture `endless.pcap`: the disk is on fire"));
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}

#[test]
fn a_defect_of_the_reader_is_one_of_who_waits_for_it() {
    for reading in READINGS {
        let held = Arc::new(());
        let [port, _] = CapturePort::pair(endless(3_000, || panic!("a defect"), &held), None, reading);
        let defect = catch_unwind(AssertUnwindSafe(|| found(port))).unwrap_err();
        assert_eq!(defect.downcast_ref::<&str>(), Some(&"a defect"), "{reading:?}");
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
