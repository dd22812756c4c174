//! Prefixes and addresses in, sorted disjoint ranges out, with the arithmetic of sets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::address::{Family, number, range};

/// Inclusive ranges of numbers: sorted, disjoint, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Ranges from any list of inclusive pairs.
    pub fn new(mut pairs: Vec<(u128, u128)>) -> Ranges {
        pairs.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(pairs.len());
        for (first, last) in pairs {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    /// One range.
    pub fn one(first: u128, last: u128) -> Ranges {
        Ranges(vec![(first, last)])
    }

    /// The pairs, ascending.
    pub fn pairs(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a number is inside.
    pub fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|r| r.0 <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// What lies in both.
    pub fn intersect(&self, other: &Ranges) -> Ranges {
        let (mut a, mut b, mut out) = (0, 0, Vec::new());
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            let (first, last) = (x.0.max(y.0), x.1.min(y.1));
            if first <= last {
                out.push((first, last));
            }
            if x.1 < y.1 { a += 1 } else { b += 1 }
        }
        Ranges(out)
    }

    /// What lies in [0, max] but not here.
    pub fn complement(&self, max: u128) -> Ranges {
        let (mut out, mut next) = (Vec::new(), Some(0));
        for &(first, last) in &self.0 {
            if let Some(start) = next
                && start < first
            {
                out.push((start, first - 1));
            }
            next = if last >= max { None } else { Some(last + 1) };
        }
        out.extend(next.map(|start| (start, max)));
        Ranges(out)
    }

    /// What lies here but not in `other`.
    pub fn minus(&self, other: &Ranges) -> Ranges {
        self.intersect(&other.complement(u128::MAX))
    }
}

/// A set of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressSet {
    /// By [`Family`].
    pub families: [Ranges; 2],
}

impl AddressSet {
    /// Every address.
    pub fn all() -> AddressSet {
        AddressSet { families: [Family::V4, Family::V6].map(|f| Ranges::one(0, f.max())) }
    }

    /// Every IPv4 address.
    pub fn all_v4() -> AddressSet {
        AddressSet { families: [Ranges::one(0, Family::V4.max()), Ranges::default()] }
    }

    /// The union of prefixes and addresses.
    pub fn of(nets: impl IntoIterator<Item = (IpAddr, u8)>) -> AddressSet {
        let mut pairs: [Vec<(u128, u128)>; 2] = Default::default();
        for (network, length) in nets {
            pairs[Family::of(network) as usize].push(range(network, length));
        }
        AddressSet { families: pairs.map(Ranges::new) }
    }

    /// The union of prefixes.
    pub fn of_nets<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> AddressSet {
        AddressSet::of(nets.into_iter().map(|n| (n.addr(), n.prefix_len())))
    }

    /// The union of addresses.
    pub fn of_addresses<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> AddressSet {
        AddressSet::of(addresses.into_iter().map(|&a| (a, Family::of(a).bits())))
    }

    /// The union of sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a AddressSet>) -> AddressSet {
        let mut pairs: [Vec<(u128, u128)>; 2] = Default::default();
        for set in sets {
            for (pairs, ranges) in pairs.iter_mut().zip(&set.families) {
                pairs.extend_from_slice(ranges.pairs());
            }
        }
        AddressSet { families: pairs.map(Ranges::new) }
    }

    /// What lies in both.
    pub fn intersect(&self, other: &AddressSet) -> AddressSet {
        let both = |f: usize| self.families[f].intersect(&other.families[f]);
        AddressSet { families: [both(0), both(1)] }
    }

    /// What lies here but not in `other`.
    pub fn minus(&self, other: &AddressSet) -> AddressSet {
        let rest = |f: usize| self.families[f].minus(&other.families[f]);
        AddressSet { families: [rest(0), rest(1)] }
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.families.iter().all(Ranges::is_empty)
    }

    /// Whether an address is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.families[Family::of(address) as usize].contains(number(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(ranges: &Ranges) -> Vec<bool> {
        (0..=255).map(|n| ranges.contains(n)).collect()
    }

    fn arbitrary() -> impl Strategy<Value = Vec<(u128, u128)>> {
        let pair = (0u128..256, 0u128..256).prop_map(|(a, b)| (a.min(b), a.max(b)));
        prop::collection::vec(pair, 0..6)
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_membership(a in arbitrary(), b in arbitrary()) {
            let slow = |pairs: &[(u128, u128)], n: u128| pairs.iter().any(|p| (p.0..=p.1).contains(&n));
            let (x, y) = (Ranges::new(a.clone()), Ranges::new(b.clone()));
            let expect = |f: &dyn Fn(u128) -> bool| (0..=255).map(f).collect::<Vec<_>>();
            prop_assert_eq!(members(&x), expect(&|n| slow(&a, n)));
            prop_assert_eq!(members(&x.intersect(&y)), expect(&|n| slow(&a, n) && slow(&b, n)));
            prop_assert_eq!(members(&x.minus(&y)), expect(&|n| slow(&a, n) && !slow(&b, n)));
            prop_assert_eq!(members(&x.complement(255)), expect(&|n| !slow(&a, n)));
            prop_assert!(x.pairs().windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }

    #[test]
    fn the_whole_space_has_an_empty_complement() {
        for family in [Family::V4, Family::V6] {
            let all = Ranges::one(0, family.max());
            assert!(all.complement(family.max()).is_empty());
            assert_eq!(Ranges::default().complement(family.max()), all);
        }
    }
}
