//! Targets of a measurement: servers that are started here, or run already.

use serde::{Deserialize, Serialize};

use crate::settings::{Protocol, Vary};

/// A target of a measurement.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// A cluster of ours on this machine. Its size may vary.
    Trine {
        name: String,
        #[serde(default)]
        cluster: Means,
        #[serde(default)]
        servers: Option<u16>,
        #[serde(default)]
        cores: Option<u16>,
        /// True if its servers keep their data, in a directory that is made for each start and removed after it.
        #[serde(default)]
        directory: bool,
        /// True if its servers share a topology. Without one each takes every key, and the load generator decides which server
        /// has a key.
        #[serde(default = "yes")]
        topology: bool,
        #[serde(default)]
        protocol: Protocol,
        /// Flags for every server, as `trine serve --help` lists them.
        #[serde(default)]
        settings: Vec<String>,
    },
    /// Any server that a command line starts; `{port}` in it becomes the port, `{host}` the address to listen on, `{dir}` a
    /// directory that is made for each start and removed after it, and `{build}` the folder that `build` left its programs in.
    Command {
        name: String,
        command: String,
        /// The number of processes, each with a port of its own. The load generator decides which of several has a key.
        #[serde(default = "one_server")]
        servers: u16,
        /// A crate beside the experiment's file that cargo builds before this is started.
        #[serde(default)]
        build: Option<String>,
        #[serde(default)]
        protocol: Protocol,
        /// True if the load generator speaks to it as a cluster.
        #[serde(default)]
        cluster: bool,
        /// True if each process runs in a container, on a network like that of `compose.yaml`.
        #[serde(default)]
        containers: bool,
        /// A program without which this target is left out, with a note.
        #[serde(default)]
        requires: Option<String>,
    },
    /// Something that already runs, and goes on running.
    Address {
        name: String,
        address: String,
        /// True if the load generator speaks to it as a cluster; the server is asked where this is left out.
        #[serde(default)]
        cluster: Option<bool>,
        #[serde(default)]
        protocol: Protocol,
    },
}

fn one_server() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// The way to start a cluster of ours.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// Processes, by `trine up`.
    #[default]
    Processes,
    /// Three containers, by compose.yaml.
    Compose,
}

/// A target at one size: started once, it serves a group of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub target: Target,
    /// For a target of kind `trine`, and for no other.
    pub size: Option<Size>,
}

/// The size of a target of kind `trine`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    pub servers: u16,
    /// Of each server.
    pub cores: u16,
}

/// The number of servers in `compose.yaml`.
pub const COMPOSE_SERVERS: u16 = 3;

impl Target {
    pub fn name(&self) -> &str {
        match self {
            Self::Trine { name, .. } | Self::Command { name, .. } | Self::Address { name, .. } => name,
        }
    }

    /// Returns the protocol between the load generator and it.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Trine { protocol, .. } | Self::Command { protocol, .. } | Self::Address { protocol, .. } => *protocol,
        }
    }

    /// Returns whether each of its threads that work stays on one CPU, when all may use the CPUs `room`; `None` where that is
    /// not known. Trine's cores pin themselves.
    pub fn keeps_its_cpus(&self, room: &[usize]) -> Option<bool> {
        match self {
            Self::Trine { settings, .. } => {
                let is_any = |words: &[String]| words[0] == "--cpus" && words[1] == "any";
                Some(!settings.windows(2).any(is_any) && !settings.iter().any(|word| word == "--cpus=any"))
            }
            Self::Command { .. } => Some(room.len() == 1),
            Self::Address { .. } => None,
        }
    }

    /// Checks what spans several fields, and what varies beside it. An error comes with a word from the line that is to blame.
    pub fn check(&self, vary: &Vary) -> Result<(), (String, String)> {
        let complain = |word: &str, what: String| Err((word.to_owned(), what));
        let name = self.name();
        if let Target::Command { command, servers, build, cluster, containers, .. } = self {
            if *servers == 0 {
                return complain("servers", format!("`servers` of target `{name}` is at least 1"));
            }
            if *cluster && 1 < *servers {
                let what = format!("`servers` of target `{name}` know nothing of each other: leave out `cluster`");
                return complain("cluster", what);
            }
            if build.is_some() != command.contains("{build}") {
                let what = format!("target `{name}` needs both: `build`, and {{build}} in the command, or neither");
                return complain(command, what);
            }
            if shlex::split(command).is_none_or(|words| words.is_empty()) {
                return complain(command, format!("the command of target `{name}` is empty, or a quote is open"));
            }
            if *containers && !command.contains("{host}") {
                let what = format!(
                    "target `{name}` runs in containers, whose addresses are their own: write {{host}} in its command, \
                     where the address to listen on goes"
                );
                return complain(command, what);
            }
            if !command.contains("{port}") {
                let what = format!("the command of target `{name}` has no {{port}}; write it where the port goes");
                return complain(command, what);
            }
        }
        if let Target::Trine { servers, cores, cluster, .. } = self {
            let sizes = vary.servers.or(servers.as_slice());
            if *cluster == Means::Compose && sizes != [COMPOSE_SERVERS] {
                let what = format!(
                    "target `{name}` runs in the containers of compose.yaml, which are {0}: write servers = {0}",
                    COMPOSE_SERVERS
                );
                return complain(name, what);
            }
            if *servers == Some(0) || *cores == Some(0) {
                let word = if *servers == Some(0) { "servers" } else { "cores" };
                return complain(word, format!("`{word}` of target `{name}` is at least 1"));
            }
            let twice = (servers.is_some() && !vary.servers.is_empty(), "servers");
            let twice = if twice.0 { twice } else { (cores.is_some() && !vary.cores.is_empty(), "cores") };
            if twice.0 {
                let word = twice.1;
                return complain(word, format!("`{word}` is fixed for target `{name}` and varied too; keep one"));
            }
        }
        Ok(())
    }
}
