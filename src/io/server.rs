//! A server: one pinned executor per core; start, signals, graceful stop.

use super::{
    clock,
    clock::Clock,
    directory::{Directory, Owner},
    executor, logging,
    mesh::Mesh,
    probe,
    ring::Bell,
    ring::Ring,
    shard, topology,
};
use crate::{
    client::Clients,
    commands::{Core, Persistence, Process},
    config::{Config, Durability},
    shard::Shard,
    statistics::Statistics,
    store::{Policy, Store, UnixMillis},
    topology::{ShardId, Topology},
};
use glommio::signal::{self, Signals};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A port may still be taken for a moment by a server that was killed: the kernel tears its rings down, and with them their
/// hold on the listeners, after the process has gone.
const BIND_PATIENCE: Duration = Duration::from_millis(300);

/// How the line begins that a server says on standard error when it is ready.
pub(super) const READY: &str = "trine: ready";

/// What the cores of a server share: whether it goes on. Nothing of it is touched to serve a request.
#[derive(Default)]
pub struct Control {
    /// Set once: stop accepting, finish, end.
    pub stopping: AtomicBool,
    /// A core's log could not be written: the server ends, and no core acknowledges anything more. One device's failure may be
    /// told to one core alone.
    pub failed: AtomicBool,
    /// Cores that have no connection left.
    pub drained: AtomicUsize,
    /// Cores that have read their files.
    loaded: AtomicUsize,
    /// What is said once all have.
    announcement: String,
    /// A bell for each core, as they come up.
    bells: Mutex<Vec<Option<Arc<Bell>>>>,
}

/// Everything that a core is made of, before it has a thread.
struct Seed {
    config: Config,
    topology: Topology,
    me: ShardId,
    process: Process,
    hash_seed: u64,
    clock: Clock,
    mesh: Mesh,
    gateway: Option<TcpListener>,
    listener: TcpListener,
    control: Arc<Control>,
    directory: Option<Arc<Directory>>,
}

/// Signals that end the server in order.
const STOPPING: [i32; 2] = [libc::SIGTERM, libc::SIGINT];
/// Signals that are ignored. A terminal that closes sends SIGHUP, and some send it for a log or a configuration to be read
/// anew; SIGUSR1 and SIGUSR2 have no meaning here; SIGXFSZ comes with an error of the write, which is what counts.
const IGNORED: [i32; 4] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGXFSZ];

/// Has signals wait for core 0, instead of ending the process. To be called before any thread starts: all inherit it.
///
/// # Errors
/// What the system says; not seen in practice.
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

/// Runs a server until it is told to stop (SIGTERM, SIGINT, SHUTDOWN). Its signals are [blocked](block_signals) already.
///
/// # Errors
/// A line that says what is in the way, and the way out.
pub fn run(mut config: Config) -> Result<(), String> {
    glommio::early_init();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    probe::check(&kernel)?;
    let (topology, position) = topology::load(&mut config)?;
    raise_descriptor_limit();
    allow_huge_pages(config.huge_pages);
    let server = topology.servers()[usize::from(position)].clone();
    let directory = open_directory(&config, &topology, position)?;
    let gateway = bind(config.bind, server.port, config.tcp_backlog)?;
    let listeners: Vec<_> = (0..server.cores)
        .map(|core| bind(config.bind, server.core_port + core, config.tcp_backlog))
        .collect::<Result<_, _>>()?;
    let process = process(&kernel);
    let hash_seed = config.seed.unwrap_or_else(|| fastrand::u64(..));
    let clock = Clock::new(Instant::now());
    let meshes = Mesh::new(listeners.len(), config.mesh_queue);
    let address = SocketAddr::new(config.bind, server.port);
    let keeps = match (&config.dir, config.durability()) {
        (None, _) => "values live in memory: a restart forgets everything (--dir DIR keeps them)",
        (_, Durability::None) => "a restart comes back with the last snapshot, if one is asked for (SAVE, BGSAVE)",
        (_, Durability::Interval) => "a write is on disk within two seconds of its reply",
        (_, Durability::Always) => "a write is on disk before its reply",
    };
    let (first, last) = (server.core_port, server.core_port + server.cores - 1);
    let cores = if server.cores == 1 { format!("1 core (port {first})") } else {
        format!("{} cores (ports {first}-{last})", server.cores)
    };
    let cpus = crate::config::list(&config.cpus);
    let announcement = format!("{READY} on {address}, {cores} on CPUs {cpus}; {keeps}");
    let bells = Mutex::new(vec![None; listeners.len()]);
    let control = Arc::new(Control { bells, announcement, ..Control::default() });
    let mut gateway = Some(gateway);
    let mut threads = Vec::new();
    let (ends, ended) = mpsc::channel();
    for ((core, listener), mesh) in listeners.into_iter().enumerate().zip(meshes) {
        let cpu = config.cpus[core];
        let seed = Seed {
            config: config.clone(),
            topology: topology.clone(),
            me: ShardId { server: position, core: core as u16 },
            process: process.clone(),
            hash_seed: hash_seed.wrapping_add(core as u64),
            clock,
            mesh,
            gateway: gateway.take(),
            listener,
            control: Arc::clone(&control),
            directory: directory.clone(),
        };
        let ends = ends.clone();
        let started = executor::start(&format!("core-{core}"), cpu, move || async move {
            // Somebody listens until the first one fails.
            let _ = ends.send((core, serve(seed).await));
        });
        let started = started
            .map_err(|error| format!("core {core} does not start on CPU {cpu}: {error}{}", probe::way_out(&error)))?;
        threads.push((core, started));
    }
    drop(ends);
    // Without one of its cores a server must not go on, whichever it is.
    for (core, outcome) in ended {
        outcome.map_err(|error| format!("core {core}: {error}{}", probe::way_out(&error)))?;
    }
    threads.into_iter().try_for_each(|(core, thread)| thread.join().map_err(|error| format!("core {core}: {error}")))
}

/// One core, from its executor on.
async fn serve(seed: Seed) -> io::Result<()> {
    let Seed { config, topology, me, process, hash_seed, clock, mut mesh, gateway, listener, control, directory } =
        seed;
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
        rows: Vec::new(),
        config,
        topology,
        me,
        process,
        persistence: Persistence::default(),
    };
    if me.core == 0 {
        glommio::spawn_local(heed_signals(Arc::clone(&control))).detach();
    }
    shard::run(ring, Shard::new(Store::new(hash_seed, policy), core), mesh, clock, control, directory.as_deref()).await
}

/// Opens the data directory, if there is to be one.
fn open_directory(config: &Config, topology: &Topology, position: u16) -> Result<Option<Arc<Directory>>, String> {
    let Some(path) = &config.dir else { return Ok(None) };
    let owner = Owner::new(topology, position, config.topology.is_some());
    Directory::open(path, &owner).map(|directory| Some(Arc::new(directory)))
}

impl Control {
    /// Tells every core to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let bells = self.bells.lock().expect("nobody panics with the bells in hand");
        bells.iter().flatten().for_each(|bell| bell.ring());
    }

    /// Notes that a core has read its files, or has none. With the last of them the server is ready, and says so. Returns
    /// whether it is.
    pub fn core_is_loaded(&self) -> bool {
        let bells = self.bells.lock().expect("nobody panics with the bells in hand");
        let is_ready = self.loaded.fetch_add(1, Ordering::SeqCst) + 1 == bells.len();
        if is_ready {
            logging::say(&self.announcement);
            bells.iter().flatten().for_each(|bell| bell.ring());
        }
        is_ready
    }

    /// Returns true once every one of so many cores has read its files: until then none of them serves, so that a request by the
    /// gateway does not depend on where its key is.
    pub fn is_ready(&self, cores: usize) -> bool {
        self.loaded.load(Ordering::SeqCst) == cores
    }

    /// Puts a core's bell where the others find it, and waits until all have done so.
    async fn exchange_bells(&self, core: usize, bell: Arc<Bell>) -> Vec<Arc<Bell>> {
        self.bells.lock().expect("nobody panics with the bells in hand")[core] = Some(bell);
        loop {
            let bells: Option<Vec<_>> =
                self.bells.lock().expect("nobody panics with the bells in hand").iter().cloned().collect();
            match bells {
                Some(bells) => return bells,
                None => glommio::timer::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Listens on a port, or says that it is taken.
fn bind(address: IpAddr, port: u16, backlog: u32) -> Result<TcpListener, String> {
    let address = SocketAddr::new(address, port);
    let began = Instant::now();
    loop {
        match try_bind(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(rustix::io::Errno::ADDRINUSE) if began.elapsed() < BIND_PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(rustix::io::Errno::ADDRINUSE) => {
                return Err(format!(
                    "port {port} is taken: another server listens on {address}; stop it, or choose others with --port \
                     and --core-port"
                ));
            }
            Err(error) => return Err(format!("can't listen on {address}: {error}")),
        }
    }
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

/// A descriptor for each connection: as many as the system allows without asking anyone.
fn raise_descriptor_limit() {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(resource, limit) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
}

/// Lets the kernel back memory with huge pages from now on, or not. The allocator asks for them wherever it may.
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
        executable: std::env::current_exe().unwrap_or_default().display().to_string(),
        started_at: UnixMillis(unix.as_millis() as u64),
        resident_bytes: 0,
        cpu: clock::cpu_times(),
        total_memory_bytes: rustix::system::sysinfo().totalram,
    }
}
