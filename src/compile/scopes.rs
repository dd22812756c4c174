//! Endpoints and pods in, the scopes of their stages out: which blocks of the list each stage asks (section 8).

use std::collections::HashMap;

use super::list::{Block, Blocks};
use crate::engine::program::EndpointScopes;
use crate::engine::program::classifier::NONE;
use crate::policy::ir::{Hook, Labels, Policy};

/// Ingress or egress, as an index.
pub const INGRESS: usize = 0;
/// Egress.
pub const EGRESS: usize = 1;

/// Scopes by content, so that equal chains are one.
#[derive(Debug, Default)]
pub struct Scopes {
    /// Ascending entry numbers of each scope.
    pub rows: Vec<Vec<u32>>,
    known: HashMap<Vec<Block>, u32>,
}

impl Scopes {
    /// The scope of these blocks.
    pub fn of(&mut self, blocks: impl IntoIterator<Item = Block>) -> u32 {
        let mut blocks: Vec<Block> = blocks.into_iter().filter(|b| !b.is_empty()).collect();
        blocks.sort_by_key(|b| b.start);
        blocks.dedup();
        *self.known.entry(blocks).or_insert_with_key(|blocks| {
            self.rows.push(blocks.iter().cloned().flatten().collect());
            self.rows.len() as u32 - 1
        })
    }
}

/// Which policies govern the things with some labels; kept by labels, since many pods share theirs.
#[derive(Debug)]
pub struct Governance<'p> {
    policy: &'p Policy,
    blocks: &'p Blocks,
    /// v1-era policies act on forwarded traffic too (GW-32).
    is_legacy: bool,
    known: HashMap<&'p Labels, Vec<usize>>,
}

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
    pub fn new(policy: &'p Policy, blocks: &'p Blocks, is_legacy: bool) -> Governance<'p> {
        Governance { policy, blocks, is_legacy, known: HashMap::new() }
    }

    fn governing(&mut self, labels: &'p Labels) -> &[usize] {
        let rulesets = &self.policy.rulesets;
        self.known
            .entry(labels)
            .or_insert_with(|| (0..rulesets.len()).filter(|&i| rulesets[i].selector.evaluate(labels)).collect())
    }

    fn hook(&self, ruleset: usize) -> Hook {
        let ruleset = &self.policy.rulesets[ruleset];
        match ruleset.hook {
            Hook::Normal if self.is_legacy && ruleset.is_v1 => Hook::NormalAndForward,
            hook => hook,
        }
    }

    /// Blocks of the governing policies with one of these hooks in a direction, and the ends of the tiers they are in.
    fn chain(&mut self, labels: &'p Labels, direction: usize, hooks: &[Hook], with_ends: bool) -> Vec<Block> {
        let governing = self.governing(labels).to_vec();
        let mut found = Vec::new();
        for i in governing {
            let hook = self.hook(i);
            let Some(block) = self.blocks.rulesets[i][direction].clone().filter(|_| hooks.contains(&hook)) else {
                continue;
            };
            found.push(block);
            let tier = self.policy.tiers.iter().position(|t| t.name == self.policy.rulesets[i].tier);
            if let Some(end) = tier.and_then(|t| self.blocks.tier_ends.get(t)).filter(|_| with_ends) {
                found.push(end.clone());
            }
        }
        found
    }

    /// Whether any governing policy has this hook and direction.
    fn has(&mut self, labels: &'p Labels, direction: usize, hook: Hook) -> bool {
        let governing = self.governing(labels).to_vec();
        governing.into_iter().any(|i| self.hook(i) == hook && self.blocks.rulesets[i][direction].is_some())
    }

    /// The scopes of a host endpoint.
    pub fn host(&mut self, host: HostTraits<'p>, scopes: &mut Scopes) -> EndpointScopes {
        let (labels, blocks) = (host.labels, self.blocks);
        let failsafe = |direction: usize, with_mirror: bool| {
            let mirror = if with_mirror { vec![blocks.failsafe_mirror[1 - direction].clone()] } else { Vec::new() };
            let ports = [blocks.failsafe[direction].clone()].into_iter().chain(mirror);
            if host.has_failsafe { ports.collect() } else { Vec::new() }
        };
        let mut untracked = |direction: usize| {
            if host.is_wildcard || !self.has(labels, direction, Hook::Untracked) {
                return NONE;
            }
            let mut chain = failsafe(direction, true);
            chain.extend(self.chain(labels, direction, &[Hook::Untracked], false));
            scopes.of(chain)
        };
        let (untracked_in, untracked_out) = (untracked(INGRESS), untracked(EGRESS));
        let prednat = if self.has(labels, INGRESS, Hook::PreDnat) {
            let mut chain = failsafe(INGRESS, false);
            chain.extend(self.chain(labels, INGRESS, &[Hook::PreDnat], false));
            scopes.of(chain)
        } else {
            NONE
        };
        let legacy_end = self.legacy_end();
        let mut normal = |direction: usize| {
            let mut chain = failsafe(direction, false);
            chain.extend(self.chain(labels, direction, &[Hook::Normal, Hook::NormalAndForward], true));
            chain.extend(legacy_end.clone());
            chain.extend(self.profile(host.profiles, direction));
            chain.push(blocks.deny_end.clone());
            scopes.of(chain)
        };
        let (normal_in, normal_out) = (normal(INGRESS), normal(EGRESS));
        let mut forward = |direction: usize| {
            let mut chain = self.chain(labels, direction, &[Hook::NormalAndForward], true);
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
        self.blocks.profiles.get(names).map(|blocks| blocks[direction].clone())
    }

    /// The scopes of a pod by direction (WL-1): ingress, egress.
    pub fn pod(&mut self, labels: &'p Labels, profiles: &[String], scopes: &mut Scopes) -> [u32; 2] {
        [INGRESS, EGRESS].map(|direction| {
            let mut chain = self.chain(labels, direction, &[Hook::Normal, Hook::NormalAndForward], true);
            chain.extend(self.profile(profiles, direction));
            chain.push(self.blocks.deny_end.clone());
            scopes.of(chain)
        })
    }
}
