//! Named series of points in, one SVG drawing with axes and a legend out.

use std::fmt::Write;

/// Size of a drawing and of the part with the curves, in pixels.
const WIDTH: f64 = 860.0;
const LEAST_HEIGHT: f64 = 364.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 300.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 54.0;

/// Height of a line of the legend.
const LINE: f64 = 18.0;
/// Width of a character, about, and what is left free between two texts.
const CHARACTER: f64 = 7.0;
const GAP: f64 = 4.0;
/// How far below the axis its numbers stand, and where those that have no room beside the one before; then what it shows.
const NUMBERS: [f64; 2] = [16.0, 29.0];
const LABEL: f64 = 46.0;

/// Colours that people with any colour vision tell apart (Okabe and Ito), and how lines are drawn once they are used up.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

const DASHES: [&str; 4] =
    ["", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\"", " stroke-dasharray=\"10 3 2 3\""];

/// How values are placed on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0, evenly.
    Linear,
    /// By the logarithm, from the smallest value that is above 0.
    Logarithmic,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: &'static str,
    /// How.
    pub scale: Scale,
    /// Where to write which number; empty = wherever it is round.
    pub ticks: Vec<(f64, String)>,
}

/// A drawing.
#[derive(Clone, Debug)]
pub struct Plot {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Names with their points, from left to right.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// Values between two ends on a line of pixels.
struct Range {
    low: f64,
    high: f64,
    scale: Scale,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, axis: &Axis) -> Range {
        let values: Vec<f64> = values.filter(|v| v.is_finite()).chain(axis.ticks.iter().map(|tick| tick.0)).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        match axis.scale {
            Scale::Linear => Range { low: 0.0, high: if most > 0.0 { most * 1.05 } else { 1.0 }, scale: axis.scale },
            Scale::Logarithmic => {
                let least =
                    values.iter().copied().filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(most.max(1.0));
                Range { low: least, high: (most * 1.05).max(least * 2.0), scale: axis.scale }
            }
        }
    }

    /// From 0 at the low end to 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let power = 10f64.powf((self.high / 5.0).log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| self.high / step <= 6.0);
                let step = step.unwrap_or(self.high);
                (0..=6).map(|n| f64::from(n) * step).filter(|v| *v <= self.high).map(|v| (v, short(v))).collect()
            }
            Scale::Logarithmic => {
                let powers = self.low.log10().ceil() as i32..=self.high.log10().floor() as i32;
                powers.map(|power| 10f64.powi(power)).map(|value| (value, short(value))).collect()
            }
        }
    }
}

/// A number without digits that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

/// Texts by the middle and the number of characters, from left to right, to the row of each: the second where the first has no room.
fn rows(texts: &[(f64, usize)]) -> Vec<usize> {
    let mut end = f64::MIN;
    let row = |&(middle, characters): &(f64, usize)| {
        let half = characters as f64 * CHARACTER / 2.0;
        let is_free = middle - half >= end;
        end = if is_free { middle + half + GAP } else { end };
        usize::from(!is_free)
    };
    texts.iter().map(row).collect()
}

/// Text that may stand in a page.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The drawing.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let x = Range::of(points().map(|point| point.0), &self.x);
        let y = Range::of(points().map(|point| point.1), &self.y);
        let height = LEAST_HEIGHT.max(2.0 * TOP + LINE * self.series.len() as f64);
        let (inner_width, inner_height) = (WIDTH - LEFT - RIGHT, height - TOP - BOTTOM);
        let across = |value: f64| LEFT + x.place(value) * inner_width;
        let up = |value: f64| TOP + (1.0 - y.place(value)) * inner_height;
        let (right, bottom) = (LEFT + inner_width, TOP + inner_height);
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n");
        let ticks = |axis: &Axis, range: &Range| if axis.ticks.is_empty() { range.ticks() } else { axis.ticks.clone() };
        for (value, text) in ticks(&self.y, &y) {
            let at = up(value);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 6.0, at + 4.0);
        }
        let numbers = ticks(&self.x, &x);
        let places: Vec<(f64, usize)> = numbers.iter().map(|(value, text)| (across(*value), text.len())).collect();
        for ((value, text), row) in numbers.iter().zip(rows(&places)) {
            let (at, below) = (across(*value), bottom + NUMBERS[row]);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>");
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escaped(text));
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT + inner_width / 2.0,
            bottom + LABEL,
            escaped(self.x.label)
        );
        let middle = TOP + inner_height / 2.0;
        let _ = writeln!(
            svg,
            "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(self.y.label)
        );
        for (number, (name, points)) in self.series.iter().enumerate() {
            let is_finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
            let points: Vec<(f64, f64)> = points.iter().filter(is_finite).copied().collect();
            let colour = COLOURS[number % COLOURS.len()];
            let dash = DASHES[number / COLOURS.len() % DASHES.len()];
            let path: Vec<String> =
                points.iter().map(|(px, py)| format!("{:.1} {:.1}", across(*px), up(*py))).collect();
            let _ = writeln!(svg, "<path class=\"line\" stroke=\"{colour}\"{dash} d=\"M{}\"/>", path.join("L"));
            for (px, py) in points.iter().filter(|_| points.len() < 30) {
                let _ = writeln!(
                    svg,
                    "<circle r=\"3\" fill=\"{colour}\" cx=\"{:.1}\" cy=\"{:.1}\"><title>{}: {} at {}</title></circle>",
                    across(*px),
                    up(*py),
                    escaped(name),
                    short(*py),
                    short(*px)
                );
            }
            let at = TOP + 10.0 + LINE * number as f64;
            let _ = writeln!(
                svg,
                "<path class=\"line\" stroke=\"{colour}\"{dash} d=\"M{} {at}h22\"/><text x=\"{}\" y=\"{}\">{}</text>",
                right + 12.0,
                right + 40.0,
                at + 4.0,
                escaped(name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis { label: "x <unit>", scale, ticks: Vec::new() }
    }

    #[test]
    fn every_point_lies_in_the_drawing_and_names_are_escaped() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for points in [vec![], vec![(0.0, 0.0)], vec![(1.0, 1e6), (1e9, f64::INFINITY), (5.0, -1.0)]] {
                let plot = Plot { x: axis(scale), y: axis(scale), series: vec![("a<b".to_owned(), points)] };
                let svg = plot.svg();
                assert!(
                    svg.contains("a&lt;b") && !svg.contains("a<b") && !svg.contains("NaN") && !svg.contains("inf"),
                    "{svg}"
                );
                for place in svg.split("cx=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
                    assert!((LEFT..=WIDTH).contains(&place.parse().unwrap()), "{place}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_have_no_room_side_by_side_stand_in_two_rows() {
        for (places, expected) in [
            (&[(10.0, 4), (50.0, 4), (90.0, 4)][..], &[0, 0, 0][..]),
            (&[(10.0, 4), (44.0, 4), (70.0, 4)], &[0, 0, 1]),
            (&[(10.0, 4), (30.0, 4), (50.0, 4), (90.0, 4)], &[0, 1, 0, 0]),
            (&[], &[]),
        ] {
            assert_eq!(rows(places), expected, "{places:?}");
        }
    }

    #[test]
    fn the_legend_of_many_curves_has_room() {
        for count in [1, 18, 40] {
            let series = (0..count).map(|n| (format!("curve {n}"), vec![(1.0, 1.0)])).collect();
            let svg = Plot { x: axis(Scale::Linear), y: axis(Scale::Linear), series }.svg();
            let height: f64 = svg.split('"').nth(1).unwrap().split(' ').nth(3).unwrap().parse().unwrap();
            let last = svg.rsplit("y=\"").next().unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
            assert!(last <= height && height <= f64::from(count).mul_add(LINE, LEAST_HEIGHT), "{last} {height}");
        }
    }

    #[test]
    fn no_two_of_thirty_curves_look_alike() {
        let series = (0..30).map(|n| (format!("curve {n}"), vec![(1.0, 1.0)])).collect();
        let svg = Plot { x: axis(Scale::Linear), y: axis(Scale::Linear), series }.svg();
        let looks: std::collections::BTreeSet<&str> =
            svg.lines().filter(|line| line.contains("h22")).map(|line| line.split(" d=").next().unwrap()).collect();
        assert_eq!(looks.len(), 30);
    }

    #[test]
    fn ticks_are_round_numbers() {
        let range = Range { low: 0.0, high: 1.37, scale: Scale::Linear };
        let texts: Vec<String> = range.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["0", "0.5", "1"]);
        let range = Range { low: 0.02, high: 300.0, scale: Scale::Logarithmic };
        let texts: Vec<String> = range.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["0.1", "1", "10", "100"]);
    }
}
