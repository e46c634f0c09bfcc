//! Ports: whether they can be had, and who has those that can't.

use std::{collections::BTreeMap, fs, io, net::TcpListener};

use super::super::processes;
use crate::doctor::readings::{Owner, Port};

/// The state of a socket that listens, in /proc/net/tcp.
const LISTENING: &str = "0A";

/// Tries each port on every address: a server elsewhere on this machine that has the port on one of them is in the way too.
pub(super) fn try_ports(numbers: &[u16]) -> Vec<Port> {
    let try_port = |&number: &u16| {
        let error = TcpListener::bind(("0.0.0.0", number)).err();
        let is_taken = error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        (is_taken, Port { number, refused: error.map(|error| error.to_string()), owner: None })
    };
    let tried: Vec<(bool, Port)> = numbers.iter().map(try_port).collect();
    let taken: Vec<u16> = tried.iter().filter(|(is_taken, _)| *is_taken).map(|(_, port)| port.number).collect();
    let mut owners = if taken.is_empty() { BTreeMap::new() } else { owners(&taken) };
    tried.into_iter().map(|(_, port)| Port { owner: owners.remove(&port.number), ..port }).collect()
}

/// Returns the processes that listen on these ports, of those whose files this process may see.
fn owners(ports: &[u16]) -> BTreeMap<u16, Owner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let listening: BTreeMap<String, u16> = tables
        .iter()
        .flat_map(|table| table.lines().filter_map(listener))
        .filter(|(_, port)| ports.contains(port))
        .collect();
    let mut owners = BTreeMap::new();
    for (pid, path) in processes::all() {
        for file in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            if let Some(&port) = link.to_str().and_then(|link| listening.get(link)) {
                owners.entry(port).or_insert_with(|| Owner { pid, name: processes::name(pid) });
            }
        }
    }
    owners
}

/// Reads a line of /proc/net/tcp: the name of a socket's file and the port that it listens on, if it listens.
fn listener(line: &str) -> Option<(String, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let inode = fields.get(9).filter(|_| fields[3] == LISTENING)?;
    Some((format!("socket:[{inode}]"), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read() {
        let rest = "00000000:00000000 00:00000000 00000000  1000        0 48211 1 0 100 0 0 10 0";
        let line = |state: &str| format!("   0: 0100007F:1B58 00000000:0000 {state} {rest}");
        assert_eq!(listener(&line("0A")), Some(("socket:[48211]".into(), 7000)));
        assert_eq!(listener(&line("01")), None, "a connection");
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    /// A port is free, or who has it is told.
    #[test]
    fn a_taken_port_has_an_owner() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let ports = try_ports(&[number]);
        assert!(ports[0].refused.is_some());
        assert_eq!(ports[0].owner.as_ref().unwrap().pid, std::process::id());
    }
}
