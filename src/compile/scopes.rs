//! Endpoints and pods in, the scopes of their stages out: which blocks of the list each stage asks (section 8).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::label_index::{LabelIndex, SelectorIndex};
use super::list::{Block, Blocks, with_rules};
use crate::engine::program::EndpointScopes;
use crate::engine::program::classifier::NONE;
use crate::policy::ir::{Hook, Labels, Policy};
use crate::policy::selector::Selector;

/// Ingress or egress, as an index.
pub const INGRESS: usize = 0;
/// Egress.
pub const EGRESS: usize = 1;

/// Scopes by content, so that equal chains are one.
#[derive(Debug, Default)]
pub struct Scopes {
    /// Blocks of each scope: ascending, not touching.
    pub rows: Vec<Rc<[Block]>>,
    known: HashMap<Rc<[Block]>, u32>,
}

impl Scopes {
    /// The scope of these blocks.
    pub fn of(&mut self, blocks: impl IntoIterator<Item = Block>) -> u32 {
        let mut blocks: Vec<Block> = blocks.into_iter().filter(|b| !b.is_empty()).collect();
        blocks.sort_unstable_by_key(|b| b.start);
        blocks.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches {
                kept.end = kept.end.max(next.end);
            }
            touches
        });
        let blocks: Rc<[Block]> = blocks.into();
        *self.known.entry(blocks).or_insert_with_key(|blocks| {
            self.rows.push(Rc::clone(blocks));
            self.rows.len() as u32 - 1
        })
    }
}

/// Which policies govern the things with some labels. What is found is kept twice: by labels, since many pods share theirs, and by
/// the policies found, since many label sets are governed alike.
#[derive(Debug)]
pub struct Governance<'p> {
    policy: &'p Policy,
    blocks: &'p Blocks<'p>,
    /// v1-era policies act on forwarded traffic too (GW-32).
    is_legacy: bool,
    index: SelectorIndex<'p>,
    /// By number of the selector: the policies that have it, ascending.
    rulesets: Vec<Vec<usize>>,
    /// By policy: its tier.
    tiers: Vec<Option<usize>>,
    by_labels: HashMap<&'p Labels, Governing>,
    by_selectors: HashMap<Vec<u32>, Governing>,
    pods: HashMap<(*const [usize], Vec<&'p str>), [u32; 2]>,
}

/// Policies that govern something, ascending.
type Governing = Rc<[usize]>;

/// What a host endpoint's scopes depend on besides its labels.
#[derive(Clone, Copy, Debug)]
pub struct HostTraits<'p> {
    /// Labels.
    pub labels: &'p Labels,
    /// Profiles in order.
    pub profiles: &'p [String],
    /// Whether failsafe ports hold for it (GW-20).
    pub has_failsafe: bool,
    /// `interfaceName: "*"`: doNotTrack policies do not work (HEP-2).
    pub is_wildcard: bool,
}

impl<'p> Governance<'p> {
    /// Over these policies, found at these blocks.
    pub fn new(policy: &'p Policy, blocks: &'p Blocks<'p>, is_legacy: bool) -> Governance<'p> {
        let mut numbers: HashMap<&'p Selector, usize> = HashMap::new();
        let mut selectors = Vec::new();
        let mut rulesets: Vec<Vec<usize>> = Vec::new();
        for (i, ruleset) in policy.rulesets.iter().enumerate() {
            let number = *numbers.entry(&ruleset.selector).or_insert_with(|| {
                selectors.push(&ruleset.selector);
                rulesets.push(Vec::new());
                rulesets.len() - 1
            });
            rulesets[number].push(i);
        }
        let tiers: HashMap<&str, usize> = policy.tiers.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let by_pods = policy.pods.iter().map(|pod| &pod.labels);
        let labels: HashSet<&'p Labels> = by_pods.chain(policy.host_endpoints.iter().map(|e| &e.labels)).collect();
        Governance {
            policy,
            blocks,
            is_legacy,
            index: SelectorIndex::new(selectors, &LabelIndex::new(labels.into_iter().collect())),
            rulesets,
            tiers: policy.rulesets.iter().map(|r| tiers.get(r.tier.as_str()).copied()).collect(),
            by_labels: HashMap::new(),
            by_selectors: HashMap::new(),
            pods: HashMap::new(),
        }
    }

    fn governing(&mut self, labels: &'p Labels) -> Governing {
        if let Some(known) = self.by_labels.get(labels) {
            return Rc::clone(known);
        }
        let selectors = self.index.matching(labels);
        let rulesets = &self.rulesets;
        let governing = self.by_selectors.entry(selectors).or_insert_with_key(|selectors| {
            let mut found: Vec<usize> = selectors.iter().flat_map(|&s| &rulesets[s as usize]).copied().collect();
            found.sort_unstable();
            found.into()
        });
        let governing = Rc::clone(governing);
        self.by_labels.insert(labels, Rc::clone(&governing));
        governing
    }

    fn hook(&self, ruleset: usize) -> Hook {
        let ruleset = &self.policy.rulesets[ruleset];
        match ruleset.hook {
            Hook::Normal if self.is_legacy && ruleset.is_v1 => Hook::NormalAndForward,
            hook => hook,
        }
    }

    /// Blocks of the governing policies with one of these hooks in a direction, and the ends of the tiers they are in.
    fn chain(&self, governing: &Governing, direction: usize, hooks: &[Hook], with_ends: bool) -> Vec<Block> {
        let mut found = Vec::new();
        for &i in governing.iter().filter(|&&i| hooks.contains(&self.hook(i))) {
            let Some(block) = self.blocks.rulesets[i][direction].clone() else { continue };
            found.push(block);
            if let Some(end) = self.tiers[i].and_then(|t| self.blocks.tier_ends.get(t)).filter(|_| with_ends) {
                found.push(end.clone());
            }
        }
        found
    }

    /// Whether any governing policy has this hook and direction.
    fn has(&self, governing: &Governing, direction: usize, hook: Hook) -> bool {
        governing.iter().any(|&i| self.hook(i) == hook && self.blocks.rulesets[i][direction].is_some())
    }

    /// The scopes of a host endpoint.
    pub fn host(&mut self, host: HostTraits<'p>, scopes: &mut Scopes) -> EndpointScopes {
        let (governing, blocks) = (self.governing(host.labels), self.blocks);
        let failsafe = |direction: usize, with_mirror: bool| {
            let mirror = if with_mirror { vec![blocks.failsafe_mirror[1 - direction].clone()] } else { Vec::new() };
            let ports = [blocks.failsafe[direction].clone()].into_iter().chain(mirror);
            if host.has_failsafe { ports.collect() } else { Vec::new() }
        };
        let mut untracked = |direction: usize| {
            if host.is_wildcard || !self.has(&governing, direction, Hook::Untracked) {
                return NONE;
            }
            let mut chain = failsafe(direction, true);
            chain.extend(self.chain(&governing, direction, &[Hook::Untracked], false));
            scopes.of(chain)
        };
        let (untracked_in, untracked_out) = (untracked(INGRESS), untracked(EGRESS));
        let prednat = if self.has(&governing, INGRESS, Hook::PreDnat) {
            let mut chain = failsafe(INGRESS, false);
            chain.extend(self.chain(&governing, INGRESS, &[Hook::PreDnat], false));
            scopes.of(chain)
        } else {
            NONE
        };
        let legacy_end = self.legacy_end();
        let mut normal = |direction: usize| {
            let mut chain = failsafe(direction, false);
            chain.extend(self.chain(&governing, direction, &[Hook::Normal, Hook::NormalAndForward], true));
            chain.extend(legacy_end.clone());
            chain.extend(self.profile(host.profiles, direction));
            chain.push(blocks.deny_end.clone());
            scopes.of(chain)
        };
        let (normal_in, normal_out) = (normal(INGRESS), normal(EGRESS));
        let mut forward = |direction: usize| {
            let mut chain = self.chain(&governing, direction, &[Hook::NormalAndForward], true);
            chain.extend(legacy_end.clone());
            chain.push(blocks.pass_end.clone());
            scopes.of(chain)
        };
        let (forward_in, forward_out) = (forward(INGRESS), forward(EGRESS));
        EndpointScopes { untracked_in, untracked_out, prednat, normal_in, normal_out, forward_in, forward_out }
    }

    /// The empty applyOnForward policy that legacy treatment of v1 policies puts last in tier `default` (GW-32).
    fn legacy_end(&self) -> Option<Block> {
        let tier = self.policy.tiers.iter().position(|t| t.name == "default").filter(|_| self.is_legacy)?;
        self.blocks.tier_ends.get(tier).cloned()
    }

    fn profile(&self, names: &[String], direction: usize) -> Option<Block> {
        self.blocks.profiles.get(&with_rules(self.policy, names)).map(|blocks| blocks[direction].clone())
    }

    /// The scopes of a pod by direction (WL-1): ingress, egress.
    pub fn pod(&mut self, labels: &'p Labels, profiles: &'p [String], scopes: &mut Scopes) -> [u32; 2] {
        let governing = self.governing(labels);
        let key = (Rc::as_ptr(&governing), with_rules(self.policy, profiles));
        if let Some(&known) = self.pods.get(&key) {
            return known;
        }
        let found = [INGRESS, EGRESS].map(|direction| {
            let mut chain = self.chain(&governing, direction, &[Hook::Normal, Hook::NormalAndForward], true);
            chain.extend(self.profile(profiles, direction));
            chain.push(self.blocks.deny_end.clone());
            scopes.of(chain)
        });
        self.pods.insert(key, found);
        found
    }
}
