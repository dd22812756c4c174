//! The binary as a user runs it: arguments and files in, output and exit codes out.

mod bad_input;
mod bench;
mod bench_pipeline;
mod bench_replay;
mod check;
mod explain;
mod replay;
mod run;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a command came to.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    fn of(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails unless the command ended with this exit code.
    #[track_caller]
    fn ended_with(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Fails unless standard error has this text.
    #[track_caller]
    fn said(self, text: &str) -> Done {
        assert!(self.err.contains(text), "expected `{text}` in {self:#?}");
        self
    }
}

/// The binary, free of what the environment may say about it.
fn ringwall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
    command.env_remove("RINGWALL_GATEWAY").env_remove("RINGWALL_LOG");
    command
}

/// Runs the binary with these arguments in a directory.
fn run_in<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>) -> Done {
    Done::of(ringwall().args(arguments).current_dir(directory).output().unwrap())
}

/// The same with standard input.
fn run_with_input<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>, input: &str) -> Done {
    let mut command = ringwall();
    command.args(arguments).current_dir(directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::of(child.wait_with_output().unwrap())
}

/// A file of this project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The directory of worked examples, or `None` with a word about it.
fn examples() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let shared = if Path::new(beside).exists() { beside.into() } else { std::env::var_os("RINGWALL_SHARED")? };
    let examples = Path::new(&shared).join("spec/examples");
    if !examples.exists() {
        println!("skipped: no {}", examples.display());
        return None;
    }
    Some(examples)
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

/// A gateway file without ports that loads `policies`.
const GATEWAY: &str = "apiVersion: ringwall/v1\nkind: Gateway\npolicy: [policies/]\n";

/// A policy document of a spec in block style, indented by two.
fn global(name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: {name}\nspec:\n{spec}\n")
}

/// Runs a command of a shell line and gives its output and the exit code of the binary, the first of the pipeline.
fn piped(directory: &Path, line: &str) -> Done {
    let script = format!("{line}; exit ${{PIPESTATUS[0]}}");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("RINGWALL", env!("CARGO_BIN_EXE_ringwall")).env_remove("RINGWALL_GATEWAY");
    Done::of(command.current_dir(directory).output().unwrap())
}

#[test]
fn wrong_usage_ends_with_2() {
    let here = directory(&[]);
    let check = |arguments: &[&str], said: &str| {
        let done = run_in(here.path(), arguments).ended_with(2).said(said);
        assert_eq!(done.out, "", "{arguments:?}");
    };
    check(&[], "Usage: ringwall");
    check(&["fly"], "unrecognized subcommand 'fly'");
    check(&["check", "--fly"], "unexpected argument '--fly'");
    check(&["check", "-o", "xml"], "invalid value 'xml'");
    check(&["check", "--set", "novalue"], "expected NAME=VALUE");
    check(&["explain"], "required arguments were not provided");
    check(&["explain", "--packets", "p.jsonl", "tcp 1.1.1.1:1 > 2.2.2.2:2"], "cannot be used with");
    check(&["explain", "--independent", "tcp 1.1.1.1:1 > 2.2.2.2:2"], "cannot be used with");
    check(&["explain", "--independent"], "required arguments were not provided");
    check(&["explain", "--in", "downlink", "--packets", "p.jsonl"], "cannot be used with");
    check(&["replay"], "--in <[PORT=]FILE>");
    check(&["replay", "--in", "uplnk=a.pcap"], "unknown port `uplnk`, did you mean `uplink`?");
    check(&["replay", "--in", "a.pcap", "--repeat", "0"], "0 is not in");
    check(&["replay", "--in", "a.pcap", "--workers", "65"], "65 is not in");
}

#[test]
fn help_and_completion_name_every_verb() {
    let here = directory(&[]);
    let help = run_in(here.path(), ["--help"]).ended_with(0).out;
    let script = run_in(here.path(), ["completion", "bash"]).ended_with(0).out;
    for verb in ["run", "replay", "explain", "check", "lab", "completion"] {
        assert!(help.contains(&format!("  {verb} ")), "{help}");
        assert!(script.contains(&format!("ringwall__subcmd__{verb}")) || script.contains(&format!("ringwall__{verb}")));
        run_in(here.path(), [verb, "--help"]).ended_with(0);
    }
    assert!(script.contains("complete -F _ringwall"), "{script}");
    let parsed = piped(here.path(), "\"$RINGWALL\" completion bash | bash -n").ended_with(0);
    assert_eq!(parsed.err, "");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let packet = "{\"in\":\"uplink\",\"src\":\"1.1.1.1\",\"dst\":\"10.0.0.1\",\"proto\":\"udp\",\"dport\":53}\n";
    let here = directory(&[
        ("gateway.yaml", GATEWAY),
        ("policies/p.yaml", &global("p", "  selector: all()")),
        ("many.jsonl", &packet.repeat(20_000)),
    ]);
    let capture = project("pcaps/uplink.pcap").display().to_string();
    let check = |arguments: &str, reader: &str, code: i32| {
        let done = piped(here.path(), &format!("\"$RINGWALL\" {arguments} | {reader}")).ended_with(code);
        assert_eq!(done.err, "", "{arguments}");
    };
    check("explain --packets many.jsonl -o json", "head -1", 0);
    check("explain --packets many.jsonl", "head -1", 0);
    check("explain 'udp 1.1.1.1:1 > 10.0.0.1:53'", "true", 0);
    check("explain 'udp 1.1.1.1:1 > 10.0.0.1:53' -o json", "true", 0);
    check("check", "true", 0);
    check("check -o json", "true", 0);
    check("completion bash", "true", 0);
    check(&format!("replay --in uplink='{capture}'"), "true", 0);
    let full = piped(here.path(), "\"$RINGWALL\" check > /dev/full").ended_with(5);
    assert_eq!(full.err, "error: cannot write the result: No space left on device (os error 28)\n");
}
