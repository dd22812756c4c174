//! Stage `parse`: frames of one kind of traffic in, nanoseconds per frame out. Run with `cargo bench --bench parse`.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use ringwall::base::address::Direction;
use ringwall::io::pcap::Capture;
use ringwall::packet::{FragmentSpec, Key, Options, PacketSpec, Tuple, build, complete_partial, parse};

/// Frames per measurement: enough to defeat the branch predictor, small enough for the second-level cache at 64 bytes.
const FRAMES: u16 = 1024;

/// Frames of one kind, each of another flow.
fn traffic(make: impl Fn(u16) -> PacketSpec) -> Vec<Vec<u8>> {
    (0..FRAMES).map(|number| build(&make(number))).collect()
}

fn spec(src: &str, protocol: u8, number: u16) -> PacketSpec {
    let dst = if src.contains(':') { "2001:db8::2" } else { "169.1.1.1" };
    let base = PacketSpec::new(src.parse().expect("an address"), dst.parse().expect("an address"), protocol);
    PacketSpec { sport: 1024 + number, dport: 80, tcp_flags: 0x10, ..base }
}

/// Payload lengths of the simple Internet mix: 7 short, 4 middle, 1 long.
fn imix(number: u16) -> u16 {
    match number % 12 {
        0..=6 => 6,
        7..=10 => 536,
        _ => 1460,
    }
}

/// A hop-by-hop and a destination options header before TCP.
fn with_extensions(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u16::from_be_bytes([frame[18], frame[19]]) + 16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[20] = 0;
    frame.splice(54..54, [60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
    frame
}

fn bench_parse(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, frames: &[Vec<u8>], options: Options) {
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function(name, |bencher| {
        let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
        bencher.iter(|| {
            for frame in frames {
                black_box(parse(frame, Direction::Inbound, &options, &mut key, &mut quote));
                black_box(&key);
            }
        });
    });
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let tcp64 = traffic(|n| PacketSpec { len: 6, ..spec("1.1.1.1", 6, n) });
    bench_parse(&mut group, "tcp64", &tcp64, Options::default());
    let mixed = traffic(|n| PacketSpec { len: imix(n), ..spec("1.1.1.1", if n % 3 == 0 { 17 } else { 6 }, n) });
    bench_parse(&mut group, "imix", &mixed, Options::default());
    bench_parse(&mut group, "imix-checksum", &mixed, Options { verify_l4_checksum: true, ..Options::default() });
    bench_parse(
        &mut group,
        "vlan",
        &traffic(|n| PacketSpec { vlan: vec![100], ..spec("1.1.1.1", 6, n) }),
        Options::default(),
    );
    bench_parse(&mut group, "ipv6", &traffic(|n| spec("2001:db8::1", 6, n)), Options::default());
    let extended: Vec<_> = traffic(|n| spec("2001:db8::1", 6, n)).into_iter().map(with_extensions).collect();
    bench_parse(&mut group, "ipv6-ext", &extended, Options::default());
    let fragment = |n| Some(FragmentSpec { id: u32::from(n), offset: 1480, more: true, len: None });
    let later = traffic(|n| PacketSpec { fragment: fragment(n), len: 64, ..spec("1.1.1.1", 17, n) });
    bench_parse(&mut group, "later-fragment", &later, Options::default());
    group.finish();
}

fn completing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("complete-partial");
    group.throughput(Throughput::Elements(u64::from(FRAMES)));
    for (name, src) in [("tcp64-right-already", "1.1.1.1"), ("ipv6-right-already", "2001:db8::1")] {
        let mut frames = traffic(|n| spec(src, 6, n));
        group.bench_function(name, |bencher| {
            bencher.iter(|| frames.iter_mut().map(|frame| u32::from(complete_partial(black_box(frame)))).sum::<u32>());
        });
    }
    group.finish();
}

fn capturing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capture");
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    let frames = traffic(|n| PacketSpec { len: 6, ..spec("1.1.1.1", 6, n) });
    for (number, frame) in frames.iter().cycle().take(100_000).enumerate() {
        for word in [0, number as u32, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    // The source is borrowed, so that only the reader's own copying is measured.
    let file: &'static [u8] = file.leak();
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("pcap-read-and-parse-tcp64", |bencher| {
        let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
        bencher.iter(|| {
            let mut capture = Capture::from_reader("bench", Cursor::new(file)).expect("a capture");
            while let Some(Ok(record)) = capture.next() {
                black_box(parse(record.bytes, Direction::Inbound, &Options::default(), &mut key, &mut quote));
            }
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    parsing(&mut criterion);
    completing(&mut criterion);
    capturing(&mut criterion);
    criterion.final_summary();
}
