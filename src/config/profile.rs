//! The map of a hardware profile in, a validated [`Profile`] out.

use crate::base::decode::{Decoder, Field, Findings};
use crate::base::diagnostic::{Diagnostic, Span};

use super::Written;

/// Which way frames are to be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// The best that the interface can do: zero-copy, else copy, else generic.
    #[default]
    Auto,
    /// The driver's own receive path without a copy, or nothing.
    ZeroCopy,
    /// The driver's own receive path with a copy, or nothing.
    Copy,
    /// The kernel's receive path, which every interface has.
    Generic,
}

/// How a worker waits for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Looks again at once while there are frames, and sleeps in the kernel when there were none for a while.
    #[default]
    Adaptive,
    /// Never sleeps: a core at 100 %, the shortest delay.
    Busy,
    /// Sleeps whenever there is nothing.
    Interrupt,
}

/// How a worker that never sleeps runs the devices itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`, in microseconds: at least 1.
    pub microseconds: u32,
    /// `SO_BUSY_POLL_BUDGET`: most frames that one call takes off the device, at least 1.
    pub budget: u32,
    /// `napi_defer_hard_irqs` of both interfaces while running; `None` = as found.
    pub napi_defer_hard_irqs: Option<u32>,
    /// `gro_flush_timeout` of both interfaces while running, in nanoseconds; `None` = as found.
    pub gro_flush_timeout: Option<u32>,
}

/// A validated hardware profile.
///
/// INVARIANT: ring sizes are powers of two within [`RING_SIZES`], there is at least one queue, and the chunks fill all fill rings
/// and transmit rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, for logs.
    pub name: String,
    /// The kernel driver that it is made for, as `ethtool -i` names it.
    pub driver: Option<String>,
    /// Whether it was run on that hardware.
    pub is_tested: bool,
    /// Which way frames are to be received.
    pub mode: XdpMode,
    /// Queues of each port, and workers: at least 1.
    pub queues: u32,
    /// Slots of a receive ring; the fill ring has twice as many.
    pub receive_ring: u32,
    /// Slots of a transmit ring and of its completion ring.
    pub transmit_ring: u32,
    /// Bytes of a chunk: 2048 or 4096.
    pub frame_size: u32,
    /// Chunks of all queues of both ports together; `None` = as many as can be under way at once.
    pub frame_count: Option<u32>,
    /// The core of each worker; empty = any.
    pub cores: Vec<u32>,
    /// The NUMA node that the interfaces are attached to.
    pub numa_node: Option<u32>,
    /// Whether to put frames and tables on huge pages.
    pub huge_pages: bool,
    /// How workers wait.
    pub poll: Poll,
    /// Whether workers run the devices themselves; only with [`Poll::Busy`].
    pub busy_poll: Option<BusyPoll>,
    /// How the hardware must be told to spread flows over its queues, for people.
    pub rss: Option<String>,
}

/// Fewest and most slots of a ring.
pub const RING_SIZES: [u32; 2] = [64, 65_536];
/// Most queues of a port.
pub const MOST_QUEUES: u32 = 256;
/// Highest core number that a thread can be pinned to: that of the C library's `cpu_set_t`.
const LAST_CORE: u32 = 1023;
/// Highest NUMA node number: the kernel's own limit.
const LAST_NODE: u32 = 1023;
/// Longest time of busy polling: beyond a millisecond nothing is gained.
const MOST_BUSY_MICROSECONDS: u32 = 1000;
/// Most empty polls before interrupts are allowed again: the kernel takes an `int`.
const MOST_DEFERRED: u32 = i32::MAX as u32;
/// Longest time without interrupts, in nanoseconds: a second, after which a stopped program is a dead interface.
const MOST_FLUSH_TIMEOUT: u32 = 1_000_000_000;

impl Default for Profile {
    /// Portable: works on any interface, with one queue.
    fn default() -> Profile {
        Profile {
            name: "portable".to_owned(),
            driver: None,
            is_tested: false,
            mode: XdpMode::default(),
            queues: 1,
            receive_ring: 2048,
            transmit_ring: 2048,
            frame_size: 2048,
            frame_count: None,
            cores: Vec::new(),
            numa_node: None,
            huge_pages: false,
            poll: Poll::default(),
            busy_poll: None,
            rss: None,
        }
    }
}

impl Profile {
    /// Slots of a fill ring.
    pub const fn fill_ring(&self) -> u32 {
        2 * self.receive_ring
    }

    /// Fewest chunks with which all fill rings and all transmit rings of both ports can be full.
    pub fn fewest_frames(&self) -> u64 {
        2 * u64::from(self.queues) * (u64::from(self.fill_ring()) + u64::from(self.transmit_ring))
    }
}

/// A hardware profile as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProfileFile {
    name: Option<String>,
    driver: Option<String>,
    tested: Option<bool>,
    mode: Option<XdpMode>,
    queues: Option<u32>,
    receive_ring: Option<Written<u32>>,
    transmit_ring: Option<Written<u32>>,
    fill_ring: Option<Written<u32>>,
    completion_ring: Option<Written<u32>>,
    frame_size: Option<Written<u32>>,
    frame_count: Option<Written<u32>>,
    cores: Option<Written<Vec<Written<u32>>>>,
    numa_node: Option<u32>,
    huge_pages: Option<bool>,
    poll: Option<Poll>,
    busy_poll: Option<Written<BusyPoll>>,
    rss: Option<String>,
}

/// Reads the fields of a hardware profile, after `apiVersion` and `kind`.
pub(super) fn decode(map: &mut Decoder<'_, '_>) -> ProfileFile {
    const MODES: [(&str, XdpMode); 4] = [
        ("auto", XdpMode::Auto),
        ("zero-copy", XdpMode::ZeroCopy),
        ("copy", XdpMode::Copy),
        ("generic", XdpMode::Generic),
    ];
    const POLLS: [(&str, Poll); 3] =
        [("adaptive", Poll::Adaptive), ("busy", Poll::Busy), ("interrupt", Poll::Interrupt)];
    let mut file = ProfileFile {
        name: string(map.require("name")),
        driver: string(map.take("driver")),
        tested: map.take("tested").and_then(|tested| tested.bool()),
        mode: map.take("mode").and_then(|mode| mode.word(&MODES)),
        queues: map.take("queues").and_then(|queues| queues.integer(1..=MOST_QUEUES)),
        numa_node: map.take("numaNode").and_then(|node| node.integer(0..=LAST_NODE)),
        huge_pages: map.take("hugePages").and_then(|wanted| wanted.bool()),
        poll: map.take("poll").and_then(|poll| poll.word(&POLLS)),
        rss: string(map.take("rss")),
        ..ProfileFile::default()
    };
    if let Some(mut rings) = map.take("rings").and_then(|rings| rings.map()) {
        file.receive_ring = number(rings.take("receive"));
        file.transmit_ring = number(rings.take("transmit"));
        file.fill_ring = number(rings.take("fill"));
        file.completion_ring = number(rings.take("completion"));
        rings.finish();
    }
    if let Some(mut frames) = map.take("frames").and_then(|frames| frames.map()) {
        file.frame_size = number(frames.take("size"));
        file.frame_count = number(frames.take("count"));
        frames.finish();
    }
    if let Some(list) = map.take("cores") {
        let core = |item: &Field<'_, '_>| item.integer(0..=LAST_CORE).map(|core| Written::at(item, core));
        // Of a list with a wrong number, each of which is told, the length says nothing.
        let numbers = list.list().and_then(|items| items.iter().map(core).collect::<Vec<_>>().into_iter().collect());
        file.cores = numbers.map(|numbers| Written::at(&list, numbers));
    }
    if let Some(field) = map.take("busyPoll")
        && let Some(mut busy) = field.map()
    {
        let mut integer = |name, range| busy.take(name).and_then(|field| field.integer(range));
        let settings = BusyPoll {
            microseconds: integer("microseconds", 1..=MOST_BUSY_MICROSECONDS).unwrap_or(20),
            budget: integer("budget", 1..=u32::from(u16::MAX)).unwrap_or(64),
            napi_defer_hard_irqs: integer("napiDeferHardIrqs", 0..=MOST_DEFERRED),
            gro_flush_timeout: integer("groFlushTimeout", 0..=MOST_FLUSH_TIMEOUT),
        };
        busy.finish();
        file.busy_poll = Some(Written::at(&field, settings));
    }
    file
}

fn string(field: Option<Field<'_, '_>>) -> Option<String> {
    field?.nonempty_string().map(str::to_owned)
}

fn number(field: Option<Field<'_, '_>>) -> Option<Written<u32>> {
    let field = field?;
    field.integer(1..=u32::MAX).map(|value| Written::at(&field, value))
}

/// Checks what is written; what is wrong is reported and replaced by the default.
pub(super) fn validate(file: ProfileFile, findings: &Findings) -> Profile {
    let usual = Profile::default();
    let value = |written: &Option<Written<u32>>, usual| written.as_ref().map_or(usual, |w| w.value);
    let profile = Profile {
        name: file.name.unwrap_or(usual.name),
        driver: file.driver,
        is_tested: file.tested.unwrap_or(false),
        mode: file.mode.unwrap_or(usual.mode),
        queues: file.queues.unwrap_or(usual.queues),
        receive_ring: ring(&file.receive_ring, "receive", usual.receive_ring, findings),
        transmit_ring: ring(&file.transmit_ring, "transmit", usual.transmit_ring, findings),
        frame_size: value(&file.frame_size, usual.frame_size),
        frame_count: file.frame_count.as_ref().map(|count| count.value),
        cores: file.cores.iter().flat_map(|cores| &cores.value).map(|core| core.value).collect(),
        numa_node: file.numa_node,
        huge_pages: file.huge_pages.unwrap_or(usual.huge_pages),
        poll: file.poll.unwrap_or(usual.poll),
        busy_poll: file.busy_poll.as_ref().map(|busy| busy.value),
        rss: file.rss,
    };
    let error = |span: &Span, code, message: String, help: String| {
        findings.push(Diagnostic::error(code, message).at(span).help(help));
    };
    if let Some(size) = &file.frame_size
        && ![2048, 4096].contains(&size.value)
    {
        let message = format!("`frames.size`: expected 2048 or 4096, found `{}`", size.value);
        error(&size.span, "bad-frame-size", message, "the kernel takes chunks of these sizes only".to_owned());
    }
    if let Some(count) = &file.frame_count
        && u64::from(count.value) < profile.fewest_frames()
    {
        let fewest = profile.fewest_frames();
        let message =
            format!("`frames.count`: {} chunks are too few for the rings: expected {fewest} or more", count.value);
        let help = format!(
            "2 ports x {} queues x ({} fill + {} transmit); leave `count` out to get as many as needed",
            profile.queues,
            profile.fill_ring(),
            profile.transmit_ring
        );
        error(&count.span, "too-few-frames", message, help);
    }
    derived(&file.fill_ring, "fill", profile.fill_ring(), "twice `rings.receive`", findings);
    derived(&file.completion_ring, "completion", profile.transmit_ring, "`rings.transmit`", findings);
    if let Some(busy) = &file.busy_poll
        && profile.poll != Poll::Busy
    {
        let message = "`busyPoll`: expected `poll: busy` beside it: workers that sleep leave the devices to interrupts";
        error(
            &busy.span,
            "busy-poll-asleep",
            message.to_owned(),
            "add `poll: busy` or leave `busyPoll` out".to_owned(),
        );
    }
    if let Some(cores) = &file.cores {
        check_cores(cores, profile.queues, findings);
    }
    profile
}

fn ring(written: &Option<Written<u32>>, name: &str, usual: u32, findings: &Findings) -> u32 {
    let Some(Written { value, span }) = written else { return usual };
    let [fewest, most] = RING_SIZES;
    if value.is_power_of_two() && (fewest..=most).contains(value) {
        return *value;
    }
    let message = format!("`rings.{name}`: expected a power of two from {fewest} to {most}, found `{value}`");
    let near = value.clamp(&fewest, &most).next_power_of_two();
    findings.push(Diagnostic::error("bad-ring-size", message).at(span).help(format!("`{near}` is the next")));
    usual
}

/// A ring whose size follows from another one may be written, if it says the same.
fn derived(written: &Option<Written<u32>>, name: &str, expected: u32, rule: &str, findings: &Findings) {
    if let Some(Written { value, span }) = written
        && *value != expected
    {
        let message = format!("`rings.{name}`: expected {expected}, which is {rule}, found `{value}`");
        findings.push(Diagnostic::error("bad-ring-size", message).at(span).help("leave it out"));
    }
}

fn check_cores(cores: &Written<Vec<Written<u32>>>, queues: u32, findings: &Findings) {
    for (index, core) in cores.value.iter().enumerate() {
        if cores.value.iter().take(index).any(|earlier| earlier.value == core.value) {
            let message = format!("`cores`: core {} is listed twice: two workers would share it", core.value);
            findings.push(Diagnostic::error("duplicate-core", message).at(&core.span));
        }
    }
    let count = cores.value.len();
    if count != queues as usize {
        let message = format!("`cores`: expected one core for each of the {queues} queues, found {count}");
        let help = "leave `cores` out to let the workers run anywhere";
        findings.push(Diagnostic::error("core-count", message).at(&cores.span).help(help));
    }
}
