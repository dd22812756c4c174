//! `ringwall bench veth` as a user runs it: short runs whose table, JSON and page tell the same, and runs that a signal ends, which
//! leave nothing behind. Needs root, iproute2 and AF_XDP; skips with a printed reason otherwise. No figure is judged here.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// One bench at a time: each wants two cores.
static TURN: Mutex<()> = Mutex::new(());

/// A bench with names of its own; what it leaves is removed whatever happens.
struct Bench {
    prefix: String,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// `None` where this machine cannot have one.
    fn new(name: &str) -> Option<Bench> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = Bench { prefix: format!("rwv{}-{name}-", std::process::id()), _turn: turn };
        let up = bench.lab("up");
        if up.status.code() == Some(5) {
            println!("skipped: {}", String::from_utf8_lossy(&up.stderr));
            return None;
        }
        assert!(up.status.success() && bench.lab("down").status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        Some(bench)
    }

    fn lab(&self, verb: &str) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        command.args(["lab", "--prefix", &self.prefix, verb]).output().unwrap()
    }

    fn start(&self, directory: &Path, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        command.args(["bench", "veth", "--prefix", &self.prefix, "--quick"]).args(arguments).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Namespaces, links and directories of this bench.
    fn remains(&self) -> Vec<String> {
        let listed = |arguments: &[&str]| {
            let output = Command::new("ip").args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<String>>()
        };
        let mut remains = listed(&["netns", "list"]);
        remains.extend(listed(&["-o", "link"]));
        remains.retain(|line| line.contains(&self.prefix));
        let below = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| "/run".into());
        let state = Path::new(&below).join("ringwall-lab").join(&self.prefix);
        remains.extend(state.exists().then(|| state.display().to_string()));
        remains
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.lab("down");
    }
}

/// Short and few: all parts of a run, none of them for its figures, and a rate for each however busy the machine is.
const SHORT: [&str; 18] = [
    "--trial",
    "0.1",
    "--rules",
    "20",
    "--flows",
    "20",
    "--attempts",
    "1",
    "--tolerance",
    "0.5",
    "--resolution",
    "0.3",
    "--fixed-rate",
    "5k",
    "--reloads",
    RELOADS,
    "--ways",
    "both,inbound,outbound",
];
const RELOADS: &str = "2";
const RINGWALL: [&str; 2] = ["--only", "ringwall"];
const BARE: [&str; 2] = ["--only", "bare"];

#[test]
fn table_json_and_page_tell_every_part_of_a_run() {
    let Some(bench) = Bench::new("all") else { return };
    let directory = tempfile::tempdir().unwrap();
    let run =
        bench.start(directory.path(), &[&SHORT[..], &RINGWALL, &["--report", "page.html", "-o", "json"]].concat());
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // How much there is to do and how long it takes, at the start; then with each step, which of how many it is.
    let all = said.lines().filter(|line| line.starts_with('[')).count();
    assert!(said.contains(&format!("{all} steps, about ")), "{said}");
    let is_counted = |(at, line): (usize, &str)| {
        let place = line.trim_start_matches(['[', ' ']).split_once(',').map(|(place, _)| place.to_owned());
        place == Some(format!("{}/{all}", at + 1)) && line.contains(" left] ")
    };
    assert!(said.lines().filter(|line| line.starts_with('[')).enumerate().all(is_counted), "{said}");
    assert_eq!(bench.remains(), Vec::<String>::new());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let page = std::fs::read_to_string(directory.path().join("page.html")).unwrap();
    let forwarders = ["bare AF_XDP forwarder", "ringwall, 20 rules, stateless", "ringwall, 20 rules, stateful"];

    // Time inside the box, for each queue at half and at nine tenths of the zero-loss rate.
    let rows = told["latencies"].as_array().unwrap();
    let seen: Vec<(&str, u64, u64)> = rows
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_u64().unwrap();
            (row["forwarder"].as_str().unwrap(), number("percent"), number("queue"))
        })
        .collect();
    let expected: Vec<(&str, u64, u64)> = forwarders.iter().flat_map(|&name| [(name, 50, 0), (name, 90, 0)]).collect();
    assert_eq!(seen, expected);
    for row in rows {
        for side in ["inside", "one_way"] {
            let percentiles = &row[format!("{side}_ns")];
            let values: Vec<u64> =
                ["p50", "p99", "p999", "max"].iter().map(|name| percentiles[name].as_u64().unwrap()).collect();
            assert!(values[0] > 0 && values.is_sorted(), "{side}: {row}");
            let histogram = row[format!("{side}_histogram")].as_array().unwrap();
            assert!(!histogram.is_empty(), "{side}: {row}");
            // The same in microseconds, in one line of the table.
            let what = if side == "inside" { "inside the box" } else { "generator to generator" };
            let told: Vec<String> = values.iter().map(|&ns| format!("{:.1}", ns as f64 / 1e3)).collect();
            let words = [row["forwarder"].as_str().unwrap(), &format!("{} %", row["percent"]), what];
            let is_it = |line: &&str| {
                words.iter().chain(&told.iter().map(String::as_str).collect::<Vec<_>>()).all(|word| line.contains(word))
            };
            assert!(page.lines().any(|line| is_it(&line)), "no line of the table with {words:?} {told:?}");
        }
    }
    let names = |part: &str| -> Vec<&str> {
        told[part].as_array().unwrap().iter().map(|row| row["forwarder"].as_str().unwrap()).collect()
    };
    assert_eq!(names("curves"), forwarders);
    // The bare forwarder and this program with most rules in all three kinds of traffic, the others in the first; and inbound what
    // the policy changes need.
    let ways: Vec<&str> = told["rates"].as_array().unwrap().iter().map(|row| row["ways"].as_str().unwrap()).collect();
    assert_eq!(names("rates"), [&forwarders[..], &forwarders, &[forwarders[0], forwarders[2]]].concat());
    assert_eq!(ways, [["both"; 3], ["inbound"; 3]].concat().into_iter().chain(["outbound"; 2]).collect::<Vec<&str>>());
    let ways_of_waiting: Vec<[&str; 2]> = told["waiting"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["waiting", "forwarder"].map(|name| row[name].as_str().unwrap()))
        .collect();
    let expected = ["adaptive", "busy", "interrupt", "device"];
    let expected: Vec<[&str; 2]> =
        expected.into_iter().flat_map(|waiting| [[waiting, forwarders[0]], [waiting, forwarders[2]]]).collect();
    assert_eq!(ways_of_waiting, expected);
    // One by one and many at once.
    assert_eq!(names("costs"), [forwarders, forwarders].concat());
    assert_eq!(told["reload"]["changes"], 2, "{}", told["reload"]);
    assert!(!told["marks"].as_array().unwrap().is_empty());

    for title in [
        "Marks",
        "Zero-loss rate by frame size",
        "Loss by offered rate",
        "Time inside the box",
        "over both links",
        "Figures",
    ] {
        assert!(page.contains(title), "{title}");
    }
    for heading in ["QUEUE", "P50", "P99.9", "MAX", "ZERO-LOSS PPS", "BUSY NS"] {
        assert!(page.contains(heading), "{heading}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.matches("class=\"line\"").count() >= 2 * (3 + 3 + 6 + 6), "a curve and its line in the legend");
    // Nothing that a browser would have to fetch or run.
    let fetched = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "//", "src=", "href=", "<script", "<link", "@import", "url("] {
        assert!(!fetched.contains(word), "{word}");
    }
}

#[test]
fn a_run_in_pieces_makes_one_table() {
    let Some(bench) = Bench::new("part") else { return };
    let directory = tempfile::tempdir().unwrap();
    let piece = |arguments: &[&str]| {
        let collect = ["--collect", "all.json", "-o", "json"];
        let output =
            bench.start(directory.path(), &[&SHORT[..], &RINGWALL, &collect, arguments].concat()).wait_with_output();
        let output = output.unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), output.stderr)
    };
    let count =
        |told: &Value| ["rates", "costs", "latencies", "curves"].map(|part| told[part].as_array().unwrap().len());
    let (code, told, said) = piece(&["--parts", "rates"]);
    assert_eq!((code, count(&told)), (Some(0), [7, 0, 0, 0]), "{}", String::from_utf8_lossy(&said));
    let (_, told, _) = piece(&["--parts", "costs,curves"]);
    assert_eq!(count(&told), [7, 6, 0, 3]);
    // What is measured again takes the place of what was known.
    let (_, again, _) = piece(&["--parts", "costs", "--rounds", "2"]);
    assert_eq!(count(&again), [7, 6, 0, 3]);
    assert_eq!(again["rates"], told["rates"]);
    assert_ne!(again["costs"], told["costs"]);
    assert_eq!(again["costs"][0]["busy_rounds"].as_array().unwrap().len(), 4);
    let kept: Value = serde_json::from_slice(&std::fs::read(directory.path().join("all.json")).unwrap()).unwrap();
    assert_eq!(kept, again);
    // Figures of another kind of run do not belong there, and the file stays as it is.
    let path = directory.path().join("all.json");
    let other = std::fs::read_to_string(&path).unwrap().replace("\"flows\":20,", "\"flows\":21,");
    std::fs::write(&path, &other).unwrap();
    let (code, _, said) = piece(&["--parts", "costs"]);
    let said = String::from_utf8_lossy(&said);
    assert!(code == Some(2) && said.contains("all.json"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(piece(&["--parts", "costs"]).0, Some(2));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

/// Starts a bench, sends the signal once its talk has this word, and expects it to end as interrupted with nothing left.
fn interrupted(name: &str, arguments: &[&str], word: &str, signal: &str) {
    let Some(bench) = Bench::new(name) else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut run = bench.start(directory.path(), arguments);
    let mut talk = BufReader::new(run.stderr.take().unwrap());
    let mut said = String::new();
    if word.is_empty() {
        // Before anything is said: as soon as there is something to remove.
        while bench.remains().is_empty() && run.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    while !said.contains(word) {
        assert!(talk.read_line(&mut said).unwrap() > 0, "it ended before it said `{word}`: {said}");
    }
    assert!(!bench.remains().is_empty(), "{said}");
    let pid = run.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    while talk.read_line(&mut said).unwrap() > 0 {}
    let output = run.wait_with_output().unwrap();
    assert_eq!(bench.remains(), Vec::<String>::new(), "after `{word}` and SIG{signal}: {said}");
    assert_eq!(output.status.code(), Some(1), "after `{word}` and SIG{signal}: {said}");
    assert!(said.ends_with("error: interrupted\n") && output.stdout.is_empty(), "after `{word}`: {said}");
}

#[test]
fn a_signal_in_any_part_of_a_run_leaves_no_namespace_and_no_link() {
    for (name, only, word, signal) in [
        ("early", BARE, "", "INT"),
        ("bare", BARE, "64 bytes, both: bare", "INT"),
        ("rate", RINGWALL, "64 bytes, inbound: ringwall", "TERM"),
        ("cost", BARE, "costs at 5000", "INT"),
        ("delay", BARE, "latency at 50 %", "INT"),
        ("curve", BARE, "loss curve", "TERM"),
        ("load", RINGWALL, "policy changes", "INT"),
    ] {
        // The last part: with more changes it goes on until the signal comes, however late.
        let reloads = if name == "load" { "1000" } else { "2" };
        let short = SHORT.map(|argument| if argument == RELOADS { reloads } else { argument });
        interrupted(name, &[&short[..], &only].concat(), word, signal);
    }
}

#[test]
fn a_signal_while_the_kernel_forwards_leaves_no_namespace_and_no_link() {
    let has_nft = Command::new("nft").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_nft {
        println!("skipped: no `nft`");
        return;
    }
    interrupted("kernel", &[&SHORT[..], &["--only", "nftables"]].concat(), "64 bytes, both: nftables", "INT");
}
