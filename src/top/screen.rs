//! The state of the screen: order, grouping, selection.

use super::{
    cluster::Cluster,
    row::{Kind, Row, Shape, Sort, rows, total},
};
use std::time::Duration;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// A letter or a sign.
    Char(char),
    /// To the row above.
    Up,
    /// To the row below.
    Down,
    /// To the column on the left.
    Left,
    /// To the column on the right.
    Right,
    /// Back, and at last out.
    Escape,
}

/// The state of the screen.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// The order of rows.
    pub sort: Sort,
    /// True if the least comes first.
    pub is_reversed: bool,
    /// The grouping of nodes into rows.
    pub shape: Shape,
    /// True if the keys are explained.
    pub has_help: bool,
    /// The cluster at the time of a freeze, and that time; `None` while the screen follows.
    pub frozen: Option<(Cluster, Duration)>,
    /// The row that is looked at closer, by its server's name and address.
    selected: Option<(String, String)>,
    /// The first row that is shown.
    first: usize,
}

/// The keys, and what they do, as the help says it.
pub const KEYS: &[(&str, &str)] = &[
    ("o l 9 b", "sort by ops/s, exec, p99, busy"),
    ("m k c i", "sort by memory, keys, connections, hits"),
    ("n", "the order of the slots"),
    ("← →", "sort by the next column"),
    ("r", "turn the order round"),
    ("t", "servers and cores, servers, cores"),
    ("↑ ↓ Esc", "look at one row closer; at all"),
    ("space, p", "stand still, and go on"),
    ("?, h", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// The orders, as their columns stand.
const SORTS: [(char, Sort); 9] = [
    ('n', Sort::Found),
    ('o', Sort::Operations),
    ('l', Sort::Execution),
    ('9', Sort::P99),
    ('b', Sort::Busy),
    ('m', Sort::Memory),
    ('k', Sort::Keys),
    ('c', Sort::Connections),
    ('i', Sort::Hits),
];

/// The contents to draw.
pub struct Picture {
    /// All rows.
    pub rows: Vec<Row>,
    /// All together.
    pub total: Row,
    /// The number of nodes.
    pub nodes: usize,
    /// The index of the selected row.
    pub selected: Option<usize>,
    /// The first that is shown.
    pub first: usize,
}

impl Picture {
    /// Returns the row to show in detail: the selected one, else all together.
    pub fn focus(&self) -> &Row {
        self.selected.map_or(&self.total, |position| &self.rows[position])
    }
}

impl Screen {
    /// A key was pressed. Returns whether to go on.
    pub fn press(&mut self, key: Key, cluster: &Cluster, now: Duration) -> bool {
        match key {
            Key::Char('q') => return false,
            Key::Escape if self.has_help => self.has_help = false,
            Key::Escape if self.selected.is_some() => self.selected = None,
            Key::Escape => return false,
            Key::Char('?' | 'h') => self.has_help = !self.has_help,
            Key::Char('r') => self.is_reversed = !self.is_reversed,
            Key::Char(' ' | 'p') => {
                self.frozen = if self.frozen.is_some() { None } else { Some((cluster.clone(), now)) };
            }
            Key::Char('t') => {
                self.shape = match self.shape {
                    Shape::Tree => Shape::Servers,
                    Shape::Servers => Shape::Nodes,
                    Shape::Nodes => Shape::Tree,
                };
            }
            Key::Char(letter) => {
                if let Some((_, sort)) = SORTS.iter().find(|(key, _)| *key == letter) {
                    (self.sort, self.is_reversed) = (*sort, false);
                }
            }
            Key::Left | Key::Right => {
                let at = SORTS.iter().position(|(_, sort)| *sort == self.sort).unwrap_or(0);
                let step = if key == Key::Right { 1 } else { SORTS.len() - 1 };
                (self.sort, self.is_reversed) = (SORTS[(at + step) % SORTS.len()].1, false);
            }
            Key::Up | Key::Down => self.walk(key == Key::Down, cluster, now),
        }
        true
    }

    fn walk(&mut self, is_down: bool, cluster: &Cluster, now: Duration) {
        let picture = self.picture(cluster, now, usize::MAX);
        let last = picture.rows.len().saturating_sub(1);
        let next = match picture.selected {
            None if is_down => 0,
            None => last,
            Some(at) if is_down => (at + 1).min(last),
            Some(at) => at.saturating_sub(1),
        };
        self.selected = picture.rows.get(next).map(identity);
    }

    /// Returns the contents to draw with room for `height` rows. The selected row is among those.
    pub fn picture(&mut self, cluster: &Cluster, now: Duration, height: usize) -> Picture {
        let (cluster, now) = self.frozen.as_ref().map_or((cluster, now), |(cluster, then)| (cluster, *then));
        let rows = rows(cluster, self.shape, self.sort, self.is_reversed, now);
        let selected = self.selected.as_ref().and_then(|chosen| rows.iter().position(|row| identity(row) == *chosen));
        if height != usize::MAX {
            self.first = self.first.min(rows.len().saturating_sub(height));
            if let Some(at) = selected {
                self.first = self.first.clamp((at + 1).saturating_sub(height.max(1)), at);
            }
        }
        Picture { nodes: cluster.nodes.len(), total: total(cluster, now), selected, first: self.first, rows }
    }
}

/// Returns the part of a row that stays when others come and go.
fn identity(row: &Row) -> (String, String) {
    match row.kind {
        Kind::Node => (String::new(), row.address.clone()),
        _ => (row.server.clone(), String::new()),
    }
}
