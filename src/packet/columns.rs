//! Keys of sixteen packets in, one vector for each field that kernels look at out.

use super::key::Key;
use crate::base::wide::LANES;

/// Words of the keys of sixteen packets, one lane for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Columns {
    /// Low 32 bits of the source address.
    pub src: [u32; LANES],
    /// Low 32 bits of the destination address.
    pub dst: [u32; LANES],
    /// Source port; destination port in the upper half.
    pub ports: [u32; LANES],
    /// Protocol, TCP flags and [`super::KeyBits`], eight bits each; the rest means nothing.
    pub facts: [u32; LANES],
    /// TCP sequence number.
    pub seq: [u32; LANES],
    /// TCP acknowledgement number.
    pub ack: [u32; LANES],
    /// TCP window; bytes after the transport header in the upper half.
    pub rest: [u32; LANES],
}

impl Columns {
    /// No packets.
    pub const EMPTY: Columns = {
        let none = [0; LANES];
        Columns { src: none, dst: none, ports: none, facts: none, seq: none, ack: none, rest: none }
    };

    /// Takes over the fields of one packet. Lanes are 0 to 15.
    #[inline]
    pub fn set(&mut self, lane: usize, key: &Key) {
        let lane = lane % LANES;
        let words: &[u32; 16] = bytemuck::cast_ref(key);
        (self.src[lane], self.dst[lane]) = (words[0], words[4]);
        (self.ports[lane], self.facts[lane]) = (words[8], words[9]);
        (self.seq[lane], self.ack[lane], self.rest[lane]) = (words[11], words[12], words[13]);
    }
}
