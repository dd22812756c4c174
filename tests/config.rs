//! The files that come with the project load as they are.

use std::fs;
use std::path::{Path, PathBuf};

use ringwall::config;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_hardware_profile_loads_and_says_whether_it_was_tried() {
    let files = yaml_files(&project().join("hw-profiles"));
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let profile = config::load_profile(&path).unwrap_or_else(|found| panic!("{}: {found:#?}", path.display()));
        assert_eq!(
            Some(profile.name.as_str()),
            path.file_stem().and_then(|stem| stem.to_str()),
            "a profile is named as its file"
        );
        assert!(profile.driver.is_some(), "{}: names no driver", path.display());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\ntested: "), "{}: does not say whether it was tried", path.display());
        assert_eq!(
            profile.is_tested,
            profile.driver.as_deref() == Some("veth"),
            "{}: only veth was tried",
            path.display()
        );
    }
}

#[test]
fn gateway_files_of_the_specification_load() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let shared = std::env::var_os("RINGWALL_SHARED").map_or_else(|| PathBuf::from(shared), PathBuf::from);
    let examples = shared.join("spec/examples");
    let Ok(entries) = fs::read_dir(&examples) else {
        println!("skipped: no `{}`", examples.display());
        return;
    };
    let mut loaded = 0;
    for entry in entries {
        let path = entry.unwrap().path().join("gateway.yaml");
        let plan = config::load(&path).unwrap_or_else(|found| panic!("{}: {found:#?}", path.display()));
        assert!(plan.warnings.is_empty() && plan.for_run().is_ok() && !plan.policy.is_empty(), "{}", path.display());
        loaded += 1;
    }
    assert!(loaded > 0);
}

#[test]
fn the_gateway_file_of_the_captures_loads() {
    let plan = config::load(&project().join("pcaps/gateway.yaml")).unwrap_or_else(|found| panic!("{found:#?}"));
    for policy in &plan.policy {
        assert!(plan.directory.join(&policy.path).exists(), "{}", policy.path.display());
    }
    assert!(plan.warnings.is_empty() && plan.for_run().is_err(), "captures need no ports");
}
