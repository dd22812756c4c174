//! Core numbers in, threads on the cores where they belong out: workers on theirs, and what compiles or writes out of their way.
//!
//! No number does harm: a core that is not there, or that this process may not use, is refused, and [`warnings`] says so with the
//! cure.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, for the kernel.
const SELF: Pid = Pid::from_raw(0);
/// A tenth of a worker's share, whatever that is (`sched(7)`: each step is worth about a quarter).
const STEPS: i32 = 10;
/// The lowest priority that there is.
const LOWEST: i32 = 19;

/// Cores that the calling thread may use, in ascending order: those of the process, unless the thread was moved. Empty where the
/// kernel does not say, as with more than 1,024 cores.
pub fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(SELF) else { return Vec::new() };
    (0..CpuSet::count()).filter(|core| set.is_set(*core) == Ok(true)).collect()
}

/// Keeps the calling thread, and those that it starts later, on this core.
///
/// # Errors
/// The core is not there, is not allowed to this process, or has a number from 1,024 on; the thread stays where it was.
pub fn pin(core: usize) -> io::Result<()> {
    keep_to(&[core])
}

/// The same with several cores, of which at least one must be there.
///
/// # Errors
/// As [`pin`].
pub fn keep_to(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|core| set.set(*core))?;
    Ok(sched_setaffinity(SELF, &set)?)
}

/// Lets the calling thread work beside workers that are pinned to these cores without costing packets: it moves to the others of
/// the cores `allowed`, if there are any, and gives way. Threads that it starts later do the same.
pub fn stand_aside(allowed: &[usize], workers: &[usize]) {
    let others: Vec<usize> = allowed.iter().copied().filter(|core| !workers.contains(core)).collect();
    if !others.is_empty() && others.len() < allowed.len() {
        // Where that is refused, giving way is what is left.
        let _ = keep_to(&others);
    }
    give_way();
}

/// Lets the calling thread run when others leave time: where workers share their cores with it, reading and compiling a policy must
/// not cost packets. Threads that it starts later do the same. Once for a thread: it steps down from where it stands, as workers
/// that it has started stay where they are.
pub fn give_way() {
    // A system that does not allow it shares evenly, which only costs speed.
    let _ = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, own.saturating_add(STEPS).min(LOWEST)));
}

/// What the user ought to know about so many workers on these cores of the profile, where these are allowed.
pub fn warnings(workers: usize, wanted: &[usize], allowed: &[usize]) -> Vec<String> {
    let mut warnings = Vec::new();
    if (1..workers).contains(&allowed.len()) {
        let cores = allowed.len();
        warnings.push(format!(
            "{workers} workers on {cores} cores: they take turns; lower `queues` to {cores}, and `ethtool -L INTERFACE combined \
             {cores}` for both ports"
        ));
    }
    if !wanted.is_empty() && wanted.len() < workers {
        let cores = wanted.len();
        warnings.push(format!("{workers} workers and {cores} in `cores`: several share a core; name {workers}"));
    }
    let is_missing = |core: &&usize| !allowed.is_empty() && !allowed.contains(core);
    for core in wanted.iter().filter(is_missing) {
        let there: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        warnings.push(format!(
            "core {core} of `cores` is not there or not allowed to this process, which may use {}: `lscpu -e` lists those there are, \
             `taskset -c {core} true` tells whether it is allowed (`AllowedCPUs=` of a service, `cpuset` of a container)",
            there.join(", ")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// On a thread of its own, which may move.
    fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
        thread::spawn(work).join().unwrap()
    }

    #[test]
    fn a_thread_is_pinned_to_each_core_there_is() {
        let all = allowed();
        assert!(!all.is_empty() && all.is_sorted());
        for core in all.clone() {
            let pinned = move || (pin(core).is_ok(), allowed(), thread::spawn(allowed).join().unwrap());
            assert_eq!(elsewhere(pinned), (true, vec![core], vec![core]), "{core}");
        }
        assert_eq!(allowed(), all, "no other thread moves");
    }

    #[test]
    fn a_core_that_is_not_there_is_refused_and_nothing_moves() {
        let all = allowed();
        // The first that is not allowed, the last that has a place in the kernel's set, and those beyond.
        let missing = (0..).find(|core| !all.contains(core)).unwrap();
        for core in [missing, 1023, 1024, 5000, usize::MAX] {
            let refused = move || (pin(core).map_err(|error| error.kind()), allowed());
            assert_eq!(elsewhere(refused), (Err(io::ErrorKind::InvalidInput), all.clone()), "{core}");
        }
        assert!(elsewhere(|| keep_to(&[]).is_err()));
    }

    #[test]
    fn what_compiles_leaves_the_workers_cores_alone_while_others_remain() {
        let all = allowed();
        let check = |workers: &[usize], expected: &[usize]| {
            let (here, workers) = (all.clone(), workers.to_vec());
            let stood = move || {
                let before = rustix::process::getpriority_process(None).unwrap();
                stand_aside(&here, &workers);
                (allowed(), rustix::process::getpriority_process(None).unwrap() - before.min(LOWEST - STEPS))
            };
            assert_eq!(elsewhere(stood), (expected.to_vec(), STEPS), "{workers:?}", workers = all);
        };
        // Workers that are pinned nowhere, or everywhere, or where nobody may be.
        check(&[], &all);
        check(&all, &all);
        check(&[5000], &all);
        let [first, others @ ..] = &all[..] else { return };
        if others.is_empty() {
            println!("skipped in part: there is only one core");
            return;
        }
        check(&[*first], others);
        check(others, &[*first]);
        check(&[*first, 5000], others);
    }

    #[test]
    fn cores_that_do_not_suit_are_told_with_the_cure() {
        let check = |workers, wanted: &[usize], allowed: &[usize], expected: &[&str]| {
            let found = warnings(workers, wanted, allowed);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{found}");
            }
        };
        check(2, &[], &[0, 1], &[]);
        check(2, &[1, 0], &[0, 1], &[]);
        check(4, &[], &[0, 1], &["lower `queues` to 2, and `ethtool -L INTERFACE combined 2`"]);
        check(2, &[1], &[0, 1], &["2 workers and 1 in `cores`: several share a core; name 2"]);
        for core in [7, 5000] {
            let expected =
                format!("core {core} of `cores` is not there or not allowed to this process, which may use 0, 1");
            check(1, &[core], &[0, 1], &[&expected]);
        }
        // Where the kernel does not say what there is, nothing is missing.
        check(2, &[2000, 2001], &[], &[]);
    }

    #[test]
    fn a_thread_gives_way_to_those_it_stood_beside_wherever_that_is() {
        let here = || rustix::process::getpriority_process(None).unwrap();
        let beside = here();
        // Going up needs a privilege; without it the test stays where it is.
        for start in [beside, -15, 12] {
            let stands = move || {
                let _ = rustix::process::setpriority_process(None, start);
                let before = here();
                give_way();
                let started_later = thread::spawn(here).join().unwrap();
                (before, here(), started_later)
            };
            let (before, after, later) = elsewhere(stands);
            assert_eq!((after, later), ((before + 10).min(LOWEST), after));
        }
        assert_eq!(here(), beside, "no other thread moves");
    }
}
