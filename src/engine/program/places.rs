//! An address in, what holds for it out: the [`Place`] of each interval that the places cut the addresses into.

use super::Place;
use super::arena::{Line, Table};
use super::partition::Partition;
use crate::base::address::Family;
use crate::base::pages::Pages;

/// The places of all addresses.
#[derive(Clone, Debug)]
pub struct Places {
    memory: Pages<Line>,
    partition: Partition,
    /// Number of the place of each interval.
    numbers: Table<u32>,
    places: Vec<Place>,
}

impl Places {
    /// From where each place begins to hold, by family, ascending, the first at 0, with the number of the place. Control line only.
    pub fn new(starts: &[Vec<(u128, u32)>; 2], places: Vec<Place>) -> Places {
        let mut lines = Vec::new();
        // What begins behind the last address is what ended with it.
        let [v4, v6] = [Family::V4, Family::V6].map(|family| {
            let starts = &starts[family as usize];
            &starts[..starts.partition_point(|start| start.0 <= family.max())]
        });
        let v4_edges: Vec<u32> = v4.iter().map(|start| start.0 as u32).collect();
        let v6_edges: Vec<u128> = v6.iter().map(|start| start.0).collect();
        let partition = Partition::new(&v4_edges, &v6_edges, &mut lines);
        // Intervals are numbered in the order of the edges, those of IPv6 behind those of IPv4.
        let numbers: Vec<u32> = v4.iter().chain(v6).map(|start| start.1).collect();
        let numbers = Table::put(&mut lines, &numbers);
        Places { memory: Pages::from(lines), partition, numbers, places }
    }

    /// The place of an address. Cost: three loads for most IPv4 addresses, nothing where all addresses have one place.
    #[inline]
    pub fn get(&self, family: Family, address: u128) -> &Place {
        if let [everywhere] = self.places.as_slice() {
            return everywhere;
        }
        self.look_up(family, address)
    }

    fn look_up(&self, family: Family, address: u128) -> &Place {
        let interval = self.partition.view(&self.memory).get(family, address);
        let number = self.numbers.view(&self.memory).get(interval as usize).copied().unwrap_or(0);
        self.places.get(number as usize).unwrap_or(&Place::UNKNOWN)
    }

    /// The different places.
    pub fn all(&self) -> &[Place] {
        &self.places
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes() + self.places.len() * size_of::<Place>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_may_reach_to_the_last_address() {
        let named = Place { net: 7, ..Place::UNKNOWN };
        let all = [vec![(0, 1), (1 << 32, 0)], vec![(0, 0), (u128::MAX, 1)]];
        let places = Places::new(&all, vec![Place::UNKNOWN, named]);
        for address in [0, 1, 0x0a00_0001, u128::from(u32::MAX)] {
            assert_eq!(*places.get(Family::V4, address), named, "{address:#x}");
        }
        assert_eq!(*places.get(Family::V6, u128::MAX - 1), Place::UNKNOWN);
        assert_eq!(*places.get(Family::V6, u128::MAX), named);
    }
}
