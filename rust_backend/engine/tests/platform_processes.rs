//! Liveness and wake-ups between processes.

mod platform_roles;

use std::path::Path;
use std::time::{Duration, Instant};

use platform_roles::{Process, play, say, signal, stay, wait_for_word};
use taskito_engine::platform::{Bell, Liveness, LivenessFile, Wake, forget, install, probe};

const WORKER: &str = "0197-cd";
const LONG: Duration = Duration::from_secs(20);

#[test]
fn play_role() {
    play(&[
        ("worker", work),
        ("leaving worker", leave_in_good_order),
        ("ringer", ring),
        ("sleeper", sleep),
        ("signalled sleeper", sleep_through_signals),
    ]);
}

fn work(folder: &Path) {
    install().expect("install");
    let liveness = LivenessFile::create(folder, WORKER).expect("create");
    liveness.set(0, 1 << 32 | 5);
    liveness.set(1, 1 << 32 | 6);
    liveness.set(4095, 1 << 32 | 7);
    liveness.clear(1);
    say("started");
    stay();
}

fn leave_in_good_order(folder: &Path) {
    let liveness = LivenessFile::create(folder, WORKER).expect("create");
    say("started");
    wait_for_word();
    liveness.remove().expect("remove");
    say("gone");
}

fn ring(folder: &Path) {
    let bell = Bell::open(folder).expect("open");
    for _ in 0..20 {
        wait_for_word();
        bell.ring().expect("ring");
    }
    say("done");
}

fn sleep(folder: &Path) {
    let waiter = Bell::open(folder).expect("open").waiter().expect("waiter");
    say("ready");
    say(&format!("{:?}", waiter.wait(LONG).expect("wait")));
}

/// Signals every 10 ms interrupt the system calls, not the wait.
#[expect(unsafe_code, reason = "signal handlers have no safe interface")]
fn sleep_through_signals(folder: &Path) {
    extern "C" fn nothing(_signal: i32) {}
    let waiter = Bell::open(folder).expect("open").waiter().expect("waiter");
    // SAFETY: the handler does nothing; the structures outlive the calls. No SA_RESTART, and
    // all other threads of this process are asleep, so the signals reach any of them or this one;
    // they are sent to this thread by name below.
    let thread = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
        libc::pthread_self()
    };
    let signals = std::thread::spawn(move || {
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(10));
            // SAFETY: the thread waits for this one below, so it exists.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        }
    });
    let start = Instant::now();
    let wake = waiter.wait(Duration::from_millis(200)).expect("wait");
    let long_enough = start.elapsed() >= Duration::from_millis(200);
    signals.join().expect("no panic");
    say(&format!("{wake:?} {long_enough}"));
}

#[test]
fn a_stopped_worker_is_alive_and_a_killed_one_tells_what_it_had_started() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Unknown
    );
    let mut worker = Process::start("worker", folder.path());
    assert_eq!(worker.hear(), "started");
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Alive
    );
    signal(worker.id(), libc::SIGSTOP);
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Alive
    );
    worker.kill();
    let dead = Liveness::Dead {
        started: vec![1 << 32 | 5, 1 << 32 | 7],
    };
    assert_eq!(probe(folder.path(), WORKER).expect("probe"), dead);
    assert_eq!(
        probe(folder.path(), WORKER).expect("asking again"),
        dead,
        "asking takes nothing"
    );
    forget(folder.path(), WORKER).expect("forget");
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Unknown
    );
}

#[test]
fn a_worker_that_unregisters_is_unknown_while_it_still_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut worker = Process::start("leaving worker", folder.path());
    assert_eq!(worker.hear(), "started");
    worker.tell();
    assert_eq!(worker.hear(), "gone");
    assert_eq!(
        probe(folder.path(), WORKER).expect("probe"),
        Liveness::Unknown
    );
    worker.finish();
}

#[test]
fn every_ring_of_another_process_wakes_a_waiter() {
    let folder = tempfile::tempdir().expect("a folder");
    let waiter = Bell::open(folder.path())
        .expect("open")
        .waiter()
        .expect("waiter");
    let mut ringer = Process::start("ringer", folder.path());
    for _ in 0..20 {
        assert_eq!(waiter.wait(Duration::ZERO).expect("wait"), Wake::TimedOut);
        ringer.tell();
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::Rung);
    }
    assert_eq!(ringer.hear(), "done");
    ringer.finish();
}

#[test]
fn one_ring_wakes_all_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let bell = Bell::open(folder.path()).expect("open");
    let mut sleepers: Vec<Process> = (0..3)
        .map(|_| Process::start("sleeper", folder.path()))
        .collect();
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.hear(), "ready");
    }
    bell.ring().expect("ring");
    for mut sleeper in sleepers {
        assert_eq!(sleeper.hear(), "Rung");
        sleeper.finish();
    }
}

#[test]
fn signals_do_not_end_a_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(
        Process::ask("signalled sleeper", folder.path()),
        "TimedOut true"
    );
}
