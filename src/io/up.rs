//! `trine up`: a cluster on this machine, for as long as the command runs.

mod servers;

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
    thread::sleep,
    time::{Duration, Instant},
};

use clap::{Arg, ArgMatches, Command, value_parser};
use signal_hook::{
    consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::servers::Servers;
use super::{
    cli::{Failure, check_settings, print_result},
    executor,
    server::{BIND_PATIENCE, when_free},
};
use crate::{
    config::setting_named,
    resp::encode_request,
    topology::{Server, ShardId, Topology},
};

/// Servers' gateways are this many ports apart, or a multiple of it where a server has more cores than fit between.
const STRIDE: u32 = 100;
/// Servers that do not answer by then have failed, on whatever machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two rounds of asking servers whether they are ready.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// The longest time for one port to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// The longest answer to PING. A longer line is no server's of ours.
const LINE_BYTES_MAX: u64 = 1 << 10;

/// Settings that come from the topology: variables for a single server would contradict it, and are not even judged.
const FROM_TOPOLOGY: [&str; 4] = ["port", "core-port", "cores", "announce"];

/// Returns the command line of `trine up`.
pub(super) fn command() -> Command {
    let number = |name: &'static str, most: i64, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u16).range(1..=most))
    };
    Command::new("up")
        .about("Run a cluster on this machine until Ctrl-C")
        .long_about(
            "Start server processes on this machine that form a cluster, say when all are ready, and stop them all on \
             Ctrl-C, SIGTERM or SIGHUP, or when one of them ends. Data is in memory and gone afterwards, unless there is a --dir.",
        )
        .arg(number("servers", 500, "3").help("How many servers to start"))
        .arg(number("cores", 1024, "1").help("How many cores each server uses"))
        .arg(
            number("port", 65_535, "7000")
                .help("The first server's gateway; its cores follow, and the next server is 100 ports on, or more if it has more cores"),
        )
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("ADDRESS")
                .default_value("127.0.0.1")
                .help("The address that the servers bind and that clients are told"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Keep the data: each server has a directory in here, and comes back with what is in it"),
        )
        .arg(
            Arg::new("settings")
                .value_name("SETTING")
                .num_args(0..)
                .last(true)
                .help("Flags for every server, behind --: see trine serve --help"),
        )
        .after_help(
            "Examples:\n  \
             trine up                                     three servers of one core: ports 7000, 7100, 7200\n  \
             trine up --servers 2 --cores 4 --port 9000   ports 9000 to 9004 and 9100 to 9104\n  \
             trine up --dir data                          what was acknowledged survives a restart\n  \
             trine up -- --max-memory 1gb --eviction lfu  settings for every server\n\n\
             Exit status: 0 stopped as asked, 1 a server failed, 2 what was asked makes no sense.",
        )
}

/// Starts the servers, waits until they are to be stopped or one ends, and stops them.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let number = |name: &str| *matches.get_one::<u16>(name).expect("it has a default");
    let host = matches.get_one::<String>("host").expect("it has a default");
    let planned = plan(number("servers"), number("cores"), number("port"), host)?;
    let topology = Topology::plan(planned).map_err(|error| Failure::Usage(error.to_string()))?;
    let settings: Vec<&String> = matches.get_many("settings").unwrap_or_default().collect();
    let dir: Option<&PathBuf> = matches.get_one("dir");
    let as_checked = [Some("--bind".to_owned()), Some(host.clone()), dir.map(|dir| format!("--dir={}", dir.display()))];
    let as_checked: Vec<_> = as_checked.iter().flatten().chain(settings.iter().copied()).collect();
    let settings_of_all = check_settings(&as_checked, &FROM_TOPOLOGY).map_err(|failure| by_own_flags(failure, host))?;
    let failed = |what: &str, error: io::Error| Failure::Failed(format!("{what}: {error}"));
    let allowed = executor::allowed_cpus().map_err(|error| failed("the CPUs to run on", error))?;
    let cpus = if settings_of_all.is_pinned {
        share_out(&allowed, &topology)
    } else {
        vec![Vec::new(); topology.servers().len()]
    };
    // From here on a signal is kept until it is looked for.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])
        .map_err(|error| failed("signals cannot be received", error))?;
    let started = Instant::now();
    check_ports(&topology, BIND_PATIENCE)?;
    if let Some(dir) = dir {
        // Told once and at once, not by every server.
        fs::create_dir_all(dir)
            .map_err(|error| failed(&format!("the directory {} can't be made", dir.display()), error))?;
    }
    let folder = Folder::create().map_err(|error| failed("a folder for the topology file", error))?;
    let file = folder.path.join("topology.toml");
    fs::write(&file, topology.to_toml()).map_err(|error| failed("the topology file", error))?;

    say(&table(&topology, &cpus));
    if allowed.len() < topology.shards().len() {
        let (cores, count) = (topology.shards().len(), allowed.len());
        eprintln!("{cores} cores share {count} CPUs: good enough to try things, not to measure them");
    }
    let mut servers = Servers::default();
    let outcome = start(&mut servers, &topology, &cpus, &file, dir, &settings)
        .and_then(|()| {
            wait_until_ready(&mut servers, &topology, settings_of_all.requirepass.0.as_ref(), &mut signals, started)
        })
        .and_then(|go_on| if go_on { watch(&mut servers, &mut signals) } else { Ok(()) });
    servers.stop();
    outcome
}

/// Returns a failure in terms of this command's flags: the servers' address is `--host` here, and their settings are behind `--`.
fn by_own_flags(failure: Failure, host: &str) -> Failure {
    let bind = format!("--bind {host} ");
    match failure {
        Failure::Usage(text) if text.starts_with(&bind) => {
            let rest = &text[bind.len()..];
            Failure::Usage(format!("--host {host} {rest} (settings of the servers go behind --)"))
        }
        other => other,
    }
}

/// Prints what people are to know. The servers are what was asked for: they go on where it can't be printed.
fn say(text: &str) {
    let _said = print_result(text);
}

/// Returns the servers to start, or why their ports do not fit.
fn plan(servers: u16, cores: u16, port: u16, host: &str) -> Result<Vec<Server>, Failure> {
    // A gateway and its cores; 100 apart they are easy to tell from the next server's.
    let stride = (u32::from(cores) + 1).div_ceil(STRIDE) * STRIDE;
    let server = |number: u32| {
        let port = u32::from(port) + number * stride;
        let [port, core_port] = [port, port + 1].map(u16::try_from);
        let name = format!("s{}", number + 1);
        Some(Server { name, host: host.into(), port: port.ok()?, core_port: core_port.ok()?, cores })
    };
    (0..u32::from(servers)).map(server).collect::<Option<_>>().ok_or_else(|| {
        let last = u32::from(port) + (u32::from(servers) - 1) * stride;
        Failure::Usage(format!("the last server would have port {last}: choose a lower --port or fewer --servers"))
    })
}

/// Gives each core a CPU of its own as long as there are enough; then they share, in turn.
fn share_out(cpus: &[usize], topology: &Topology) -> Vec<Vec<usize>> {
    let mut cpus = cpus.iter().copied().cycle();
    topology.servers().iter().map(|server| cpus.by_ref().take(server.cores.into()).collect()).collect()
}

/// Returns the servers' ports, gateways among them.
fn ports(server: &Server) -> impl Iterator<Item = u16> {
    [server.port].into_iter().chain(server.core_port..server.core_port + server.cores)
}

/// Looks whether the ports are free, so that a taken one is told before anything is started.
fn check_ports(topology: &Topology, patience: Duration) -> Result<(), Failure> {
    for server in topology.servers() {
        for port in ports(server) {
            let host = &server.host;
            let bound = (host.as_str(), port).to_socket_addrs().and_then(|mut addresses| {
                let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
                when_free(address, patience, || TcpListener::bind(address))
            });
            match bound {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(Failure::Failed(format!(
                        "port {port} on {host} is taken: stop what listens there (ss -ltnp sport = :{port} shows it), \
                         or choose other ports with --port"
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    return Err(Failure::Failed(format!(
                        "{host} is no address of this machine: choose another --host"
                    )));
                }
                Err(error) => return Err(Failure::Failed(format!("port {port} on {host}: {error}"))),
            }
        }
    }
    Ok(())
}

/// Returns what a person needs to know: who listens where, on which CPUs.
fn table(topology: &Topology, cpus: &[Vec<usize>]) -> String {
    let mut rows = vec![["server", "gateway", "cores", "CPUs", "slots"].map(String::from)];
    for (number, (server, cpus)) in (0..).zip(topology.servers().iter().zip(cpus)) {
        let last = server.core_port + server.cores - 1;
        let cores = if server.cores == 1 { last.to_string() } else { format!("{}-{last}", server.core_port) };
        let [first, last] = [0, server.cores - 1].map(|core| topology.ranges(ShardId { server: number, core }));
        let slots = first.first().zip(last.last()).map(|(first, last)| format!("{}-{}", first.start(), last.end()));
        let gateway = format!("{}:{}", server.host, server.port);
        let cpus = if cpus.is_empty() { "any".into() } else { crate::config::list(cpus) };
        rows.push([server.name.clone(), gateway, cores, cpus, slots.unwrap_or_default()]);
    }
    let widths: Vec<_> = (0..5).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// Returns a command to begin with.
fn line_to_try(topology: &Topology) -> String {
    let server = &topology.servers()[0];
    let host = if server.host == "127.0.0.1" { String::new() } else { format!(" -h {}", server.host) };
    format!("try: redis-cli -c{host} -p {} set hello world\n", server.core_port)
}

fn start(
    servers: &mut Servers,
    topology: &Topology,
    cpus: &[Vec<usize>],
    file: &Path,
    dir: Option<&PathBuf>,
    settings: &[&String],
) -> Result<(), Failure> {
    let program = env::current_exe().map_err(|error| Failure::Failed(format!("the path of trine itself: {error}")))?;
    for (server, cpus) in topology.servers().iter().zip(cpus) {
        let mut command = process::Command::new(&program);
        command.args(["serve", "--name", &server.name, "--bind", &server.host, "--topology"]).arg(file);
        command.args(["--parent", &process::id().to_string()]).args(settings);
        // None: the settings say so themselves.
        if !cpus.is_empty() {
            command.args(["--cpus", &crate::config::list(cpus)]);
        }
        if let Some(dir) = dir {
            command.arg("--dir").arg(dir.join(&server.name));
        }
        // They come from the topology; a variable for a single server would contradict it.
        for setting in FROM_TOPOLOGY {
            command.env_remove(setting_named(setting).variable());
        }
        servers.start(&server.name, command)?;
    }
    Ok(())
}

/// Asks every port until all answer, and says so. Returns whether to go on: not if a signal came.
fn wait_until_ready(
    servers: &mut Servers,
    topology: &Topology,
    password: &[u8],
    signals: &mut Signals,
    started: Instant,
) -> Result<bool, Failure> {
    let mut waiting: Vec<(&str, u16)> =
        topology.servers().iter().flat_map(|server| ports(server).map(|port| (server.host.as_str(), port))).collect();
    loop {
        waiting.retain(|&(host, port)| !answers(host, port, password));
        if waiting.is_empty() {
            let try_it = line_to_try(topology);
            say(&format!("{try_it}ready in {} ms; Ctrl-C stops all\n", started.elapsed().as_millis()));
            return Ok(true);
        }
        servers.check()?;
        if signals.pending().any(|signal| signal != SIGCHLD) {
            return Ok(false);
        }
        if READY_WITHIN < started.elapsed() {
            let (host, port) = waiting[0];
            let seconds = READY_WITHIN.as_secs();
            return Err(Failure::Failed(format!("port {port} on {host} did not answer within {seconds} s")));
        }
        sleep(ASK_EVERY);
    }
}

/// Returns true if a server answers PING on this port: all of its cores have read their files. Where the password is another
/// one than was expected, an answer has to do.
fn answers(host: &str, port: u16, password: &[u8]) -> bool {
    let ask = || {
        let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut request = Vec::new();
        if !password.is_empty() {
            encode_request(&mut request, [&b"AUTH"[..], password].into_iter());
        }
        encode_request(&mut request, [&b"PING"[..]].into_iter());
        stream.write_all(&request)?;
        let mut replies = BufReader::new(stream);
        let mut answer = String::new();
        for _ in 0..=usize::from(!password.is_empty()) {
            answer.clear();
            replies.by_ref().take(LINE_BYTES_MAX).read_line(&mut answer)?;
        }
        io::Result::Ok(answer == "+PONG\r\n" || answer.starts_with("-NOAUTH"))
    };
    ask().unwrap_or(false)
}

/// Waits until it is to stop, or a server ends.
fn watch(servers: &mut Servers, signals: &mut Signals) -> Result<(), Failure> {
    servers.check()?;
    for signal in signals.forever() {
        if signal != SIGCHLD {
            return Ok(());
        }
        servers.check()?;
    }
    Ok(())
}

/// A folder of our own that goes when we do.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("trine-up-{}", process::id()));
        // Left over from a process of the same number that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn planned(servers: u16, cores: u16, port: u16) -> Topology {
        Topology::plan(plan(servers, cores, port, "127.0.0.1").unwrap()).unwrap()
    }

    #[test]
    fn the_table_says_who_listens_where() {
        let topology = planned(3, 2, 7000);
        expect![[r#"
            server  gateway         cores      CPUs  slots
            s1      127.0.0.1:7000  7001-7002  2,3   0-5460
            s2      127.0.0.1:7100  7101-7102  6,7   5461-10922
            s3      127.0.0.1:7200  7201-7202  2,3   10923-16383
        "#]]
        .assert_eq(&table(&topology, &share_out(&[2, 3, 6, 7], &topology)));
        assert_eq!(line_to_try(&topology), "try: redis-cli -c -p 7001 set hello world\n");
    }

    /// A complaint names the flag that was given, not the one that servers get.
    #[test]
    fn complaints_name_the_flags_of_this_command() {
        let check = |host: &str| check_settings(&[&"--bind".to_owned(), &host.to_owned()], &FROM_TOPOLOGY);
        let Err(failure) = check("10.9.9.9") else { panic!("it is no loopback address") };
        let Failure::Usage(text) = by_own_flags(failure, "10.9.9.9") else { panic!("it is about the command line") };
        assert!(text.starts_with("--host 10.9.9.9 ") && !text.contains("--bind 10"), "{text}");
    }

    #[test]
    fn servers_are_a_hundred_ports_apart_unless_they_need_more() {
        let gateways = |cores| planned(2, cores, 7000).servers().iter().map(|server| server.port).collect::<Vec<_>>();
        for (cores, second) in [(1, 7100), (99, 7100), (100, 7200), (250, 7300)] {
            assert_eq!(gateways(cores), [7000, second], "{cores}");
        }
        assert!(matches!(plan(3, 1, 65_400, "h"), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let core_port = if port < 40_000 { port + 1 } else { port - 1 };
        let server = Server { name: "one".into(), host: "127.0.0.1".into(), port, core_port, cores: 1 };
        let Err(Failure::Failed(message)) = check_ports(&Topology::single(server).unwrap(), Duration::ZERO) else {
            panic!("it is taken")
        };
        assert!(message.starts_with(&format!("port {port} on 127.0.0.1 is taken: ")), "{message}");
    }
}
