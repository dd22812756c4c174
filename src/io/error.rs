//! What can go wrong when ports are opened, out: the object, what is missing and the cure, with a class that tells whose turn
//! it is.

use std::io;

/// Whose turn it is after an error; the command line maps it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The gateway file or hardware profile asks for something that does not exist or does not fit (exit code 3).
    Configuration,
    /// A privilege or a feature of kernel or driver is missing (exit code 5).
    Environment,
    /// A defect of the program (exit code 6).
    Defect,
}

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such interface.
    #[error("no interface `{interface}` in this network namespace; `ip link` lists those there are")]
    NoInterface {
        /// As asked for.
        interface: String,
    },
    /// Both ports name one interface.
    #[error("uplink and downlink are both `{interface}`; a bridge needs two interfaces")]
    SameInterface {
        /// As asked for.
        interface: String,
    },
    /// The interface is administratively down.
    #[error("interface `{interface}` is down; `ip link set {interface} up`")]
    InterfaceDown {
        /// As asked for.
        interface: String,
    },
    /// The interface has fewer queues than workers are wanted.
    #[error(
        "interface `{interface}` has {receive} receive and {transmit} transmit queues, the profile asks for {wanted}; \
         `ethtool -L {interface} combined {wanted}` (or `rx {wanted} tx {wanted}`), or lower `queues`"
    )]
    Queues {
        /// The interface.
        interface: String,
        /// Receive queues in use.
        receive: u32,
        /// Transmit queues in use.
        transmit: u32,
        /// Queues asked for.
        wanted: u32,
    },
    /// A frame of the interface would not fit a chunk.
    #[error(
        "interface `{interface}` has MTU {mtu}, so frames of up to {longest} bytes; a chunk of {frame_size} bytes holds {room}, \
         so the largest MTU is {largest_mtu}: `ip link set dev {interface} mtu {largest_mtu}`{larger}",
        larger = if *.frame_size < 4096 { ", or `frames: { size: 4096 }` in the hardware profile" } else { "" }
    )]
    FrameSize {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// Longest frame with two VLAN tags.
        longest: u32,
        /// Chunk size asked for.
        frame_size: u32,
        /// Bytes of a chunk that a frame may use.
        room: u32,
        /// Largest MTU that fits.
        largest_mtu: u32,
    },
    /// A number of the hardware profile that cannot be.
    #[error("{what} is {value}; {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// What would be right.
        expected: String,
    },
    /// Another XDP program holds the interface.
    #[error(
        "interface `{interface}` already carries XDP program {program} ({how}); it is left alone: stop its owner \
         (`bpftool prog show id {program}`) or `ip link set dev {interface} xdp off`"
    )]
    ProgramAttached {
        /// The interface.
        interface: String,
        /// Kernel id of the program.
        program: u32,
        /// Native, generic or offloaded.
        how: &'static str,
    },
    /// A system call was refused for want of a capability.
    #[error("{action} on `{interface}` is not permitted; run as root or with {capabilities}")]
    Privilege {
        /// What was tried.
        action: &'static str,
        /// On which interface.
        interface: String,
        /// Which capabilities are needed.
        capabilities: &'static str,
    },
    /// The mode asked for is not to be had.
    #[error("mode `{mode}` is not available on `{interface}`: {reason}; `mode: auto` takes the best there is")]
    Mode {
        /// As asked for.
        mode: &'static str,
        /// The interface that refused.
        interface: String,
        /// Why.
        reason: String,
    },
    /// The kernel lacks something.
    #[error("{feature} is missing{on}: {source}; {cure}", on = on(.interface))]
    Feature {
        /// What is missing.
        feature: &'static str,
        /// On which interface, if it depends on one.
        interface: Option<String>,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        cure: &'static str,
    },
    /// Someone else holds the queue.
    #[error(
        "queue {queue} of `{interface}` stays busy after {waited_ms} ms; another process has an AF_XDP socket on it \
         (`ss --xdp -p` names it)"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long it was tried.
        waited_ms: u64,
    },
    /// Any other refusal of the kernel.
    #[error("cannot {action}{on}: {source}", on = on(.interface))]
    System {
        /// What was tried.
        action: String,
        /// On which interface, if it depends on one.
        interface: Option<String>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The embedded program does not load.
    #[error("the XDP program does not load: {0}")]
    Program(String),
}

fn on(interface: &Option<String>) -> String {
    interface.as_ref().map_or_else(String::new, |name| format!(" on `{name}`"))
}

impl OpenError {
    /// Whose turn it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            OpenError::NoInterface { .. }
            | OpenError::SameInterface { .. }
            | OpenError::InterfaceDown { .. }
            | OpenError::Queues { .. }
            | OpenError::FrameSize { .. }
            | OpenError::Setting { .. } => ErrorClass::Configuration,
            OpenError::ProgramAttached { .. }
            | OpenError::Privilege { .. }
            | OpenError::Mode { .. }
            | OpenError::Feature { .. }
            | OpenError::Busy { .. }
            | OpenError::System { .. } => ErrorClass::Environment,
            OpenError::Program(_) => ErrorClass::Defect,
        }
    }
}
