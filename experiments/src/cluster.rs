//! Starts and stops what is measured.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::cluster_error::ClusterError;
use crate::compose::{self, Access, Compose, Images, Ours, Plan, Programs};
use crate::machine::available_cpus;
use crate::process::{Group, Interrupt, Invocation, LOOK_EVERY};
use crate::settings::{Protocol, cpu_list};
use crate::target::{Deployment, Means, Size, Target};

/// A target that runs. What was started for it ends when this value is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// One that the load generator learns the others from; or several that know nothing of each other.
    pub addresses: Vec<String>,
    pub protocol: Protocol,
    /// `--cluster`, `--single`, or nothing: the load generator then asks the server.
    pub mode: Option<&'static str>,
    /// Of the first process that was started; empty for a target that already ran.
    pub command: Vec<String>,
    groups: Vec<Group>,
    containers: Option<Compose>,
    /// Removed last: what runs may still write to it.
    _data: Option<Data>,
}

/// A directory for what a target writes, for as long as it runs.
#[derive(Debug)]
struct Data(PathBuf);

impl Data {
    fn create(path: &Path) -> Result<Self, ClusterError> {
        let failed = |error| ClusterError::Data { path: path.to_owned(), error };
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir_all(path).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The place for a target: ports, CPUs, files and images.
pub struct Site<'a> {
    pub trine: &'a Path,
    pub port: u16,
    pub cpus: Option<Vec<usize>>,
    pub log: &'a Path,
    /// The target's data directory, if it keeps any data.
    pub data: &'a Path,
    /// The folder with the programs that a target had built.
    pub build: &'a Path,
    /// The images for containers.
    pub images: &'a Images,
}

impl Site<'_> {
    fn plan(&self) -> Plan<'_> {
        Plan { port: self.port, cpus: self.cpus.as_deref(), log: self.log, images: self.images }
    }
}

/// From one server's port to the next one's, as `trine up` lays them out; each core listens on the ports between.
const PORTS_PER_SERVER: u16 = 100;
/// A server that has ended may hold its ports for a moment longer: the kernel takes its rings down after it is gone.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
/// The longest time to connect to a target that runs already: it answers at once, but for the way there.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Ours are up within two seconds; others may load a snapshot first.
const START_TIMEOUT: Duration = Duration::from_secs(20);

impl Cluster {
    /// Starts a deployment and waits until it accepts connections.
    pub fn start(deployment: &Deployment, site: &Site<'_>, interrupt: &Interrupt) -> Result<Self, ClusterError> {
        check_ports(deployment, site.port)?;
        let protocol = deployment.target.protocol();
        match &deployment.target {
            Target::Address { address, cluster, .. } => {
                let mode = cluster.map(mode).filter(|_| protocol == Protocol::Resp);
                let addresses = vec![address.clone()];
                let (command, groups) = (Vec::new(), Vec::new());
                Ok(Self { addresses, protocol, mode, command, groups, containers: None, _data: None })
            }
            Target::Command { command, cluster, servers, containers, .. } => {
                let data = command.contains("{dir}").then(|| Data::create(site.data)).transpose()?;
                // In a container the working directory is another.
                let shown =
                    |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
                let command = command.replace("{dir}", &shown(site.data)).replace("{build}", &shown(site.build));
                let ports = gateways(site.port, *servers)?;
                let hosts =
                    (0..*servers).map(|server| if *containers { compose::address(server) } else { LOCAL.into() });
                let hosts: Vec<String> = hosts.collect();
                let words = |(port, host): (&u16, &String)| {
                    shlex::split(&command.replace("{port}", &port.to_string()).replace("{host}", host))
                        .unwrap_or_default()
                };
                let words = ports.iter().zip(&hosts).map(words).collect();
                let start = Start { words, hosts, ports, mode: mode(*cluster), protocol };
                match containers {
                    true => Self::contain(&start, site, data, interrupt),
                    false => Self::launch(start, site, data, interrupt, accepts),
                }
            }
            Target::Trine { cluster: Means::Compose, directory, settings, topology, .. } => {
                let size = deployment.size.unwrap_or(Size { servers: 1, cores: 1 });
                let (port, directory, topology) = (site.port, *directory, *topology);
                let ours = Ours { trine: site.trine, size, directory, topology, settings };
                let containers = Compose::start(&site.plan(), &ours, interrupt)?;
                let (command, groups) = (containers.command(), Vec::new());
                // Those that know of each other tell where the others are.
                let count = if topology { 1 } else { size.servers };
                let host = |server| if topology { LOCAL.to_owned() } else { compose::address(server) };
                let addresses =
                    (0..).zip(gateways(port, count)?).map(|(server, port)| format!("{}:{port}", host(server)));
                let addresses: Vec<String> = addresses.collect();
                let mode = (protocol == Protocol::Resp && addresses.len() == 1).then_some(mode(topology));
                Ok(Self { addresses, protocol, mode, command, groups, containers: Some(containers), _data: None })
            }
            Target::Trine { directory, settings, topology: true, .. } => {
                let size = deployment.size.unwrap_or(Size { servers: 1, cores: 1 });
                let data = directory.then(|| Data::create(site.data)).transpose()?;
                let mut words = vec![
                    site.trine.display().to_string(),
                    "up".to_owned(),
                    "--servers".to_owned(),
                    size.servers.to_string(),
                    "--cores".to_owned(),
                    size.cores.to_string(),
                    "--port".to_owned(),
                    site.port.to_string(),
                ];
                if data.is_some() {
                    words.extend(["--dir".to_owned(), site.data.display().to_string()]);
                }
                if !settings.is_empty() {
                    words.push("--".to_owned());
                    words.extend_from_slice(settings);
                }
                let (hosts, ports) = (vec![LOCAL.to_owned()], vec![site.port]);
                let start = Start { words: vec![words], hosts, ports, mode: mode(true), protocol };
                Self::launch(start, site, data, interrupt, |group, _| says_ready(&group.log))
            }
            Target::Trine { directory, settings, .. } => {
                let size = deployment.size.unwrap_or(Size { servers: 1, cores: 1 });
                let data = directory.then(|| Data::create(site.data)).transpose()?;
                let ports = gateways(site.port, size.servers)?;
                let allowed = site.cpus.clone().unwrap_or_else(available_cpus);
                let words = (0_u16..).zip(&ports).map(|(server, port)| {
                    let mut words = vec![site.trine.display().to_string(), "serve".to_owned()];
                    words.extend(["--port".to_owned(), port.to_string(), "--cores".to_owned(), size.cores.to_string()]);
                    // Unless its flags say which CPUs, as in --cpus any.
                    if !settings.iter().any(|word| word == "--cpus" || word.starts_with("--cpus=")) {
                        words.extend(["--cpus".to_owned(), cpu_list(&share(&allowed, server, size.cores))]);
                    }
                    if data.is_some() {
                        words.extend(["--dir".to_owned(), site.data.join(port.to_string()).display().to_string()]);
                    }
                    words.extend_from_slice(settings);
                    words
                });
                let (words, hosts) = (words.collect(), vec![LOCAL.to_owned(); ports.len()]);
                let start = Start { words, hosts, ports, mode: mode(false), protocol };
                Self::launch(start, site, data, interrupt, accepts)
            }
        }
    }

    fn launch(
        start: Start,
        site: &Site<'_>,
        data: Option<Data>,
        interrupt: &Interrupt,
        is_ready: impl Fn(&Group, &str) -> bool,
    ) -> Result<Self, ClusterError> {
        let (addresses, mode) = (start.addresses(), start.mode());
        let Start { words, protocol, .. } = start;
        let (mut groups, mut command) = (Vec::new(), Vec::new());
        for (words, number) in words.into_iter().zip(1..) {
            let invocation = Invocation { words, cpus: site.cpus.clone() };
            let log = if number == 1 { site.log.to_owned() } else { numbered(site.log, number) };
            groups.push(Group::start(&invocation, &log).map_err(ClusterError::Process)?);
            if number == 1 {
                command = invocation.command_line();
            }
        }
        let began = Instant::now();
        for (group, address) in groups.iter_mut().zip(&addresses) {
            // First whether it lives: what answers on the port of a dead server is another one.
            loop {
                if let Some(status) = group.ended() {
                    return Err(ClusterError::Ended { status: status.to_string(), last_words: group.last_words() });
                }
                if is_ready(group, address) {
                    break;
                }
                if interrupt.is_set() {
                    return Err(ClusterError::Interrupted);
                }
                if START_TIMEOUT < began.elapsed() {
                    return Err(ClusterError::NotReady { limit: START_TIMEOUT, last_words: group.last_words() });
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(Self { addresses, protocol, mode, command, groups, containers: None, _data: data })
    }

    /// Launches it like [`launch`](Self::launch), each process in a container.
    fn contain(
        start: &Start,
        site: &Site<'_>,
        data: Option<Data>,
        interrupt: &Interrupt,
    ) -> Result<Self, ClusterError> {
        let mut folders = vec![(site.build, Access::Read)];
        folders.retain(|(folder, _)| folder.is_dir());
        folders.extend(data.as_ref().map(|data| (data.0.as_path(), Access::Write)));
        let programs = Programs { words: &start.words, folders };
        let containers = Compose::start_programs(&site.plan(), &programs, interrupt)?;
        let addresses = start.addresses();
        let began = Instant::now();
        while !addresses.iter().all(|address| is_reachable(address)) {
            let last_words = || containers.last_words();
            match () {
                () if !containers.is_alive() => {
                    let status = "a container has stopped".to_owned();
                    return Err(ClusterError::Ended { status, last_words: last_words() });
                }
                () if interrupt.is_set() => return Err(ClusterError::Interrupted),
                () if START_TIMEOUT < began.elapsed() => {
                    return Err(ClusterError::NotReady { limit: START_TIMEOUT, last_words: last_words() });
                }
                () => std::thread::sleep(LOOK_EVERY),
            }
        }
        let (mode, protocol, command) = (start.mode(), start.protocol, containers.command());
        let (groups, containers) = (Vec::new(), Some(containers));
        Ok(Self { addresses, protocol, mode, command, groups, containers, _data: data })
    }

    /// Returns whether all of it still runs, as far as that can be known.
    pub fn is_alive(&mut self) -> bool {
        self.groups.iter_mut().all(|group| group.ended().is_none())
            && self.containers.as_ref().is_none_or(Compose::is_alive)
    }

    /// Returns the last lines that its processes printed; those of one that has ended, where one has.
    pub fn last_words(&mut self) -> String {
        let ended = self.groups.iter_mut().position(|group| group.ended().is_some());
        let containers = || self.containers.as_ref().map(Compose::last_words);
        self.groups.get(ended.unwrap_or(0)).map(Group::last_words).or_else(containers).unwrap_or_default()
    }

    /// Returns the processes that all the others descend from.
    pub fn roots(&self) -> Vec<u32> {
        let containers = self.containers.iter().flat_map(|containers| containers.processes.iter().copied());
        self.groups.iter().map(Group::pid).chain(containers).collect()
    }
}

/// The processes to start, and the way to reach them.
struct Start {
    /// The command line of each process.
    words: Vec<Vec<String>>,
    /// The host of each.
    hosts: Vec<String>,
    ports: Vec<u16>,
    mode: &'static str,
    protocol: Protocol,
}

impl Start {
    fn addresses(&self) -> Vec<String> {
        self.hosts.iter().zip(&self.ports).map(|(host, port)| format!("{host}:{port}")).collect()
    }

    /// Returns the mode to give to the load generator, if it has to be given.
    fn mode(&self) -> Option<&'static str> {
        (self.protocol == Protocol::Resp && self.ports.len() == 1).then_some(self.mode)
    }
}

/// The address that processes listen on.
const LOCAL: &str = "127.0.0.1";

/// The log of a target's second process and those after it.
fn numbered(log: &Path, number: usize) -> PathBuf {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    log.with_file_name(format!("{stem}-{number}.log"))
}

fn accepts(_: &Group, address: &str) -> bool {
    is_reachable(address)
}

fn is_reachable(address: &str) -> bool {
    let address = address.parse::<SocketAddr>();
    address.is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok())
}

/// The CPUs of one server among several, one after the other and round again, in order.
fn share(allowed: &[usize], server: u16, cores: u16) -> Vec<usize> {
    let first = usize::from(server) * usize::from(cores);
    let mut cpus: Vec<usize> =
        (first..first + usize::from(cores)).take(allowed.len()).map(|place| allowed[place % allowed.len()]).collect();
    cpus.sort_unstable();
    cpus
}

/// The ports of several servers.
fn gateways(first: u16, servers: u16) -> Result<Vec<u16>, ClusterError> {
    let size = Size { servers, cores: 0 };
    let port = |server: u16| server.checked_mul(PORTS_PER_SERVER)?.checked_add(first);
    (0..servers).map(|server| port(server).ok_or(ClusterError::NoSuchPort { first, size })).collect()
}

fn mode(cluster: bool) -> &'static str {
    if cluster { "--cluster" } else { "--single" }
}

fn says_ready(log: &Path) -> bool {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.split_inclusive('\n').any(|line| line.starts_with("ready"))
}

/// Returns every port that `trine up` will listen on.
fn ports(first: u16, size: Size) -> Result<Vec<u16>, ClusterError> {
    let mut ports = Vec::new();
    for server in 0..size.servers {
        for core in 0..=size.cores {
            let port = server.checked_mul(PORTS_PER_SERVER).and_then(|offset| offset.checked_add(core));
            let port = port.and_then(|offset| offset.checked_add(first));
            ports.push(port.ok_or(ClusterError::NoSuchPort { first, size })?);
        }
    }
    Ok(ports)
}

/// Refuses a port that a deployment needs and cannot have.
pub fn check_ports(deployment: &Deployment, first: u16) -> Result<(), ClusterError> {
    match (&deployment.target, deployment.size) {
        (Target::Address { .. }, _) => Ok(()),
        (_, Some(size)) => check_free(ports(first, size)?),
        (Target::Command { servers, .. }, None) => check_free(gateways(first, *servers)?),
        (Target::Trine { .. }, None) => check_free([first]),
    }
}

/// Refuses a target that should run already, and does not answer.
pub fn check_reachable(target: &Target) -> Result<(), ClusterError> {
    let Target::Address { address, .. } = target else { return Ok(()) };
    let failed = |error| ClusterError::Unreachable { address: address.clone(), error };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&place, REACH_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn check_free(ports: impl IntoIterator<Item = u16>) -> Result<(), ClusterError> {
    let began = Instant::now();
    for port in ports {
        while let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            if PORT_PATIENCE < began.elapsed() {
                return Err(ClusterError::PortTaken { port, error });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three servers of one core from 17000 listen on the ports that `trine up` gives them.
    #[test]
    fn ports_are_known_before_anything_starts() {
        let ports = |first, servers, cores| super::ports(first, Size { servers, cores });
        assert_eq!(ports(17_000, 3, 1).unwrap(), [17_000, 17_001, 17_100, 17_101, 17_200, 17_201]);
        assert!(matches!(ports(65_500, 2, 1), Err(ClusterError::NoSuchPort { .. })));
    }

    /// Servers of their own share the CPUs evenly, and one never gets the same CPU twice.
    #[test]
    fn servers_take_turns_on_the_cpus() {
        assert_eq!([0, 1, 2].map(|server| share(&[4, 6], server, 1)), [vec![4], vec![6], vec![4]]);
        assert_eq!([0, 1].map(|server| share(&[1, 2, 3], server, 2)), [vec![1, 2], vec![1, 3]]);
        assert_eq!(share(&[0], 0, 3), [0]);
        assert_eq!(gateways(17_000, 3).unwrap(), [17_000, 17_100, 17_200]);
    }

    /// A target that should run already and does not is named with its address; one that answers is let pass.
    #[test]
    fn a_target_that_does_not_run_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = |address: &str| Target::Address {
            name: "lab".to_owned(),
            address: address.to_owned(),
            cluster: None,
            protocol: Protocol::Resp,
        };
        check_reachable(&target(&address)).unwrap();
        // A socket that does not listen keeps its port from whoever would.
        let silent =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&silent, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let silent = TcpListener::from(silent);
        for address in [silent.local_addr().unwrap().to_string().as_str(), "nonsense"] {
            let error = check_reachable(&target(address)).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("start a server"), "{error}");
        }
    }

    /// A taken port is named, before anything is started that would say so less clearly.
    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_free([port]).unwrap_err();
        assert!(error.to_string().contains(&format!("port {port} ")), "{error}");
        drop(taken);
        check_free([port]).unwrap();
    }
}
