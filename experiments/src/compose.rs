//! Servers in containers, started and stopped for a measurement: a cluster of ours by `compose.yaml`, others by a file made for
//! them, on a network alike, so that the way to each is equally long.

mod guard;
mod images;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use images::Images;

use guard::Guard;

use crate::cluster_error::ClusterError;
use crate::process::{Group, Interrupt, Invocation, LOOK_EVERY, find_program};
use crate::settings::cpu_list;
use crate::target::{COMPOSE_SERVERS, Size};

/// A busy machine makes containers slowly.
const UP_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time for a server of ours to become ready once `up` has returned.
const READY_SECONDS: &str = "20";

/// Ends a cluster when whoever started it says so, or is gone, whatever ended it: then what `up` was about may still come, so
/// it looks a second time.
const GUARD: &str = "read -r word; \"$@\" down --volumes --timeout 5; \
                     [ \"$word\" = done ] || { sleep 3; \"$@\" down --volumes --timeout 5; }";

/// Containers that run, and are gone when this value is dropped.
#[derive(Debug)]
pub struct Compose {
    words: Vec<String>,
    folder: PathBuf,
    variables: Vec<(String, String)>,
    services: Vec<String>,
    /// Takes it all down.
    _guard: Guard,
    /// The server processes, as this machine sees them.
    pub processes: Vec<u32>,
}

/// Settings of a start.
pub struct Plan<'a> {
    pub port: u16,
    pub cpus: Option<&'a [usize]>,
    pub log: &'a Path,
    pub images: &'a Images,
}

/// A cluster of ours.
pub struct Ours<'a> {
    /// `trine`, to ask whether a server is ready.
    pub trine: &'a Path,
    pub size: Size,
    /// True if servers keep their data, in volumes that are removed with the containers.
    pub directory: bool,
    /// True if servers share a topology.
    pub topology: bool,
    /// Flags of `trine serve`.
    pub settings: &'a [String],
}

/// Programs of this machine, each in a container that sees of it what programs and libraries there are.
pub struct Programs<'a> {
    /// The command line of each.
    pub words: &'a [Vec<String>],
    /// Folders that they use besides, with what they may do there.
    pub folders: Vec<(&'a Path, Access)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    Read,
    Write,
}

impl Compose {
    /// Starts the containers, of an image that is made if need be, and waits until every server is ready.
    pub fn start(plan: &Plan<'_>, ours: &Ours<'_>, interrupt: &Interrupt) -> Result<Self, ClusterError> {
        let program = compose_program()?;
        let folder = folder()?;
        let mut variables = variables(&folder, plan, ours)?;
        variables.push(("TRINE_IMAGE".to_owned(), plan.images.ours(&folder, plan.log, interrupt)?));
        // Not what somebody keeps in .env for a cluster of their own.
        let file = beside(plan.log, "env")?;
        let lines: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        write(&file, &lines)?;
        let services = (1..=COMPOSE_SERVERS).map(service).collect();
        let mut compose = Self::guarded(program, folder, &["--env-file", &file], variables, services)?;
        compose.up(plan, interrupt)?;
        for server in 0..COMPOSE_SERVERS {
            let address = format!("127.0.0.1:{}", plan.port + 100 * server);
            let trine = ours.trine.display().to_string();
            let words = [&trine, "health", &address, "--wait", READY_SECONDS].map(str::to_owned).into();
            compose.run(words, plan.log, interrupt, Some(UP_TIMEOUT))?;
        }
        Ok(compose)
    }

    /// Starts programs of this machine in containers. They may not be ready yet.
    pub fn start_programs(
        plan: &Plan<'_>,
        programs: &Programs<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, ClusterError> {
        let program = compose_program()?;
        let file = beside(plan.log, "compose.json")?;
        let image = plan.images.empty(plan.log, interrupt)?;
        write(&file, &describe(&image, plan, programs).to_string())?;
        let services = (1..).zip(programs.words).map(|(number, _)| service(number)).collect();
        let folder = Path::new(&file).parent().unwrap_or(Path::new("/")).to_owned();
        let mut compose = Self::guarded(program, folder, &["--file", &file], Vec::new(), services)?;
        compose.up(plan, interrupt)?;
        Ok(compose)
    }

    /// A project with nothing in it, and with somebody to end it: nothing can be made that nobody removes.
    fn guarded(
        mut words: Vec<String>,
        folder: PathBuf,
        arguments: &[&str],
        variables: Vec<(String, String)>,
        services: Vec<String>,
    ) -> Result<Self, ClusterError> {
        words.extend(arguments.iter().chain(&["--project-name", &project()]).map(|&word| word.to_owned()));
        let guard = Guard::start(GUARD, &words, &folder, &variables)?;
        Ok(Self { words, folder, variables, services, _guard: guard, processes: Vec::new() })
    }

    fn up(&mut self, plan: &Plan<'_>, interrupt: &Interrupt) -> Result<(), ClusterError> {
        self.run(self.words_for(&["up", "--detach"]), plan.log, interrupt, Some(UP_TIMEOUT))?;
        self.processes = self.find_processes()?;
        Ok(())
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
        let lines = self.output(self.words_for(&["logs", "--no-color", "--tail", "2"])).unwrap_or_default();
        trine::printable::printable(&lines).replace('\n', " | ")
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
        run_to_end(words, log, interrupt, limit).map_err(|error| match error {
            ClusterError::Ended { status, last_words } => {
                ClusterError::Ended { status, last_words: format!("{last_words} {}", self.last_words()) }
            }
            other => other,
        })
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
        let services = self.services.iter().map(String::as_str);
        let ids = self.output(self.words_for(&["ps", "-q"].into_iter().chain(services).collect::<Vec<_>>()));
        let ids = ids.ok_or_else(|| problem("it does not say which containers it has started".to_owned()))?;
        let mut words = ["docker", "inspect", "--format", "{{.State.Pid}}"].map(str::to_owned).to_vec();
        words.extend(ids.split_whitespace().map(str::to_owned));
        let pids = self.output(words).unwrap_or_default();
        let pids: Vec<u32> =
            pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid != 0).collect();
        match pids.len() == self.services.len() {
            true => Ok(pids),
            false => {
                Err(ClusterError::Ended { status: "a container has stopped".to_owned(), last_words: self.last_words() })
            }
        }
    }
}

/// Runs a command to its end; its error is what it printed last.
fn run_to_end(
    words: Vec<String>,
    log: &Path,
    interrupt: &Interrupt,
    limit: Option<Duration>,
) -> Result<(), ClusterError> {
    let mut group = Group::start(&Invocation { words, cpus: None }, log).map_err(ClusterError::Process)?;
    let began = Instant::now();
    loop {
        match group.ended() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                return Err(ClusterError::Ended { status: status.to_string(), last_words: group.last_words() });
            }
            None if interrupt.is_set() => return Err(ClusterError::Interrupted),
            None => match limit {
                Some(limit) if limit < began.elapsed() => {
                    return Err(ClusterError::NotReady { limit, last_words: group.last_words() });
                }
                _ => std::thread::sleep(LOOK_EVERY),
            },
        }
    }
}

fn problem(what: String) -> ClusterError {
    ClusterError::Compose(what)
}

/// Of this process's containers, its images and its network: two of these may run at a time.
fn project() -> String {
    format!("trine-lab-{}", std::process::id())
}

/// The beginning of the containers' addresses.
fn network() -> String {
    format!("172.28.{}", 72 + std::process::id() % 128)
}

/// The address of a container, of the first with 0. This machine reaches it directly.
pub fn address(server: u16) -> String {
    format!("{}.1{}", network(), server + 1)
}

fn service(number: u16) -> String {
    format!("s{number}")
}

fn beside(log: &Path, extension: &str) -> Result<String, ClusterError> {
    let file = std::path::absolute(log.with_extension(extension)).map_err(|error| problem(error.to_string()))?;
    Ok(file.display().to_string())
}

fn write(file: &str, text: &str) -> Result<(), ClusterError> {
    std::fs::write(file, text).map_err(|error| problem(format!("{file}: {error}")))
}

/// The folders of a machine's programs and their libraries.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt"];

/// Returns the Compose file for programs: each is a container, of an empty image.
fn describe(image: &str, plan: &Plan<'_>, programs: &Programs<'_>) -> serde_json::Value {
    let mount = |folder: &Path, access| {
        let how = if access == Access::Read { "ro" } else { "rw" };
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        format!("{0}:{0}:{how}", folder.display()).replace('$', "$$")
    };
    let system = SYSTEM.iter().map(Path::new).filter(|folder| folder.is_dir());
    let volumes: Vec<String> = (system.map(|folder| mount(folder, Access::Read)))
        .chain(programs.folders.iter().map(|&(folder, access)| mount(folder, access)))
        .collect();
    let services = (0..).zip(programs.words).map(|(server, words)| {
        let program = find_program(&words[0]).map_or_else(|| words[0].clone(), |path| path.display().to_string());
        let command = [program].into_iter().chain(words[1..].iter().cloned());
        let mut service = serde_json::json!({
            "image": image,
            "command": command.map(|word| word.replace('$', "$$")).collect::<Vec<_>>(),
            "networks": { "cluster": { "ipv4_address": address(server) } },
            "volumes": volumes,
            // What they write is then ours to remove.
            "user": format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "stop_grace_period": "5s",
        });
        if let Some(cpus) = plan.cpus {
            service["cpuset"] = cpu_list(cpus).into();
        }
        (self::service(server + 1), service)
    });
    let services: serde_json::Map<_, _> = services.collect();
    let subnet = format!("{}.0/24", network());
    serde_json::json!({
        "services": services,
        "networks": { "cluster": { "ipam": { "config": [{ "subnet": subnet }] } } },
    })
}

/// Returns the folder of compose.yaml: an ancestor of the working directory, or of this program.
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

/// Returns the variables of compose.yaml: CPUs and ports as experiments/compose/env lays them out, and the target's settings.
fn variables(folder: &Path, plan: &Plan<'_>, ours: &Ours<'_>) -> Result<Vec<(String, String)>, ClusterError> {
    let mut command = Command::new(folder.join("experiments/compose/env"));
    command.args(["--cores", &ours.size.cores.to_string(), "--port", &plan.port.to_string()]);
    command.args(["--net", &network()]);
    if let Some(cpus) = plan.cpus {
        command.args(["--cpus", &cpu_list(cpus)]);
    }
    let output = command.output().map_err(|error| problem(format!("experiments/compose/env: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut variables: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let flags = shlex::try_join(ours.settings.iter().map(String::as_str)).unwrap_or_default();
    variables.push(("TRINE_FLAGS".to_owned(), flags));
    if !ours.directory {
        variables.push(("TRINE_DIR".to_owned(), String::new()));
    }
    if !ours.topology {
        variables.push(("TRINE_TOPOLOGY".to_owned(), String::new()));
    }
    // It starts a process in each container, beside what is measured.
    variables.push(("TRINE_HEALTH_EVERY".to_owned(), "1h".to_owned()));
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program's container has its words as they are, its address, its CPUs, and what it needs of this machine.
    #[test]
    fn programs_become_services() {
        let words = ["sh -c echo$HOME", "sh two"].map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let folders = vec![(Path::new("/srv/data"), Access::Write)];
        let images = Images::default();
        let plan = Plan { port: 17_000, cpus: Some(&[0, 1, 3]), log: Path::new("log"), images: &images };
        let file = describe("nothing", &plan, &Programs { words: &words, folders });
        let (one, two) = (&file["services"]["s1"], &file["services"]["s2"]);
        assert_eq!(one["command"][2], "echo$$HOME", "compose would put a variable there");
        assert_eq!(one["command"][0].as_str().map(Path::new), find_program("sh").as_deref(), "there is no PATH");
        assert_eq!(two["networks"]["cluster"]["ipv4_address"], address(1));
        assert_eq!((&one["cpuset"], &one["image"]), (&"0,1,3".into(), &"nothing".into()));
        let volumes: Vec<_> =
            one["volumes"].as_array().unwrap().iter().map(|volume| volume.as_str().unwrap()).collect();
        assert!(volumes.contains(&"/usr:/usr:ro") && volumes.contains(&"/srv/data:/srv/data:rw"), "{volumes:?}");
    }
}
