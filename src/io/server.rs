//! A server: one pinned executor per core; start, signals, graceful stop.

use super::{
    clock,
    clock::Clock,
    directory::{Directory, Owner},
    executor,
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

/// Runs a server until it is told to stop (SIGTERM, SIGINT, SHUTDOWN).
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
    // Before any thread starts, so that all inherit it and the signals wait for core 0.
    signal::block(&[libc::SIGTERM, libc::SIGINT]).map_err(|error| format!("signals can't be blocked: {error}"))?;

    let server = topology.servers()[usize::from(position)].clone();
    let directory = open_directory(&config, &topology, position)?;
    let gateway = bind(config.bind, server.port, config.tcp_backlog)?;
    let listeners: Vec<_> = (0..server.cores)
        .map(|core| bind(config.bind, server.core_port + core, config.tcp_backlog))
        .collect::<Result<_, _>>()?;
    let control = Arc::new(Control { bells: Mutex::new(vec![None; listeners.len()]), ..Control::default() });
    let process = process(&kernel);
    let hash_seed = config.seed.unwrap_or_else(|| fastrand::u64(..));
    let clock = Clock::new(Instant::now());
    let meshes = Mesh::new(listeners.len(), config.mesh_queue);
    let address = SocketAddr::new(config.bind, server.port);
    let has_topology = config.topology.is_some();
    let durability = match (&config.dir, config.durability()) {
        (None, _) => "values live in memory: a restart forgets everything (--dir DIR keeps them)",
        (_, Durability::None) => "a restart comes back with the last snapshot, if one is asked for (SAVE, BGSAVE)",
        (_, Durability::Interval) => "a write is on disk within two seconds of its reply",
        (_, Durability::Always) => "a write is on disk before its reply",
    };
    tracing::info!(name = config.name, gateway = %address, cores = server.cores, has_topology, "ready; {durability}");

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
        let control = Arc::clone(&control);
        glommio::spawn_local(async move {
            let signals = Signals::new(&[libc::SIGTERM, libc::SIGINT]);
            let received = match signals {
                Ok(signals) => signals.recv().await,
                Err(error) => Err(error),
            };
            match received {
                Ok(number) => tracing::info!(signal = number, "stopping"),
                Err(error) => tracing::error!(%error, "signals can't be received: stopping"),
            }
            control.stop();
        })
        .detach();
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
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        executable: std::env::current_exe().unwrap_or_default().display().to_string(),
        started_at: UnixMillis(unix.as_millis() as u64),
        resident_bytes: 0,
        cpu: clock::cpu_times(),
        total_memory_bytes: rustix::system::sysinfo().totalram,
    }
}
