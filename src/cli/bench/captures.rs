//! Numbers of rules, flows and packets in; a directory with a gateway file, a policy and captures of that traffic out.
//!
//! A capture begins with the opening of every flow. Then come the packets that are measured: of flows and in directions
//! drawn at random, and so many per thousand that begin a new flow in the place of another one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::policy_and_frames::{Dice, NODE, Step, Traffic, UPLINK, policy};
use crate::base::address::Direction;

/// Which captures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sides {
    /// One of the uplink and one of the downlink, merged by time
    Both,
    /// One of the uplink alone, as if begun in the middle of its connections
    Uplink,
    /// One of both directions, told apart by the segment that the source lies in
    Mixed,
}

/// How long frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All alike: bytes on the wire, frame check sequence included.
    Fixed(u32),
    /// Of 12 frames 7 of 64 bytes, 4 of 594 and 1 of 1518, in random order.
    Imix,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        match (text, text.parse()) {
            ("imix", _) => Ok(Size::Imix),
            (_, Ok(bytes @ 64..=1518)) => Ok(Size::Fixed(bytes)),
            _ => Err("expected `imix` or a number from 64 to 1518".to_owned()),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Fixed(bytes) => write!(f, "{bytes}"),
            Size::Imix => f.write_str("imix"),
        }
    }
}

/// What the captures shall hold.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Rules of the policy.
    pub rules: u32,
    /// Flows that are active at any time.
    pub flows: u32,
    /// Packets behind the opening ones.
    pub frames: u32,
    /// Of a thousand of those, how many begin a new flow.
    pub new: u32,
    /// How long they are.
    pub size: Size,
    /// Which captures.
    pub sides: Sides,
}

/// A directory that is removed with all it holds when it goes out of scope, unless it was named by the user.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    is_temporary: bool,
}

impl Place {
    /// A new directory among the system's temporary ones.
    pub fn temporary() -> io::Result<Place> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let path = std::env::temp_dir().join(format!("ringwall-bench-{}-{since:x}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Place { path, is_temporary: true })
    }

    /// The user's directory, made if it is not there; it stays.
    pub fn kept(path: &Path) -> io::Result<Place> {
        fs::create_dir_all(path)?;
        Ok(Place { path: path.to_path_buf(), is_temporary: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            // There is nobody left to tell.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The gateway file.
    pub gateway: PathBuf,
    /// The captures, by side: one, or uplink before downlink.
    pub captures: Vec<PathBuf>,
    /// Packets that open the flows, in front.
    pub opening: u64,
    /// Packets behind them.
    pub rest: u64,
    /// Bytes of all captures.
    pub bytes: u64,
}

/// A pcap file with timestamps in microseconds, as most tools write it.
struct Capture {
    out: BufWriter<File>,
    bytes: u64,
}

impl Capture {
    fn create(path: &Path) -> io::Result<Capture> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x4_0000, 1u32] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Capture { out, bytes: 24 })
    }

    fn write(&mut self, microseconds: u64, frame: &[u8]) -> io::Result<()> {
        let length = frame.len() as u32;
        for word in [(microseconds / 1_000_000) as u32, (microseconds % 1_000_000) as u32, length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.bytes += 16 + u64::from(length);
        self.out.write_all(frame)
    }
}

/// When the first packet was captured, in seconds since the epoch.
const START: u64 = 1_700_000_000;

/// Frames of all lengths that are asked for, and the captures that they go to, a packet each microsecond.
struct Writer {
    traffic: Vec<Traffic>,
    is_imix: bool,
    captures: Vec<Capture>,
    frame: Vec<u8>,
    dice: Dice,
    written: u64,
}

impl Writer {
    fn write(&mut self, flow: u32, step: Step) -> io::Result<()> {
        let is_opening = matches!(step, Step::First | Step::Answer | Step::Third);
        let which = match self.dice.below(12) {
            _ if !self.is_imix || is_opening => 0,
            0..7 => 0,
            7..11 => 1,
            _ => 2,
        };
        if let Some(traffic) = self.traffic.get(which) {
            traffic.frame(flow, step, &mut self.frame);
        }
        let side = if step.direction() == Direction::Inbound { 0 } else { self.captures.len() - 1 };
        self.written += 1;
        match self.captures.get_mut(side) {
            Some(capture) => capture.write(START * 1_000_000 + self.written, &self.frame),
            None => Ok(()),
        }
    }
}

/// Writes all files. The same wish gives the same files; `None` when `stop` was set meanwhile.
pub fn write(place: &Place, wish: &Wish, stop: &AtomicBool) -> io::Result<Option<Written>> {
    let path = |name: &str| place.path().join(name);
    let most = u64::from(wish.flows) + u64::from(wish.frames);
    let gateway = format!(
        "apiVersion: ringwall/v1\nkind: Gateway\nnode: {NODE}\nports:\n  uplink: {{ interface: {UPLINK} }}\n  downlink: {{ \
         interface: downlink }}\npolicy: [policy.yaml]\nsegments:\n  - {{ name: servers, cidrs: [10.64.0.0/16] }}\n\
         flows: {{ capacity: {} }}\n",
        most.clamp(1 << 20, 1 << 27)
    );
    fs::write(path("gateway.yaml"), gateway)?;
    fs::write(path("policy.yaml"), policy(wish.rules))?;
    let names: &[&str] = match wish.sides {
        Sides::Both => &["uplink.pcap", "downlink.pcap"],
        Sides::Uplink => &["uplink.pcap"],
        Sides::Mixed => &["mixed.pcap"],
    };
    let sizes: &[u32] = match &wish.size {
        Size::Fixed(size) => &[*size],
        Size::Imix => &[64, 594, 1518],
    };
    let mut writer = Writer {
        traffic: sizes.iter().map(|&size| Traffic::new(wish.rules, size as usize)).collect(),
        is_imix: wish.size == Size::Imix,
        captures: names.iter().map(|name| Capture::create(&path(name))).collect::<io::Result<_>>()?,
        frame: Vec::with_capacity(2048),
        dice: Dice(1),
        written: 0,
    };
    // Who sees one side only picks up connections where they are.
    let opening: &[Step] = if wish.sides == Sides::Uplink { &[Step::There] } else { &Step::OPENING };
    let mut active: Vec<u32> = (0..wish.flows).collect();
    for &flow in &active {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        for &step in opening {
            writer.write(flow, step)?;
        }
    }
    let before = writer.written;
    let mut next = wish.flows;
    while writer.written < before + u64::from(wish.frames) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let at = writer.dice.below(active.len() as u64) as usize;
        let Some(flow) = active.get_mut(at) else { break };
        if writer.dice.below(1000) < u64::from(wish.new) {
            *flow = next;
            next += 1;
            let flow = *flow;
            for &step in opening {
                writer.write(flow, step)?;
            }
            continue;
        }
        let is_back = wish.sides != Sides::Uplink && writer.dice.below(2) == 1;
        let flow = *flow;
        writer.write(flow, if is_back { Step::Back } else { Step::There })?;
    }
    let mut bytes = 0;
    for capture in &mut writer.captures {
        capture.out.flush()?;
        bytes += capture.bytes;
    }
    Ok(Some(Written {
        gateway: path("gateway.yaml"),
        captures: names.iter().map(|name| path(name)).collect(),
        opening: before,
        rest: writer.written - before,
        bytes,
    }))
}
