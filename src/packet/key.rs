//! The one thing that every later stage sees of a packet: fixed size, `Copy`, built once.

use crate::base::address::{Direction, Family};

/// Facts about a packet, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub struct KeyBits(pub u8);

impl KeyBits {
    /// The family is IPv6.
    pub const V6: u8 = 1 << 0;
    /// Received on the downlink.
    pub const OUTBOUND: u8 = 1 << 1;
    /// `sport` and `dport` hold what the transport header says (ports, or ICMP identifier and type/code).
    pub const L4: u8 = 1 << 2;
    /// A first fragment: offset 0, more to come.
    pub const FIRST_FRAGMENT: u8 = 1 << 3;
    /// A later fragment: offset above 0, no transport header.
    pub const LATER_FRAGMENT: u8 = 1 << 4;
    /// An ICMP or ICMPv6 error whose quoted packet was understood; its tuple travels beside the key.
    pub const QUOTE: u8 = 1 << 5;
    /// `window` is not known (packet objects without `win`); never set for frames.
    pub const NO_WINDOW: u8 = 1 << 6;
    /// The transport checksum was seen to be something else than the pseudo-header sum: there is nothing to complete (GW-30). Not
    /// set where nobody has looked.
    pub const WHOLE: u8 = 1 << 7;

    /// Bits within the word of a key that begins with the protocol.
    pub(crate) const fn in_word(bits: u8) -> u32 {
        (bits as u32) << 16
    }
}

/// What later stages see of a packet.
///
/// ```text
///  0        16       32  34  36  37  38  39  40  42  44   48   52   54   56   60   62   64
///  | src    | dst    |sp |dp |pr |fl |bi |ws |vlan0|vlan1|seq |ack |win |len |f-id|f-off|f-len|
/// ```
/// One cache line. For ICMP and ICMPv6, `dport` is `type << 8 | code` and `sport` the identifier of an echo (0 otherwise), so
/// that ports and ICMP share the same interval search. Fields that do not apply are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Key {
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port, or ICMP echo identifier.
    pub sport: u16,
    /// Destination port, or ICMP type and code.
    pub dport: u16,
    /// IPv4 protocol or last IPv6 next-header (RM-9).
    pub protocol: u8,
    /// TCP flags as on the wire: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub tcp_flags: u8,
    /// One bit each.
    pub bits: KeyBits,
    /// Window scale option of a SYN, 0 to 14; [`Key::NO_SCALE`] when absent.
    pub window_scale: u8,
    /// Outer and inner VLAN identifier, [`Key::NO_VLAN`] where there is none.
    pub vlan: [u16; 2],
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP window as on the wire, not shifted.
    pub window: u16,
    /// Bytes after the transport header, as far as the IP length says (not the frame's padding).
    pub payload: u16,
    /// IP identification of a fragment (16 bits in IPv4, 32 in IPv6).
    pub fragment_id: u32,
    /// Offset of a fragment's data in bytes.
    pub fragment_offset: u16,
    /// Bytes of IP payload in a fragment.
    pub fragment_len: u16,
}

// What reads keys as words or as lines counts on these places.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Key>() == 64 && align_of::<Key>() == 64);
    assert!(offset_of!(Key, src) == 0 && offset_of!(Key, dst) == 16);
    assert!(offset_of!(Key, sport) == 32 && offset_of!(Key, dport) == 34);
    assert!(offset_of!(Key, protocol) == 36 && offset_of!(Key, tcp_flags) == 37 && offset_of!(Key, bits) == 38);
    assert!(offset_of!(Key, window_scale) == 39 && offset_of!(Key, vlan) == 40);
    assert!(offset_of!(Key, seq) == 44 && offset_of!(Key, ack) == 48);
    assert!(offset_of!(Key, window) == 52 && offset_of!(Key, payload) == 54);
    assert!(Key::NO_VLAN == u16::MAX && Key::NO_SCALE == u8::MAX);
};

impl Key {
    /// No VLAN tag in this place.
    pub const NO_VLAN: u16 = 0xffff;
    /// No window scale option.
    pub const NO_SCALE: u8 = 0xff;
    /// A key with no address, port or flag.
    pub const EMPTY: Key = Key {
        src: 0,
        dst: 0,
        sport: 0,
        dport: 0,
        protocol: 0,
        tcp_flags: 0,
        bits: KeyBits(0),
        window_scale: Key::NO_SCALE,
        vlan: [Key::NO_VLAN; 2],
        seq: 0,
        ack: 0,
        window: 0,
        payload: 0,
        fragment_id: 0,
        fragment_offset: 0,
        fragment_len: 0,
    };

    /// Whether a bit of [`KeyBits`] is set.
    #[inline]
    pub const fn has(&self, bit: u8) -> bool {
        self.bits.0 & bit != 0
    }

    /// The Internet protocol version.
    #[inline]
    pub const fn family(&self) -> Family {
        if self.has(KeyBits::V6) { Family::V6 } else { Family::V4 }
    }

    /// The side it was received on.
    #[inline]
    pub const fn direction(&self) -> Direction {
        if self.has(KeyBits::OUTBOUND) { Direction::Outbound } else { Direction::Inbound }
    }

    /// Local and remote address (GW-2).
    #[inline]
    pub const fn local_remote(&self) -> (u128, u128) {
        match self.direction() {
            Direction::Inbound => (self.dst, self.src),
            Direction::Outbound => (self.src, self.dst),
        }
    }
}

/// The five-tuple of a packet that an ICMP error quotes, as the quoted packet was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Tuple {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port, or ICMP echo identifier.
    pub sport: u16,
    /// Destination port, or ICMP type and code.
    pub dport: u16,
    /// Protocol.
    pub protocol: u8,
    /// 0 for IPv4, 1 for IPv6: the same as the key's.
    pub is_v6: u8,
}
