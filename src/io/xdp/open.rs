//! The names of two interfaces, or of one, and what the hardware profile says in, bound sockets under an attached program out.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::XdpMode;

use super::bind::{Step, bind};
use super::deferral::Deferral;
use super::netlink::Interface;
use super::program::{AttachError, Attachment, LeftToKernel, occupied};
use super::queue::Queue;
use super::region::{HEADROOM, Region};
use super::sys;
use super::tags::Tags;
use crate::io::error::OpenError;
use crate::io::frame::BURST;
use crate::io::pool::POOL;

/// Teardown of a socket is asynchronous: a queue may stay busy for this long after its owner has gone.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// Pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Ethernet header and two VLAN tags.
const LINK_BYTES: u32 = 22;
/// Most slots of a ring: the kernel takes more, but no interface gains from it.
const MOST_SLOTS: u32 = 1 << 16;

/// Which way frames are to be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The best there is: zero-copy, else copy, else generic.
    #[default]
    Auto,
    /// The driver's own receive path without a copy, or nothing.
    ZeroCopy,
    /// The driver's own receive path with a copy, or nothing.
    Copy,
    /// The kernel's receive path, which every interface has.
    Generic,
}

impl Mode {
    /// The name that profiles and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
            Mode::Generic => "generic",
        }
    }

    fn ladder(self) -> &'static [Mode] {
        match self {
            Mode::Auto => &[Mode::ZeroCopy, Mode::Copy, Mode::Generic],
            Mode::ZeroCopy => &[Mode::ZeroCopy],
            Mode::Copy => &[Mode::Copy],
            Mode::Generic => &[Mode::Generic],
        }
    }
}

/// How a worker that never sleeps runs the devices itself, instead of interrupts on whatever core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`: any number but 0 lets calls run the device; ours never wait that long.
    pub microseconds: u32,
    /// `SO_BUSY_POLL_BUDGET`: most frames that one call takes off the device.
    pub budget: u32,
    /// `napi_defer_hard_irqs` of the interface while running: times that the device must be found empty before its interrupts
    /// are allowed again. `None` = as found.
    pub napi_defer_hard_irqs: Option<u32>,
    /// `gro_flush_timeout` of the interface while running, in nanoseconds: how long interrupts stay away without a call.
    /// `None` = as found.
    pub gro_flush_timeout: Option<u32>,
}

impl Default for BusyPoll {
    /// 20 µs, a burst; the interface stays as found.
    fn default() -> BusyPoll {
        BusyPoll { microseconds: 20, budget: BURST as u32, napi_defer_hard_irqs: None, gro_flush_timeout: None }
    }
}

/// What the hardware profile says about both ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Interface of the uplink.
    pub uplink: String,
    /// Interface of the downlink.
    pub downlink: String,
    /// Queues of each port to serve, from queue 0 on.
    pub queues: u32,
    /// Slots of a receive ring, a power of two; the fill ring has twice as many.
    pub receive_ring: u32,
    /// Slots of a transmit ring and of its completion ring, a power of two.
    pub transmit_ring: u32,
    /// Bytes of a chunk: 2048 or 4096.
    pub frame_size: u32,
    /// Chunks in all; `None` = as many as can be under way at once.
    pub frame_count: Option<u32>,
    /// Which way frames are to be received.
    pub mode: Mode,
    /// Whether to put the frames on huge pages.
    pub huge_pages: bool,
    /// The NUMA node to take the frames' memory from; `None` = that of the core that opens the ports.
    pub numa_node: Option<u32>,
    /// Whether sockets run their devices themselves; for workers that never sleep. `None` = interrupts do.
    pub busy_poll: Option<BusyPoll>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            uplink: String::new(),
            downlink: String::new(),
            queues: 1,
            receive_ring: 2048,
            transmit_ring: 2048,
            frame_size: 2048,
            frame_count: None,
            mode: Mode::Auto,
            huge_pages: false,
            numa_node: None,
            busy_poll: None,
        }
    }
}

impl Settings {
    /// Chunks that can be under way at once on this many ports, and so can never run out.
    fn frames_under_way(&self, ports: usize) -> u64 {
        let receive = 3 * u64::from(self.receive_ring);
        let transmit = 2 * u64::from(self.transmit_ring);
        ports as u64 * u64::from(self.queues) * (receive + transmit + POOL as u64 + 2 * BURST as u64)
    }

    /// Fewest chunks with which all fill rings and all transmit rings of this many ports can be full.
    fn fewest_frames(&self, ports: usize) -> u64 {
        ports as u64 * u64::from(self.queues) * (2 * u64::from(self.receive_ring) + u64::from(self.transmit_ring))
    }

    fn frames(&self, ports: usize) -> Result<u32, OpenError> {
        let setting = |what, value: u64, expected: String| Err(OpenError::Setting { what, value, expected });
        let ring = |what, slots: u32| {
            if slots.is_power_of_two() && (BURST as u32..=MOST_SLOTS).contains(&slots) {
                return Ok(());
            }
            setting(what, slots.into(), format!("expected a power of two from {BURST} to {MOST_SLOTS}"))
        };
        ring("receive ring", self.receive_ring)?;
        ring("transmit ring", self.transmit_ring)?;
        if self.queues == 0 {
            return setting("queues", 0, "expected at least 1".into()).map(|()| 0);
        }
        if ![2048, 4096].contains(&self.frame_size) {
            return setting("frame_size", self.frame_size.into(), "expected 2048 or 4096".into()).map(|()| 0);
        }
        let fewest = self.fewest_frames(ports);
        let mut frames = self.frame_count.map_or(self.frames_under_way(ports), u64::from);
        if frames < fewest {
            let expected =
                format!("expected at least {fewest}, with which all fill rings and all transmit rings can be full");
            return setting("frame_count", frames, expected).map(|()| 0);
        }
        if self.huge_pages {
            // A mapping on huge pages must be given back in whole ones.
            frames = frames.next_multiple_of((2 << 20) / u64::from(self.frame_size));
        }
        match u32::try_from(frames) {
            Ok(frames) if u64::from(frames) * u64::from(self.frame_size) <= 1 << 36 => Ok(frames),
            _ => setting("frame_count", frames, "expected less than 64 GiB in all".into()).map(|()| 0),
        }
    }
}

/// What a port got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortReport {
    /// The interface.
    pub interface: String,
    /// Its index, another one if it is made again under the same name.
    pub index: u32,
    /// How frames are received and sent; never [`Mode::Auto`].
    pub mode: Mode,
    /// For each queue, whether the kernel says that its socket got zero-copy.
    pub zero_copy: Vec<bool>,
    /// For each queue, whether the kernel says that its socket runs the device (`SO_PREFER_BUSY_POLL`).
    pub busy_poll: Vec<bool>,
}

impl PortReport {
    /// Whether the interface was removed since; it may have been made again under the same name.
    pub fn is_gone(&self) -> bool {
        match Interface::query(&self.interface) {
            Ok(now) => now.index != self.index,
            Err(error) => matches!(error, OpenError::NoInterface { .. }),
        }
    }
}

/// Two ports, ready to forward.
///
/// Fields are dropped in this order: first the programs come off, then the sockets close.
pub struct Opened {
    /// The programs of uplink and downlink.
    pub programs: Programs,
    /// Queues of the uplink, in order.
    pub uplink: Vec<Queue>,
    /// Queues of the downlink, in order.
    pub downlink: Vec<Queue>,
    /// What uplink and downlink got.
    pub reports: [PortReport; 2],
    /// What the user ought to know.
    pub warnings: Vec<String>,
    /// The memory that all queues share.
    pub region: Arc<Region>,
}

/// One port, ready to send and receive: the end of a line, for generators and counters of traffic.
///
/// Fields are dropped in this order: first the program comes off, then the sockets close.
pub struct End {
    /// Its program.
    pub programs: Programs<1>,
    /// Its queues, in order.
    pub queues: Vec<Queue>,
    /// What it got.
    pub report: PortReport,
    /// What the user ought to know.
    pub warnings: Vec<String>,
    /// The memory of its queues.
    pub region: Arc<Region>,
}

/// The programs of all ports of a region: uplink and downlink, or one.
pub struct Programs<const N: usize = 2> {
    attachments: [Attachment; N],
    /// Put back after the programs have come off.
    tags: [Option<Tags>; N],
    /// Put back when dropped.
    deferrals: [Option<Deferral>; N],
}

impl<const N: usize> Programs<N> {
    /// Takes the programs off: from now on frames go to the kernel.
    pub fn detach(&mut self) {
        self.attachments.iter_mut().for_each(Attachment::detach);
    }

    /// What the programs left to the kernel, by port.
    pub fn left_to_kernel(&self) -> [LeftToKernel; N] {
        self.attachments.each_ref().map(Attachment::left_to_kernel)
    }
}

/// Ports over one region.
struct Parts<const N: usize> {
    programs: Programs<N>,
    ports: [Vec<Queue>; N],
    reports: [PortReport; N],
    warnings: Vec<String>,
    region: Arc<Region>,
}

/// Opens both ports in the best mode that the settings allow. Blocks for up to 2 s while a queue is busy.
///
/// # Errors
/// See [`OpenError`]; nothing stays attached or bound.
pub fn open(settings: &Settings) -> Result<Opened, OpenError> {
    if settings.uplink == settings.downlink {
        return Err(OpenError::SameInterface { interface: settings.uplink.clone() });
    }
    let parts = open_ports(settings, [&settings.uplink, &settings.downlink])?;
    let Parts { programs, ports: [uplink, downlink], reports, warnings, region } = parts;
    Ok(Opened { programs, uplink, downlink, reports, warnings, region })
}

/// Opens one port, the `uplink` of the settings, in a region of its own. Blocks for up to 2 s while a queue is busy.
///
/// # Errors
/// See [`OpenError`]; nothing stays attached or bound.
pub fn open_end(settings: &Settings) -> Result<End, OpenError> {
    let Parts { programs, ports: [queues], reports: [report], warnings, region } =
        open_ports(settings, [&settings.uplink])?;
    Ok(End { programs, queues, report, warnings, region })
}

fn open_ports<const N: usize>(settings: &Settings, names: [&str; N]) -> Result<Parts<N>, OpenError> {
    let frames = settings.frames(N)?;
    let mut interfaces = Vec::with_capacity(N);
    for name in names {
        interfaces.push(Interface::query(name)?);
    }
    let Ok(interfaces) = <[Interface; N]>::try_from(interfaces) else { unreachable!("one for each name") };
    let mut warnings = Vec::new();
    for interface in &interfaces {
        examine(interface, settings, &mut warnings)?;
    }
    // Before binding: drivers restart their rings for this.
    let tags = interfaces.each_ref().map(|interface| Tags::keep(interface, &mut warnings));
    let deferrals = interfaces.each_ref().map(|interface| {
        let wanted = settings.busy_poll.as_ref()?;
        Some(Deferral::keep(&Path::new("/sys/class/net").join(&interface.name), wanted, &mut warnings))
    });
    let _near = settings.numa_node.and_then(|node| {
        let refusal = |error| {
            warnings.push(format!(
                "frames are not kept on NUMA node {node}: {error}; `numactl --hardware` lists the nodes, and containers must allow \
                 `set_mempolicy`"
            ));
        };
        sys::NearNode::prefer(node).map_err(refusal).ok()
    });
    let mut refusals: Vec<String> = Vec::new();
    let mut refused = names.first().map(ToString::to_string).unwrap_or_default();
    for mode in settings.mode.ladder() {
        match attempt(settings, &interfaces, frames, *mode) {
            Ok(mut parts) => {
                if !refusals.is_empty() {
                    warnings.push(format!("mode `{}` is used: {}", mode.name(), refusals.join("; ")));
                }
                advise(settings, &parts.region, &names, *mode, &mut warnings);
                if let Some(wanted) = &settings.busy_poll {
                    prefer_busy_poll(&mut parts, wanted, &mut warnings);
                }
                parts.warnings = warnings;
                parts.programs.tags = tags;
                parts.programs.deferrals = deferrals;
                return Ok(parts);
            }
            Err(Step::Final(error)) => return Err(error),
            Err(Step::Next { interface, source }) => {
                refusals.push(format!("`{interface}` refuses {}: {source}", mode.name()));
                refused = interface;
            }
        }
    }
    Err(OpenError::Mode { mode: settings.mode.name(), interface: refused, reason: refusals.join("; ") })
}

/// Makes every socket run its device, and notes what the kernel says about it afterwards; refusals are warnings.
fn prefer_busy_poll<const N: usize>(parts: &mut Parts<N>, wanted: &BusyPoll, warnings: &mut Vec<String>) {
    for (queues, report) in parts.ports.iter_mut().zip(&mut parts.reports) {
        let mut refusal = None;
        for queue in queues.iter_mut() {
            refusal = queue.prefer_busy_poll(wanted.microseconds, wanted.budget).err().or(refusal);
        }
        report.busy_poll = queues
            .iter()
            .map(|queue| sys::busy_poll(queue.socket()).is_ok_and(|said| said == [1, wanted.microseconds]))
            .collect();
        if let Some(error) = refusal {
            warnings.push(format!(
                "busy polling of `{}` is refused: {error}; it takes Linux 5.11 or later and CAP_NET_ADMIN, or leave `busyPoll` out: \
                 interrupts bring its frames",
                report.interface
            ));
        }
    }
}

/// What the user ought to know about what was got.
fn advise(settings: &Settings, region: &Region, names: &[&str], mode: Mode, warnings: &mut Vec<String>) {
    if settings.huge_pages && !region.is_huge() {
        let bytes = u64::from(region.chunks()) * u64::from(settings.frame_size);
        let pages = bytes.div_ceil(2 << 20);
        let cure = match settings.numa_node {
            Some(node) => {
                let hugepages = format!("/sys/devices/system/node/node{node}/hugepages");
                format!("echo {pages} > {hugepages}/hugepages-2048kB/nr_hugepages")
            }
            None => format!("sysctl vm.nr_hugepages={pages}"),
        };
        warnings.push(format!("no huge pages for the frames; `{cure}` before the start gives them"));
    }
    if mode == Mode::Generic {
        let commands: Vec<String> = names.iter().map(|name| format!("`ethtool -K {name} gro off lro off`")).collect();
        warnings.push(format!(
            "generic mode drops frames that were merged or are still to be cut: {}, and `tso off gso off` on the far end of a \
             veth",
            commands.join(", ")
        ));
    }
}

/// Refuses what cannot work and warns of what will not work well.
fn examine(interface: &Interface, settings: &Settings, warnings: &mut Vec<String>) -> Result<(), OpenError> {
    let name = || interface.name.clone();
    if !interface.is_up {
        return Err(OpenError::InterfaceDown { interface: name() });
    }
    if interface.receive_queues.min(interface.transmit_queues) < settings.queues {
        return Err(OpenError::Queues {
            interface: name(),
            receive: interface.receive_queues,
            transmit: interface.transmit_queues,
            wanted: settings.queues,
        });
    }
    let room = settings.frame_size - HEADROOM;
    let longest = interface.mtu.saturating_add(LINK_BYTES);
    if longest > room {
        return Err(OpenError::FrameSize {
            interface: name(),
            mtu: interface.mtu,
            longest,
            frame_size: settings.frame_size,
            room,
            largest_mtu: room - LINK_BYTES,
        });
    }
    if interface.receive_queues > settings.queues {
        warnings.push(format!(
            "interface `{0}` receives on {1} queues and only {2} are served: frames on the others go to the kernel; \
             `ethtool -L {0} combined {2}` (or `rx {2}`) or raise `queues`",
            interface.name, interface.receive_queues, settings.queues
        ));
    }
    Ok(())
}

/// Tries one mode, again and again for 2 s while a queue or an interface is busy.
fn attempt<const N: usize>(
    settings: &Settings,
    interfaces: &[Interface; N],
    frames: u32,
    mode: Mode,
) -> Result<Parts<N>, Step> {
    let start = Instant::now();
    loop {
        let error = match attempt_once(settings, interfaces, frames, mode) {
            Err(Step::Final(error @ (OpenError::Busy { .. } | OpenError::ProgramAttached { .. }))) => error,
            other => return other,
        };
        let waited = start.elapsed();
        if waited >= BUSY_FOR {
            return Err(Step::Final(match error {
                OpenError::Busy { interface, queue, .. } => {
                    OpenError::Busy { interface, queue, waited_ms: waited.as_millis() as u64 }
                }
                other => other,
            }));
        }
        thread::sleep(BUSY_PAUSE);
    }
}

fn attempt_once<const N: usize>(
    settings: &Settings,
    interfaces: &[Interface; N],
    frames: u32,
    mode: Mode,
) -> Result<Parts<N>, Step> {
    for interface in interfaces {
        let now = Interface::query(&interface.name)?;
        if !now.programs.is_empty() {
            return Err(occupied(&now, io::Error::from_raw_os_error(libc::EBUSY)).into());
        }
    }
    let region = Arc::new(Region::new(
        settings.frame_size,
        frames,
        settings.receive_ring,
        settings.transmit_ring,
        settings.huge_pages,
    )?);
    // Every queue begins with an equal share; what its fill ring does not take goes to the depot.
    let share = frames / (N as u32 * settings.queues);
    let mut first = 0;
    let mut ports = [const { Vec::new() }; N];
    for (queues, interface) in ports.iter_mut().zip(interfaces) {
        for queue in 0..settings.queues {
            let rings = bind(settings, &region, interface, queue, mode)?;
            let last = if frames - first < 2 * share { frames } else { first + share };
            let longest = (interface.mtu + LINK_BYTES) as usize;
            queues.push(Queue::new(Arc::clone(&region), rings, first..last, settings.transmit_ring, longest));
            first = last;
        }
    }
    let report = |interface: &Interface, queues: &[Queue]| PortReport {
        interface: interface.name.clone(),
        index: interface.index,
        mode,
        zero_copy: queues.iter().map(|queue| sys::is_zero_copy(queue.socket()).unwrap_or(false)).collect(),
        busy_poll: vec![false; queues.len()],
    };
    let reports = std::array::from_fn(|at| report(&interfaces[at], &ports[at]));
    // The fill rings are full by now, and drivers take their receive buffers when the program is attached.
    let mut attachments = Vec::with_capacity(N);
    for (interface, queues) in interfaces.iter().zip(&ports) {
        let sockets: Vec<i32> = queues.iter().map(|queue: &Queue| queue.socket().as_raw_fd()).collect();
        let how = if mode == Mode::Generic { XdpMode::Skb } else { XdpMode::Driver };
        attachments.push(Attachment::new(interface, &sockets, how).map_err(|error| match error {
            AttachError::Mode(source) => Step::Next { interface: interface.name.clone(), source },
            AttachError::Final(error) => Step::Final(error),
        })?);
    }
    let Ok(attachments) = <[Attachment; N]>::try_from(attachments) else { unreachable!("one for each interface") };
    let programs = Programs { attachments, tags: [const { None }; N], deferrals: [const { None }; N] };
    Ok(Parts { programs, ports, reports, warnings: Vec::new(), region })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_and_chunks_are_checked_before_anything_is_opened() {
        let check = |change: fn(&mut Settings), expected: Result<u32, &str>| {
            let mut settings = Settings::default();
            change(&mut settings);
            let found = settings.frames(2).map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(frames), Ok(expected)) => assert_eq!(*frames, expected),
                (Err(text), Err(expected)) => assert!(text.contains(expected), "{text}"),
                _ => panic!("{found:?}, expected {expected:?}"),
            }
        };
        check(|_| (), Ok(2 * (3 * 2048 + 2 * 2048 + 256 + 128)));
        check(|s| s.huge_pages = true, Ok(21 * 1024));
        check(|s| s.frame_count = Some(12288), Ok(12288));
        check(|s| s.frame_count = Some(12287), Err("frame_count is 12287; expected at least 12288"));
        check(|s| s.receive_ring = 1000, Err("receive ring is 1000; expected a power of two from 64 to 65536"));
        check(|s| s.transmit_ring = 32, Err("transmit ring is 32; expected a power of two from 64 to 65536"));
        check(|s| s.frame_size = 3000, Err("frame_size is 3000; expected 2048 or 4096"));
        check(|s| s.queues = 0, Err("queues is 0; expected at least 1"));
        check(
            |s| (s.queues, s.receive_ring, s.frame_size) = (256, 65536, 4096),
            Err("expected less than 64 GiB in all"),
        );
    }

    #[test]
    fn an_explicit_mode_has_no_other_to_fall_back_to() {
        for mode in [Mode::ZeroCopy, Mode::Copy, Mode::Generic] {
            assert_eq!(mode.ladder(), [mode]);
        }
        assert_eq!(Mode::Auto.ladder(), [Mode::ZeroCopy, Mode::Copy, Mode::Generic]);
    }
}
