//! Rows as text: which columns there is room for, and what stands in them.

use super::row::{Condition, Figures, Row, Sort};

/// A column.
#[derive(Clone, Copy)]
pub struct Column {
    /// The title above it.
    pub title: &'static str,
    /// The order that its key chooses.
    pub sort: Option<Sort>,
    width: usize,
    value: fn(&Figures) -> String,
}

/// The first column takes what the others leave, within these bounds.
const LABEL_MIN: usize = 21;
const LABEL_MAX: usize = 28;
/// The last column, throughput over time, is left out where it would be narrower.
const HISTORY_MIN: usize = 12;

/// In the order of their importance: where there is no room, the last go first.
const COLUMNS: &[Column] = &[
    column("ops/s", 7, Some(Sort::Operations), |figures| count(figures.operations_per_second)),
    column("exec", 6, Some(Sort::Execution), |figures| micros(figures.execution_us)),
    column("p99", 6, Some(Sort::P99), |figures| micros(figures.p99_us)),
    column("busy", 5, Some(Sort::Busy), |figures| percent(Some(figures.busy_share))),
    column("memory", 7, Some(Sort::Memory), |figures| bytes(figures.memory_bytes as f64)),
    column("keys", 6, Some(Sort::Keys), |figures| count(figures.keys as f64)),
    column("conns", 6, Some(Sort::Connections), |figures| count(figures.connections as f64)),
    column("hits", 5, Some(Sort::Hits), |figures| percent(figures.hit_share)),
    column("in/s", 6, None, |figures| bytes(figures.input_bytes_per_second)),
    column("out/s", 6, None, |figures| bytes(figures.output_bytes_per_second)),
    column("evict", 6, None, |figures| count(figures.evicted_per_second)),
];

const fn column(title: &'static str, width: usize, sort: Option<Sort>, value: fn(&Figures) -> String) -> Column {
    Column { title, sort, width, value }
}

/// The widths of the columns.
pub struct Layout {
    /// The first column's width.
    pub label: usize,
    /// The others that there is room for.
    pub columns: &'static [Column],
    /// The width of throughput over time; 0 where there is no room.
    pub history: usize,
    /// The throughput that is drawn as a full bar.
    pub history_max: f64,
}

impl Layout {
    /// The most columns that fit.
    pub fn of(width: usize) -> Self {
        let used = |columns: &[Column]| columns.iter().map(|column| column.width + 1).sum::<usize>();
        let fits = (0..=COLUMNS.len()).rev().find(|&count| LABEL_MIN + used(&COLUMNS[..count]) <= width);
        let columns = &COLUMNS[..fits.unwrap_or(0)];
        let left = width.saturating_sub(used(columns));
        let label = left.clamp(1, LABEL_MAX);
        let history = left.saturating_sub(label + 1);
        Self { label, columns, history: if HISTORY_MIN <= history { history } else { 0 }, history_max: 0.0 }
    }

    /// Sets one scale for the throughput of all rows, so that they can be compared.
    pub fn scaled_to(self, rows: &[Row]) -> Self {
        let shown = rows.iter().flat_map(|row| row.history.iter().rev().take(self.history));
        Self { history_max: shown.copied().fold(0.0, f64::max), ..self }
    }

    /// The titles, as wide as their columns.
    pub fn titles(&self) -> Vec<(String, Option<Sort>)> {
        let first = (pad_right("server / node", self.label), Some(Sort::Found));
        let others = self.columns.iter().map(|column| (format!(" {:>1$}", column.title, column.width), column.sort));
        let scale = format!("0 to {}/s", count(self.history_max));
        let last = (0 < self.history).then(|| (format!(" {}", pad_right(&scale, self.history)), None));
        std::iter::once(first).chain(others).chain(last).collect()
    }

    /// A row's cells, as wide as their columns; a row that has no figures says why, in one cell behind the first.
    pub fn cells(&self, row: &Row) -> Vec<String> {
        let first = pad_right(&row.label, self.label);
        let Some(figures) = row.figures.as_ref().filter(|_| row.state != Condition::Down) else {
            let rest: usize = self.columns.iter().map(|column| column.width + 1).sum();
            let note = if row.note.is_empty() { "no rates yet" } else { &row.note };
            return vec![first, format!(" {}", pad_right(note, rest.saturating_sub(1)))];
        };
        let others = self.columns.iter().map(|column| format!(" {:>1$}", (column.value)(figures), column.width));
        let last = (0 < self.history).then(|| format!(" {}", spark(&row.history, self.history, self.history_max)));
        std::iter::once(first).chain(others).chain(last).collect()
    }
}

/// Returns the text that `--once` prints.
pub fn text(rows: &[Row], total: &Row, width: usize) -> String {
    let layout = Layout::of(width).scaled_to(rows);
    let titles = layout.titles().into_iter().map(|(title, _)| title).collect::<String>();
    let mut text = format!("{}\n", titles.trim_end());
    for row in rows.iter().chain(std::iter::once(total)) {
        text += layout.cells(row).concat().trim_end();
        text += "\n";
    }
    text
}

/// Cuts a text, with a mark where something was cut, or fills it up with spaces.
pub fn pad_right(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width - length));
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A number in three digits: `7`, `1.23k`, `45.6M`.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes in three digits and units of 1024: `512B`, `1.23KB`, `45.6MB`.
pub fn bytes(number: f64) -> String {
    scaled(number, 1024.0, &["B", "KB", "MB", "GB", "TB"])
}

/// Microseconds in the unit that reads best: `3.2µs`, `450µs`, `1.2ms`, `2.5s`; `-` where there are none.
pub fn micros(us: Option<f64>) -> String {
    let Some(us) = us else { return "-".into() };
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// A share in percent; `-` where there is none.
pub fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.0}%", share * 100.0))
}

fn scaled(number: f64, base: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    while 999.5 <= number && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    let digits = match number {
        number if unit == 0 || 99.95 <= number => 0,
        number if 9.995 <= number => 1,
        _ => 2,
    };
    format!("{number:.digits$}{}", units[unit])
}

/// The last numbers as bars of eight heights; `highest` and what exceeds it are a full one.
pub fn spark(numbers: &[f64], width: usize, highest: f64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &numbers[numbers.len().saturating_sub(width)..];
    let bar = |&number: &f64| match highest {
        0.0 => BARS[0],
        highest => BARS[((number / highest * 8.0).ceil() as usize).min(8)],
    };
    let bars = shown.iter().map(bar).collect::<String>();
    format!("{}{bars}", " ".repeat(width - shown.len()))
}
