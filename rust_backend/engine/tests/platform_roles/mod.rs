//! Processes for tests: the test binary runs itself again, with a role to play.
//!
//! A test file declares one test named `play_role` that calls [`play`]. In the test run it finds
//! no role and does nothing; in a process made by [`Process::start`] it plays that role.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of these functions"
)]

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ROLE: &str = "PLATFORM_TEST_ROLE";
const FOLDER: &str = "PLATFORM_TEST_FOLDER";
/// Marks the lines of a role among those of the test harness.
const MARK: &str = "@@ ";

/// A process that plays a role; killed when dropped.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(["--exact", "play_role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a process");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self {
            child,
            input,
            output,
        }
    }

    /// Starts a process, hears its one answer and waits for its end.
    pub fn ask(role: &str, folder: &Path) -> String {
        let mut process = Self::start(role, folder);
        let answer = process.hear();
        process.finish();
        answer
    }

    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// The next line that the role says.
    pub fn hear(&mut self) -> String {
        self.hear_or_end().expect("the process ended too early")
    }

    pub fn hear_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("read") > 0 {
            // The harness writes the name of the test without a line end before the first one.
            if let Some(start) = line.find(MARK) {
                if line.ends_with('\n') {
                    return Some(line[start + MARK.len()..].trim_end().to_owned());
                }
                // Killed in the middle of the line.
                return None;
            }
            line.clear();
        }
        None
    }

    /// Lets the role go on.
    pub fn tell(&mut self) {
        self.input.write_all(b"go\n").expect("write");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        let status = self.child.wait().expect("wait");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    pub fn finish(mut self) {
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A role's name and what it does in the folder that it is given.
pub type Role<'a> = (&'a str, fn(&Path));

/// Plays the role that this process was started for, if any.
pub fn play(roles: &[Role]) {
    let Ok(wanted) = env::var(ROLE) else { return };
    let folder = PathBuf::from(env::var(FOLDER).expect("a folder"));
    end_after(60);
    let (_, role) = roles
        .iter()
        .find(|(name, _)| *name == wanted)
        .expect("a known role");
    role(&folder);
}

/// Says one line to the test.
pub fn say(line: &str) {
    let mut output = io::stdout().lock();
    output
        .write_all(format!("{MARK}{line}\n").as_bytes())
        .and_then(|()| output.flush())
        .expect("write");
}

/// Waits until the test lets the role go on.
pub fn wait_for_word() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("read");
    assert_eq!(line, "go\n");
}

/// Ends this process by SIGALRM if it is still there then: a test must not hang for ever.
#[expect(unsafe_code, reason = "alarm has no safe interface")]
pub fn end_after(seconds: u32) {
    // SAFETY: a plain system call.
    unsafe { libc::alarm(seconds) };
}

/// Sends a signal.
#[expect(unsafe_code, reason = "kill has no safe interface")]
pub fn signal(process: i32, number: i32) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::kill(process, number) }, 0, "signal");
}

/// Stays until killed.
pub fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
