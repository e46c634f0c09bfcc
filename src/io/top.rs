//! `trine top`: servers, as they work.

mod ask;
mod picture;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ratatui::{
    DefaultTerminal, Terminal,
    backend::TestBackend,
    crossterm::{
        event::{self, KeyCode, KeyEventKind, KeyModifiers},
        terminal,
    },
};
use serde::Serialize;
use signal_hook::{
    consts::signal::{SIGHUP, SIGTERM},
    iterator::Signals,
};

use self::ask::{Asking, Credentials};
use super::cli::{Failure, print_result, print_while_read};
use crate::top::{
    Address,
    cluster::{Cluster, Health},
    members::{Member, completed},
    reading::Reading,
    row::{Row, rows, total},
    screen::{Key, Screen},
    table,
};

/// The width of a table where there is no terminal.
const WIDTH: usize = 100;
/// A table shows what a node says twice, so it waits this much longer than an interval for those that answer late.
const PATIENCE: Duration = Duration::from_secs(3);

/// An event to react to.
enum Event {
    /// A node has answered, or not.
    Heard { address: Address, at: Instant, answer: Box<Result<Reading, String>> },
    /// These nodes stand behind an address; none where nobody could be asked.
    Found { address: Address, members: Vec<Member> },
    /// A key was pressed.
    Pressed(Key),
    /// The terminal has another size.
    Resized,
    /// It is to end.
    Stop,
}

/// Returns the command line of `trine top`.
pub(super) fn command() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let address =
        Arg::new("address").value_name("ADDRESS").num_args(0..).default_value("127.0.0.1:7000").value_parser(completed);
    let interval =
        Arg::new("interval").long("interval").value_name("SECONDS").default_value("1").value_parser(interval);
    let intervals = Arg::new("intervals").long("intervals").value_name("N").value_parser(value_parser!(u32).range(1..));
    let size = Arg::new("size").long("size").value_name("WIDTHxHEIGHT").default_value("100x30").value_parser(size);
    Command::new("top")
        .about("Watch servers work: throughput, latency, busy cores, memory, hot slots")
        .long_about(
            "Watch servers work, core by core. Everything comes from INFO (and LATENCY HISTOGRAM and CLUSTER SLOT-STATS where they \
             are answered), so that any server that speaks the Redis protocol can be watched; the other nodes of a cluster are found through \
             CLUSTER SLOTS. Nodes that go away and come back are shown so. On a terminal the screen stays until q; in a pipe, \
             or with --once, a table is printed after one interval.",
        )
        .arg(address.help("Servers, as HOST:PORT, HOST (port 7000) or PORT (of this machine); one of a cluster is enough"))
        .arg(interval.help("The time between two looks, from 0.1"))
        .arg(flag("once").help("Print a table after one interval, and end"))
        .arg(flag("json").help("Print a line of JSON for all together and for each server and node, every interval"))
        .arg(intervals.help("End after so many intervals [default: 1 with --once or --svg; else none]"))
        .arg(
            Arg::new("svg")
                .long("svg")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["json", "once"])
                .help("Draw what the terminal would show into this file, and end"),
        )
        .arg(size.requires("svg").help("... on a terminal of this size"))
        .arg(Arg::new("user").long("user").value_name("NAME").requires("password").help("User for AUTH, where there are several"))
        .arg(
            Arg::new("password")
                .long("password")
                .value_name("PASSWORD")
                .env("TRINE_PASSWORD")
                .hide_env_values(true)
                .value_parser(value_parser!(OsString))
                .help("Password for AUTH"),
        )
        .after_help(
            "Examples:\n  \
             trine top                                    the cluster of 127.0.0.1:7000\n  \
             trine top 7100                               one that listens on this port of this machine\n  \
             trine top 10.0.0.1:7000 --interval 5\n  \
             trine top 127.0.0.1:6379 127.0.0.1:7000      redis-server beside Trine\n  \
             trine top --once                             a table, for a log\n  \
             trine top --json | jq 'select(.kind == \"total\") | .operations_per_second'\n\n\
             Keys: ? explains them; q ends.\n\n\
             Exit status: 0 ended as asked, 1 no server answered, 2 what was asked makes no sense.",
        )
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "seconds, from 0.1 to 3600".into())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (width, height) = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .ok_or("a size is width x height, as in 80x24")?;
    if !(20..=500).contains(&width) || !(8..=200).contains(&height) {
        return Err("from 20x8 to 500x200".into());
    }
    Ok((width, height))
}

/// The servers that are watched, and the tasks that watch them.
struct Watch {
    cluster: Cluster,
    credentials: Credentials,
    interval: Duration,
    began: Instant,
    events: Receiver<Event>,
    /// For those who are asked from now on.
    sender: Sender<Event>,
    /// The tasks that ask nodes for their state.
    nodes: BTreeMap<Address, Asking>,
    /// The tasks that ask for the nodes of a cluster.
    _seeds: Vec<Asking>,
    /// The addresses whose nodes are not yet known.
    unknown: BTreeSet<Address>,
}

/// Watches until it is to end.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut addresses: Vec<Address> = matches.get_many("address").unwrap_or_default().cloned().collect();
    addresses.dedup();
    let user = matches.get_one::<String>("user").cloned();
    // Any bytes: the server takes them as such.
    let password = matches.get_one::<OsString>("password").cloned().map(OsString::into_vec);
    let interval = *matches.get_one::<Duration>("interval").expect("it has a default");
    let mut watch = Watch::new(&addresses, Credentials { user, password }, interval);
    let intervals = matches.get_one::<u32>("intervals").copied();
    let is_terminal = io::stdout().is_terminal();
    if matches.get_flag("json") {
        let intervals = if matches.get_flag("once") { Some(1) } else { intervals };
        return watch.print(intervals, |watch| watch.json());
    }
    if let Some(path) = matches.get_one::<PathBuf>("svg") {
        let size = *matches.get_one::<(u16, u16)>("size").expect("it has a default");
        return watch.draw(intervals.unwrap_or(1), path, size);
    }
    if matches.get_flag("once") || intervals.is_some() || !is_terminal {
        // Asked without a terminal it would start tput.
        let size = is_terminal.then(terminal::size).and_then(Result::ok);
        let width = size.map_or(WIDTH, |(width, _)| usize::from(width));
        return watch.print(Some(intervals.unwrap_or(1)), |watch| Ok(watch.table(width)));
    }
    watch.show()
}

impl Watch {
    fn new(addresses: &[Address], credentials: Credentials, interval: Duration) -> Self {
        let (sender, events) = mpsc::channel();
        let seed = |address: &Address| Asking::members(address.clone(), credentials.clone(), sender.clone());
        let seeds = addresses.iter().map(seed).collect();
        let (cluster, began) = (Cluster::new(addresses), Instant::now());
        let unknown = addresses.iter().cloned().collect();
        Self { cluster, credentials, interval, began, events, sender, nodes: BTreeMap::new(), _seeds: seeds, unknown }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes in what has happened to servers.
    fn heed(&mut self, event: Event) {
        match event {
            Event::Heard { address, at, answer } => {
                self.cluster.heard(&address, at.saturating_duration_since(self.began), *answer);
            }
            Event::Found { address, members } => {
                if !members.is_empty() {
                    self.unknown.remove(&address);
                    self.cluster.found(&address, &members);
                }
                let (cluster, nodes) = (&self.cluster, &mut self.nodes);
                nodes.retain(|address, _| cluster.nodes.iter().any(|node| node.address == *address));
                for node in &cluster.nodes {
                    nodes.entry(node.address.clone()).or_insert_with(|| {
                        let (credentials, sender) = (self.credentials.clone(), self.sender.clone());
                        Asking::node(node.address.clone(), credentials, self.interval, sender)
                    });
                }
            }
            Event::Pressed(_) | Event::Resized | Event::Stop => {}
        }
    }

    /// Returns true if a node was asked, and does not answer.
    fn is_down(&self, address: &str) -> bool {
        let is_down = |health: &Health| matches!(health, Health::Down { .. });
        self.cluster.nodes.iter().any(|node| node.address == address && is_down(&node.health))
    }

    /// Lets an interval pass.
    fn wait_an_interval(&mut self) {
        let end = Instant::now() + self.interval;
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.heed(event);
        }
        self.cluster.note_interval();
    }

    /// Waits until everybody has said something twice, or not, so that there are rates to show.
    fn settle(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + self.interval + PATIENCE;
        while !(self.cluster.is_settled() && self.unknown.iter().all(|address| self.is_down(address))) {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => self.heed(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.cluster.note_interval();
        let answers = self.cluster.nodes.iter().any(|node| node.health == Health::Up);
        let mut problems = self.cluster.nodes.iter().filter_map(|node| match &node.health {
            Health::Down { reason, .. } => Some(format!("{}: {reason}", node.address)),
            _ => None,
        });
        match problems.next() {
            Some(problem) if !answers => Err(Failure::Failed(format!("no server answers: {problem}"))),
            _ => Ok(()),
        }
    }

    /// Prints something every interval.
    fn print(
        &mut self,
        intervals: Option<u32>,
        text: impl Fn(&Self) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        self.settle()?;
        let mut printed = 1;
        loop {
            let text = text(self)?;
            if !print_while_read(&text)? {
                return Ok(());
            }
            if intervals.is_some_and(|intervals| intervals <= printed) {
                return Ok(());
            }
            printed += 1;
            self.wait_an_interval();
        }
    }

    fn rows(&self) -> (Vec<Row>, Row) {
        let (now, screen) = (self.now(), Screen::default());
        (rows(&self.cluster, screen.shape, screen.sort, false, now), total(&self.cluster, now))
    }

    fn table(&self, width: usize) -> String {
        let (rows, total) = self.rows();
        table::text(&rows, &total, width)
    }

    fn json(&self) -> Result<String, Failure> {
        /// A row and when it was.
        #[derive(Serialize)]
        struct Line<'a> {
            unix_ms: u64,
            #[serde(flatten)]
            row: &'a Row,
        }
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let (rows, total) = self.rows();
        let mut text = String::new();
        for row in std::iter::once(&total).chain(&rows) {
            let line = serde_json::to_string(&Line { unix_ms, row });
            text += &line.map_err(|error| Failure::Failed(error.to_string()))?;
            text.push('\n');
        }
        Ok(text)
    }

    /// Draws what a terminal would show after some intervals.
    fn draw(&mut self, intervals: u32, path: &Path, (width, height): (u16, u16)) -> Result<(), Failure> {
        self.settle()?;
        (1..intervals).for_each(|_| self.wait_an_interval());
        let mut terminal =
            Terminal::new(TestBackend::new(width, height)).expect("memory is a terminal that never fails");
        let (mut screen, now) = (Screen::default(), self.now());
        let drawn = terminal.draw(|frame| view::draw(frame, &mut screen, &self.cluster, now, self.interval));
        let svg = picture::svg(drawn.expect("memory is a terminal that never fails").buffer);
        fs::write(path, svg).map_err(|error| Failure::Failed(format!("--svg {}: {error}", path.display())))?;
        print_result(&format!("{}\n", path.display()))
    }

    /// Shows the screen until a key, or a signal, ends it.
    fn show(&mut self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("the terminal: {error}"));
        let mut signals = Signals::new([SIGTERM, SIGHUP]).map_err(failed)?;
        let mut terminal = ratatui::try_init().map_err(failed)?;
        let (sender, at_signal) = (self.sender.clone(), self.sender.clone());
        thread::spawn(move || signals.forever().next().map(|_| at_signal.send(Event::Stop)));
        thread::spawn(move || read_keys(&sender));
        let shown = self.show_on(&mut terminal);
        ratatui::restore();
        shown.map_err(failed)
    }

    fn show_on(&mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let mut screen = Screen::default();
        let mut next = Instant::now() + self.interval;
        loop {
            let now = self.now();
            terminal.draw(|frame| view::draw(frame, &mut screen, &self.cluster, now, self.interval))?;
            // Redrawn once an interval, when all have answered, and whenever somebody wants something.
            loop {
                match self.events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(Event::Stop) => return Ok(()),
                    Ok(Event::Resized) => break,
                    Ok(Event::Pressed(key)) => {
                        if !screen.press(key, &self.cluster, self.began.elapsed()) {
                            return Ok(());
                        }
                        break;
                    }
                    Ok(event) => self.heed(event),
                    Err(_) => {
                        self.cluster.note_interval();
                        next = (next + self.interval).max(Instant::now());
                        break;
                    }
                }
            }
        }
    }
}

/// Passes on what is pressed, until nobody wants it any more or the terminal is gone.
fn read_keys(events: &Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => match key.code {
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Event::Stop,
                KeyCode::Char(letter) => Event::Pressed(Key::Char(letter)),
                KeyCode::F(1) => Event::Pressed(Key::Char('?')),
                KeyCode::Up => Event::Pressed(Key::Up),
                KeyCode::Down => Event::Pressed(Key::Down),
                KeyCode::Left => Event::Pressed(Key::Left),
                KeyCode::Right => Event::Pressed(Key::Right),
                KeyCode::Esc => Event::Pressed(Key::Escape),
                _ => continue,
            },
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(_) => Event::Stop,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}
