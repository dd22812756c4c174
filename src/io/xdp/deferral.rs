//! An interface and how long its interrupts may wait in, the promise that they do out, until it is dropped.

use std::fs;
use std::path::{Path, PathBuf};

use super::open::BusyPoll;

/// Settings of an interface in sysfs, changed until dropped.
///
/// A process that is killed cannot put them back; the next that ends in order puts back what it found, which is the same.
pub(super) struct Deferral {
    /// Files with what they said before, in the order of the changes.
    found: Vec<(PathBuf, String)>,
}

impl Deferral {
    /// Changes what `wanted` asks for and is different in `directory`, `/sys/class/net/` with the interface; what cannot be
    /// changed is a warning.
    pub(super) fn keep(directory: &Path, wanted: &BusyPoll, warnings: &mut Vec<String>) -> Deferral {
        let mut found = Vec::new();
        let settings =
            [("napi_defer_hard_irqs", wanted.napi_defer_hard_irqs), ("gro_flush_timeout", wanted.gro_flush_timeout)];
        for (name, value) in settings {
            let Some(value) = value.map(|value| value.to_string()) else { continue };
            let path = directory.join(name);
            let change = fs::read_to_string(&path).and_then(|before| {
                let before = before.trim().to_owned();
                if before == value {
                    return Ok(None);
                }
                fs::write(&path, &value).map(|()| Some(before))
            });
            match change {
                Ok(Some(before)) => found.push((path, before)),
                Ok(None) => {}
                Err(error) => warnings.push(format!(
                    "interrupts of the interface are not deferred: `{path}`: {error}; `echo {value} > {path}` as root, on Linux \
                     5.11 or later with a writable /sys",
                    path = path.display()
                )),
            }
        }
        Deferral { found }
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        for (path, before) in self.found.drain(..).rev() {
            // The interface may be gone; then there is nothing to put back.
            let _ = fs::write(path, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_put_back_and_what_cannot_be_changed_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        fs::write(directory.path().join("napi_defer_hard_irqs"), "7\n").unwrap();
        let wanted =
            BusyPoll { napi_defer_hard_irqs: Some(2), gro_flush_timeout: Some(200_000), ..BusyPoll::default() };
        let mut warnings = Vec::new();
        let deferral = Deferral::keep(directory.path(), &wanted, &mut warnings);
        assert_eq!(read("napi_defer_hard_irqs"), "2");
        assert!(warnings.len() == 1 && warnings[0].contains("echo 200000 > "), "{warnings:?}");
        drop(deferral);
        assert_eq!(read("napi_defer_hard_irqs"), "7");
    }
}
