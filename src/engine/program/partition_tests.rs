//! Edges and addresses in, comparison with a linear search out.

use super::arena::Line;
use super::partition::Partition;
use crate::base::address::Family;
use proptest::prelude::*;

/// The number of the interval that holds an address: the edges of its family at or below it, behind all IPv4 intervals for IPv6.
fn linear(v4: &[u32], v6: &[u128], family: Family, address: u128) -> u32 {
    let below = |count: usize| count as u32;
    match family {
        Family::V4 => below(v4.iter().filter(|&&edge| edge != 0 && u128::from(edge) <= address).count()),
        Family::V6 => {
            let first = 1 + v4.iter().filter(|edge| **edge != 0).count();
            below(first + v6.iter().filter(|&&edge| edge != 0 && edge <= address).count())
        }
    }
}

/// Compares at the given edges, one below and one above, and at the probes. Beyond a thousand places some are left out.
fn check(mut v4: Vec<u32>, mut v6: Vec<u128>, probes: &[(Family, u128)]) {
    v4.sort_unstable();
    v4.dedup();
    v6.sort_unstable();
    v6.dedup();
    let mut lines: Vec<Line> = Vec::new();
    let partition = Partition::new(&v4, &v6, &mut lines);
    let zeros = usize::from(v4.first() == Some(&0)) + usize::from(v6.first() == Some(&0));
    assert_eq!(partition.intervals() as usize, v4.len() + v6.len() + 2 - zeros);
    let intervals = partition.view(&lines);
    let thin = |len: usize| 1 + len / 1_000;
    let around = |edge: u128, max: u128| [edge.saturating_sub(1), edge, edge.saturating_add(1).min(max)];
    let of_v4 = v4.iter().step_by(thin(v4.len())).flat_map(|&edge| around(u128::from(edge), Family::V4.max()));
    let of_v6 = v6.iter().step_by(thin(v6.len())).flat_map(|&edge| around(edge, u128::MAX));
    let all = of_v4.map(|address| (Family::V4, address)).chain(of_v6.map(|address| (Family::V6, address)));
    let ends = [Family::V4, Family::V6].into_iter().flat_map(|family| [(family, 0), (family, family.max())]);
    for (family, address) in all.chain(ends).chain(probes.iter().copied()) {
        let expected = linear(&v4, &v6, family, address);
        assert_eq!(intervals.get(family, address), expected, "{family:?} {address:#x}");
    }
}

proptest! {
    #[test]
    fn agrees_with_a_linear_search(v4: Vec<u32>, v6: Vec<u128>, low: Vec<u32>, wide: Vec<u128>) {
        let low = low.into_iter().map(|address| (Family::V4, u128::from(address)));
        let probes: Vec<_> = low.chain(wide.into_iter().map(|address| (Family::V6, address))).collect();
        check(v4, v6, &probes);
    }

    /// Up to thousands of edges within one block of 65,536 addresses: a node, or a table of any size.
    #[test]
    fn agrees_within_a_dense_block(edges in prop::collection::vec(0u16.., 0..2_000), high: u16, probes: Vec<u16>) {
        let inside = |low: u16| u32::from(high) << 16 | u32::from(low);
        let probes: Vec<_> = probes.into_iter().map(|low| (Family::V4, u128::from(inside(low)))).collect();
        check(edges.into_iter().map(inside).collect(), Vec::new(), &probes);
    }

    /// Few upper halves, so that many edges share one: hosts within a network of 64 bits.
    #[test]
    fn agrees_for_hosts_of_few_networks(hosts in prop::collection::vec((0u64..3, any::<u64>()), 0..200)) {
        check(Vec::new(), hosts.iter().map(|&(net, host)| u128::from(net) << 64 | u128::from(host)).collect(), &[]);
    }
}

#[test]
fn edges_of_the_space_belong_to_their_interval() {
    check(vec![0, 1, u32::MAX], vec![0, 1, 1 << 64, u128::MAX - 1, u128::MAX], &[]);
    check(vec![u32::MAX], vec![u128::MAX], &[]);
    check(Vec::new(), Vec::new(), &[(Family::V4, 7), (Family::V6, 7)]);
    check(vec![0], vec![0], &[]);
}

#[test]
fn blocks_of_any_density_agree() {
    let block = |count: u32, step: u32| (0..count).map(|i| 0x0a01_0000 + i * step).collect::<Vec<u32>>();
    for (count, step) in
        [(31, 1), (32, 7), (33, 1), (33, 1_900), (128, 1), (129, 1), (129, 500), (1_000, 1), (1_001, 64)]
    {
        check(block(count, step), Vec::new(), &[]);
    }
    // Every address of a block is an interval of its own, and the blocks around it.
    check((0x0a00_ffff..=0x0a02_0000).collect(), Vec::new(), &[]);
}

#[test]
fn any_number_of_ipv6_networks_agrees() {
    // The search tree gains a level at each power of nine, less one.
    for count in [1u128, 7, 8, 9, 71, 72, 73, 80, 81, 647, 648, 649, 729, 5_900] {
        check(Vec::new(), (1..=count).map(|net| (net * 0x1_0001) << 64).collect(), &[]);
        check(Vec::new(), (0..count).map(|net| u128::MAX - (net << 64)).collect(), &[]);
    }
}
