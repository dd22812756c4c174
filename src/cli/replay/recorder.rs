//! Judged frames in, verdict lines and captures of what passed and what was dropped out.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{ReplayArguments, ReplayError};
use crate::base::id::WorkerId;
use crate::cli::verdict::Line as VerdictLine;
use crate::engine::{Program, Verdict};
use crate::io::pcap::{PcapngWriter, Record, Seen};
use crate::worker::{Judged, Tap};

/// Where frames and verdicts are written on the way.
pub(super) struct Recorder<'a> {
    program: &'a Program,
    verdicts: Verdicts,
    passed: Option<(String, PcapngWriter<BufWriter<File>>)>,
    dropped: Option<(String, PcapngWriter<BufWriter<File>>)>,
    /// Added to the number of each packet.
    pub offset: u64,
    /// What went wrong first; nothing is written after it.
    pub error: Option<ReplayError>,
}

enum Verdicts {
    None,
    File(String, BufWriter<File>),
    Kept(Vec<(u64, String)>),
}

impl<'a> Recorder<'a> {
    /// What the arguments ask to be written by one worker; `None` when they ask for nothing.
    pub fn create(
        arguments: &ReplayArguments,
        program: &'a Program,
        worker: WorkerId,
    ) -> Result<Option<Recorder<'a>>, ReplayError> {
        if arguments.verdicts.is_none() && arguments.passed.is_none() && arguments.dropped.is_none() {
            return Ok(None);
        }
        let is_alone = arguments.workers == 1;
        let ports = ["uplink", "downlink"];
        let name = |path: &Path| if is_alone { path.to_path_buf() } else { numbered(path, worker) };
        let pcapng = |path: &Option<PathBuf>| match path {
            Some(path) => {
                let path = name(path);
                let shown = path.display().to_string();
                let writer = PcapngWriter::create(&path, &ports).map_err(|e| ReplayError::Write(shown.clone(), e))?;
                Ok::<_, ReplayError>(Some((shown, writer)))
            }
            None => Ok(None),
        };
        let verdicts = match &arguments.verdicts {
            Some(path) if is_alone => Verdicts::File(path.display().to_string(), create(path)?),
            Some(_) => Verdicts::Kept(Vec::new()),
            None => Verdicts::None,
        };
        let (passed, dropped) = (pcapng(&arguments.passed)?, pcapng(&arguments.dropped)?);
        Ok(Some(Recorder { program, verdicts, passed, dropped, offset: 0, error: None }))
    }

    /// Writes out what is buffered; returns the lines that were kept, with the numbers of their packets.
    pub fn finish(self) -> Result<Vec<(u64, String)>, ReplayError> {
        let kept = match self.verdicts {
            Verdicts::None => Vec::new(),
            Verdicts::File(name, mut out) => {
                out.flush().map_err(|e| ReplayError::Write(name, e))?;
                Vec::new()
            }
            Verdicts::Kept(lines) => lines,
        };
        for (name, writer) in [self.passed, self.dropped].into_iter().flatten() {
            let flushed = writer.finish().and_then(|mut out| out.flush());
            flushed.map_err(|e| ReplayError::Write(name, e))?;
        }
        Ok(kept)
    }

    fn write(&mut self, seen: &Judged<'_>) -> Result<(), ReplayError> {
        let n = seen.number + self.offset;
        let line = |program| VerdictLine::new(program, n, seen.decision);
        match &mut self.verdicts {
            Verdicts::None => {}
            Verdicts::File(name, out) => {
                writeln!(out, "{}", line(self.program).json()).map_err(|e| ReplayError::Write(name.clone(), e))?;
            }
            Verdicts::Kept(lines) => lines.push((n, line(self.program).json())),
        }
        let (target, comment) = match seen.decision.verdict() {
            Verdict::Allow => (&mut self.passed, None),
            Verdict::Deny => (&mut self.dropped, Some(line(self.program).comment())),
        };
        if let Some((name, writer)) = target {
            let record = Record { time: seen.now, bytes: seen.frame, original_length: seen.frame.len() as u32 };
            writer
                .write(seen.direction as usize, &record, Seen::Received, comment.as_deref())
                .map_err(|e| ReplayError::Write(name.clone(), e))?;
        }
        Ok(())
    }
}

impl Tap for Recorder<'_> {
    fn judged(&mut self, seen: Judged<'_>) {
        if self.error.is_none() {
            self.error = self.write(&seen).err();
        }
    }
}

pub(super) fn create(path: &Path) -> Result<BufWriter<File>, ReplayError> {
    File::create(path)
        .map(|file| BufWriter::with_capacity(1 << 18, file))
        .map_err(|e| ReplayError::Write(path.display().to_string(), e))
}

/// `drops.pcapng` of worker 1 is `drops.1.pcapng`.
fn numbered(path: &Path, worker: WorkerId) -> PathBuf {
    let ending = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    path.with_extension(format!("{}{ending}", worker.0))
}
