//! Starts processes, waits until they are ready, and leaves none behind.

use crate::wire::Wire;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The longest time for anything that takes milliseconds on an idle machine. Only a failure waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks of [`eventually`].
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks until there is something to see.
///
/// # Panics
/// Where there is nothing within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(since.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        thread::sleep(LOOK_EVERY);
    }
}

/// A seed for random input: from `TRINE_TEST_SEED`, or drawn. Printed, so that a failure can be repeated.
pub fn random() -> fastrand::Rng {
    let given = std::env::var("TRINE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TRINE_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// The path of one of the workspace's programs, which are built when the first test asks.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // target/<profile>/deps/end_to_end-…
        let test = fs::canonicalize(std::env::current_exe().expect("a test has a path")).expect("it exists");
        let folder = test.parent().and_then(|deps| deps.parent()).expect("tests lie two folders below target");
        let profile = folder.file_name().and_then(|name| name.to_str()).expect("a profile's name");
        let profile = if profile == "debug" { "dev" } else { profile };
        let target = folder.parent().expect("a profile's folder lies in target");
        // Nothing is built that `cargo test --workspace` has built: dependencies have the same features.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--bins", "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            // What it does is shown: where nothing is built yet, it takes minutes.
            .status()
            .expect("cargo starts");
        assert!(built.success(), "cargo has said above why the programs can't be built");
        folder.to_owned()
    });
    folder.join(name)
}

/// A CPU for a core of a server, another with each call: servers of tests that run at the same time shall not share one.
pub fn next_cpus(count: u16) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let set = rustix::thread::sched_getaffinity(None).expect("the CPUs to run on");
    let allowed: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    let mut cpus: Vec<_> = (0..usize::from(count).min(allowed.len()))
        .map(|_| allowed[NEXT.fetch_add(1, Ordering::Relaxed) % allowed.len()])
        .collect();
    cpus.sort_unstable();
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A first port such that it and all at these distances from it are free. Below the range that the kernel takes clients'
/// ports from.
pub fn free_ports(distances: &[u16]) -> u16 {
    const FIRST: u16 = 23_000;
    const END: u16 = 32_000;
    const STEP: u16 = 10;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = distances.iter().max().expect("at least one port") + STEP;
    // Test programs that run side by side begin in different places.
    let start = (std::process::id() % 89) as u16 * 10;
    for _ in 0..2 * (END - FIRST) / STEP {
        let step = start + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + step.wrapping_mul(STEP) % (END - FIRST - span) / STEP * STEP;
        if distances.iter().all(|distance| TcpListener::bind(("127.0.0.1", port + distance)).is_ok()) {
            return port;
        }
    }
    panic!("no free ports between {FIRST} and {END}");
}

/// A process and what it says on standard error; killed when dropped.
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = Self::spawn(command.stderr(Stdio::piped()));
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, heard) = (child.stderr.take().expect("it is a pipe"), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *heard.lock().expect("nobody panics with it in hand") += &format!("{line}\n");
            }
        });
        Self { child, said }
    }

    /// Starts a process whose standard error is the caller's affair: nothing that it says is heard.
    pub fn start_unheard(command: &mut Command) -> Self {
        Self { child: Self::spawn(command), said: Arc::default() }
    }

    fn spawn(command: &mut Command) -> Child {
        // A variable of the tests: a server would warn of it.
        command.env_remove("TRINE_REQUIRE_ALL").stdin(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("a process that was not waited for can be signalled");
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends, by itself.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        eventually("a process ends", || self.has_ended())
    }

    /// Returns its output so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it in hand").clone()
    }

    /// Bytes of it in memory.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }

    /// Returns the number of its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("process {} said:\n{}", self.id(), self.said());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `trine serve`.
pub struct Server {
    pub process: Process,
    /// The gateway.
    pub port: u16,
    pub cores: u16,
}

impl Server {
    /// Starts a server that stands alone, and waits until all its ports answer and it has read its files.
    pub fn start(cores: u16, settings: &[&str]) -> Self {
        loop {
            let mut server = Self::launch(cores, settings);
            let ports = server.ports();
            if wait_until_ready(&mut server.process, ports) {
                return server;
            }
        }
    }

    /// Starts a server and does not wait for it.
    pub fn launch(cores: u16, settings: &[&str]) -> Self {
        let distances: Vec<_> = (0..=cores).collect();
        let port = free_ports(&distances);
        let process = Process::start(
            Command::new(program("trine"))
                .args(["serve", "--port", &port.to_string(), "--cores", &cores.to_string()])
                .args(["--cpus", &next_cpus(cores), "--parent", &std::process::id().to_string()])
                .args(settings)
                .stdout(Stdio::null()),
        );
        Self { process, port, cores }
    }

    /// The gateway's port and the cores'.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.port..=self.port + self.cores
    }

    /// The port of a core.
    pub fn core(&self, core: u16) -> u16 {
        assert!(core < self.cores, "it has {} cores", self.cores);
        self.port + 1 + core
    }

    /// A new connection to the gateway.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.port)
    }
}

/// Returns whether the process serves on all of these: not if somebody was faster.
pub fn wait_until_ready(process: &mut Process, ports: impl Iterator<Item = u16>) -> bool {
    for port in ports {
        let is_ready = eventually("a server answers", || {
            if process.has_ended().is_some() {
                return Some(false);
            }
            let answer = Wire::try_connect(port).and_then(|mut wire| wire.try_ask("PING"));
            answer.is_ok_and(|answer| !answer.starts_with("-LOADING")).then_some(true)
        });
        if !is_ready {
            let said = process.said();
            assert!(said.contains("is taken"), "the server ended: {said}");
            return false;
        }
    }
    true
}

/// A running `trine up`.
pub struct Cluster {
    pub process: Process,
    /// The first server's gateway; the others' are 100 ports apart.
    pub port: u16,
    pub servers: u16,
    pub cores: u16,
    /// Its output until it was ready.
    pub table: String,
}

impl Cluster {
    /// Starts a cluster, and waits until it says that it is ready.
    pub fn start(servers: u16, cores: u16, settings: &[&str]) -> Self {
        loop {
            let distances: Vec<_> = (0..servers).flat_map(|s| (0..=cores).map(move |c| s * 100 + c)).collect();
            let port = free_ports(&distances);
            let mut process = Process::start(
                Command::new(program("trine"))
                    .args(["up", "--servers", &servers.to_string(), "--cores", &cores.to_string()])
                    .args(["--port", &port.to_string(), "--"])
                    .args(settings)
                    .stdout(Stdio::piped()),
            );
            let mut table = String::new();
            let mut output = BufReader::new(process.child.stdout.take().expect("it is a pipe"));
            while !table.contains("ready in ") && 0 < output.read_line(&mut table).expect("it can be read") {}
            if table.contains("ready in ") {
                // It goes on to write nothing; the pipe is kept open so that it can.
                thread::spawn(move || output.read_to_end(&mut Vec::new()));
                return Self { process, port, servers, cores, table };
            }
            process.end();
            assert!(process.said().contains("is taken"), "the cluster ended: {}", process.said());
        }
    }

    /// The gateway of a server.
    pub fn gateway(&self, server: u16) -> u16 {
        self.port + 100 * server
    }

    /// The ports of all cores.
    pub fn core_ports(&self) -> Vec<u16> {
        (0..self.servers).flat_map(|server| (1..=self.cores).map(move |core| self.gateway(server) + core)).collect()
    }

    /// The numbers of the server processes.
    pub fn children(&self) -> Vec<u32> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("it runs");
        children.split_whitespace().map(|child| child.parse().expect("a number")).collect()
    }
}

/// Returns true if a process of this number exists that has not ended.
pub fn is_running(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}
