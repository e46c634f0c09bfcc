//! The cluster in containers, by `compose.yaml`: started and stopped for a measurement.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::ClusterError;
use crate::experiment::Size;
use crate::process::{Group, Interrupt, Invocation, LOOK_EVERY, find_program};
use crate::settings::cpu_list;

/// How many servers the file has.
pub const SERVERS: u16 = 3;
/// A busy machine makes containers slowly.
const UP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server in a container may take to be ready when `up` has returned.
const READY_SECONDS: &str = "20";

/// Ends a cluster when whoever started it says so, or is gone, whatever ended it: then what `up` was about may still come, so
/// it looks a second time.
const GUARD: &str = "read -r word; \"$@\" down --volumes --timeout 5; \
                     [ \"$word\" = done ] || { sleep 3; \"$@\" down --volumes --timeout 5; }; \
                     [ -z \"$IMAGE_TO_REMOVE\" ] || docker rmi \"$IMAGE_TO_REMOVE\"";

/// Containers that run, and are gone when this value is dropped.
#[derive(Debug)]
pub struct Compose {
    words: Vec<String>,
    folder: PathBuf,
    variables: Vec<(String, String)>,
    guard: Child,
    /// The server processes, as this machine sees them.
    pub processes: Vec<u32>,
}

/// What to start.
pub struct Plan<'a> {
    /// `trine`, to ask whether a server is ready.
    pub trine: &'a Path,
    pub port: u16,
    pub size: Size,
    pub cpus: Option<&'a [usize]>,
    /// Whether servers keep their data, in volumes that go with the containers.
    pub directory: bool,
    /// Whether servers know of each other.
    pub topology: bool,
    /// Flags of `trine serve`.
    pub settings: &'a [String],
    pub log: &'a Path,
}

impl Compose {
    /// Makes the image, starts the containers and waits until every server is ready.
    pub fn start(plan: &Plan<'_>, interrupt: &Interrupt) -> Result<Self, ClusterError> {
        let folder = folder()?;
        let project = format!("trine-lab-{}", std::process::id());
        let mut words = compose_program()?;
        // Not what somebody keeps in .env for a cluster of their own.
        let file = std::path::absolute(plan.log.with_extension("env")).map_err(|error| problem(error.to_string()))?;
        let given = std::env::var("TRINE_IMAGE").ok().filter(|image| !image.is_empty());
        let mut variables = variables(&folder, plan)?;
        variables.push(("TRINE_IMAGE".to_owned(), given.clone().unwrap_or_else(|| project.clone())));
        let lines: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        std::fs::write(&file, lines).map_err(|error| problem(format!("{}: {error}", file.display())))?;
        let file = file.display().to_string();
        words.extend(["--env-file", &file, "--project-name", &project].map(str::to_owned));
        let to_remove = if given.is_none() { project.as_str() } else { "" };
        // First, so that nothing can be made that nobody removes.
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .args(&words)
            .current_dir(&folder)
            .envs(variables.iter().cloned())
            .env("IMAGE_TO_REMOVE", to_remove)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for this program alone.
            .process_group(0);
        let guard = guard.spawn().map_err(|error| problem(format!("sh: {error}")))?;
        let mut compose = Self { words, folder, variables, guard, processes: Vec::new() };
        if given.is_none() {
            eprintln!("trine-lab: building the image: experiments/compose/image {project}");
            let image = compose.folder.join("experiments/compose/image").display().to_string();
            compose.run(vec![image, project], plan.log, interrupt, None)?;
        }
        compose.run(compose.words_for(&["up", "--detach"]), plan.log, interrupt, Some(UP_TIMEOUT))?;
        for server in 0..SERVERS {
            let address = format!("127.0.0.1:{}", plan.port + 100 * server);
            let trine = plan.trine.display().to_string();
            let words = [&trine, "health", &address, "--wait", READY_SECONDS].map(str::to_owned).into();
            compose.run(words, plan.log, interrupt, Some(UP_TIMEOUT))?;
        }
        compose.processes = compose.find_processes()?;
        Ok(compose)
    }

    /// The command that started it, with the variables that decide.
    pub fn command(&self) -> Vec<String> {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
        ["env".to_owned()].into_iter().chain(variables).chain(self.words_for(&["up", "--detach"])).collect()
    }

    /// Returns whether every server still runs.
    pub fn is_alive(&self) -> bool {
        self.processes.iter().all(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok())
    }

    /// Returns the last lines that its servers printed.
    pub fn last_words(&self) -> String {
        self.output(self.words_for(&["logs", "--no-color", "--tail", "2"])).unwrap_or_default().replace('\n', " | ")
    }

    fn words_for(&self, arguments: &[&str]) -> Vec<String> {
        self.words.iter().cloned().chain(arguments.iter().map(|&argument| argument.to_owned())).collect()
    }

    /// Runs a command to its end; its error is what it printed last.
    fn run(
        &self,
        words: Vec<String>,
        log: &Path,
        interrupt: &Interrupt,
        limit: Option<Duration>,
    ) -> Result<(), ClusterError> {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
        let folder = self.folder.display().to_string();
        let words =
            ["env".to_owned(), "--chdir".to_owned(), folder].into_iter().chain(variables).chain(words).collect();
        let mut group = Group::start(&Invocation { words, cpus: None }, log).map_err(ClusterError::Process)?;
        let began = Instant::now();
        loop {
            match group.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let last_words = format!("{} {}", group.last_words(), self.last_words());
                    return Err(ClusterError::Ended { status: status.to_string(), last_words });
                }
                None if interrupt.is_set() => return Err(ClusterError::Interrupted),
                None if limit.is_some_and(|limit| limit < began.elapsed()) => {
                    return Err(ClusterError::NotReady { last_words: group.last_words() });
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn output(&self, words: Vec<String>) -> Option<String> {
        let output = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(&self.folder)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn find_processes(&self) -> Result<Vec<u32>, ClusterError> {
        let ids = self.output(self.words_for(&["ps", "-q", "s1", "s2", "s3"]));
        let ids = ids.ok_or_else(|| problem("it does not say which containers it has started".to_owned()))?;
        let mut words = ["docker", "inspect", "--format", "{{.State.Pid}}"].map(str::to_owned).to_vec();
        words.extend(ids.split_whitespace().map(str::to_owned));
        let pids = self.output(words).unwrap_or_default();
        let pids: Vec<u32> =
            pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid != 0).collect();
        match pids.len() == usize::from(SERVERS) {
            true => Ok(pids),
            false => {
                Err(ClusterError::Ended { status: "a container has stopped".to_owned(), last_words: self.last_words() })
            }
        }
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        use std::io::Write as _;
        // The guard is told that nothing more will come; it does the rest, also where this can't be written.
        if let Some(mut stdin) = self.guard.stdin.take() {
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.guard.wait();
    }
}

fn problem(what: String) -> ClusterError {
    ClusterError::Compose(what)
}

/// Where compose.yaml is: around the working directory, or around this program.
fn folder() -> Result<PathBuf, ClusterError> {
    let here = std::env::current_dir().ok();
    let this = std::env::current_exe().ok();
    let around = here.iter().chain(&this).flat_map(|path| path.ancestors());
    let mut found = around.filter(|folder| folder.join("experiments/compose/env").is_file());
    let found = found.next().map(Path::to_owned);
    found.ok_or_else(|| problem("compose.yaml is not around this folder: run it in Trine's working tree".to_owned()))
}

/// Compose in version 2, a plugin, or else in version 1, a program.
fn compose_program() -> Result<Vec<String>, ClusterError> {
    let works = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if find_program("docker").is_none() {
        return Err(problem("docker is not installed".to_owned()));
    }
    if !works(&["docker", "version"]) {
        return Err(problem("the Docker engine does not answer (docker version): start it".to_owned()));
    }
    if works(&["docker", "compose", "version"]) {
        return Ok(vec!["docker".to_owned(), "compose".to_owned()]);
    }
    if works(&["docker-compose", "version"]) {
        return Ok(vec!["docker-compose".to_owned()]);
    }
    Err(problem("neither `docker compose` nor docker-compose is installed".to_owned()))
}

/// What compose.yaml leaves open: CPUs and ports as experiments/compose/env lays them out, and what a target says.
fn variables(folder: &Path, plan: &Plan<'_>) -> Result<Vec<(String, String)>, ClusterError> {
    let mut command = Command::new(folder.join("experiments/compose/env"));
    command.args(["--cores", &plan.size.cores.to_string(), "--port", &plan.port.to_string()]);
    // Two of these may run at a time.
    command.args(["--net", &format!("172.28.{}", 72 + std::process::id() % 128)]);
    if let Some(cpus) = plan.cpus {
        command.args(["--cpus", &cpu_list(cpus)]);
    }
    let output = command.output().map_err(|error| problem(format!("experiments/compose/env: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut variables: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let flags = shlex::try_join(plan.settings.iter().map(String::as_str)).unwrap_or_default();
    variables.push(("TRINE_FLAGS".to_owned(), flags));
    if !plan.directory {
        variables.push(("TRINE_DIR".to_owned(), String::new()));
    }
    if !plan.topology {
        variables.push(("TRINE_TOPOLOGY".to_owned(), String::new()));
    }
    // It starts a process in each container, beside what is measured.
    variables.push(("TRINE_HEALTH_EVERY".to_owned(), "1h".to_owned()));
    Ok(variables)
}
