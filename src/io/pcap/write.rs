//! Frames in, a pcapng file out, with nanoseconds, the port, the direction and a comment per packet.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::read::Record;

/// Whether a port received or transmitted a frame (`epb_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Received on the port.
    Received,
    /// Transmitted on the port.
    Transmitted,
}

/// Writes pcapng: one section, one interface per port, one enhanced packet block per frame, little-endian.
///
/// Written are `if_name`, `if_tsresol` 9, `epb_flags` and `opt_comment`. Each packet costs one allocation-free pass.
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    out: W,
    ports: u32,
}

/// Option codes of draft-ietf-opsawg-pcapng.
mod option {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    pub const INTERFACE_NAME: u16 = 2;
    pub const PACKET_FLAGS: u16 = 2;
    pub const USER_APPLICATION: u16 = 4;
    pub const TIME_RESOLUTION: u16 = 9;
}

impl PcapngWriter<BufWriter<File>> {
    /// Creates or replaces a file. Errors are those of the operating system.
    pub fn create(path: &Path, ports: &[&str]) -> io::Result<PcapngWriter<BufWriter<File>>> {
        PcapngWriter::new(BufWriter::with_capacity(1 << 18, File::create(path)?), ports)
    }
}

impl<W: Write> PcapngWriter<W> {
    /// Starts a capture with these ports; packets name them by their position.
    pub fn new(out: W, ports: &[&str]) -> io::Result<PcapngWriter<W>> {
        let mut writer = PcapngWriter { out, ports: ports.len() as u32 };
        let application = b"ringwall";
        let options = option_length(application.len()) + 4;
        writer.block(0x0a0d_0d0a, 16 + options, |out| {
            out.write_all(&0x1a2b_3c4d_u32.to_le_bytes())?;
            // Version 1.0, section of unknown length.
            out.write_all(&[1, 0, 0, 0])?;
            out.write_all(&[0xff; 8])?;
            write_option(out, option::USER_APPLICATION, application)?;
            write_option(out, option::END, &[])
        })?;
        for port in ports {
            let name = shortened(port);
            let options = option_length(name.len()) + option_length(1) + 4;
            writer.block(1, 8 + options, |out| {
                // Link type Ethernet, no snapshot length.
                out.write_all(&[1, 0, 0, 0])?;
                out.write_all(&[0; 4])?;
                write_option(out, option::INTERFACE_NAME, name)?;
                write_option(out, option::TIME_RESOLUTION, &[9])?;
                write_option(out, option::END, &[])
            })?;
        }
        Ok(writer)
    }

    /// Appends a frame of the port at this position. Errors: those of the operating system, and `InvalidInput` for a port that
    /// was not given. Comments are cut at 65,535 bytes.
    pub fn write(&mut self, port: usize, record: &Record<'_>, seen: Seen, comment: Option<&str>) -> io::Result<()> {
        let Some(port) = u32::try_from(port).ok().filter(|port| *port < self.ports) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a packet of port {port} of {}", self.ports),
            ));
        };
        let bytes = record.bytes;
        let comment = comment.map(shortened);
        let options = comment.map_or(0, |comment| option_length(comment.len())) + option_length(4) + 4;
        let flags: u32 = match seen {
            Seen::Received => 1,
            Seen::Transmitted => 2,
        };
        self.block(6, 20 + bytes.len().next_multiple_of(4) + options, |out| {
            let time = record.time.0;
            for word in [port, (time >> 32) as u32, time as u32, bytes.len() as u32, record.original_length] {
                out.write_all(&word.to_le_bytes())?;
            }
            write_padded(out, bytes)?;
            if let Some(comment) = comment {
                write_option(out, option::COMMENT, comment)?;
            }
            write_option(out, option::PACKET_FLAGS, &flags.to_le_bytes())?;
            write_option(out, option::END, &[])
        })
    }

    /// Writes out what is buffered and gives the target back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// A block around a body of known length.
    fn block(&mut self, kind: u32, body: usize, write: impl FnOnce(&mut W) -> io::Result<()>) -> io::Result<()> {
        let total = (body as u32 + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&total)?;
        write(&mut self.out)?;
        self.out.write_all(&total)
    }
}

/// Bytes of an option with its header and padding.
const fn option_length(value: usize) -> usize {
    4 + value.next_multiple_of(4)
}

fn write_option(out: &mut impl Write, code: u16, value: &[u8]) -> io::Result<()> {
    out.write_all(&code.to_le_bytes())?;
    out.write_all(&(value.len() as u16).to_le_bytes())?;
    write_padded(out, value)
}

fn write_padded(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    out.write_all([0; 3].get(..padding).unwrap_or(&[]))
}

/// A text of at most the length that an option can say, cut between characters.
fn shortened(text: &str) -> &[u8] {
    let end = (0..=text.len().min(usize::from(u16::MAX))).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or("").as_bytes()
}
