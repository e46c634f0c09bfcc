//! `trine plan`: writes the topology file for a list of servers.

use std::{fs, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::cli::{Failure, print_result};
use crate::{
    slot::{SLOT_COUNT, Slot},
    topology::{Server, Topology},
};

/// Returns the command line of `trine plan`.
pub(super) fn command() -> Command {
    let server = Arg::new("server")
        .long("server")
        .value_name("NAME=HOST:PORT/CORES")
        .action(ArgAction::Append)
        .value_parser(server)
        .help("A server: its name, the host clients reach it at, the gateway's port, and how many cores it uses");
    let path = |name: &'static str| Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf));
    Command::new("plan")
        .about("Write the topology file of a cluster")
        .long_about(
            "Write the topology file of a cluster: which core of which server owns which slots. Slots are shared \
             evenly. With --from, servers are added to a topology that there is, changed or removed, and no more slots \
             move than that needs.",
        )
        .arg(server)
        .arg(
            path("from")
                .help("Start from this topology; --server adds a server to it, or changes the one of that name"),
        )
        .arg(
            Arg::new("remove")
                .long("remove")
                .value_name("NAME")
                .action(ArgAction::Append)
                .requires("from")
                .help("Remove a server; its slots go to the others"),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .action(ArgAction::SetTrue)
                .requires("from")
                .conflicts_with("remove")
                .help("Remove every server that is not given with --server"),
        )
        .arg(path("out").help("Write here instead of to standard output"))
        .after_help(
            "Examples:\n  \
             trine plan --server one=10.0.0.1:7000/4 --server two=10.0.0.2:7000/4 --out cluster.toml\n  \
             trine plan --from cluster.toml --server three=10.0.0.3:7000/4 --out next.toml\n  \
             trine plan --from next.toml --remove one --out last.toml\n\n\
             Core ports follow the gateway's; to move them, edit core-port in the file.",
        )
}

/// Plans, writes the file, and tells on standard error how many slots move.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let given: Vec<Server> = matches.get_many("server").unwrap_or_default().cloned().collect();
    let usage = |error: crate::topology::TopologyError| Failure::Usage(error.to_string());
    let topology = match matches.get_one::<PathBuf>("from") {
        None => Topology::plan(given).map_err(usage)?,
        Some(path) => {
            let failed = |problem: String| Failure::Failed(format!("--from {}: {problem}", path.display()));
            let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            let old = Topology::from_toml(&text).map_err(|error| failed(error.to_string()))?;
            let removed: Vec<&String> = matches.get_many("remove").unwrap_or_default().collect();
            if let Some(name) = removed.iter().find(|name| old.server_named(name).is_none()) {
                return Err(Failure::Usage(format!("--remove {name}: there is no such server in {}", path.display())));
            }
            let kept = |server: &Server| !matches.get_flag("only") && !removed.contains(&&server.name);
            let next = old.replan(merge(&old, given, kept)).map_err(usage)?;
            let is_same = if next == old { ", and nothing else changes" } else { "" };
            eprintln!("epoch {}: {} of {SLOT_COUNT} slots move{is_same}", next.epoch.number(), moved(&old, &next));
            next
        }
    };
    match matches.get_one::<PathBuf>("out") {
        None => print_result(&topology.to_toml()),
        Some(path) => replace(path, &topology.to_toml())
            .map_err(|error| Failure::Failed(format!("--out {}: {error}", path.display()))),
    }
}

/// Returns the old servers that are kept, changed where one of the same name is given, and then the new ones.
fn merge(old: &Topology, mut given: Vec<Server>, kept: impl Fn(&Server) -> bool) -> Vec<Server> {
    let mut servers = Vec::new();
    for server in old.servers() {
        match given.iter().position(|new| new.name == server.name) {
            Some(position) => {
                let mut new = given.remove(position);
                // Core ports moved by hand stay where they are.
                if new.port == server.port {
                    new.core_port = server.core_port;
                }
                servers.push(new);
            }
            None if kept(server) => servers.push(server.clone()),
            None => {}
        }
    }
    servers.extend(given);
    servers
}

fn moved(old: &Topology, new: &Topology) -> usize {
    fn owner(topology: &Topology, slot: Slot) -> (&str, u16) {
        let shard = topology.owner(slot);
        (&topology.servers()[usize::from(shard.server)].name, shard.core)
    }
    Slot::all().filter(|&slot| owner(old, slot) != owner(new, slot)).count()
}

/// Reads `one=10.0.0.1:7000/4`.
pub(super) fn server(text: &str) -> Result<Server, String> {
    let parts = || {
        let (name, rest) = text.split_once('=')?;
        let (address, cores) = rest.rsplit_once('/')?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port: u16 = port.parse().ok()?;
        let (core_port, cores) = (port.checked_add(1)?, cores.parse().ok()?);
        Some(Server { name: name.into(), host: host.into(), port, core_port, cores })
    };
    parts().ok_or_else(|| "write NAME=HOST:PORT/CORES, such as one=10.0.0.1:7000/4".into())
}

/// Writes a file so that whoever reads it sees the old text or the new one, never a part.
fn replace(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_written_in_one_word() {
        let one = Server { name: "one".into(), host: "10.0.0.1".into(), port: 7000, core_port: 7001, cores: 4 };
        assert_eq!(server("one=10.0.0.1:7000/4"), Ok(one));
        assert_eq!(server("six=[fd00::6]:7000/1").unwrap().host, "fd00::6");
        for text in ["", "one", "one=h:7000", "one=h/4", "one=h:x/4", "one=h:65535/1", "one=h:7000/70000"] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_are_added_changed_and_removed_by_name() {
        let parse = |texts: &[&str]| texts.iter().map(|text| server(text).unwrap()).collect::<Vec<_>>();
        let mut servers = parse(&["a=h:7000/1", "b=h:7100/1"]);
        servers[0].core_port = 8000;
        let old = Topology::plan(servers).unwrap();
        let names = |servers: Vec<Server>| {
            servers.into_iter().map(|server| format!("{} {} {}", server.name, server.core_port, server.cores)).collect()
        };
        let next: Vec<String> = names(merge(&old, parse(&["c=h:7200/1", "a=h:7000/2"]), |_| true));
        assert_eq!(next, ["a 8000 2", "b 7101 1", "c 7201 1"]);
        let next: Vec<String> = names(merge(&old, parse(&["c=h:7200/1"]), |server| server.name != "a"));
        assert_eq!(next, ["b 7101 1", "c 7201 1"]);
    }
}
