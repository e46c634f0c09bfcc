//! The command table: the rows of all families, found by name.

use super::{
    cluster, connection, hot_keys, info, introspection, keys, metrics, persistence, refused, server, strings,
    transactions,
};
use crate::{command::Command, resp::Request};

/// The families, in the order in which `COMMAND` lists them.
static FAMILIES: &[&[Command]] = &[
    strings::COMMANDS,
    keys::COMMANDS,
    connection::COMMANDS,
    server::COMMANDS,
    persistence::COMMANDS,
    info::COMMANDS,
    metrics::COMMANDS,
    hot_keys::COMMANDS,
    introspection::COMMANDS,
    cluster::COMMANDS,
    transactions::COMMANDS,
    refused::COMMANDS,
];

/// A row and its number. The command's statistics are stored under the number.
#[derive(Clone, Copy)]
pub struct Found {
    /// The row: for a container, that of the subcommand if there is such.
    pub command: &'static Command,
    /// Its position in [`Table::rows`].
    pub index: u16,
}

/// The reason why a request names no command. The texts are Redis's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// No row has this name.
    Command,
    /// The container has no such subcommand.
    Subcommand(&'static str),
}

/// All commands.
pub struct Table {
    /// All rows, each container followed by its subcommands.
    rows: Vec<&'static Command>,
    /// The name of each row, converted by [`Name::of`]; [`Name::LONG`] if that does not distinguish it from all other
    /// texts.
    names: Vec<Name>,
    /// A hash table with open addressing by [`Name::place`]: a row's position + 1, or 0.
    places: Box<[u16; PLACES]>,
}

/// The places of the hash table: some eight for each command, so that a probe nearly always hits or misses at once.
const PLACES: usize = 1024;

/// Returns every row, each container followed by its subcommands.
pub fn rows() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().copied().flatten().flat_map(|row| std::iter::once(row).chain(row.subcommands))
}

impl Default for Table {
    fn default() -> Self {
        let mut table = Self { rows: Vec::new(), names: Vec::new(), places: Box::new([0; PLACES]) };
        for command in FAMILIES.iter().copied().flatten() {
            let mut place = Name::of(command.name.as_bytes()).place();
            while table.places[place] != 0 {
                place = (place + 1) % PLACES;
            }
            table.rows.push(command);
            table.places[place] = table.rows.len() as u16;
            table.rows.extend(command.subcommands);
        }
        table.names = table.rows.iter().map(|row| Name::of_row(row.name)).collect();
        table
    }
}

impl Table {
    /// Returns all rows, each container followed by its subcommands.
    pub fn rows(&self) -> &[&'static Command] {
        &self.rows
    }

    /// Finds a command that is not a subcommand, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Found> {
        let short = Name::of(name);
        let mut place = short.place();
        loop {
            let index = self.places[place].checked_sub(1)?;
            let (command, known) = (self.rows[usize::from(index)], self.names[usize::from(index)]);
            if known == short || (known == Name::LONG && command.name.as_bytes().eq_ignore_ascii_case(name)) {
                return Some(Found { command, index });
            }
            place = (place + 1) % PLACES;
        }
    }

    /// Finds the row of a request's command: the subcommand's, if the command is a container and the request names one.
    ///
    /// # Errors
    /// Fails if there is no such command or subcommand; [`Unknown::text`] returns the error reply.
    #[inline]
    pub fn find_for(&self, request: Request<'_>) -> Result<Found, Unknown> {
        let found = self.find(request.arg(0)).ok_or(Unknown::Command)?;
        if found.command.subcommands.is_empty() {
            return Ok(found);
        }
        let Some(name) = request.get(1) else { return Ok(found) };
        self.find_subcommand(found, name).ok_or(Unknown::Subcommand(found.command.name))
    }

    /// Finds a container's subcommand, in any case.
    pub fn find_subcommand(&self, container: Found, name: &[u8]) -> Option<Found> {
        let position = container
            .command
            .subcommands
            .iter()
            .position(|row| row.short_name().as_bytes().eq_ignore_ascii_case(name))?;
        let index = container.index + 1 + position as u16;
        Some(Found { command: self.rows[usize::from(index)], index })
    }
}

impl Unknown {
    /// Returns the error reply, in Redis's words.
    #[cold]
    pub fn text(self, request: Request<'_>) -> String {
        // Redis, too, prints at most 128 bytes of the name and of all arguments.
        let name =
            |index| String::from_utf8_lossy(&request.arg(index)[..request.arg(index).len().min(128)]).into_owned();
        match self {
            Self::Subcommand(container) => {
                format!("ERR unknown subcommand '{}'. Try {} HELP.", name(1), container.to_uppercase())
            }
            Self::Command => {
                let mut text = format!("ERR unknown command '{}', with args beginning with: ", name(0));
                let mut room = 128;
                for index in 1..request.len() {
                    if room == 0 {
                        break;
                    }
                    let shown = &request.arg(index)[..request.arg(index).len().min(room)];
                    text.push_str(&format!("'{}' ", String::from_utf8_lossy(shown)));
                    room -= shown.len();
                }
                text
            }
        }
    }
}

/// A name as two numbers that do not depend on its case: its length, and its bytes if it has at most eight, else its
/// first and last four.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Name {
    bytes: u64,
    length: usize,
}

impl Name {
    /// Stands for a row's name of more than eight bytes, or with bytes that are not letters: other texts may have the
    /// same numbers.
    const LONG: Self = Self { bytes: 0, length: 0 };

    /// Returns the numbers of a name. Setting a bit of each byte turns capitals into small letters; of two texts of
    /// letters that are equal afterwards, one is the other in another case.
    #[inline]
    fn of(name: &[u8]) -> Self {
        let length = name.len();
        let word = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
        let bytes = match (name.first_chunk(), name.last_chunk()) {
            // Bytes that both have are equal.
            (Some(first), Some(last)) => word(first) | word(last) << (8 * (length.min(8) - 4)),
            _ if length == 0 => 0,
            _ => [0, length / 2, length - 1].iter().fold(0, |word, &at| word | u64::from(name[at]) << (8 * at)),
        };
        Self { bytes: bytes | 0x2020_2020_2020_2020, length }
    }

    /// Returns the numbers of a row's name.
    fn of_row(name: &str) -> Self {
        let is_short = name.len() <= 8 && name.bytes().all(|byte| byte.is_ascii_lowercase());
        if is_short { Self::of(name.as_bytes()) } else { Self::LONG }
    }

    /// Returns the place at which a search for the name begins.
    #[inline]
    fn place(self) -> usize {
        let word = self.bytes ^ ((self.length as u64) << 32);
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Flags;
    use expect_test::expect_file;

    /// The families in the order of the page: the group of `COMMAND DOCS`, and the title.
    const GROUPS: [(&str, &str); 7] = [
        ("string", "Strings"),
        ("generic", "Keys"),
        ("connection", "Connections"),
        ("server", "The server"),
        ("cluster", "The cluster"),
        ("scripting", "Functions"),
        ("transactions", "Transactions"),
    ];

    /// The rules of transactions, printed below their commands.
    const TRANSACTIONS: &str = "\n\
        - MULTI queues the commands that follow, and each is checked as it is queued. After an error EXEC discards the transaction \
        (`EXECABORT`), as in Redis. EXEC executes the queue with nothing in between. The log has all of its effects, or none.\n\
        - The keys of a transaction, watched ones too, are in one slot: on a core's port and in a cluster (`CROSSSLOT` \
        otherwise). On the gateway of a server that stands alone they are on one core: give them one hash tag, such as \
        `{user7}`. With `--cores 1` any keys go together.\n\
        - On a gateway of several cores, commands that ask all cores (`FLUSHALL`, `DBSIZE`, `KEYS`, ...) and those about the \
        connection (`CLIENT`, `HELLO`, `AUTH`) are refused in a transaction. `CLIENT REPLY`, `SAVE` and `SHUTDOWN` are refused \
        in every transaction.\n\
        - WATCH is about slots: EXEC answers with a null if any key in the slot of a watched key has changed since, by any client, \
        by expiry or by eviction. So there may be a null although the watched key itself has not changed: try again, as after \
        any other null.\n\
        - A queue has the bounds of one request, `max-request-args` and `max-request-bytes`; where there is a log, so have the \
        values that it writes, together. A transaction whose replies are larger than `output-hard-limit` together is executed, \
        answered with an error, and its client closed. A transaction for which there is no room in memory or on the disk is refused as a whole, before any of it runs.\n";

    /// One command of each type, family or feature of Redis that is missing according to the page and to README.md.
    const MISSING: [&str; 16] = [
        "lpush",
        "hset",
        "sadd",
        "zadd",
        "xadd",
        "geoadd",
        "pfadd",
        "setbit",
        "bitfield",
        "publish",
        "subscribe",
        "eval",
        "evalsha",
        "script",
        "fcall",
        "acl",
    ];

    /// The page that lists all commands agrees with the table. `UPDATE_EXPECT=1 cargo test -p trine --lib
    /// commands::table` writes it.
    #[test]
    fn the_page_of_commands_is_the_table() {
        let table = Table::default();
        let mut page = "# The commands\n\n\
             Written by `UPDATE_EXPECT=1 cargo test -p trine --lib commands::table` from the rows in this folder. A command that Redis or Valkey \
             has too takes the same arguments.\n\n\
             **Not here**: lists, hashes, sets, sorted sets, streams, geo, HyperLogLog, bitmaps, pub/sub, scripts, ACL users. Their \
             commands are answered with `ERR unknown command`.\n"
            .to_owned();
        let line = |row: &Command| {
            let name = row.name.replace('|', " ").to_ascii_uppercase();
            assert!(!row.summary.contains('|') && !row.summary.is_empty(), "{name}: {}", row.summary);
            format!("| `{name}` | {} |\n", row.summary)
        };
        let mut listed = 0;
        let mut section = |title: &str, is_in: &dyn Fn(&Command) -> bool| {
            let lines: Vec<_> = table.rows().iter().filter(|row| is_in(row)).map(|row| line(row)).collect();
            listed += lines.len();
            if lines.is_empty() {
                return String::new();
            }
            format!("\n## {title}\n\n| command | |\n| --- | --- |\n{}", lines.concat())
        };
        let is_refused = |row: &Command| row.flags.has(Flags::REFUSED);
        for (group, title) in GROUPS {
            page += &section(title, &|row| row.group == group && !is_refused(row));
        }
        page += TRANSACTIONS;
        page += &section("Refused", &is_refused);
        assert_eq!(listed, table.rows().len(), "every row is in one of the groups");
        expect_file!["README.md"].assert_eq(&page);
    }

    /// Commands that are missing according to README.md are missing: if one is added, the page must change.
    #[test]
    fn what_is_said_to_be_missing_is() {
        let table = Table::default();
        MISSING.iter().for_each(|name| assert!(table.find(name.as_bytes()).is_none(), "{name} is here now"));
        for name in ["replicaof", "migrate"] {
            let found = table.find(name.as_bytes()).expect("it is refused with a reason");
            assert!(found.command.flags.has(Flags::REFUSED), "{name} is here now");
        }
    }

    /// Every command is found by its name in any case, and nothing else is.
    #[test]
    fn names_are_found_in_any_case() {
        let table = Table::default();
        for family in FAMILIES {
            for command in *family {
                for name in [command.name.to_uppercase(), command.name.to_owned()] {
                    let found = table.find(name.as_bytes()).expect("it is in the table");
                    assert!(std::ptr::eq(found.command, command), "{name}");
                    assert!(std::ptr::eq(table.rows[usize::from(found.index)], command), "{name}");
                }
            }
        }
        for name in
            ["", "ge", "gett", "get\0", "g\0t", "ge\u{14}", "Get ", "incrbyflow", "verylongnamethatnocommandhas"]
        {
            assert!(table.find(name.as_bytes()).is_none(), "{name}");
        }
    }
}
