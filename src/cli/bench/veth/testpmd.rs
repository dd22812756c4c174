//! The lab in, DPDK's forwarder running between the gateway's ports out, and what it says at its end about the cost of a packet.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::io::xdp::Interface;
use crate::lab::place::{Lab, Place};
use crate::lab::topology::{DOWNLINK, UPLINK};
use crate::lab::{LabError, namespace};

/// The name under which Debian installs it.
const TESTPMD: &str = "dpdk-testpmd";
/// How long it may take until it forwards, or ends.
const PATIENCE: Duration = Duration::from_secs(15);
/// From its programs on both ports to its loop.
const SETTLING: Duration = Duration::from_secs(1);

/// DPDK's forwarder as a process; ends when dropped.
pub struct Testpmd {
    child: Child,
    /// What it says.
    said: PathBuf,
}

impl Testpmd {
    /// Whether it is installed.
    pub fn is_installed() -> bool {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(TESTPMD).is_file())
    }

    /// Starts it in the gateway's namespace and waits until it forwards.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(lab: &Lab, core: Option<usize>) -> Result<Testpmd, LabError> {
        // The first core is for its talk, the second forwards.
        let cores = format!("0,{}", core.unwrap_or(0).max(1));
        let ports = [UPLINK, DOWNLINK].into_iter().enumerate();
        let devices = ports.map(|(number, port)| format!("--vdev=net_af_xdp{number},iface={port},force_copy=1"));
        let prefix = format!("--file-prefix={}", lab.prefix());
        let said = lab.directory().join("testpmd.txt");
        let out = File::create(&said).map_err(|e| LabError::file(&said, e))?;
        let child = Command::new("ip")
            .args(["netns", "exec", &lab.namespace(Place::Gateway), TESTPMD])
            .args(["--no-pci", "--no-huge", "--no-shconf", "-m", "512", "-l", &cores, &prefix])
            .args(devices)
            .args(["--", "--forward-mode=io", "--auto-start", "--nb-cores=1", "--total-num-mbufs=65536"])
            .args(["--rxd=2048", "--txd=2048", "--burst=64", "--record-core-cycles"])
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| LabError::system(format!("starting `{TESTPMD}`"), e))?;
        let mut running = Testpmd { child, said };
        let gateway = lab.namespace(Place::Gateway);
        let has_program = |port| Interface::query(port).is_ok_and(|interface| !interface.programs.is_empty());
        let begun = Instant::now();
        while matches!(running.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            if namespace::inside(&gateway, || [UPLINK, DOWNLINK].into_iter().all(has_program))? {
                // What it says goes to a file only when it ends, so that it forwards must be guessed.
                thread::sleep(SETTLING);
                return Ok(running);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let message = format!("`{TESTPMD}` does not forward: try it in `ip netns exec {gateway}`");
        Err(LabError::Gateway { message, exit: Some(5) })
    }

    /// Ends it; returns the nanoseconds per packet of its turns that moved frames.
    pub fn end(mut self) -> Option<f64> {
        self.finish();
        cost(&fs::read_to_string(&self.said).ok()?)
    }

    /// It ends in order when somebody presses enter; otherwise it is ended.
    fn finish(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Nanoseconds per packet from a line such as `CPU cycles/packet=2310.60 (total cycles=46212 / total io packets=20) at 2100 MHz Clock`.
fn cost(said: &str) -> Option<f64> {
    let (_, line) = said.rsplit_once("CPU cycles/packet=")?;
    let line = line.lines().next()?;
    let cycles: f64 = line.split_whitespace().next()?.parse().ok()?;
    let megahertz: f64 = line.split_once(" at ")?.1.split_whitespace().next()?.parse().ok()?;
    (megahertz > 0.0).then(|| cycles * 1e3 / megahertz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_read_as_nanoseconds() {
        let said = "  stats\n  CPU cycles/packet=2100.50 (total cycles=42010 / total io packets=20) at 2100 MHz Clock\n\nBye...\n";
        assert!(cost(said).is_some_and(|ns| (ns - 1000.238).abs() < 0.01), "{:?}", cost(said));
        assert_eq!(cost("Bye..."), None);
        assert_eq!(cost("CPU cycles/packet=12"), None);
    }
}
