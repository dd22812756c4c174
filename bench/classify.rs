//! Stage `classify`: headers of one kind of traffic over generated rule sets in, nanoseconds per header out. Run with
//! `cargo bench --bench classify`.
//!
//! `header` makes the headers of as many keys as a call takes, `first` finds the first match of headers that are known one by one,
//! `both` is what the packet line does, in bursts of 1, 8, 32, 64 and 256.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use ringwall::base::address::Family;
use ringwall::cli::bench::generate::{End, Recipe, generate};
use ringwall::cli::bench::profile::Kind;
use ringwall::cli::bench::ruleset::{Burst, MISS, lookup};
use ringwall::cli::bench::traffic::{Traffic, headers};
use ringwall::engine::program::header::{Headers, LANES};

/// Headers per measurement: more than the branch predictor remembers.
const HEADERS: usize = 16_384;

fn classifying(criterion: &mut Criterion, kind: Kind, family: Family, rules: usize) {
    let set = generate(&Recipe { kind, family, rules, seed: 1, end: End::CatchAll });
    let classifier = set.classifier().expect("the default budget holds ten thousand rules");
    let version = if family == Family::V4 { "ipv4" } else { "ipv6" };
    let mut group = criterion.benchmark_group(format!("classify/{}-{}-{version}", kind.name(), set.rules.len()));
    group.throughput(Throughput::Elements(HEADERS as u64));
    for traffic in [Traffic::Uniform, Traffic::Zipf, Traffic::Random] {
        let keys = headers(&set, traffic, HEADERS, 2);
        let mut burst_headers = Headers::default();
        group.bench_function(format!("header/{}", traffic.name()), |bencher| {
            bencher.iter(|| {
                for burst in keys.chunks(LANES) {
                    classifier.headers(black_box(burst), &mut burst_headers);
                }
                black_box(&burst_headers);
            });
        });
        let classes: Vec<_> = keys.iter().map(|key| classifier.header(key)).collect();
        group.bench_function(format!("first/{}", traffic.name()), |bencher| {
            bencher.iter(|| {
                for header in &classes {
                    black_box(classifier.first(black_box(*header), 0, 0));
                }
            });
        });
        let mut answers = vec![MISS; HEADERS];
        let mut scratch = Burst::default();
        for batch in [1, 8, 32, 64, 256] {
            group.bench_function(format!("both/{}/{batch}", traffic.name()), |bencher| {
                bencher.iter(|| {
                    for (burst, out) in keys.chunks(batch).zip(answers.chunks_mut(batch)) {
                        lookup(&classifier, &mut scratch, black_box(burst), out);
                    }
                    black_box(&answers);
                });
            });
        }
    }
    group.finish();
}

fn main() {
    let short = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut criterion = short.sample_size(20).configure_from_args();
    for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
        classifying(&mut criterion, kind, Family::V4, 1_000);
        classifying(&mut criterion, kind, Family::V4, 10_000);
        classifying(&mut criterion, kind, Family::V6, 10_000);
    }
    criterion.final_summary();
}
