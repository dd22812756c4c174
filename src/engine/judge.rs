//! One packet's header and standing in, its decision out: the stages of GW-9 in order, as one function per direction.
//!
//! Order of cases, most frequent first: a packet of a flow passes by state after the stateless layers (network ACL, untracked
//! rules); a new packet walks all stages; an invalid one stops at the first stateful layer that governs it.
//! Every stage asks its list by `Walk::ask`; the first that denies ends the walk (GW-10).

use crate::base::address::{Direction, Family};
use crate::base::id::RuleId;
use crate::base::site::DefaultVerdict;
use crate::engine::ahead::{Located, LookUps};
use crate::engine::decision::{Decision, FlowState, Reason, Stage, Verdict};
use crate::engine::program::classifier::NONE;
use crate::engine::program::{Backend, Effect, EndpointScopes, Place, Program, ServiceKey, ServiceView, StandIn};
use crate::engine::trace::{Event, Subject, Trace};
use crate::packet::{Key, KeyBits};

/// What the flow table says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No flow, and the packet may start one.
    New,
    /// Part of a flow that every stateful layer allowed.
    Established,
    /// An ICMP error about such a flow.
    Related,
    /// Part of, or an error about, a flow that only the groups remember (GW-12): Calico's stages judge it as new.
    GroupsOnly,
    /// Connection tracking refuses it (GW-25).
    Invalid,
}

/// What the flow table should remember of an allowed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// Nothing.
    None,
    /// An entry for all layers.
    Full,
    /// An entry for the groups alone.
    GroupsOnly,
}

/// A decision with its consequence for the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The decision.
    pub decision: Decision,
    /// Whether and how to remember it.
    pub track: Track,
}

/// Which stages an endpoint's explicit Allow lets a packet skip (PIPE-1, PIPE-2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A rule allowed.
    Allowed,
    /// The stage ended without an explicit rule: failsafe, profile, end of list.
    Accepted,
    /// Nothing matched.
    Undecided,
    /// Denied.
    Denied(Decision),
}

/// What has been gathered so far; copied for each backend.
#[derive(Clone, Copy)]
struct Tally {
    logs: u8,
    /// What is said for the packet so far: the last rule that allowed, else how the last stage ended that let it pass.
    allows: Option<Decision>,
    /// A rule said it.
    is_named: bool,
    governed: bool,
}

struct Walk<'p, 't, T, L> {
    program: &'p Program,
    header: Located,
    ahead: &'t mut L,
    flow: FlowState,
    tally: Tally,
    trace: &'t mut T,
}

impl<T: Trace, L: LookUps> Walk<'_, '_, T, L> {
    #[inline]
    fn deny(&self, reason: Reason, stage: Stage, rule: RuleId) -> Decision {
        Decision::new(Verdict::Deny, reason, stage, self.flow).by(rule).after_logs(self.tally.logs)
    }

    /// Asks one list.
    fn ask(&mut self, stage: Stage, subject: Subject, scope: u32) -> Answer {
        let mut from = 0;
        loop {
            let classifier = &self.program.classifier;
            let found = match from {
                0 => self.ahead.first(classifier, &self.header, scope),
                _ => classifier.first(self.ahead.header(&self.header), scope, from),
            };
            let Some((at, entry)) = found.and_then(|at| Some((at, *self.program.entries.get(at as usize)?))) else {
                self.trace.event(Event::Undecided { stage, subject });
                return Answer::Undecided;
            };
            self.trace.event(Event::Matched { stage, subject, rule: entry.rule, effect: entry.effect });
            let allow = match stage {
                Stage::Acl => Reason::AclAllow,
                Stage::Sg => Reason::SgAllow,
                _ => Reason::PolicyAllow,
            };
            let deny = if stage == Stage::Acl { Reason::AclDeny } else { Reason::PolicyDeny };
            match entry.effect {
                Effect::Allow => {
                    let decision = Decision::new(Verdict::Allow, allow, stage, FlowState::None).by(entry.rule);
                    (self.tally.allows, self.tally.is_named) = (Some(decision), true);
                    return Answer::Allowed;
                }
                Effect::Deny => return Answer::Denied(self.deny(deny, stage, entry.rule)),
                Effect::Log => {
                    self.tally.logs = self.tally.logs.saturating_add(1);
                    from = entry.resume.max(at + 1);
                }
                Effect::Pass => from = entry.resume.max(at + 1),
                Effect::Failsafe => return self.accept(Reason::Failsafe, stage),
                Effect::ProfileAllow => return self.accept(Reason::Profile, stage),
                Effect::NoPolicy => return self.accept(Reason::NoPolicy, stage),
                Effect::TierDeny => return Answer::Denied(self.deny(Reason::TierDefaultDeny, stage, entry.rule)),
                Effect::ProfileDeny => return Answer::Denied(self.deny(Reason::Profile, stage, RuleId::NONE)),
                Effect::NoPolicyDeny => return Answer::Denied(self.deny(Reason::NoPolicyDeny, stage, RuleId::NONE)),
                Effect::AclImplicitDeny => {
                    return Answer::Denied(self.deny(Reason::AclImplicitDeny, stage, RuleId::NONE));
                }
                Effect::SgNoMatch => return Answer::Denied(self.deny(Reason::SgNoMatch, stage, RuleId::NONE)),
            }
        }
    }

    #[inline]
    fn accept(&mut self, reason: Reason, stage: Stage) -> Answer {
        if !self.tally.is_named {
            self.tally.allows = Some(Decision::new(Verdict::Allow, reason, stage, FlowState::None));
        }
        Answer::Accepted
    }

    /// The network ACL of the local address, unless both ends lie in one prefix (ACL-7).
    #[inline]
    fn acl(&mut self, direction: Direction, local: &Place, remote: &Place) -> Result<(), Decision> {
        let scope = local.acl[direction as usize];
        if scope == NONE || (local.net != NONE && local.net == remote.net) {
            return Ok(());
        }
        self.must(Stage::Acl, Subject::Acl, scope).map(|_| ())
    }

    /// Asks a list whose denial ends the walk; tells whether a rule allowed. A scope that does not exist, as most do not, is undecided
    /// without a trace.
    #[inline(always)]
    fn must(&mut self, stage: Stage, subject: Subject, scope: u32) -> Result<bool, Decision> {
        if scope == NONE {
            return Ok(false);
        }
        match self.ask(stage, subject, scope) {
            Answer::Denied(decision) => Err(decision),
            answer => Ok(answer == Answer::Allowed),
        }
    }

    fn invalid(&mut self) -> Decision {
        self.flow = FlowState::None;
        self.deny(Reason::InvalidState, Stage::Flow, RuleId::NONE)
    }

    /// The decision when no layer denied: what was said for the packet, else the default.
    #[inline]
    fn allowed(&self) -> Decision {
        let tally = self.tally;
        let by_default = || {
            if tally.governed || self.program.default == DefaultVerdict::Allow {
                Decision::new(Verdict::Allow, Reason::DefaultAllow, Stage::Default, FlowState::None)
            } else {
                Decision::new(Verdict::Deny, Reason::DefaultDeny, Stage::Default, FlowState::None)
            }
        };
        tally.allows.unwrap_or_else(by_default).in_flow(self.flow).after_logs(tally.logs)
    }
}

/// A governing endpoint on the way of one packet, or none.
#[derive(Clone, Copy)]
struct Governor<'p> {
    index: u32,
    scopes: &'p EndpointScopes,
    is_there: bool,
    /// Untracked or preDNAT rules allowed: its later stages are skipped.
    skips: bool,
    /// It allowed untracked.
    is_untracked: bool,
}

impl<'p> Governor<'p> {
    #[inline(always)]
    fn new(program: &'p Program, index: Option<u32>) -> Governor<'p> {
        let index = index.unwrap_or(NONE);
        let scopes = program.endpoint(index);
        let is_there = scopes.is_some();
        Governor { index, scopes: scopes.unwrap_or(&EndpointScopes::NONE), is_there, skips: false, is_untracked: false }
    }

    #[inline(always)]
    fn subject(&self) -> Subject {
        Subject::Endpoint(self.index)
    }

    #[inline(always)]
    fn ask_untracked<T: Trace, L: LookUps>(
        &mut self,
        walk: &mut Walk<'_, '_, T, L>,
        scope: u32,
    ) -> Result<(), Decision> {
        self.is_untracked = walk.must(Stage::Untracked, self.subject(), scope)?;
        self.skips = self.is_untracked;
        Ok(())
    }

    #[inline(always)]
    fn ask_prednat<T: Trace, L: LookUps>(&mut self, walk: &mut Walk<'_, '_, T, L>) -> Result<(), Decision> {
        if !self.skips {
            self.skips = walk.must(Stage::PreDnat, self.subject(), self.scopes.prednat)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn ask_host<T: Trace, L: LookUps>(
        &self,
        walk: &mut Walk<'_, '_, T, L>,
        stage: Stage,
        scope: u32,
    ) -> Result<(), Decision> {
        if self.skips { Ok(()) } else { walk.must(stage, self.subject(), scope).map(|_| ()) }
    }

    /// Whether it lets the packet be untracked, as far as it has a say.
    fn lets_untracked(&self) -> bool {
        self.is_untracked || !self.is_there
    }
}

/// The stand-in of a place, and whether it stands in for a segment.
#[inline(always)]
fn stand_in<'p>(program: &'p Program, place: &Place) -> (Governor<'p>, bool) {
    let (index, is_segment) = match place.stand_in {
        StandIn::None => (None, false),
        StandIn::Own(index) => (Some(index), false),
        StandIn::Segment(index) => (Some(index), true),
    };
    (Governor::new(program, index), is_segment)
}

/// Judges one packet. `header` is that of its key, `standing` what the flow table says, `ahead` answers for long lists; nothing is
/// remembered here.
///
/// Cost: for an established packet without stateless layers, two place look-ups at most; for a new one, one header
/// classification plus one list look-up per list asked.
pub fn judge<T: Trace, L: LookUps>(
    program: &Program,
    key: &Key,
    header: Located,
    standing: Standing,
    ahead: &mut L,
    trace: &mut T,
) -> Judgement {
    let flow = match standing {
        Standing::New | Standing::GroupsOnly => FlowState::New,
        Standing::Established => FlowState::Established,
        Standing::Related => FlowState::Related,
        Standing::Invalid => FlowState::None,
    };
    let tally = Tally { logs: 0, allows: None, is_named: false, governed: false };
    let mut walk = Walk { program, header, ahead, flow, tally, trace };
    let result = match key.direction() {
        Direction::Inbound => inbound(&mut walk, key, standing),
        Direction::Outbound => outbound(&mut walk, key, standing),
    };
    result.unwrap_or_else(|decision| Judgement { decision, track: Track::None })
}

/// The decision for a packet of a flow once the stateless layers let it pass.
fn by_state<T, L>(walk: &Walk<'_, '_, T, L>, standing: Standing) -> Judgement {
    let reason = if standing == Standing::Related { Reason::Related } else { Reason::Established };
    let decision = Decision::new(Verdict::Allow, reason, Stage::Flow, walk.flow).after_logs(walk.tally.logs);
    Judgement { decision, track: Track::None }
}

/// What an allowed packet leaves behind.
fn finish<T: Trace, L: LookUps>(
    walk: &Walk<'_, '_, T, L>,
    standing: Standing,
    is_untracked: bool,
    has_groups: bool,
) -> Judgement {
    let decision = walk.allowed();
    let track = match (decision.verdict(), standing) {
        (Verdict::Deny, _) | (_, Standing::Invalid) => Track::None,
        _ if !is_untracked => Track::Full,
        _ if has_groups => Track::GroupsOnly,
        _ => Track::None,
    };
    Judgement { decision, track }
}

fn inbound<T: Trace, L: LookUps>(
    walk: &mut Walk<'_, '_, T, L>,
    key: &Key,
    standing: Standing,
) -> Result<Judgement, Decision> {
    let (program, family) = (walk.program, key.family());
    let (local, remote) = (program.place(family, key.dst), program.place(family, key.src));
    let flow = std::mem::replace(&mut walk.flow, FlowState::None);
    walk.acl(Direction::Inbound, local, remote)?;
    walk.flow = flow;

    let by_flow = matches!(standing, Standing::Established | Standing::Related);
    let groups = local.groups[Direction::Inbound as usize];
    if groups != NONE && standing == Standing::Invalid {
        return Err(walk.invalid());
    }
    if standing == Standing::New {
        walk.must(Stage::Sg, Subject::Groups, groups)?;
    }

    let mut own = Governor::new(program, program.uplink);
    let (mut stand_in, is_segment) = stand_in(program, local);
    own.ask_untracked(walk, own.scopes.untracked_in)?;
    stand_in.ask_untracked(walk, stand_in.scopes.untracked_in)?;
    if by_flow {
        return Ok(by_state(walk, standing));
    }
    let has_governor = own.is_there || stand_in.is_there;
    let is_untracked = has_governor && own.lets_untracked() && stand_in.lets_untracked();
    let leaving = Governor::new(program, program.downlink);
    walk.tally.governed = has_governor || leaving.is_there || local.acl != [NONE; 2] || local.groups != [NONE; 2];
    if is_untracked {
        walk.flow = FlowState::Untracked;
    }

    let view = if is_untracked { None } else { service(program, key, local) };
    if standing == Standing::Invalid && !is_untracked {
        let is_pod = |address| program.place(family, address).pod != [NONE; 2];
        let backends = view.map_or(&[][..], |v| backends(program, v));
        let pod_governs =
            if backends.is_empty() { is_pod(key.dst) } else { backends.iter().any(|b| is_pod(b.address)) };
        if has_governor || leaving.is_there || pod_governs {
            return Err(walk.invalid());
        }
    }
    if !is_untracked {
        own.ask_prednat(walk)?;
        stand_in.ask_prednat(walk)?;
    }
    let backends = match view {
        Some(view) => {
            source_range(walk, key, view)?;
            backends(program, view)
        }
        None => &[],
    };
    let delivery = Delivery { own, stand_in, is_segment, leaving, standing, is_untracked, has_groups: groups != NONE };
    match backends {
        [] => delivery.ask(walk, family, key.dst, false),
        [first, others @ ..] => delivery.ask_each(walk, family, first, others),
    }
}

/// What is left to ask about an inbound packet once its destination is settled.
struct Delivery<'p> {
    own: Governor<'p>,
    stand_in: Governor<'p>,
    is_segment: bool,
    leaving: Governor<'p>,
    standing: Standing,
    is_untracked: bool,
    has_groups: bool,
}

impl Delivery<'_> {
    /// As any backend the packet may be delivered to: each must let it pass, the first says why (GW-8).
    #[inline(never)]
    fn ask_each<T: Trace, L: LookUps>(
        &self,
        walk: &mut Walk<'_, '_, T, L>,
        family: Family,
        first: &Backend,
        others: &[Backend],
    ) -> Result<Judgement, Decision> {
        let received = (walk.header, walk.tally);
        let judgement = self.ask_one(walk, family, first)?;
        for backend in others {
            (walk.header, walk.tally) = received;
            self.ask_one(walk, family, backend)?;
        }
        Ok(judgement)
    }

    fn ask_one<T: Trace, L: LookUps>(
        &self,
        walk: &mut Walk<'_, '_, T, L>,
        family: Family,
        &Backend { address, port }: &Backend,
    ) -> Result<Judgement, Decision> {
        let classifier = &walk.program.classifier;
        let header = classifier.translated(walk.ahead.header(&walk.header), family, address, port);
        walk.header = Located::Alone(header);
        walk.trace.event(Event::Translated { address, port });
        self.ask(walk, family, address, true)
    }

    /// A denial is an error. `is_translated`: the destination is a backend's.
    #[inline(always)]
    fn ask<T: Trace, L: LookUps>(
        &self,
        walk: &mut Walk<'_, '_, T, L>,
        family: Family,
        address: u128,
        is_translated: bool,
    ) -> Result<Judgement, Decision> {
        let (own, stand_in, leaving) = (&self.own, &self.stand_in, &self.leaving);
        own.ask_host(walk, Stage::HostForward, own.scopes.forward_in)?;
        let (stage, scope) = if is_translated || self.is_segment {
            (Stage::HostForward, stand_in.scopes.forward_in)
        } else {
            (Stage::HostNormal, stand_in.scopes.normal_in)
        };
        stand_in.ask_host(walk, stage, scope)?;
        let pod = walk.program.place(family, address).pod;
        walk.tally.governed |= pod != [NONE; 2];
        walk.must(Stage::Workload, Subject::Pod, pod[Direction::Inbound as usize])?;
        leaving.ask_host(walk, Stage::HostForward, leaving.scopes.forward_out)?;
        let judgement = finish(walk, self.standing, self.is_untracked, self.has_groups);
        if judgement.decision.verdict() == Verdict::Deny { Err(judgement.decision) } else { Ok(judgement) }
    }
}

fn outbound<T: Trace, L: LookUps>(
    walk: &mut Walk<'_, '_, T, L>,
    key: &Key,
    standing: Standing,
) -> Result<Judgement, Decision> {
    let (program, family) = (walk.program, key.family());
    let (local, remote) = (program.place(family, key.src), program.place(family, key.dst));
    let mut own = Governor::new(program, program.downlink);
    let (mut stand_in, is_segment) = stand_in(program, local);
    let flow = std::mem::replace(&mut walk.flow, FlowState::None);
    own.ask_untracked(walk, own.scopes.untracked_in)?;
    if !is_segment {
        stand_in.ask_untracked(walk, stand_in.scopes.untracked_out)?;
    }
    walk.flow = flow;

    if matches!(standing, Standing::Established | Standing::Related) {
        walk.acl(Direction::Outbound, local, remote)?;
        return Ok(by_state(walk, standing));
    }
    let has_governor = own.is_there || stand_in.is_there;
    let is_untracked = has_governor && own.lets_untracked() && stand_in.lets_untracked();
    let leaving = Governor::new(program, program.uplink);
    let groups = local.groups[Direction::Outbound as usize];
    let has_host = has_governor || leaving.is_there;
    let has_pod = local.pod != [NONE; 2];
    walk.tally.governed = has_host || has_pod || local.acl != [NONE; 2] || local.groups != [NONE; 2];
    if is_untracked {
        walk.flow = FlowState::Untracked;
    } else if standing == Standing::Invalid && (has_host || has_pod) {
        return Err(walk.invalid());
    }

    own.ask_prednat(walk)?;
    own.ask_host(walk, Stage::HostForward, own.scopes.forward_in)?;
    walk.must(Stage::Workload, Subject::Pod, local.pod[Direction::Outbound as usize])?;
    let (stage, scope) = if is_segment {
        (Stage::HostForward, stand_in.scopes.forward_out)
    } else {
        (Stage::HostNormal, stand_in.scopes.normal_out)
    };
    stand_in.ask_host(walk, stage, scope)?;
    leaving.ask_host(walk, Stage::HostForward, leaving.scopes.forward_out)?;
    if groups != NONE && standing == Standing::Invalid {
        return Err(walk.invalid());
    }
    if standing == Standing::New {
        walk.must(Stage::Sg, Subject::Groups, groups)?;
    }
    walk.acl(Direction::Outbound, local, remote)?;
    Ok(finish(walk, standing, is_untracked, groups != NONE))
}

/// The service that the destination as received belongs to (GW-8): by its address, else by the node's port.
#[inline(always)]
fn service(program: &Program, key: &Key, local: &Place) -> Option<ServiceView> {
    if local.is_service || local.is_node { service_of(program, key, local) } else { None }
}

fn service_of(program: &Program, key: &Key, local: &Place) -> Option<ServiceView> {
    if !key.has(KeyBits::L4) {
        return None;
    }
    let wanted = ServiceKey { family: key.family(), protocol: key.protocol, port: key.dport, address: key.dst };
    let by_address = if local.is_service { program.services.get(&wanted) } else { None };
    let by_node = || if local.is_node { program.services.get(&wanted.node()) } else { None };
    by_address.or_else(by_node).copied()
}

fn backends(program: &Program, view: ServiceView) -> &[Backend] {
    let first = view.first as usize;
    program.backends.get(first..first + view.count as usize).unwrap_or(&[])
}

/// `loadBalancerSourceRanges` (SVC-6).
fn source_range<T: Trace, L: LookUps>(
    walk: &mut Walk<'_, '_, T, L>,
    key: &Key,
    view: ServiceView,
) -> Result<(), Decision> {
    let Some(ranges) = walk.program.source_ranges.get(view.sources as usize) else { return Ok(()) };
    let family = key.family();
    if ranges.iter().any(|&(f, first, last)| f == family && (first..=last).contains(&key.src)) {
        return Ok(());
    }
    walk.trace.event(Event::SourceRefused);
    Err(walk.deny(Reason::SourceRange, Stage::Service, RuleId::NONE))
}
