//! `trine health`: whether a server answers and has read its files.

use std::{
    io::{self, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::cli::{Failure, configuration_without_flags, print_result};
use crate::{config::Config, resp::encode_request, top::members::completed, topology::Topology};

/// The longest time for each step of a server: to accept, to take a request, to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries where there is time to `--wait`.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// INFO of persistence takes some two kilobytes; whoever sends more is no server of ours.
const REPLY_BYTES_MAX: u64 = 64 << 10;

/// Returns the command line of `trine health`.
pub(super) fn command() -> Command {
    Command::new("health")
        .about("Say whether a server is ready")
        .long_about(
            "Say whether a server is ready: it answers, and every core of it has read its files. Made for a container's \
             health check: without ADDRESS it looks at the server that the TRINE_… variables and TRINE_CONFIG describe, \
             on this machine. A server with a password is asked with TRINE_REQUIREPASS; where that does not open it, it \
             counts as ready if it answers at all.",
        )
        .arg(
            Arg::new("address")
                .value_name("ADDRESS")
                .value_parser(completed)
                .help("The gateway, as HOST:PORT, HOST (port 7000) or PORT (of this machine)"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .value_name("SECONDS")
                .default_value("0")
                .value_parser(value_parser!(u32))
                .help("Try again until it is ready, or so many seconds have passed"),
        )
        .after_help(
            "Examples:\n  \
             trine health                        the server of this container\n  \
             trine health 10.0.0.7:7000          another one\n  \
             trine health 7000 --wait 10         it has just been started\n\n\
             Exit status: 0 it is ready, 1 it is not, and one line says why, 2 what was asked makes no sense.",
        )
}

/// Asks the server that the command line, or else the environment, names.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let given = matches.get_one::<String>("address");
    // Who says where the server is does not ask the variables for that.
    let unheeded = if given.is_some() { &["port", "bind", "name", "topology"][..] } else { &[] };
    let config = configuration_without_flags(unheeded)?;
    let address = match given {
        Some(address) => address.clone(),
        None => own_address(&config).map_err(Failure::Failed)?.to_string(),
    };
    let wait = Duration::from_secs(u64::from(*matches.get_one::<u32>("wait").expect("it has a default")));
    let began = Instant::now();
    loop {
        match ask(&address, &config.requirepass.0) {
            Ok(state) => {
                // A server is no less ready for a line that can't be printed.
                let _said = print_result(&format!("{address} {state}\n"));
                return Ok(());
            }
            Err(problem) if wait <= began.elapsed() => return Err(Failure::Failed(format!("{address} {problem}"))),
            Err(_) => sleep(TRY_EVERY),
        }
    }
}

/// Returns the address at which a server of this configuration listens for this machine.
fn own_address(config: &Config) -> Result<SocketAddr, String> {
    let host = match config.bind {
        IpAddr::V4(bind) if bind.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(bind) if bind.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        bind => bind,
    };
    let Some(path) = &config.topology else { return Ok(SocketAddr::new(host, config.port)) };
    let failed = |problem: String| format!("--topology {}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let topology = Topology::from_toml(&text).map_err(|error| failed(error.to_string()))?;
    let position = topology.server_named(&config.name);
    let position = position.ok_or_else(|| failed(format!("there is no server {}", config.name)))?;
    Ok(SocketAddr::new(host, topology.servers()[usize::from(position)].port))
}

/// Asks a server how it is: says it in a few words if it is ready, else why it is not.
fn ask(address: &str, password: &[u8]) -> Result<String, String> {
    let resolved = address.to_socket_addrs().map_err(|error| format!("is no address to connect to: {error}"))?;
    let mut last = "is a name without an address".to_owned();
    for address in resolved {
        match TcpStream::connect_timeout(&address, ANSWER_WITHIN) {
            Ok(stream) => return converse(stream, password).map_err(|error| unanswered(&error))?,
            Err(error) => last = format!("does not accept connections: {error}"),
        }
    }
    Err(last)
}

fn unanswered(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "accepts connections and closes them".to_owned()
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("accepts connections and does not answer within {} s", ANSWER_WITHIN.as_secs())
        }
        _ => format!("does not answer: {error}"),
    }
}

fn converse(mut stream: TcpStream, password: &[u8]) -> io::Result<Result<String, String>> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut request = Vec::new();
    if !password.is_empty() {
        encode_request(&mut request, [&b"AUTH"[..], password].into_iter());
    }
    // Every core has a part in this reply.
    encode_request(&mut request, [&b"INFO"[..], b"persistence"].into_iter());
    stream.write_all(&request)?;
    let mut replies = BufReader::new(stream.take(REPLY_BYTES_MAX));
    if !password.is_empty() {
        // Whether it was right, the next reply tells; a server without a password does not mind.
        let _greeting = reply(&mut replies)?;
    }
    Ok(verdict(&reply(&mut replies)?))
}

/// Reads a reply: a line, and where that announces them, the bytes behind it.
fn reply(replies: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    if replies.read_until(b'\n', &mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    let Some(length) = line.strip_prefix('$').and_then(|length| length.parse().ok()) else { return Ok(line) };
    let mut bytes = Vec::new();
    // Not more than was announced, and not more memory than arrives.
    replies.by_ref().take(length).read_to_end(&mut bytes)?;
    replies.read_until(b'\n', &mut Vec::new())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Judges the reply to INFO.
fn verdict(reply: &str) -> Result<String, String> {
    let field = |name: &str| {
        reply.lines().find_map(|line| line.split_once(':').filter(|(known, _)| *known == name)).map(|(_, value)| value)
    };
    match field("loading") {
        Some("0") => Ok("is ready".to_owned()),
        Some(_) => Err(match field("loading_loaded_perc") {
            Some(share) => format!("is still reading its files: {share} % so far"),
            None => "is still reading its files".to_owned(),
        }),
        // A wrong password must not have a server restarted that serves all others.
        None if reply.starts_with("-NOAUTH") || reply.starts_with("-NOPERM") => {
            Ok("answers; TRINE_REQUIREPASS, which would open it for a closer look, is not its password".to_owned())
        }
        None => {
            let line = reply.lines().next().unwrap_or_default();
            Err(format!("gives an unexpected answer: {}", line.chars().take(100).collect::<String>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready is who has read everything; a server that only lacks a password from us is well.
    #[test]
    fn what_a_server_says_decides() {
        for (reply, expected) in [
            ("# Persistence\r\nloading:0\r\nasync_loading:0\r\n", Ok("is ready")),
            ("# Persistence\r\nloading:1\r\nloading_loaded_perc:42.00\r\n", Err("42.00 %")),
            ("-NOAUTH Authentication required.", Ok("answers")),
            ("-LOADING Redis is loading the dataset in memory", Err("unexpected answer: -LOADING")),
            ("-ERR max number of clients reached", Err("max number of clients")),
            ("HTTP/1.1 400 Bad Request", Err("unexpected answer: HTTP")),
            ("", Err("unexpected answer")),
        ] {
            match (verdict(reply), expected) {
                (Ok(said), Ok(part)) | (Err(said), Err(part)) => assert!(said.contains(part), "{reply}: {said}"),
                (found, _) => panic!("{reply}: {found:?}"),
            }
        }
    }

    #[test]
    fn replies_are_read_one_after_the_other() {
        let mut bytes: &[u8] = b"+OK\r\n$5\r\na\r\nbc\r\n-ERR no\r\n";
        let replies: Vec<_> = (0..3).map(|_| reply(&mut bytes).unwrap()).collect();
        assert_eq!(replies, ["+OK", "a\r\nbc", "-ERR no"]);
        assert_eq!(reply(&mut bytes).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    /// A wildcard is no address to connect to, and a topology knows the port.
    #[test]
    fn it_looks_where_the_server_listens() {
        let mut config = Config::default();
        let address = |config: &Config| own_address(config).map(|address| address.to_string());
        assert_eq!(address(&config), Ok("127.0.0.1:7000".into()));
        config.apply("bind", "0.0.0.0", "").unwrap();
        config.apply("port", "7100", "").unwrap();
        assert_eq!(address(&config), Ok("127.0.0.1:7100".into()));
        config.apply("bind", "::", "").unwrap();
        assert_eq!(address(&config), Ok("[::1]:7100".into()));
        config.apply("topology", "/nowhere/cluster.toml", "").unwrap();
        assert!(address(&config).unwrap_err().contains("/nowhere/cluster.toml"));
    }
}
