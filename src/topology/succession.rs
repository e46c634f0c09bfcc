//! Succession: which topology may take the place of the one that a running server acts by.

use super::{Server, Topology};
use std::fmt;

/// The reason why a running server does not take a topology. It goes on by the one that it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// It is older than what the server knows.
    Older {
        /// Its epoch.
        epoch: u64,
        /// That of the topology that is known.
        known: u64,
    },
    /// It has the epoch of the one that is known, and is another. In one epoch a slot has one owner.
    SameEpoch {
        /// The epoch of both.
        epoch: u64,
    },
    /// It has no server of this name.
    NoSuchServer {
        /// The server's name.
        name: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// It gives the server another number of cores.
    OtherCores {
        /// The server's name.
        name: String,
        /// The number of cores that the server has.
        has: u16,
        /// The number that the topology says.
        says: u16,
    },
    /// It gives the server other ports.
    OtherPorts {
        /// The server's name.
        name: String,
        /// The gateway's port and that of core 0, as they are.
        has: (u16, u16),
        /// The ports that the topology says.
        says: (u16, u16),
    },
}

impl Topology {
    /// Decides if a running server of this name, which acts by this topology, takes the `next` one. Returns false if `next` is the
    /// same.
    ///
    /// Threads and listeners are made once, at the start, so the number of cores and the ports stay. All else may change: the
    /// owners, other servers, the host by which clients reach this one.
    ///
    /// # Errors
    /// [`Unfit`], in words that say the way out.
    pub fn is_succeeded_by(&self, next: &Self, name: &str) -> Result<bool, Unfit> {
        let (epoch, known) = (next.epoch.number(), self.epoch.number());
        if epoch < known {
            return Err(Unfit::Older { epoch, known });
        }
        if epoch == known {
            return if self == next { Ok(false) } else { Err(Unfit::SameEpoch { epoch }) };
        }
        let server = |topology: &Self| topology.servers.iter().find(|server| server.name == name).cloned();
        let Some(says) = server(next) else {
            return Err(Unfit::NoSuchServer { name: name.to_owned(), names: next.names() });
        };
        let has = server(self).expect("a server is in the topology that it acts by");
        let name = has.name.clone();
        if has.cores != says.cores {
            return Err(Unfit::OtherCores { name, has: has.cores, says: says.cores });
        }
        let ports = |server: &Server| (server.port, server.core_port);
        if ports(&has) != ports(&says) {
            return Err(Unfit::OtherPorts { name, has: ports(&has), says: ports(&says) });
        }
        Ok(true)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { epoch, known } => {
                write!(f, "its epoch is {epoch}, and {known} is known already: give it a higher one")
            }
            Self::SameEpoch { epoch } => {
                write!(f, "it has changed, and its epoch is {epoch} as before: give it a higher one")
            }
            Self::NoSuchServer { name, names } => {
                let names = names.join(", ");
                write!(f, "it has no server {name}, only {names}: stop this server if it is to go, or name it there")
            }
            Self::OtherCores { name, has, says } => {
                write!(
                    f,
                    "it gives server {name} {says} cores, which has {has}: their number changes with a restart alone"
                )
            }
            Self::OtherPorts { name, has, says } => write!(
                f,
                "it gives server {name} the ports {} and {} on, which listens on {} and {} on: ports change with a restart \
                 alone",
                says.0, says.1, has.0, has.1
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Epoch;

    fn server(name: &str, port: u16, cores: u16) -> Server {
        Server { name: name.into(), host: "h".into(), port, core_port: port + 1, cores }
    }

    fn plan(epoch: u64, servers: &[Server]) -> Topology {
        Topology { epoch: Epoch::new(epoch), ..Topology::plan(servers.to_vec()).expect("they fit") }
    }

    /// A newer topology is taken whatever it says of others; not where this server would have to be another.
    #[test]
    fn a_newer_topology_is_taken_if_the_server_can_stay_what_it_is() {
        let (one, two) = (server("one", 7000, 2), server("two", 7100, 1));
        let known = plan(5, &[one.clone(), two.clone()]);
        let judge = |next: Topology| known.is_succeeded_by(&next, "one").map_err(|unfit| unfit.to_string());
        let moved = Server { host: "elsewhere".into(), ..one.clone() };
        for servers in [vec![one.clone()], vec![two.clone(), one.clone()], vec![moved, server("three", 7200, 4)]] {
            assert_eq!(judge(plan(6, &servers)), Ok(true));
        }
        assert_eq!(judge(known.clone()), Ok(false));
        for (next, reason) in [
            (plan(4, &[one.clone(), two.clone()]), "its epoch is 4, and 5 is known already: give it a higher one"),
            (plan(5, std::slice::from_ref(&one)), "it has changed, and its epoch is 5 as before: give it a higher one"),
            (
                plan(6, std::slice::from_ref(&two)),
                "it has no server one, only two: stop this server if it is to go, or name it there",
            ),
            (
                plan(6, &[server("one", 7000, 3)]),
                "it gives server one 3 cores, which has 2: their number changes with a restart alone",
            ),
            (
                plan(6, &[server("one", 7010, 2)]),
                "it gives server one the ports 7010 and 7011 on, which listens on 7000 and 7001 on: ports change with a \
                 restart alone",
            ),
        ] {
            assert_eq!(judge(next), Err(reason.to_owned()));
        }
    }
}
