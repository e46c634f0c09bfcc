//! The image, the list of calls it may make, and three servers in containers. Skipped, with the reason, where there is no Docker.
#![expect(clippy::unwrap_used, reason = "what fails in here fails the test, and says where")]

use crate::{
    durability::{
        ledger::{HABITS, Ledger},
        machine::Skip,
    },
    harness::{Process, eventually, free_ports, program, random},
    wire::Wire,
};
use redis::{Commands as _, cluster::ClusterClientBuilder};
use rustix::process::Signal;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PROFILE: &str = "experiments/compose/seccomp.json";
const IMAGE_BYTES_MAX: u64 = 25_000_000;

/// Runs a command in the workspace; its error is what it said.
fn run(words: &[&str], variables: &[(String, String)]) -> Result<String, String> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(ROOT).envs(variables.iter().cloned());
    let output = command.output().map_err(|error| format!("{}: {error}", words[0]))?;
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    match output.status.success() {
        true => Ok(format!("{printed}{said}").trim().to_owned()),
        false => Err(format!("{words:?}: {}: {printed}{said}", output.status)),
    }
}

/// The image, which each test has under a name of its own; its layers are built once.
struct Image {
    name: String,
    /// One test at a time: containers of one user share its limit of locked memory, and compose's network is one.
    _turn: MutexGuard<'static, ()>,
}

impl Image {
    /// `None` where there is no Docker to make it with.
    fn build(name: &str) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static COMPOSE: OnceLock<Result<Vec<String>, Skip>> = OnceLock::new();
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Err(reason) = COMPOSE.get_or_init(compose_program) {
            reason.report();
            return None;
        }
        let name = format!("trine-test-{name}-{}", std::process::id());
        run(&["experiments/compose/image", &name], &[]).unwrap();
        Some(Self { name, _turn: turn })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _best_effort = run(&["docker", "rmi", "--force", &self.name], &[]);
    }
}

fn compose_program() -> Result<Vec<String>, Skip> {
    Command::new("docker").arg("--version").output().map_err(|error| Skip::Missing(format!("docker: {error}")))?;
    let engine = run(&["docker", "version"], &[]);
    engine.map_err(|error| Skip::Impossible(format!("no Docker engine answers: {error}")))?;
    if run(&["docker", "compose", "version"], &[]).is_ok() {
        return Ok(["docker", "compose"].map(str::to_owned).to_vec());
    }
    run(&["docker-compose", "version"], &[]).map_err(Skip::Missing)?;
    Ok(vec!["docker-compose".to_owned()])
}

/// A container, gone when dropped.
struct Container(String);

impl Container {
    /// Returns arguments of `docker run` that do as compose.yaml does, under a list of permitted calls.
    fn hardened(profile: &str) -> Vec<String> {
        let profile = format!("seccomp={profile}");
        let words = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--security-opt"];
        words.into_iter().chain([profile.as_str()]).map(str::to_owned).collect()
    }

    /// Starts a server that stands alone.
    fn serve(image: &Image, name: &str, profile: &str, flags: &[&str]) -> Self {
        let name = format!("{}-{name}", image.name);
        let mut words = ["docker", "run", "--detach", "--name", &name].map(str::to_owned).to_vec();
        words.extend(Self::hardened(profile));
        words.extend(
            [&image.name, "serve", "--announce", "127.0.0.1", "--allow-wide-bind", "--port", "7000"].map(str::to_owned),
        );
        words.extend(flags.iter().map(|&flag| flag.to_owned()));
        let container = Self(name);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[]).unwrap();
        container
    }

    fn inspect(&self, what: &str) -> String {
        run(&["docker", "inspect", "--format", what, &self.0], &[]).unwrap()
    }

    fn execute(&self, words: &[&str]) -> Result<String, String> {
        run(&[&["docker", "exec", &self.0, "/trine"], words].concat(), &[])
    }

    fn logs(&self) -> String {
        run(&["docker", "logs", &self.0], &[]).unwrap_or_default()
    }

    fn connect(&self) -> Wire {
        Wire::try_connect_to(&self.inspect("{{.NetworkSettings.IPAddress}}"), 7000).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} said:\n{}", self.0, self.logs());
        }
        let _best_effort = run(&["docker", "rm", "--force", "--volumes", &self.0], &[]);
    }
}

/// A variant of the list of permitted calls, in a file.
fn profile(change: impl FnOnce(&mut serde_json::Value)) -> tempfile::NamedTempFile {
    let text = fs::read_to_string(PathBuf::from(ROOT).join(PROFILE)).unwrap();
    let mut profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut profile);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), profile.to_string()).unwrap();
    file
}

/// The image is small, holds one program, and runs it as nobody in particular.
#[test]
fn the_image_is_one_program() {
    let Some(image) = Image::build("one") else { return };
    let inspect = |what: &str| run(&["docker", "image", "inspect", "--format", what, &image.name], &[]).unwrap();
    let bytes: u64 = inspect("{{.Size}}").parse().unwrap();
    eprintln!("the image has {bytes} bytes");
    assert!(bytes <= IMAGE_BYTES_MAX, "{bytes} bytes");
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");
    assert_eq!(inspect("{{json .Config.Healthcheck.Test}}"), r#"["CMD","/trine","health"]"#);
    let name = format!("{}-export", image.name);
    let _container = Container(name.clone());
    run(&["docker", "create", "--name", &name, &image.name], &[]).unwrap();
    let listed =
        Command::new("sh").args(["-c", &format!("docker export {name} | tar --list --verbose")]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    // What is empty is for the engine to mount its own over.
    let is_full = |line: &&str| line.starts_with('-') && line.split_whitespace().nth(2) != Some("0");
    let files: Vec<_> = listed.lines().filter(is_full).map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(files, ["trine", "var/lib/trine/README"], "{listed}");
}

/// A server does all it can do even if any call outside the list kills it: each durability, values on disk, snapshots, health,
/// and an end in order.
#[test]
fn the_permitted_calls_suffice_for_everything() {
    let Some(image) = Image::build("calls") else { return };
    let deadly = profile(|profile| profile["defaultAction"] = "SCMP_ACT_KILL_PROCESS".into());
    let deadly = deadly.path().to_str().unwrap();
    let memory = ["--dir", "", "--cores", "2", "--huge-pages"];
    for (name, flags) in [
        ("memory", &memory[..]),
        ("always", &["--cores", "2", "--log-segment-bytes", "4mb", "--snapshot-log-bytes", "8mb"]),
        ("interval", &["--durability", "interval"]),
        ("none", &["--durability", "none"]),
        ("values", &["--values", "disk", "--max-memory", "4mb", "--log-segment-bytes", "4mb"]),
    ] {
        let server = Container::serve(&image, name, deadly, flags);
        eventually(&format!("{name}: it is ready"), || server.execute(&["health", "--wait", "5"]).ok());
        server.execute(&["health", "localhost:7000"]).unwrap();
        let mut wire = server.connect();
        let value = "v".repeat(2000);
        for number in 0..8000 {
            assert_eq!(wire.ask(&format!("SET key:{number} {number}{value}")), "+OK", "{name}");
        }
        for number in (0..8000).step_by(7) {
            assert_eq!(wire.ask(&format!("GET key:{number}")), format!("{number}{value}"), "{name}");
        }
        wire.ask("INFO everything");
        server.execute(&["top", "--once", "127.0.0.1:7000"]).unwrap();
        // Something may be amiss with this machine (1); a call that is not permitted would be 159.
        if let Err(said) = server.execute(&["doctor"]) {
            assert!(said.contains("exit status: 1:"), "{name}: {said}");
        }
        if flags != memory {
            let answer = wire.ask("SAVE");
            assert!(answer == "+OK" || answer.contains("in progress"), "{name}: {answer}");
            let said = server.execute(&["check", "/var/lib/trine/data"]).unwrap_err();
            assert!(said.contains("exit status: 3:"), "{name}: a server has it open: {said}");
        }
        run(&["docker", "stop", &server.0], &[]).unwrap();
        assert_eq!(server.inspect("{{.State.ExitCode}}"), "0", "{name}");
        if flags != memory {
            // It reads what it wrote.
            run(&["docker", "start", &server.0], &[]).unwrap();
            eventually(&format!("{name}: it is ready again"), || server.execute(&["health", "--wait", "5"]).ok());
            assert_eq!(server.connect().ask("GET key:7"), format!("7{value}"), "{name}");
        }
    }
    let plan =
        format!("docker run --rm {} {} plan --server a=h:7000/1", Container::hardened(deadly).join(" "), image.name);
    run(&["sh", "-c", &plan], &[]).unwrap();
}

/// Under an engine's own list, from Docker 25 on, there is no io_uring: one line says so, and what to do.
#[test]
fn a_list_without_io_uring_is_named() {
    let Some(image) = Image::build("denied") else { return };
    let without = profile(|profile| {
        for group in profile["syscalls"].as_array_mut().unwrap() {
            group["names"].as_array_mut().unwrap().retain(|name| !name.as_str().unwrap().starts_with("io_uring"));
        }
    });
    let server = Container::serve(&image, "server", without.path().to_str().unwrap(), &[]);
    assert_eq!(run(&["docker", "wait", &server.0], &[]), Ok("1".to_owned()));
    let said = server.logs();
    assert!(said.contains("io_uring is filtered by seccomp") && said.contains("io_uring_setup"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// A container that was given the time of one and a half CPUs has one core, and says so if there are more to run on.
#[test]
fn cores_follow_the_quota_of_a_container() {
    let Some(image) = Image::build("quota") else { return };
    let name = format!("{}-server", image.name);
    let _container = Container(name.clone());
    let flags = "--dir '' --announce 127.0.0.1 --allow-wide-bind";
    let start = format!("docker run --detach --name {name} --cpus 1.5 {} serve {flags}", image.name);
    run(&["sh", "-c", &start], &[]).unwrap();
    let server = Container(name);
    eventually("it is ready", || server.execute(&["health", "--wait", "5"]).ok());
    let slots = server.connect().ask("INFO server");
    let nodes =
        Wire::try_connect_to(&server.inspect("{{.NetworkSettings.IPAddress}}"), 7001).unwrap().ask("CLUSTER NODES");
    assert_eq!(nodes.lines().count(), 1, "{nodes} {slots}");
    let online = rustix::thread::sched_getaffinity(None).unwrap().count();
    assert_eq!(server.logs().contains("a CPU quota leaves this process 1 of"), 1 < online, "{}", server.logs());
}

/// The cluster of compose.yaml.
struct Project {
    words: Vec<String>,
    variables: Vec<(String, String)>,
    port: u16,
    name: String,
    _image: Image,
}

impl Project {
    fn up(image: Image, more: &[&str]) -> Self {
        let distances: Vec<_> = (0..3).flat_map(|server| [server * 100, server * 100 + 1]).collect();
        let port = free_ports(&distances);
        let net = format!("172.28.{}", 200 + std::process::id() % 50);
        let port_text = port.to_string();
        let variables =
            run(&[&["experiments/compose/env", "--port", &port_text, "--net", &net], more].concat(), &[]).unwrap();
        let pairs = variables.lines().filter_map(|line| line.split_once('='));
        let mut variables: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        variables.push(("TRINE_IMAGE".into(), image.name.clone()));
        let name = image.name.clone();
        let mut words = compose_program().unwrap();
        words.extend(["--project-name".into(), name.clone()]);
        let project = Self { words, variables, port, name, _image: image };
        let began = Instant::now();
        project.compose(&["up", "--detach"]).unwrap();
        for server in 0..3 {
            project.wait_until_ready(server);
        }
        eprintln!("up to all ready: {:.1} s", began.elapsed().as_secs_f64());
        project
    }

    fn compose(&self, words: &[&str]) -> Result<String, String> {
        let words: Vec<_> = self.words.iter().map(String::as_str).chain(words.iter().copied()).collect();
        run(&words, &self.variables)
    }

    fn gateway(&self, server: u16) -> u16 {
        self.port + 100 * server
    }

    fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(known, _)| known == name).unwrap().1
    }

    fn container(&self, server: u16) -> String {
        self.compose(&["ps", "-q", &format!("s{}", server + 1)]).unwrap()
    }

    fn wait_until_ready(&self, server: u16) {
        let container = self.container(server);
        eventually("it is ready", || run(&["docker", "exec", &container, "/trine", "health", "--wait", "5"], &[]).ok());
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.compose(&["logs", "--tail", "20"]).unwrap_or_default());
        }
        let _best_effort = self.compose(&["down", "--volumes", "--timeout", "5"]);
        let left = run(&["docker", "ps", "-aq", "--filter", &format!("name={}", self.name)], &[]).unwrap_or_default();
        assert!(left.is_empty() || thread::panicking(), "{left} is left behind");
    }
}

/// A server that is killed under load comes back with its volume and everything it acknowledged; the others do not mind, and
/// clients of the cluster, stock and ours, go on by themselves.
#[test]
fn a_killed_container_comes_back_with_all_it_acknowledged() {
    let Some(image) = Image::build("kill") else { return };
    let mut random = random();
    let project = Project::up(image, &[]);
    let mut ledgers: Vec<_> = (0..3)
        .map(|server| Ledger::by(&format!("l{server}"), 40, project.gateway(server), HABITS, random.u64(..)))
        .collect();
    let seed = format!("redis://127.0.0.1:{}", project.gateway(1) + 1);
    let mut stock = ClusterClientBuilder::new([seed]).retries(1).build().unwrap().get_connection().unwrap();
    let ours = format!("127.0.0.1:{}", project.gateway(1) + 1);
    let mut ours = trine_client::blocking::Client::connect(&ours).unwrap();
    let (stop, written) = (&AtomicBool::new(false), &[const { AtomicU64::new(0) }; 2]);
    let killed = project.container(0);
    thread::scope(|scope| {
        for (server, ledger) in (0u16..).zip(&mut ledgers) {
            let port = project.gateway(server);
            scope.spawn(move || match (server, ledger.write(port, stop)) {
                // The one that is killed ends its writer's connection.
                (0, ended) => assert!(ended.is_err()),
                (_, ended) => ended.unwrap(),
            });
        }
        let counted = |client: usize, succeeded: bool| {
            if succeeded {
                written[client].fetch_add(1, Ordering::Relaxed)
            } else {
                0
            };
        };
        scope.spawn(move || {
            for number in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                counted(0, stock.set::<_, _, ()>(format!("stock:{}", number % 500), number).is_ok());
            }
        });
        scope.spawn(move || {
            for number in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                counted(1, ours.set(format!("ours:{}", number % 500), format!("{number}")).is_ok());
            }
        });
        let both_write = |what: &str, more: u64| {
            let before = written.each_ref().map(|count| count.load(Ordering::Relaxed));
            let grown = |client: usize| before[client] + more <= written[client].load(Ordering::Relaxed);
            eventually(what, || (grown(0) && grown(1)).then_some(()));
        };
        both_write("clients write", 300);
        run(&["docker", "kill", &killed], &[]).unwrap();
        run(&["docker", "start", &killed], &[]).unwrap();
        project.wait_until_ready(0);
        // More than a client writes by chance to the two that did not go away: 500 keys in turn are spread over all three.
        both_write("clients go on by themselves", 1000);
        stop.store(true, Ordering::Relaxed);
    });
    for (server, ledger) in (0u16..).zip(&mut ledgers) {
        assert!(0 < ledger.acknowledged, "server {server}");
        eprintln!("server {server}: {} writes acknowledged", ledger.acknowledged);
        ledger.check_by(project.gateway(server));
    }
}

/// By default clients inside the network and on its host are told the servers' own addresses; with --host all are told the
/// host's, where the same ports are published.
#[test]
fn clients_inside_and_outside_are_told_addresses_that_work() {
    let Some(image) = Image::build("host") else { return };
    // An address of this host that containers reach as well: their network's gateway.
    let host = run(&["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"], &[])
        .unwrap();
    let host = if host.is_empty() { "172.17.0.1".to_owned() } else { host };
    let project = Project::up(image, &["--host", &host]);
    assert_eq!(project.variable("TRINE_PUBLISH"), host);
    let moved = Wire::try_connect_to(&host, project.gateway(0) + 1).unwrap().ask("SET foo 1"); // slot 12182, the third server's
    let owner = format!("{host}:{}", project.gateway(2) + 1);
    assert_eq!(moved, format!("-MOVED 12182 {owner}"));
    assert_eq!(Wire::try_connect_to(&host, project.gateway(2) + 1).unwrap().ask("SET foo 1"), "+OK");
    let container = project.container(0);
    for address in [owner.clone(), format!("{}:{}", project.variable("TRINE_ADDRESS_3"), project.gateway(2) + 1)] {
        run(&["docker", "exec", &container, "/trine", "health", &address], &[]).unwrap();
    }
}

/// Without Docker it is Docker that is asked for, whatever else would need it first: the image is not even begun.
#[test]
fn the_lab_says_where_there_is_no_docker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.toml");
    let port = free_ports(&[0, 1, 100, 101, 200, 201]);
    let text = format!(
        "title = \"t\"\nquestion = \"q\"\nrepeats = 1\nduration = \"100ms\"\nport = {port}\n[[targets]]\n\
         name = \"trine\"\nkind = \"trine\"\nservers = 3\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program("trine-lab"));
    command.arg("run").arg(&file).args(["--cluster", "compose", "--out"]).arg(folder.path().join("out"));
    command.arg("--programs").arg(program("trine").parent().unwrap());
    let output = command.current_dir(ROOT).env("PATH", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("docker is not installed") && !said.contains("building"), "{said}");
}

/// trine-lab measures in containers, and leaves none behind: neither when it has done, nor when it is killed in the middle.
#[test]
fn the_lab_leaves_no_container_behind() {
    let Some(image) = Image::build("lab") else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(&[0, 1, 100, 101, 200, 201]);
    let file = folder.path().join("short.toml");
    let text = format!(
        "title = \"t\"\nquestion = \"q\"\nrepeats = 1\nwarmup = \"100ms\"\nduration = \"500ms\"\nport = {port}\n\
         [workload]\nkeys = 1000\nconcurrency = 3\n[[targets]]\nname = \"trine\"\nkind = \"trine\"\nservers = 3\n\
         [[targets]]\nname = \"redis\"\nkind = \"command\"\nservers = 3\nrequires = \"redis-server\"\n\
         command = \"redis-server --bind {{host}} --port {{port}} --protected-mode no --save '' --dir {{dir}}\"\n"
    );
    fs::write(&file, text).unwrap();
    let start = |out: &str| {
        let mut command = Command::new(program("trine-lab"));
        command.arg("run").arg(&file).args(["--cluster", "compose", "--out"]).arg(folder.path().join(out));
        command.arg("--programs").arg(program("trine").parent().unwrap()).env("TRINE_IMAGE", &image.name);
        Process::start(command.current_dir(ROOT).stdout(Stdio::null()))
    };
    let made = |lab: &Process| {
        let project = format!("trine-lab-{}", lab.id());
        let filter = format!("name={project}");
        let list = |what: &[&str]| run(&[&["docker"], what, &["--filter", &filter]].concat(), &[]).unwrap();
        let images = run(&["docker", "images", "-q", "--filter", &format!("reference={project}*")], &[]).unwrap();
        [list(&["ps", "-aq"]), list(&["network", "ls", "-q"]), list(&["volume", "ls", "-q"]), images].concat()
    };
    let mut lab = start("whole");
    assert!(lab.end().success(), "{}", lab.said());
    assert_eq!(made(&lab), "");
    let runs = fs::read_to_string(folder.path().join("whole/runs.jsonl")).unwrap();
    let runs: Vec<serde_json::Value> = runs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Without redis-server its target is left out.
    assert_eq!(runs.len(), 1 + usize::from(Command::new("redis-server").arg("--version").output().is_ok()));
    for measured in runs {
        assert_eq!(measured["status"], "measured", "{measured}");
        assert_eq!(
            measured["utilisation"]["target"].as_array().unwrap().len(),
            3,
            "each container's process: {measured}"
        );
    }
    let mut lab = start("killed");
    eventually("something is made", || (!made(&lab).is_empty()).then_some(()));
    lab.signal(Signal::KILL);
    lab.end();
    eventually("all of it is gone", || made(&lab).is_empty().then_some(()));
}
