//! The house rules that a machine can check, over all files under `src`. Every finding says what to do.
//!
//! Each rule is a function from a file's path and text to findings, and has a small bad example of its own at the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms in the order of the data, and the rooms that each may use besides itself. `base` is for all.
const ROOMS: [(&str, &[&str]); 11] = [
    ("base", &[]),
    ("policy", &[]),
    ("compile", &["policy", "engine", "packet"]),
    ("packet", &[]),
    ("engine", &["packet"]),
    ("io", &[]),
    ("worker", &["packet", "io", "engine", "config"]),
    ("config", &[]),
    ("control", &["policy", "compile", "packet", "engine", "io", "worker", "config"]),
    ("lab", &["packet", "io", "config"]),
    ("cli", &["policy", "compile", "packet", "engine", "io", "worker", "config", "control", "lab"]),
];

/// Rooms of `policy` that each read one format. What they share lies outside of them.
const FORMATS: [&str; 5] = ["calico", "kubernetes", "v1", "vpc", "script"];

/// Files under `src` that belong to no room.
const ROOF: [&str; 2] = ["lib.rs", "main.rs"];

/// Names that say nothing about a subject.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];

/// Most lines of a file.
const LONGEST_FILE: usize = 600;

/// A finding with its place and the cure.
type Findings = Vec<String>;

/// One rule: the path below `src`, with `/`, and the text.
type Rule = fn(&str, &str) -> Findings;

const RULES: [(&str, Rule); 10] = [
    ("rooms use only the rooms below them", imports_follow_the_table),
    ("formats do not know each other", formats_are_strangers),
    ("every file is in a room", every_file_is_in_a_room),
    ("names say what is inside", names_say_something),
    ("files are short", files_are_short),
    ("files say what comes in and out", files_introduce_themselves),
    ("unsafe stays in io", unsafe_stays_in_io),
    ("no heavy instructions", no_heavy_instructions),
    ("time is an argument", clocks_are_read_outside),
    ("the packet line has no way to fail", no_shortcuts),
];

#[test]
fn the_house_is_in_order() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut findings = Findings::new();
    let files = rust_files(&source);
    assert!(files.len() > ROOMS.len(), "no files under {}", source.display());
    for path in files {
        let name = path.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap();
        for (_, rule) in RULES {
            findings.extend(rule(&name, &text));
        }
    }
    assert!(findings.is_empty(), "{} findings:\n  {}", findings.len(), findings.join("\n  "));
}

#[test]
fn the_map_names_every_room() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let map: String = text.lines().filter(|line| line.starts_with("//!")).collect();
    for (room, _) in ROOMS {
        assert!(text.contains(&format!("pub mod {room};")), "src/lib.rs: declare `pub mod {room};`");
        assert!(
            map.contains(&format!("`{room}`")),
            "src/lib.rs: say in its `//!` what `{room}` is for and must not know"
        );
    }
    let declared: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for room in declared {
        let is_known = ROOMS.iter().any(|(known, _)| *known == room);
        assert!(
            is_known,
            "src/lib.rs: `{room}` is no room: add it to ROOMS here and to the page in src/lib.rs, or move it into one"
        );
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn room_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or_default()
}

/// The lines that are code, numbered from 1: no comments, and no string that spans lines is expected to hold code.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// As [`code`], up to the unit tests at the end of the file; nothing of a file of tests.
fn code_without_tests<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
    code(text).take_while(move |(_, line)| !is_test && line.trim() != "#[cfg(test)]")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The names that follow `prefix::` in a line, one level of braces opened.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let is_whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            _ if !is_whole => {}
            Some(group) => names.extend(group.split(',').filter_map(|item| words(item).next())),
            None => names.extend(words(rest).next()),
        }
    }
    names
}

fn imports_follow_the_table(path: &str, text: &str) -> Findings {
    let room = room_of(path);
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else { return Findings::new() };
    let is_room = |name: &str| ROOMS.iter().any(|(room, _)| *room == name);
    let mut findings = Findings::new();
    for (number, line) in code(text) {
        for used in names_after(line, "crate::") {
            if is_room(used) && used != room && used != "base" && !allowed.contains(&used) {
                findings.push(format!(
                    "src/{path}:{number}: `{room}` must not know `{used}`: move the shared type to `base`, or the code to a room \
                     that may use both (src/lib.rs has the table)"
                ));
            }
        }
    }
    findings
}

fn formats_are_strangers(path: &str, text: &str) -> Findings {
    let mut parts = path.split(['/', '.']);
    let (Some("policy"), Some(own)) = (parts.next(), parts.next()) else { return Findings::new() };
    if !FORMATS.contains(&own) {
        return Findings::new();
    }
    let mut findings = Findings::new();
    for (number, line) in code(text) {
        for prefix in ["policy::", "super::"] {
            for used in names_after(line, prefix).into_iter().filter(|used| FORMATS.contains(used) && *used != own) {
                findings.push(format!(
                    "src/{path}:{number}: format `{own}` must not know format `{used}`: move what they share to a file of \
                     `policy` outside of both"
                ));
            }
        }
    }
    findings
}

fn every_file_is_in_a_room(path: &str, _: &str) -> Findings {
    let is_at_home = ROOF.contains(&path) || ROOMS.iter().any(|(room, _)| *room == room_of(path));
    if is_at_home && (ROOF.contains(&path) || path.contains('/')) {
        return Findings::new();
    }
    vec![format!("src/{path}: lies in no room: move it into one, or name a new room in src/lib.rs and in ROOMS here")]
}

fn names_say_something(path: &str, _: &str) -> Findings {
    let parts = path.trim_end_matches(".rs").split('/');
    let empty = parts.filter(|part| EMPTY_NAMES.contains(part));
    empty
        .map(|part| format!("src/{path}: `{part}` says nothing: name the file after the subject of what is inside"))
        .collect()
}

fn files_are_short(path: &str, text: &str) -> Findings {
    let lines = text.lines().count();
    if lines <= LONGEST_FILE {
        return Findings::new();
    }
    vec![format!(
        "src/{path}: {lines} lines, {LONGEST_FILE} at most: move the unit tests to `tests.rs` in a directory of the file's name, \
         or divide the file by subject"
    )]
}

fn files_introduce_themselves(path: &str, text: &str) -> Findings {
    let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
    if is_test || text.starts_with("//! ") {
        return Findings::new();
    }
    vec![format!("src/{path}:1: begin with a `//!` line that says what comes in and what goes out")]
}

/// Files outside of `io` that wrap one instruction each: a hint to the cache, loads from many places of a slice at once, after the
/// places were compared with its length, and none at all between the halves of a vector.
const INSTRUCTIONS: [&str; 3] = ["base/prefetch.rs", "base/wide/unjoined.rs", "engine/program/gather.rs"];

fn unsafe_stays_in_io(path: &str, text: &str) -> Findings {
    let mut findings = Findings::new();
    let opens = |line: &str| words(line).any(|word| word == "unsafe" || word == "unsafe_code");
    for (number, line) in code(text).filter(|(_, line)| opens(line)) {
        let is_root = path == "lib.rs" && line.trim() == "#![deny(unsafe_code)]";
        if room_of(path) != "io" && !INSTRUCTIONS.contains(&path) && !is_root {
            findings.push(format!(
                "src/{path}:{number}: `unsafe` belongs into `io`: use a safe wrapper from a crate, or put the call there behind a \
                 safe function. Only {} have their own, as no crate wraps these instructions and `engine` may not call `io`",
                INSTRUCTIONS.join(", ")
            ));
        }
    }
    findings
}

/// A core of Intel's runs slower for a while after instructions of these kinds on 512 bits, whatever it runs. `bench/heavy` looks for
/// them in the program itself.
fn no_heavy_instructions(path: &str, text: &str) -> Findings {
    const HEAVY: [&str; 7] = ["_mul", "_madd", "_lzcnt", "_fm", "_fnm", "_div", "_sqrt"];
    let mut findings = Findings::new();
    for (number, line) in code(text) {
        for word in words(line).filter(|word| word.starts_with("_mm512_")) {
            if HEAVY.iter().any(|kind| word["_mm512".len()..].contains(kind)) {
                findings
                    .push(format!("src/{path}:{number}: `{word}` is slow for all that follows: take it for each half"));
            }
        }
    }
    findings
}

fn clocks_are_read_outside(path: &str, text: &str) -> Findings {
    if ["worker", "control", "lab", "cli", "io"].contains(&room_of(path)) {
        return Findings::new();
    }
    let clocks = ["Instant::now", "SystemTime::now", "elapsed()"];
    let reads = code_without_tests(path, text).filter(|(_, line)| clocks.iter().any(|clock| line.contains(clock)));
    reads
        .map(|(number, _)| {
            format!("src/{path}:{number}: reads a clock: take the time as an argument (`base::time::Now`)")
        })
        .collect()
}

/// What must not be in code that sees packets or files of others, in any room.
fn no_shortcuts(path: &str, text: &str) -> Findings {
    const SHORTCUTS: [(&str, &str); 5] = [
        (".unwrap()", "handle the case, or say with `expect(\"why this cannot be\")` why there is none"),
        ("todo!", "do it, or leave it out"),
        ("unimplemented!", "do it, or leave it out"),
        ("dbg!", "take it out"),
        ("panic!(", "return an outcome or an error"),
    ];
    let mut findings = Findings::new();
    for (number, line) in code_without_tests(path, text) {
        for (shortcut, cure) in SHORTCUTS.iter().filter(|(shortcut, _)| line.contains(shortcut)) {
            findings.push(format!("src/{path}:{number}: `{shortcut}` outside of tests: {cure}"));
        }
    }
    findings
}

#[test]
fn every_rule_finds_its_bad_example() {
    let long = "//! x\n".repeat(LONGEST_FILE + 1);
    let examples: [(Rule, &str, &str, usize); 34] = [
        (imports_follow_the_table, "io/port.rs", "use crate::policy::ir;\n", 1),
        (imports_follow_the_table, "io/port.rs", "use crate::{base::id, engine::Engine};\n", 1),
        (imports_follow_the_table, "worker/line.rs", "let x = crate::cli::run();\n", 1),
        (imports_follow_the_table, "worker/line.rs", "use crate::engine::Engine; // crate::policy\n", 0),
        (imports_follow_the_table, "cli/run.rs", "use crate::control::Daemon;\n", 0),
        (imports_follow_the_table, "cli/run.rs", "//! [`crate::nothing`]\n", 0),
        (formats_are_strangers, "policy/calico/rule.rs", "use crate::policy::kubernetes::Pod;\n", 1),
        (formats_are_strangers, "policy/vpc.rs", "use super::v1::Rule;\n", 1),
        (formats_are_strangers, "policy/v1/rule.rs", "use crate::policy::ir;\nuse super::rule;\n", 0),
        (formats_are_strangers, "policy/load.rs", "use crate::policy::{calico, v1};\n", 0),
        (every_file_is_in_a_room, "shed/tool.rs", "", 1),
        (every_file_is_in_a_room, "packet.rs", "", 1),
        (every_file_is_in_a_room, "main.rs", "", 0),
        (names_say_something, "io/utils.rs", "", 1),
        (names_say_something, "io/common/mod.rs", "", 1),
        (files_are_short, "io/port.rs", &long, 1),
        (files_introduce_themselves, "io/port.rs", "use std::fmt;\n", 1),
        (files_introduce_themselves, "io/port/tests.rs", "use std::fmt;\n", 0),
        (unsafe_stays_in_io, "engine/mod.rs", "let x = unsafe { y };\n", 1),
        (unsafe_stays_in_io, "engine/mod.rs", "#![allow(unsafe_code)]\n", 1),
        (unsafe_stays_in_io, "io/sys.rs", "unsafe { y }\n", 0),
        (unsafe_stays_in_io, "base/prefetch.rs", "unsafe { y }\n", 0),
        (unsafe_stays_in_io, "base/pages.rs", "unsafe { y }\n", 1),
        (unsafe_stays_in_io, "engine/program/isa.rs", "unsafe { y }\n", 1),
        (unsafe_stays_in_io, "base/wide/avx512.rs", "unsafe { y }\n", 1),
        (no_heavy_instructions, "base/wide/avx512.rs", "let x = isa._mm512_mul_epu32(a, b);\n", 1),
        (no_heavy_instructions, "base/wide/avx512.rs", "let x = isa._mm512_mask_lzcnt_epi32(a, k, b);\n", 1),
        (
            no_heavy_instructions,
            "base/wide/avx512.rs",
            "let x = isa._mm256_mul_epu32(isa._mm512_add_epi32(a, b));\n",
            0,
        ),
        (clocks_are_read_outside, "engine/mod.rs", "let now = Instant::now();\n", 1),
        (clocks_are_read_outside, "engine/mod.rs", "#[cfg(test)]\nlet now = Instant::now();\n", 0),
        (no_shortcuts, "packet/parse.rs", "let x = y.unwrap();\n", 1),
        (no_shortcuts, "packet/parse.rs", "todo!()\n", 1),
        (no_shortcuts, "packet/parse.rs", "#[cfg(test)]\nmod tests { fn f() { y.unwrap() } }\n", 0),
        (no_shortcuts, "packet/parse/tests.rs", "y.unwrap()\n", 0),
    ];
    for (rule, path, text, expected) in examples {
        assert_eq!(rule(path, text).len(), expected, "{path}: {text:.80}");
    }
    let tried: BTreeSet<usize> = examples.iter().filter(|e| e.3 > 0).map(|e| e.0 as usize).collect();
    for (name, rule) in RULES {
        assert!(tried.contains(&(rule as usize)), "rule `{name}` has no bad example");
    }
}

#[test]
fn the_table_has_no_circle() {
    // A room may use only rooms that can be finished before it.
    let mut finished: BTreeSet<&str> = BTreeSet::new();
    for _ in ROOMS {
        let ready = ROOMS.iter().filter(|(_, uses)| uses.iter().all(|used| finished.contains(used)));
        let ready: Vec<_> = ready.map(|(room, _)| *room).collect();
        finished.extend(ready);
    }
    assert_eq!(finished.len(), ROOMS.len(), "rooms that use each other: {ROOMS:?}");
}
