//! A hardware profile and the kernel's view of the interfaces in, warnings where they do not fit out.
//!
//! Nothing here stops a run: a profile for another card works, it only was not made for this one.

use std::fs;
use std::path::Path;

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::config::Profile;

/// Compares a profile with what `sys`, the mount point of sysfs, says about the interfaces. What the kernel does not tell, as for
/// virtual interfaces, is not compared.
pub fn compare(profile: &Profile, interfaces: [&str; 2], sys: &Path) -> Diagnostics {
    let mut found = Diagnostics::new();
    let name = &profile.name;
    for interface in interfaces {
        let device = sys.join("class/net").join(interface).join("device");
        let driver = fs::read_link(device.join("driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|driver| driver.to_string_lossy());
        if let (Some(expected), Some(driver)) = (&profile.driver, driver)
            && *expected != driver
        {
            let message = format!("`{interface}` is driven by `{driver}`, profile `{name}` is made for `{expected}`");
            let help = "choose another profile, or none for portable defaults";
            found.push(Diagnostic::warning("other-driver", message).help(help));
        }
        // The kernel says -1 where there is only one node.
        let node = number(&device.join("numa_node"));
        if let (Some(expected), Some(node)) = (profile.numa_node, node)
            && node != expected
        {
            let message = format!("`{interface}` is attached to NUMA node {node}, profile `{name}` says {expected}");
            let help = "take `numaNode` and `cores` of that node: `lscpu -e` lists them";
            found.push(Diagnostic::warning("other-numa-node", message).help(help));
        }
    }
    if let Some(node) = profile.numa_node
        && let Ok(list) = fs::read_to_string(sys.join(format!("devices/system/node/node{node}/cpulist")))
    {
        for core in profile.cores.iter().filter(|core| !is_listed(**core, list.trim())) {
            let message = format!("core {core} is not on NUMA node {node}: every packet crosses between nodes");
            found.push(
                Diagnostic::warning("core-on-other-node", message).help(format!("node {node} has {}", list.trim())),
            );
        }
    }
    let nodes = sys.join("devices/system/node");
    if let Some(node) = profile.numa_node
        && nodes.is_dir()
        && !nodes.join(format!("node{node}")).is_dir()
    {
        let message =
            format!("this machine has no NUMA node {node}, which profile `{name}` asks for: memory comes from any");
        found.push(
            Diagnostic::warning("no-numa-node", message).help("`lscpu -e` lists the nodes; `numaNode` names one"),
        );
    }
    let pages = sys.join("kernel/mm/transparent_hugepage/enabled");
    if profile.huge_pages && fs::read_to_string(&pages).is_ok_and(|said| said.contains("[never]")) {
        let message = format!("profile `{name}` asks for huge pages, which this machine gives to no table");
        let help = "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled` before the start gives them";
        found.push(Diagnostic::warning("no-huge-pages", message).help(help));
    }
    if let Some(rss) = &profile.rss {
        found.push(Diagnostic::note("rss", format!("spread of flows over queues: {rss}")));
    }
    if !profile.is_tested && profile.driver.is_some() {
        let message = format!("profile `{name}` was not tried on its hardware by the project");
        found.push(Diagnostic::note("untried-profile", message));
    }
    found
}

fn number(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a list of the kernel's, such as `0-3,8`, has the number.
fn is_listed(number: u32, list: &str) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let bounds = first.parse().ok().zip(last.parse().ok());
        bounds.is_some_and(|(first, last): (u32, u32)| (first..=last).contains(&number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs with `eth0` and `eth1` of driver `ice` on node 1, which has cores 4 to 7.
    fn sysfs() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for interface in ["eth0", "eth1"] {
            let device = sys.path().join("class/net").join(interface).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("numa_node"), "1\n").unwrap();
            symlink("../../bus/pci/drivers/ice", device.join("driver")).unwrap();
        }
        let node = sys.path().join("devices/system/node/node1");
        fs::create_dir_all(&node).unwrap();
        let pages = sys.path().join("kernel/mm/transparent_hugepage");
        fs::create_dir_all(&pages).unwrap();
        fs::write(pages.join("enabled"), "always madvise [never]\n").unwrap();
        fs::write(node.join("cpulist"), "4-5,6-7\n").unwrap();
        sys
    }

    fn ice() -> Profile {
        let driver = Some("ice".to_owned());
        Profile { driver, is_tested: true, numa_node: Some(1), cores: vec![4, 7], ..Profile::default() }
    }

    fn codes(profile: &Profile, interfaces: [&str; 2]) -> Vec<&'static str> {
        compare(profile, interfaces, sysfs().path()).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn only_what_does_not_fit_is_told() {
        let check = |profile: Profile, expected: &[&str]| assert_eq!(codes(&profile, ["eth0", "eth1"]), expected);
        check(ice(), &[]);
        check(Profile::default(), &[]);
        check(Profile { driver: Some("igb".to_owned()), ..ice() }, &["other-driver", "other-driver"]);
        check(Profile { numa_node: Some(0), ..ice() }, &["other-numa-node", "other-numa-node", "no-numa-node"]);
        check(Profile { huge_pages: true, ..ice() }, &["no-huge-pages"]);
        check(Profile { cores: vec![3, 5], ..ice() }, &["core-on-other-node"]);
        check(Profile { rss: Some("x".to_owned()), is_tested: false, ..ice() }, &["rss", "untried-profile"]);
    }

    #[test]
    fn virtual_interfaces_are_not_compared() {
        assert!(codes(&ice(), ["up0", "dn0"]).is_empty());
    }
}
