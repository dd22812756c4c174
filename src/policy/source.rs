//! Paths in, texts out: collects policy files from files and directories in a fixed order.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::diagnostic::{Diagnostic, Diagnostics};

/// Endings of files that a directory contributes.
pub const ENDINGS: &[&str] = &["yaml", "yml", "json", "ibmcloud"];

/// Levels of directories that are entered.
const MAX_LEVELS: usize = 32;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as shown to the user.
    pub path: Arc<str>,
    /// Its text.
    pub text: String,
    /// The folder it was read from, where paths inside it start; `None` for a text that is no file.
    pub directory: Option<PathBuf>,
}

impl Source {
    /// A text under a name.
    pub fn new(path: impl Into<Arc<str>>, text: impl Into<String>) -> Source {
        Source { path: path.into(), text: text.into(), directory: None }
    }

    /// Whether it holds `ibmcloud is` commands rather than documents (GW-34).
    pub fn is_script(&self) -> bool {
        self.path.ends_with(".ibmcloud")
    }
}

/// Reads files and, recursively, directories. Relative paths start at `base`, but are shown as given. Within a directory, files
/// come in the byte order of their paths; hidden entries are left out. A path that is named is read whatever its ending; a file
/// that is reached twice is read once. What cannot be read is an error in `out`.
pub fn collect(paths: &[PathBuf], base: &Path, out: &mut Diagnostics) -> Vec<Source> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if base.join(path).is_dir() {
            let before = files.len();
            walk(path, base, 0, &mut files, out);
            let found = files.get_mut(before..).unwrap_or_default();
            found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
            if found.is_empty() {
                let message = format!("directory `{}` holds no policy file", path.display());
                let endings: Vec<String> = ENDINGS.iter().map(|ending| format!("`.{ending}`")).collect();
                let help = format!("policy files end in {}", endings.join(", "));
                out.push(Diagnostic::warning("empty-directory", message).help(help));
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(fs::canonicalize(base.join(file)).unwrap_or_else(|_| file.clone())));
    files.iter().filter_map(|file| read(file, base, out)).collect()
}

fn walk(directory: &Path, base: &Path, depth: usize, files: &mut Vec<PathBuf>, out: &mut Diagnostics) {
    // A symbolic link may lead back to a directory above.
    if depth > MAX_LEVELS {
        let message = format!("directory `{}` nests too deep", directory.display());
        return out
            .push(Diagnostic::error("unreadable-file", message).help("look for a symbolic link to a directory above"));
    }
    let entries = match fs::read_dir(base.join(directory)) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("directory `{}` cannot be read: {}", directory.display(), reason(&error));
            return out.push(Diagnostic::error("unreadable-file", message));
        }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_name().to_string_lossy().starts_with('.') => {}
            Ok(entry) => paths.push(directory.join(entry.file_name())),
            Err(error) => {
                let message = format!("directory `{}` cannot be read: {}", directory.display(), reason(&error));
                out.push(Diagnostic::error("unreadable-file", message));
            }
        }
    }
    for path in paths {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if base.join(&path).is_dir() {
            walk(&path, base, depth + 1, files, out);
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            files.push(path);
        }
    }
}

fn read(path: &Path, base: &Path, out: &mut Diagnostics) -> Option<Source> {
    let shown = path.strip_prefix(".").unwrap_or(path).display();
    let full = base.join(path);
    let fault = |message: String| Diagnostic::error("unreadable-file", message);
    let bytes = match fs::metadata(&full) {
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            out.push(too_large(&shown.to_string()));
            return None;
        }
        // The length of what is no regular file is not known before.
        Ok(_) => fs::File::open(&full).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map(|_| bytes)
        }),
        Err(error) => Err(error),
    };
    if bytes.as_ref().is_ok_and(|bytes| bytes.len() as u64 > MAX_BYTES) {
        out.push(too_large(&shown.to_string()));
        return None;
    }
    match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => {
            let directory = full.parent().map(Path::to_path_buf);
            Some(Source { directory, ..Source::new(shown.to_string(), text) })
        }
        Ok(Err(error)) => {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            out.push(fault(format!("`{shown}` is not UTF-8 text (line {line})")).help("save it as UTF-8"));
            None
        }
        Err(error) => {
            out.push(fault(format!("`{shown}` cannot be read: {}", reason(&error))));
            None
        }
    }
}

fn too_large(shown: &str) -> Diagnostic {
    Diagnostic::error("unreadable-file", format!("`{shown}` is larger than {} MiB", MAX_BYTES >> 20))
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_string(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_in_path_order_and_shown_as_given() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("policies/b.yaml", b"b");
        write("policies/a/z.YML", b"z");
        write("policies/a-1.json", b"1");
        write("policies/notes.txt", b"");
        write("policies/.git/x.yaml", b"");
        write("named.txt", b"n");
        write("empty/readme", b"");
        write("bad.yaml", b"a: 1\nb: \xff\n");
        let check = |paths: &[&str], shown: &[&str], expected: &[&str]| {
            let mut out = Diagnostics::new();
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            let sources = collect(&paths, root.path(), &mut out);
            assert_eq!(sources.iter().map(|s| &*s.path).collect::<Vec<_>>(), shown);
            assert_eq!(out.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        };
        check(&["policies/"], &["policies/a-1.json", "policies/a/z.YML", "policies/b.yaml"], &[]);
        check(
            &["./policies", "named.txt"],
            &["policies/a-1.json", "policies/a/z.YML", "policies/b.yaml", "named.txt"],
            &[],
        );
        check(&["policies/b.yaml", "policies"], &["policies/b.yaml", "policies/a-1.json", "policies/a/z.YML"], &[]);
        check(&["gone.yaml"], &[], &["error: `gone.yaml` cannot be read: no such file or directory"]);
        let endings = "policy files end in `.yaml`, `.yml`, `.json`, `.ibmcloud`";
        check(&["empty"], &[], &[&format!("warning: directory `empty` holds no policy file ({endings})")]);
        check(&["bad.yaml"], &[], &["error: `bad.yaml` is not UTF-8 text (line 2) (save it as UTF-8)"]);
    }
}
