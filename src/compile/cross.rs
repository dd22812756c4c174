//! The broad entries of a list in, their cross-product tables out.

use std::collections::HashMap;

use super::cut::{Classes, Effort, Numbering, OPEN, Sets, classes};
use super::split::Dimensions;
use crate::engine::program::arena::{Line, Table};
use crate::engine::program::classifier::NONE;
use crate::engine::program::cross::Cross;

mod answers;
mod product;

use answers::{Answers, CHUNK, Row, held_by};
use product::{Field, conjunctions, product, tokens};

/// The tables, and by interval of source and destination its class.
pub struct Built {
    /// Tables.
    pub tables: Tables,
    /// By side: where a class begins to hold.
    pub sides: [Vec<(u32, u32)>; 2],
}

/// The tables of a cross product before they have a place in memory.
pub struct Tables {
    offsets: [Vec<u32>; 3],
    factors: [u32; 3],
    ports: Vec<u16>,
    width: u32,
    pairs: Vec<u32>,
    chunks: Vec<u32>,
    shift: u32,
    answers: Vec<u16>,
    ids: Vec<u32>,
}

impl Tables {
    /// Puts them into memory.
    pub fn put(self, lines: &mut Vec<Line>) -> Cross {
        Cross {
            offsets: self.offsets.each_ref().map(|offsets| Table::put(lines, offsets)),
            factors: self.factors,
            ports: Table::put(lines, &padded(self.ports)),
            width: self.width,
            pairs: Table::put(lines, &self.pairs),
            chunks: Table::put(lines, &self.chunks),
            shift: self.shift,
            answers: Table::put(lines, &padded(self.answers)),
            ids: Table::put(lines, &self.ids),
        }
    }

    /// Bytes of the tables that a look-up loads from in turn.
    pub fn bytes(&self) -> [usize; 4] {
        let ports = self.offsets.iter().map(Vec::len).sum::<usize>() * 4 + self.ports.len() * 2;
        [ports, self.pairs.len() * 4, self.chunks.len() * 4, self.answers.len() * 2 + self.ids.len() * 4]
    }

    /// Pairs of address classes.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }
}

/// With the element behind the end that loads of pairs of elements touch.
fn padded(mut halves: Vec<u16>) -> Vec<u16> {
    halves.push(0);
    halves
}

/// Combinations of all classes of ports and protocol that are written out; where there are more, each field is narrowed to the
/// classes that the broad entries make first.
const MOST_PORTS: usize = 1 << 16;

/// The table of port classes over all combinations of the program's classes, if they are not too many.
fn written_out(offsets: [Vec<u32>; 3], ports: Vec<u16>) -> ([Vec<u32>; 3], [u32; 3], Vec<u16>) {
    let [sport, dport, protocol] = &offsets;
    if sport.len() * dport.len() * protocol.len() > MOST_PORTS {
        return (offsets, [0; 3], ports);
    }
    let factors = [1, sport.len() as u32, (sport.len() * dport.len()) as u32];
    let outer = protocol.iter().flat_map(|p| dport.iter().map(move |d| p + d));
    let all = outer.flat_map(|outer| sport.iter().map(move |s| outer + s)).map(|at| ports[at as usize]).collect();
    (Default::default(), factors, all)
}

/// The sets that some entries use, renumbered; the classes that they make.
fn narrowed(sets: &Sets, entries: &[u32], effort: &mut Effort) -> Option<(Classes, Vec<u32>, usize)> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut used: Vec<&[(u32, u32)]> = Vec::new();
    let of = entries
        .iter()
        .map(|&entry| match sets.of[entry as usize] {
            OPEN => OPEN,
            set => *numbers.entry(set).or_insert_with(|| {
                used.push(&sets.spans[set as usize]);
                used.len() as u32 - 1
            }),
        })
        .collect();
    let count = used.len();
    let ends: usize = used.iter().map(|spans| spans.len()).sum();
    effort.spend(64 * (entries.len() + ends))?;
    Some((classes(used.into_iter().enumerate().map(|(i, spans)| (i as u32, spans)), effort)?, of, count))
}

/// Steps of a row of answers, and of each position in it.
const STEPS_OF_ROW: usize = 400;
const STEPS_OF_POSITION: usize = 6;

/// Builds the tables for `broad` entries, ascending. `None` if they take more bytes than `room`, or more steps to build than
/// there are.
pub fn cross(dims: &Dimensions, broad: &[u32], room: usize, effort: &mut Effort) -> Option<Built> {
    if broad.len() >= usize::from(u16::MAX) {
        return None;
    }
    let tokens = tokens(broad.len());
    let (src, src_of, src_sets) = narrowed(&dims.src, broad, effort)?;
    let (dst, dst_of, dst_sets) = narrowed(&dims.dst, broad, effort)?;
    let width = broad.len().div_ceil(64).max(1);
    let pairs = src.members.len() * dst.members.len();
    if pairs * 4 > room {
        return None;
    }
    effort.spend((src.members.len() + dst.members.len()) * width)?;

    // Ports and protocol: the different triples, as bits.
    let mut triples: HashMap<[u32; 3], u32> = HashMap::new();
    let mut examples: Vec<u32> = Vec::new();
    let triple_of: Vec<u32> = broad
        .iter()
        .map(|&entry| {
            let e = entry as usize;
            *triples.entry([dims.sport.of[e], dims.dport.of[e], dims.protocol.of[e]]).or_insert_with(|| {
                examples.push(entry);
                examples.len() as u32 - 1
            })
        })
        .collect();
    let mut field = |sets: &Sets| {
        let (classes, of, count) = narrowed(sets, &examples, effort)?;
        effort.spend(classes.members.len() * examples.len().div_ceil(64))?;
        let field = Field::new(&classes, of, count);
        Some((classes, field))
    };
    let (sport, dport, protocol) = (field(&dims.sport)?, field(&dims.dport)?, field(&dims.protocol)?);
    let counts = [&sport, &dport, &protocol].map(|(classes, _)| classes.members.len());
    if counts[0] * counts[1] * counts[2] * 2 > room {
        return None;
    }
    let (outer, transports) = conjunctions(&tokens, &protocol.1.rows, &dport.1, effort)?;
    let (inner, port_rows) = conjunctions(&tokens, &transports, &sport.1, effort)?;
    let port_classes = port_rows.count();
    u16::try_from(port_classes).ok()?;
    let ports: Vec<u16> =
        outer.iter().flat_map(|&o| &inner[o as usize * counts[0]..][..counts[0]]).map(|&class| class as u16).collect();
    let offsets = |global: &Numbering, own: &Classes, factor: usize| -> Vec<u32> {
        let mut offsets = vec![0; global.count];
        for &(start, class) in &global.starts {
            offsets[class as usize] = own.numbers.at(start) * factor as u32;
        }
        offsets
    };
    effort.spend(port_classes * examples.len())?;
    let held = held_by(&port_rows, examples.len());

    // Addresses: the entries that each pair of classes leaves, and what they answer. A row of answers is as wide as whole chunks.
    let wide = if port_classes > CHUNK {
        port_classes.next_multiple_of(CHUNK)
    } else {
        port_classes.next_power_of_two().max(4)
    };
    let (sources, destinations) = (Field::new(&src, src_of, src_sets), Field::new(&dst, dst_of, dst_sets));
    let mut answers = Answers::new(wide);
    let mut row = Row::new(port_classes);
    let table = product(&tokens, &sources.rows, &destinations, effort, |left, steps| {
        row.clear();
        for at in left.positions() {
            let held = &held[triple_of[at] as usize];
            *steps += STEPS_OF_POSITION + 2 * held.len();
            if !row.write(held, at as u16 + 1) {
                break;
            }
        }
        *steps += STEPS_OF_ROW + 2 * wide;
        let number = answers.number(row.chunks(wide.div_ceil(CHUNK)));
        (answers.bytes() <= room).then_some(number)
    })?;
    let (chunks, mut answers) = answers.tables();
    let width = dst.members.len() as u32;
    // Answers are 1 + the position among the broad entries so far, or, if that has room, come to be 1 + the entry's own number.
    let is_small = broad.last().is_none_or(|&last| last < u32::from(u16::MAX));
    let ids = if is_small { Vec::new() } else { [NONE].into_iter().chain(broad.iter().copied()).collect() };
    if is_small {
        for answer in answers.iter_mut().filter(|answer| **answer != 0) {
            *answer = broad[usize::from(*answer) - 1] as u16 + 1;
        }
    }
    let shift = wide.min(CHUNK).trailing_zeros();
    let of_row = if chunks.is_empty() { wide as u32 } else { (wide >> shift) as u32 };
    let offsets = [
        offsets(&dims.port_classes[0], &sport.0, 1),
        offsets(&dims.port_classes[1], &dport.0, counts[0]),
        offsets(&dims.protocol_classes, &protocol.0, counts[0] * counts[1]),
    ];
    let (offsets, factors, ports) = written_out(offsets, ports);
    let built = Built {
        tables: Tables {
            offsets,
            factors,
            ports,
            width,
            pairs: table.into_iter().map(|row| row * of_row).collect(),
            chunks,
            shift,
            answers,
            ids,
        },
        sides: [src.numbers.starts, dst.numbers.starts],
    };
    (built.tables.bytes().iter().sum::<usize>() <= room).then_some(built)
}
