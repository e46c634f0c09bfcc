//! The identity file: it names the server that a directory's data belongs to.
//!
//! ```toml
//! version = 1
//! directory = "6d1c0f2ab4e98d37"
//! server = "one"
//! cluster = "one,three,two"
//! shards = 2
//! slots = [["0-8191"], ["8192-16383"]]
//! ```

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::topology::{ShardId, Topology};

/// The version of a directory's layout that this program writes, and the only one that it reads.
const VERSION: i64 = 1;

/// A server that is to use a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The server's name.
    pub server: String,
    /// The names of the topology's servers, sorted, with commas between them; empty without a topology.
    pub cluster: String,
    /// For each shard, the slots that it owns.
    pub slots: Vec<Vec<RangeInclusive<u16>>>,
}

impl Owner {
    /// Returns the server at this position of the topology. `has_topology`: the server was given a topology; false if
    /// it is on its own.
    pub fn new(topology: &Topology, position: u16, has_topology: bool) -> Self {
        let server = &topology.servers()[usize::from(position)];
        let mut names: Vec<_> = topology.servers().iter().map(|server| server.name.as_str()).collect();
        names.sort_unstable();
        let ranges = |core| topology.ranges(ShardId { server: position, core });
        Self {
            server: server.name.clone(),
            cluster: if has_topology { names.join(",") } else { String::new() },
            slots: (0..server.cores).map(ranges).collect(),
        }
    }

    fn slots_as_text(&self) -> Vec<Vec<String>> {
        let written = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        self.slots.iter().map(|ranges| ranges.iter().map(written).collect()).collect()
    }
}

/// The content of the identity file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    version: i64,
    directory: String,
    server: String,
    cluster: String,
    shards: u16,
    slots: Vec<Vec<String>>,
}

impl Identity {
    /// Returns the identity of a new directory; `id` is drawn at random.
    pub(super) fn new(id: u64, owner: &Owner) -> Self {
        Self {
            version: VERSION,
            directory: format!("{id:016x}"),
            server: owner.server.clone(),
            cluster: owner.cluster.clone(),
            shards: u16::try_from(owner.slots.len()).expect("there are no more shards than slots"),
            slots: owner.slots_as_text(),
        }
    }

    /// Parses the file's text. The version is checked before anything else is read.
    ///
    /// # Errors
    /// A clause that names the problem and the way out.
    pub(super) fn from_toml(text: &str) -> Result<Self, String> {
        const WAY_OUT: &str = "it has changed since Trine wrote it: restore it from a backup";
        let unreadable = |error: toml::de::Error| format!("{}; {WAY_OUT}", error.message());
        let table: toml::Table = toml::from_str(text).map_err(unreadable)?;
        match table.get("version").and_then(toml::Value::as_integer) {
            Some(VERSION) => {}
            Some(newer) if VERSION < newer => {
                return Err(format!(
                    "written by a newer Trine (format {newer}, this one knows {VERSION}): start that one"
                ));
            }
            Some(other) => return Err(format!("there is no format {other}; {WAY_OUT}")),
            None => return Err(format!("it names no version; {WAY_OUT}")),
        }
        let identity: Self = toml::from_str(text).map_err(unreadable)?;
        let is_id = identity.directory.len() == 16 && u64::from_str_radix(&identity.directory, 16).is_ok();
        if !is_id || identity.shards == 0 || usize::from(identity.shards) != identity.slots.len() {
            return Err(format!("it contradicts itself; {WAY_OUT}"));
        }
        Ok(identity)
    }

    /// Returns the file's text.
    pub(super) fn to_toml(&self) -> String {
        let body = toml::to_string(self).expect("strings and numbers have a form in TOML");
        format!("# Whose data this is. Written by Trine; do not edit, or the data will not be found again.\n{body}")
    }

    pub(super) fn id(&self) -> u64 {
        u64::from_str_radix(&self.directory, 16).expect("it was looked at when it was read")
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Checks that the owner may use the directory. Returns true if the file has to be written again: other servers
    /// have joined the cluster or left it, and no slot of this one has moved.
    ///
    /// # Errors
    /// The owner may not use it: a clause that says why, and the way out.
    pub(super) fn admits(&self, owner: &Owner) -> Result<bool, String> {
        const ELSE: &str = "or begin another directory";
        if self.server != owner.server {
            let (was, is) = (&self.server, &owner.server);
            return Err(format!("belongs to server {was}, and this is {is}: start with --name {was}, {ELSE}"));
        }
        let (were, are) = (usize::from(self.shards), owner.slots.len());
        if were != are {
            let cores = |count: usize| if count == 1 { "1 core".to_owned() } else { format!("{count} cores") };
            let start = if owner.cluster.is_empty() && self.cluster.is_empty() {
                format!("start with --cores {were}")
            } else {
                "start with the topology that it was written with".into()
            };
            return Err(format!("was written by {}, and this server has {}: {start}, {ELSE}", cores(were), cores(are)));
        }
        let slots = owner.slots_as_text();
        if let Some(shard) = (0..are).find(|&shard| self.slots[shard] != slots[shard]) {
            let shown = |ranges: &[String]| if ranges.is_empty() { "none".to_owned() } else { ranges.join(" ") };
            let (was, is) = (shown(&self.slots[shard]), shown(&slots[shard]));
            return Err(format!(
                "core {shard} owned slots {was} when it was written, and now {is}: keys of slots that moved would be out \
                 of reach, and where another server has them by now this one must not answer for them: begin another directory"
            ));
        }
        Ok(self.cluster != owner.cluster)
    }

    /// Returns the identity with the owner's cluster and slots.
    pub(super) fn moved_to(&self, owner: &Owner) -> Self {
        Self { cluster: owner.cluster.clone(), slots: owner.slots_as_text(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn owner(slots: &[&[RangeInclusive<u16>]]) -> Owner {
        let slots = slots.iter().map(|ranges| ranges.to_vec()).collect();
        Owner { server: "one".into(), cluster: String::new(), slots }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let identity = Identity::new(0x1f, &owner(&[&[0..=8191, 9000..=9000], &[8192..=8999, 9001..=16383]]));
        expect![[r#"
            # Whose data this is. Written by Trine; do not edit, or the data will not be found again.
            version = 1
            directory = "000000000000001f"
            server = "one"
            cluster = ""
            shards = 2
            slots = [["0-8191", "9000"], ["8192-8999", "9001-16383"]]
        "#]]
        .assert_eq(&identity.to_toml());
        assert_eq!(Identity::from_toml(&identity.to_toml()), Ok(identity.clone()));
        assert_eq!(identity.id(), 0x1f);
    }

    /// A newer version's file is reported as such, even if nothing else in it is known. A text that contradicts itself
    /// is refused.
    #[test]
    fn an_identity_is_believed_or_refused() {
        let text = Identity::new(1, &owner(&[&[0..=16383]])).to_toml();
        let refused = |text: &str| Identity::from_toml(text).unwrap_err();
        let newer = refused("version = 2\nservers = [1, 2]\n");
        assert_eq!(newer, "written by a newer Trine (format 2, this one knows 1): start that one");
        for (from, to, problem) in [
            ("version = 1", "version = 0", "there is no format 0"),
            ("version = 1", "", "it names no version"),
            ("shards = 1", "shards = 2", "it contradicts itself"),
            ("0000000000000001", "1", "it contradicts itself"),
            ("server = \"one\"", "", "missing field `server`"),
            ("= 1", "=", "restore it from a backup"),
        ] {
            let text = text.replacen(from, to, 1);
            assert!(refused(&text).contains(problem), "{}", refused(&text));
        }
        for end in 0..text.len() - 1 {
            refused(&text[..end]);
        }
    }

    #[test]
    fn only_its_owner_may_use_a_directory() {
        let was = owner(&[&[0..=8191], &[8192..=16383]]);
        let identity = Identity::new(1, &was);
        let refused = |owner: &Owner| identity.admits(owner).unwrap_err();
        assert_eq!(identity.admits(&was), Ok(false));
        expect!["belongs to server one, and this is two: start with --name one, or begin another directory"]
            .assert_eq(&refused(&Owner { server: "two".into(), ..was.clone() }));
        expect!["was written by 2 cores, and this server has 1 core: start with --cores 2, or begin another directory"]
            .assert_eq(&refused(&owner(&[&[0..=16383]])));
        expect!["core 1 owned slots 8192-16383 when it was written, and now none: keys of slots that moved would be out of reach, and where another server has them by now this one must not answer for them: begin another directory"]
            .assert_eq(&refused(&owner(&[&[0..=8191], &[]])));
        let joined = Owner { cluster: "one,two".into(), ..was.clone() };
        assert_eq!(identity.admits(&joined), Ok(true));
        assert_eq!(identity.moved_to(&joined).admits(&joined), Ok(false));
    }

    #[test]
    fn an_owner_is_a_server_of_a_topology() {
        let server = |name: &str, port, cores| crate::topology::Server {
            name: name.into(),
            host: "h".into(),
            port,
            core_port: port + 1,
            cores,
        };
        let topology = Topology::plan(vec![server("two", 7000, 1), server("one", 7100, 1)]).unwrap();
        let owner = Owner::new(&topology, 1, true);
        assert_eq!((owner.server.as_str(), owner.cluster.as_str()), ("one", "one,two"));
        assert_eq!(owner.slots, [[8192..=16383]]);
        assert_eq!(Owner::new(&topology, 0, false).cluster, "");
    }
}
