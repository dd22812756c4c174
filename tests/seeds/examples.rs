//! The worked examples of the specification: every packet of every example, line by line.

use crate::gateway::{Gateway, files, read_sources, shared};

#[test]
fn worked_examples() {
    let Some(shared) = shared() else { return };
    let mut packets = 0;
    for entry in std::fs::read_dir(shared.join("spec/examples")).expect("a folder of examples") {
        let folder = entry.expect("an entry").path();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = read("gateway.yaml");
        let body: String = text
            .lines()
            .filter(|l| !l.starts_with("apiVersion:") && !l.starts_with("kind:"))
            .map(|l| format!("{l}\n"))
            .collect();
        let sources = files(&folder, &["policies/"]);
        let (policy, _) = read_sources(&sources).unwrap_or_else(|e| panic!("{}: {e:#?}", folder.display()));
        let mut gateway = Gateway::with_policy(&body, policy);
        for (packet, expected) in read("packets.jsonl").lines().zip(read("expected.jsonl").lines()) {
            let found = gateway.packet(packet).line;
            assert_eq!(found, expected.trim(), "{}: {packet}", folder.display());
            packets += 1;
        }
    }
    assert!(packets > 10, "{packets}");
}
