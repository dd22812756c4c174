//! Results in, one page with plots out that needs no network: inline SVG, no scripts.

use std::fmt::Write;

use super::plot::{Axis, Plot, Scale, escaped};
use super::result::Results;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#333}
.grid{stroke:#ddd;stroke-width:1;fill:none}.line{stroke-width:2;fill:none}
table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}
td+td{text-align:right}.missed{color:#b00}.reached{color:#070}pre{overflow-x:auto;font-size:12px}";

/// The page.
pub fn page(results: &Results) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ringwall bench veth</title>\n<style>{STYLE}</style>\
         </head><body>\n<h1>Forwarders between veth pairs</h1>\n<p>Copy mode over virtual links: how forwarders compare, not what \
         a network card does. Zero-loss rates as in RFC 2544 section 26.1, loss as in section 26.3.</p>\n"
    );
    if !results.marks.is_empty() {
        page.push_str("<h2>Marks</h2>\n<table><tr><th>mark</th><th>wanted</th><th>found</th><th></th></tr>\n");
        for mark in &results.marks {
            let word = if mark.reached { "reached" } else { "missed" };
            let (wanted, found) = (mark.wanted, mark.found);
            let name = escaped(&mark.name);
            let _ = writeln!(
                page,
                "<tr><td>{name}</td><td>{wanted:.2}</td><td>{found:.2}</td><td class=\"{word}\">{word}</td></tr>"
            );
        }
        page.push_str("</table>\n");
    }
    for (title, plot) in [
        ("Zero-loss rate by frame size", rates(results)),
        ("Loss by offered rate", curves(results)),
        ("Time inside the box", latencies(results, Side::Inside)),
        ("From generator to generator, over both links", latencies(results, Side::OneWay)),
    ] {
        if !plot.series.is_empty() {
            let _ = writeln!(page, "<h2>{title}</h2>\n{}", plot.svg());
        }
    }
    let _ = writeln!(page, "<h2>Figures</h2>\n<pre>{}</pre>\n</body></html>", escaped(&results.text()));
    page
}

/// The names of forwarders in the order of their first appearance, with their points.
fn grouped(points: impl Iterator<Item = (String, (f64, f64))>) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (name, point) in points {
        match series.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => series.push((name, vec![point])),
        }
    }
    for (_, points) in &mut series {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}

fn rates(results: &Results) -> Plot {
    let ways = results.rates.first().map(|row| row.ways);
    let rows = || results.rates.iter().filter(|row| Some(row.ways) == ways);
    let points = rows().map(|row| (row.forwarder.name(), (f64::from(row.size), row.zero_loss / 1e6)));
    let mut sizes: Vec<u16> = rows().map(|row| row.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let ticks = sizes.iter().map(|size| (f64::from(*size), size.to_string())).collect();
    Plot {
        x: Axis { label: "bytes of a frame", scale: Scale::Logarithmic, ticks },
        y: Axis { label: "million packets per second", scale: Scale::Linear, ticks: Vec::new() },
        series: grouped(points),
    }
}

fn curves(results: &Results) -> Plot {
    let series = results.curves.iter().map(|row| {
        let mut points: Vec<_> = row.points.iter().map(|(rate, lost)| (rate / 1e6, lost * 100.0)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (row.forwarder.name(), points)
    });
    Plot {
        x: Axis { label: "million packets per second offered", scale: Scale::Linear, ticks: Vec::new() },
        y: Axis { label: "% lost", scale: Scale::Linear, ticks: Vec::new() },
        series: series.collect(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    OneWay,
}

/// The delay that a part of the packets exceeds, over that part: one in ten, in a hundred, in a thousand.
fn latencies(results: &Results, side: Side) -> Plot {
    let series = results.latencies.iter().map(|row| {
        let histogram = if side == Side::Inside { &row.inside_histogram } else { &row.one_way_histogram };
        let total: u64 = histogram.iter().map(|(_, count)| count).sum();
        let mut left = total;
        let points = histogram.iter().map(|(nanoseconds, count)| {
            let reached = left;
            left = left.saturating_sub(*count);
            (total as f64 / reached.max(1) as f64, *nanoseconds as f64 / 1e3)
        });
        (format!("{}, {} %", row.forwarder.name(), row.percent), points.collect())
    });
    let parts = [(1.0, "all"), (10.0, "p90"), (100.0, "p99"), (1e3, "p99.9"), (1e4, "p99.99"), (1e5, "p99.999")];
    Plot {
        x: Axis {
            label: "percentile",
            scale: Scale::Logarithmic,
            ticks: parts.map(|(part, name)| (part, name.to_owned())).to_vec(),
        },
        y: Axis { label: "microseconds", scale: Scale::Logarithmic, ticks: Vec::new() },
        series: series.collect(),
    }
}
