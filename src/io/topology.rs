//! Finds the topology that a server starts with, and itself in it. `io/topology/` has the topology stores: a file, etcd, and
//! the thread that watches either.

pub(super) mod command;
pub mod etcd;
pub mod file;
pub mod watch;

use std::fs;

use super::executor;
use crate::{
    config::Config,
    topology::{
        Server, Topology,
        store::{DocumentStore, StoreError, StoreUrl},
    },
};

/// Returns the store at this address. `password` is that of the address's user, if it has one.
///
/// # Errors
/// The certificates to trust can't be read.
pub fn open(url: &StoreUrl, password: Option<String>) -> Result<Box<dyn DocumentStore>, StoreError> {
    Ok(match url {
        StoreUrl::File(path) => Box::new(file::FileStore::new(path)),
        StoreUrl::Etcd(etcd) => Box::new(etcd::EtcdStore::new(etcd, password)?),
    })
}

/// Reads the topology file and takes the server's ports and number of cores from it; without a file the server stands
/// alone and owns every slot. Returns the topology and the server's position in it. Afterwards `port`, `core_port`,
/// `cores` and `cpus` are those the server has to use: one CPU per core.
///
/// # Errors
/// A sentence that says what is wrong, with what, and the way out.
pub fn load(config: &mut Config) -> Result<(Topology, u16), String> {
    let allowed = executor::allowed_cpus().map_err(|error| format!("the CPUs to run on are not known: {error}"))?;
    if let Some(&cpu) = config.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed = crate::config::list(&allowed);
        return Err(format!("--cpus: CPU {cpu} is not among those this process may run on: {allowed}"));
    }
    let topology = match &config.topology {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("--topology {}: {error}", path.display()))?;
            Topology::from_toml(&text).map_err(|error| format!("--topology {}: {error}", path.display()))?
        }
        None => {
            let usable = usable_cpus(config, &allowed);
            let cores = u16::try_from(config.placement(usable).len()).map_err(|_| "--cores: too many".to_owned())?;
            let (port, core_port) = (config.port, config.first_core_port());
            let server = Server { name: config.name.clone(), host: config.host(), port, core_port, cores };
            Topology::single(server).map_err(|error| error.to_string())?
        }
    };
    let Some(position) = topology.server_named(&config.name) else {
        let names: Vec<_> = topology.servers().iter().map(|server| server.name.as_str()).collect();
        let (name, names) = (&config.name, names.join(", "));
        return Err(format!("--name {name}: there is no such server in the topology, which has {names}"));
    };
    let server = &topology.servers()[usize::from(position)];
    agree(config, server)?;
    config.port = server.port;
    config.core_port = Some(server.core_port);
    config.cores = Some(server.cores);
    if let Some(doubt) = config.doubt_of_placement(&allowed) {
        tracing::warn!("{doubt}");
    }
    config.cpus = config.placement(&allowed);
    Ok((topology, position))
}

/// Returns the CPUs to have a core on where nobody said how many: as many as this process may keep busy.
fn usable_cpus<'a>(config: &Config, allowed: &'a [usize]) -> &'a [usize] {
    if config.cores.is_some() || !config.cpus.is_empty() {
        return allowed;
    }
    let usable = &allowed[..allowed.len().min(executor::usable_cpu_count())];
    if usable.len() < allowed.len() {
        let (used, all) = (crate::config::list(usable), crate::config::list(allowed));
        tracing::warn!(
            "a CPU quota leaves this process {} of the {} CPUs it may run on ({all}), so it uses {used}; a cpuset would \
             give it CPUs of its own",
            usable.len(),
            allowed.len()
        );
    }
    usable
}

/// Refuses settings that say otherwise than the topology does: one of both would be ignored in silence.
fn agree(config: &Config, server: &Server) -> Result<(), String> {
    let cores = config.cores.unwrap_or(server.cores);
    let settings = [
        ("port", config.port, server.port),
        ("core-port", config.first_core_port(), server.core_port),
        ("cores", cores, server.cores),
    ];
    match settings.iter().find(|&&(name, given, planned)| config.is_given(name) && given != planned) {
        None => Ok(()),
        Some((name, given, planned)) => Err(format!(
            "{name} {given}: the topology says {planned} for server {}; leave {name} out, or change the topology",
            server.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_owns_every_slot() {
        let cpu = executor::allowed_cpus().unwrap()[0].to_string();
        let mut config = Config::default();
        config.apply("cpus", &cpu, "").unwrap();
        config.apply("cores", "3", "").unwrap();
        let (topology, position) = load(&mut config).unwrap();
        assert_eq!((topology.servers().len(), position), (1, 0));
        assert_eq!((config.core_port, config.cores, config.cpus.len()), (Some(7001), Some(3), 3));
    }

    #[test]
    fn a_setting_that_contradicts_the_topology_is_refused() {
        let server = Server { name: "one".into(), host: "h".into(), port: 7000, core_port: 7001, cores: 2 };
        let mut config = Config::default();
        assert_eq!(agree(&config, &server), Ok(()));
        config.apply("port", "7000", "").unwrap();
        assert_eq!(agree(&config, &server), Ok(()));
        config.apply("cores", "3", "").unwrap();
        let message = "cores 3: the topology says 2 for server one; leave cores out, or change the topology";
        assert_eq!(agree(&config, &server), Err(message.into()));
    }
}
