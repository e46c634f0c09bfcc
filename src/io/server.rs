//! A server: one pinned executor per core; start, signals, graceful stop.

use super::{
    clock,
    control::Control,
    core,
    directory::{Directory, Owner},
    executor, logging,
    mesh::Mesh,
    newest::Newest,
    probe,
    ring::Ring,
    topology, watch,
};
use crate::{
    client::Clients,
    commands::{Core, Persistence, Process},
    config::{Config, Durability, Values},
    engine::FILES_MAX,
    shard::Shard,
    statistics::Statistics,
    store::{Policy, Store, UnixMillis},
    topology::{ShardId, Topology},
};
use glommio::signal::{self, Signals};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The time for which binding a port is tried again. A server that has ended may still hold the port: the kernel
/// destroys its rings, which refer to the listeners, after the process has ended. Under load that was seen to take
/// seconds.
pub(super) const BIND_PATIENCE: Duration = Duration::from_secs(5);
/// The time after which the owner of the port is asked whether it lives: if it answers, binding fails; else the wait is
/// logged.
const LET_GO: Duration = Duration::from_millis(100);
/// The time that an owner has to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// The beginning of the line that a server writes to standard error when it is ready.
pub(super) const READY: &str = "trine: ready";

/// The parts that a core is made of, before it has a thread.
struct Seed {
    config: Config,
    topology: Topology,
    me: ShardId,
    process: Process,
    hash_seed: u64,
    mesh: Mesh,
    gateway: Option<TcpListener>,
    listener: TcpListener,
    control: Arc<Control>,
    directory: Option<Arc<Directory>>,
}

/// Signals that end the server in order.
const STOPPING: [i32; 2] = [libc::SIGTERM, libc::SIGINT];
/// Signals that are ignored. A terminal that closes sends SIGHUP, and some tools send it to have a log reopened or a
/// configuration read again: the topology file is watched without it. SIGUSR1 and SIGUSR2 have no meaning here. SIGXFSZ
/// comes with an error of the write, and that is handled.
const IGNORED: [i32; 4] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGXFSZ];

/// Blocks signals, so that they wait for core 0 instead of ending the process. Call it before any thread starts:
/// threads inherit the mask.
///
/// # Errors
/// The system's error; not seen in practice.
pub fn block_signals() -> io::Result<()> {
    signal::block(&[STOPPING.as_slice(), &IGNORED].concat()).map_err(|error| io::Error::other(error.to_string()))
}

/// Stops the server at the first signal that asks for it.
async fn heed_signals(control: Arc<Control>) {
    let signals = match Signals::new(&[STOPPING.as_slice(), &IGNORED].concat()) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals can't be received: stopping");
            return control.stop();
        }
    };
    loop {
        match signals.recv().await {
            Ok(number) if IGNORED.contains(&number) => {
                tracing::info!(signal = number, "ignored");
                continue;
            }
            Ok(number) => tracing::info!(signal = number, "stopping"),
            Err(error) => tracing::error!(%error, "signals can't be received: stopping"),
        }
        return control.stop();
    }
}

/// Runs a server until it is told to stop (SIGTERM, SIGINT, SHUTDOWN). Call [`block_signals`] first.
///
/// # Errors
/// A line that names the problem and the way out.
pub fn run(mut config: Config) -> Result<(), String> {
    glommio::early_init();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    probe::check(&kernel)?;
    let (topology, position) = topology::load(&mut config)?;
    let descriptors = raise_descriptor_limit();
    fit_clients(&mut config, descriptors)?;
    allow_huge_pages(config.huge_pages);
    let server = topology.servers()[usize::from(position)].clone();
    let directory = open_directory(&config, &topology, position)?;
    let gateway = bind(config.bind, server.port, config.tcp_backlog)?;
    let listeners: Vec<_> = (0..server.cores)
        .map(|core| bind(config.bind, server.core_port + core, config.tcp_backlog))
        .collect::<Result<_, _>>()?;
    let process = process(&kernel);
    let hash_seed = config.seed.unwrap_or_else(|| fastrand::u64(..));
    // The first call starts the server's clock.
    clock::monotonic_us();
    let meshes = Mesh::new(listeners.len(), config.mesh_queue);
    let address = SocketAddr::new(config.bind, server.port);
    let keeps = match (&config.dir, config.durability()) {
        (None, _) => "values live in memory: a restart forgets everything (--dir DIR keeps them)",
        (_, Durability::None) => "a restart comes back with the last snapshot, if one is asked for (SAVE, BGSAVE)",
        (_, Durability::Interval) => "a write is on disk within two seconds of its reply",
        (_, Durability::Always) => "a write is on disk before its reply",
    };
    let (first, last) = (server.core_port, server.core_port + server.cores - 1);
    let cores = if server.cores == 1 {
        format!("1 core (port {first})")
    } else {
        format!("{} cores (ports {first}-{last})", server.cores)
    };
    let cpus = if config.is_pinned { format!("CPUs {}", crate::config::list(&config.cpus)) } else { "any CPU".into() };
    let announcement = format!("{READY} on {address}, {cores} on {cpus}; {keeps}");
    let newest = Newest::new(topology.clone(), &config.name, directory.clone());
    let control = Arc::new(Control::new(listeners.len(), newest, announcement));
    let mut gateway = Some(gateway);
    let mut threads = Vec::new();
    let (ends, ended) = mpsc::channel();
    for ((core, listener), mesh) in listeners.into_iter().enumerate().zip(meshes) {
        let cpu = config.is_pinned.then_some(config.cpus[core]);
        let seed = Seed {
            config: config.clone(),
            topology: topology.clone(),
            me: ShardId { server: position, core: core as u16 },
            process: process.clone(),
            hash_seed: hash_seed.wrapping_add(core as u64),
            mesh,
            gateway: gateway.take(),
            listener,
            control: Arc::clone(&control),
            directory: directory.clone(),
        };
        let ends = ends.clone();
        let started = executor::start(&format!("core-{core}"), cpu, move || async move {
            // The receiver is there until the first core fails.
            let _ = ends.send((core, serve(seed).await));
        });
        let started = started.map_err(|error| {
            let place = cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
            format!("core {core} does not start{place}: {error}{}", probe::way_out(&error))
        })?;
        threads.push((core, started));
    }
    drop(ends);
    if let Some(path) = &config.topology {
        watch::begin(path.clone(), Arc::clone(&control))
            .map_err(|error| format!("the topology file can't be watched: {error}"))?;
    }
    // Without one of its cores a server must not go on, whichever it is.
    for (core, outcome) in ended {
        outcome.map_err(|error| format!("core {core}: {error}{}", probe::way_out(&error)))?;
    }
    threads.into_iter().try_for_each(|(core, thread)| thread.join().map_err(|error| format!("core {core}: {error}")))
}

/// Runs one core on its executor.
async fn serve(seed: Seed) -> io::Result<()> {
    let Seed { config, topology, me, process, hash_seed, mut mesh, gateway, listener, control, directory } = seed;
    let mut ring = Ring::new(config.receive_buffers, config.receive_buffer_bytes)?;
    mesh.set_bells(control.exchange_bells(me.core.into(), ring.bell()).await);
    ring.listen(listener);
    if let Some(gateway) = gateway {
        ring.listen(gateway);
    }
    let policy = Policy::new(&config, topology.servers()[usize::from(me.server)].cores);
    let core = Core {
        rendered: topology.render(me),
        has_topology: config.topology.is_some(),
        clients: Clients::default(),
        statistics: Statistics::default(),
        config,
        topology,
        me,
        process,
        persistence: Persistence::default(),
    };
    if me.core == 0 {
        glommio::spawn_local(heed_signals(Arc::clone(&control))).detach();
    }
    core::run(ring, Shard::new(Store::new(hash_seed, policy), core), mesh, control, directory.as_deref()).await
}

/// Opens the data directory, if one is configured.
fn open_directory(config: &Config, topology: &Topology, position: u16) -> Result<Option<Arc<Directory>>, String> {
    let Some(path) = &config.dir else { return Ok(None) };
    let owner = Owner::new(topology, position, config.topology.is_some());
    Directory::open(path, &owner).map(|directory| Some(Arc::new(directory)))
}

/// Listens on a port; the error says so if it is taken.
fn bind(address: IpAddr, port: u16, backlog: u32) -> Result<TcpListener, String> {
    let address = SocketAddr::new(address, port);
    let listener = when_free(address, BIND_PATIENCE, || try_bind(address, backlog).map_err(Into::into));
    listener.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            format!(
                "port {port} is taken: another server listens on {address}; stop it, or choose others with --port and \
                 --core-port"
            )
        } else {
            format!("can't listen on {address}: {error}")
        }
    })
}

/// Tries to bind an address, again and again while its last owner seems to be ending, and logs that once. An owner that
/// answers is not ending.
///
/// # Errors
/// The error of the last try: the address is in use, or another problem.
pub(super) fn when_free<T>(
    address: SocketAddr,
    patience: Duration,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let began = Instant::now();
    let mut has_said = false;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < patience => {
                if LET_GO <= began.elapsed() && !has_said {
                    if is_alive(address) {
                        return Err(error);
                    }
                    has_said = true;
                    let seconds = patience.as_secs();
                    logging::say(&format!(
                        "trine: {address} is still held, as by a server that ends: waiting for {seconds} s"
                    ));
                }
                thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

/// Returns true if a server answers at an address.
fn is_alive(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"PING\r\n\r\n")?;
        stream.read(&mut [0; 1])
    };
    ask().is_ok_and(|length| 0 < length)
}

fn try_bind(address: SocketAddr, backlog: u32) -> rustix::io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // A server that was stopped leaves connections behind that would hold the port for a minute.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from(socket))
}

/// Raises the limit of open files to the hard limit, since each connection takes a descriptor. Returns the limit.
fn raise_descriptor_limit() -> u64 {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(resource, limit) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
    rustix::process::getrlimit(resource).current.unwrap_or(u64::MAX)
}

/// The number of clients of a core from which on it is no warning, only information, that the default of 100,000 was
/// lowered.
const MANY_CLIENTS: u32 = 1_000;

/// Lowers `maxclients` so that descriptors are left for the server itself, and logs that.
fn fit_clients(config: &mut Config, descriptors: u64) -> Result<(), String> {
    let cores = config.cores.unwrap_or(1).into();
    let kept = kept_descriptors(cores, config.dir.is_some(), config.values == Values::Disk);
    let asked = config.maxclients;
    let limit = u32::try_from(descriptors.saturating_sub(kept) / cores).unwrap_or(u32::MAX);
    if limit == 0 {
        return Err(format!(
            "{descriptors} files may be open, and {cores} cores need {kept} for themselves: raise the limit (ulimit -n)"
        ));
    }
    if config.limit_maxclients(limit) {
        let text = format!(
            "maxclients is lowered from {asked} to {limit} a core: {descriptors} files may be open, and {kept} are kept for \
             the server itself; raise the limit (ulimit -n) for more"
        );
        // A default is worth a warning only if few clients are left.
        let is_missed = config.is_given("maxclients") || limit < MANY_CLIENTS;
        if is_missed { tracing::warn!("{text}") } else { tracing::info!("{text}") }
    }
    Ok(())
}

/// Returns the number of descriptors that a server needs besides its clients'. With one core and a directory 19 of
/// these were seen open, and 30 with two.
fn kept_descriptors(cores: u64, has_directory: bool, has_values_on_disk: bool) -> u64 {
    /// Standard streams, the gateway's listener, signals, the lock of the directory, /proc.
    const SERVER: u64 = 12;
    /// Rings, eventfds and the listener of a core, and connections that it has not refused yet.
    const CORE: u64 = 12;
    /// The log's segment and the next, a snapshot, a hint, segments that are compacted, and their directories.
    const FILES: u64 = 12;
    let files = if has_directory { FILES } else { 0 };
    let values = if has_values_on_disk { FILES_MAX as u64 } else { 0 };
    SERVER + cores * (CORE + core::REFUSED_MAX as u64 + files + values)
}

/// Allows or forbids the kernel to back memory with huge pages from now on. The allocator asks for them where it is
/// allowed.
pub fn allow_huge_pages(allowed: bool) {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!allowed) {
        tracing::debug!(%error, allowed, "huge pages stay as they are");
    }
}

fn process(kernel: &str) -> Process {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Process {
        id: std::process::id(),
        run_id: std::iter::repeat_with(|| fastrand::digit(16)).take(40).collect(),
        os: format!("Linux {kernel} {}", std::env::consts::ARCH),
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        executable: std::env::current_exe().unwrap_or_default().display().to_string(),
        started_at: UnixMillis(unix.as_millis() as u64),
        resident_bytes: 0,
        cpu: clock::cpu_times(),
        total_memory_bytes: rustix::system::sysinfo().totalram,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that is released late is bound, and one whose owner answers is refused without a wait.
    #[test]
    fn a_port_is_waited_for_while_its_owner_ends() {
        let (mut owner, mut tries) = (Some(TcpListener::bind("127.0.0.1:0").unwrap()), 0);
        let address = owner.as_ref().unwrap().local_addr().unwrap();
        let bound = when_free(address, Duration::from_secs(60), || {
            tries += 1;
            // After the owner has been asked.
            if tries == 20 {
                owner = None;
            }
            try_bind(address, 1).map_err(Into::into)
        });
        let listener = bound.unwrap();
        let answering = thread::spawn(move || listener.accept().unwrap().0.write_all(b"+PONG\r\n").map(|()| listener));
        let refused = when_free(address, Duration::from_secs(600), || try_bind(address, 1).map_err(Into::into));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        answering.join().unwrap().unwrap();
    }

    /// The descriptors that a server was seen to use are kept back for it.
    #[test]
    fn descriptors_are_kept_back() {
        assert!(19 < kept_descriptors(1, true, false) && 30 < kept_descriptors(2, true, false));
        let mut config = Config::default();
        config.cores = Some(2);
        assert_eq!((fit_clients(&mut config, 1 << 20), config.maxclients), (Ok(()), 100_000));
        let kept = kept_descriptors(2, false, false);
        assert_eq!((fit_clients(&mut config, kept + 21), config.maxclients), (Ok(()), 10));
        assert!(fit_clients(&mut config, kept + 1).unwrap_err().contains("ulimit -n"));
    }
}
