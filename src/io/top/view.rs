//! Draws the screen: from what is to be seen to cells of a terminal, and nothing else.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout as Split, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Sparkline},
};

use crate::top::{
    cluster::Cluster,
    row::{Condition, Row, Sort},
    screen::{KEYS, Picture, Screen},
    table::{Layout, bytes, count, micros, pad_right, percent},
};

/// Below this there is room for the rows alone.
const HEIGHT_FOR_DETAILS: u16 = 18;
/// Two columns, of commands and of slots, beside each other.
const DETAILS_HEIGHT: u16 = 7;
const SPARK_HEIGHT: u16 = 3;
const SPARK_HEIGHT_MAX: u16 = 6;
/// From here on there is room for more words.
const WIDE: u16 = 100;
/// Above this a core has little left.
const BUSY: f64 = 0.9;

/// Draws everything. `interval` is the time between two looks.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen, cluster: &Cluster, now: Duration, interval: Duration) {
    let area = frame.area();
    let rows = u16::try_from(screen.picture(cluster, now, usize::MAX).rows.len()).unwrap_or(u16::MAX);
    let has_details = HEIGHT_FOR_DETAILS <= area.height;
    let (mut spark, mut details) = if has_details { (SPARK_HEIGHT, DETAILS_HEIGHT) } else { (0, 0) };
    if has_details {
        // What rows don't need, throughput over time gets, and then what is looked at closer.
        let spare = area.height.saturating_sub(3 + spark + details).saturating_sub(rows);
        spark += spare.min(SPARK_HEIGHT_MAX - SPARK_HEIGHT);
        details += spare.saturating_sub(SPARK_HEIGHT_MAX - SPARK_HEIGHT);
    }
    let parts = [1, spark, 1].map(Constraint::Length).into_iter();
    let parts = parts.chain([Constraint::Min(1), Constraint::Length(details), Constraint::Length(1)]);
    let [head, spark, titles, body, details, foot] = Split::vertical(parts).areas(area);
    let picture = screen.picture(cluster, now, usize::from(body.height));
    frame.render_widget(headline(&picture, screen, interval, area.width), head);
    draw_spark(frame, &picture, interval, spark);
    let layout = Layout::of(usize::from(area.width)).scaled_to(&picture.rows);
    frame.render_widget(title_line(&layout, screen), titles);
    draw_rows(frame, &layout, &picture, body);
    if has_details {
        draw_details(frame, picture.focus(), details);
    }
    let keys = " q quit  ? help  ←→ sort  r reverse  t rows  ↑↓ select  space pause";
    frame.render_widget(Paragraph::new(pad_right(keys, usize::from(foot.width))).reversed(), foot);
    if screen.has_help {
        draw_help(frame, area);
    }
}

fn headline<'a>(picture: &Picture, screen: &Screen, interval: Duration, width: u16) -> Line<'a> {
    let total = &picture.total;
    let nodes = picture.nodes;
    let mut spans = vec![Span::from(" trine top ").reversed().bold()];
    spans.push(Span::from(format!(" {nodes} node{}", if nodes == 1 { "" } else { "s" })));
    if screen.frozen.is_some() {
        spans.push(Span::from("  PAUSED").yellow().bold());
    }
    if !total.note.is_empty() && total.state != Condition::Unknown {
        spans.push(Span::from(format!("  {}", total.note)).red().bold());
    }
    if let Some(figures) = &total.figures {
        spans.push(Span::from(format!("  {} ops/s", count(figures.operations_per_second))).bold());
        let (busy, memory) = (percent(Some(figures.busy_share)), bytes(figures.memory_bytes as f64));
        spans.push(Span::from(format!("  busy {busy}  {memory}  {} keys", count(figures.keys as f64))));
        if WIDE <= width {
            spans.push(Span::from(format!("  {} connections", count(figures.connections as f64))));
        }
    }
    let every = Span::from(format!("  every {} s", interval.as_secs_f64())).dim();
    let used: usize = spans.iter().map(Span::width).sum();
    if used + every.width() <= usize::from(width) {
        spans.push(every);
    }
    Line::from(spans)
}

/// The width of the scale to the left of the graph.
const SCALE_WIDTH: u16 = 7;

/// Draws throughput over time, with its scale: the maximum, the half where there is a line for it, and zero.
fn draw_spark(frame: &mut Frame<'_>, picture: &Picture, interval: Duration, area: Rect) {
    let [scale, graph] = Split::horizontal([Constraint::Length(SCALE_WIDTH), Constraint::Fill(1)]).areas(area);
    let history = &picture.focus().history;
    let width = usize::from(graph.width);
    let shown = &history[history.len().saturating_sub(width)..];
    let highest = shown.iter().copied().fold(0.0, f64::max);
    let blank = std::iter::repeat_n(0, width - shown.len());
    let bars: Vec<u64> = blank.chain(shown.iter().map(|operations| *operations as u64)).collect();
    let sparkline = Sparkline::default().data(bars).max((highest as u64).max(1)).style(Color::Cyan);
    frame.render_widget(sparkline, graph);
    let height = usize::from(scale.height);
    let mark = |line: usize| {
        let value = match line {
            0 => Some(highest),
            line if line + 1 == height => Some(0.0),
            // The upper edge of this line is the half.
            line if height.is_multiple_of(2) && line == height / 2 => Some(highest / 2.0),
            _ => None,
        };
        Line::from(value.filter(|_| 0.0 < highest).map_or(String::new(), |value| format!("{:>5} ", count(value)))).dim()
    };
    frame.render_widget(Paragraph::new((0..height).map(mark).collect::<Vec<_>>()), scale);
    // Over the part that is still empty, which an hour later is none; there the scale says enough.
    let seconds = (interval.as_secs_f64() * shown.len() as f64).round();
    let text = format!("ops/s, maximum {} in {seconds:.0} s", count(highest));
    if text.len() + 1 < width - shown.len() && 0 < height {
        frame.render_widget(Line::from(text).dim(), Rect { height: 1, ..graph });
    }
}

fn title_line<'a>(layout: &Layout, screen: &Screen) -> Line<'a> {
    let base = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let span = |(title, sort): (String, Option<Sort>)| {
        let is_chosen = sort == Some(screen.sort);
        Span::styled(title, if is_chosen { base.fg(Color::Yellow) } else { base })
    };
    Line::from_iter(layout.titles().into_iter().map(span))
}

fn draw_rows(frame: &mut Frame<'_>, layout: &Layout, picture: &Picture, area: Rect) {
    let shown = picture.rows.iter().enumerate().skip(picture.first).take(usize::from(area.height));
    let lines = shown.map(|(position, row)| {
        let line = row_line(layout, row);
        if picture.selected == Some(position) { line.reversed() } else { line }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn row_line<'a>(layout: &Layout, row: &Row) -> Line<'a> {
    let cells = layout.cells(row);
    match row.state {
        Condition::Down => return Line::from(cells.concat()).red(),
        Condition::Unknown | Condition::Loading => return Line::from(cells.concat()).yellow(),
        Condition::Up | Condition::Partly => {}
    }
    let busy = row.figures.as_ref().map_or(0.0, |figures| figures.busy_share);
    let spans = cells.into_iter().enumerate().map(|(position, cell)| {
        let title = position.checked_sub(1).and_then(|column| layout.columns.get(column)).map(|column| column.title);
        match title {
            None if position == 0 && row.state == Condition::Partly => Span::from(cell).red(),
            None if position == 0 && row.is_replica => Span::from(cell).dim(),
            None if position == 0 => Span::from(cell).bold(),
            None => Span::from(cell).cyan(),
            Some("busy") if BUSY <= busy => Span::from(cell).red().bold(),
            Some("ops/s") => Span::from(cell).bold(),
            _ => Span::from(cell),
        }
    });
    Line::from_iter(spans)
}

/// Commands and slots of the row that is looked at closer.
fn draw_details(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let [left, right] = Split::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(1).areas(area);
    let of =
        if row.server.is_empty() && row.address.is_empty() { "all".to_owned() } else { row.label.trim().to_owned() };
    let block = |title: String| Block::new().title_top(Line::from(title).bold().cyan());
    let (commands, slots) = match &row.figures {
        Some(figures) => (command_lines(figures), slot_lines(figures)),
        None => (vec![Line::from(row.note.clone()).red()], Vec::new()),
    };
    frame.render_widget(Paragraph::new(commands).block(block(format!("commands of {of}"))), left);
    let is_hot = row.figures.iter().flat_map(|figures| &figures.hot_slots).any(|slot| slot.cpu_share.is_some());
    let title = if is_hot { "hottest slots" } else { "largest slots" };
    frame.render_widget(Paragraph::new(slots).block(block(title.into())), right);
}

fn command_lines<'a>(figures: &crate::top::row::Figures) -> Vec<Line<'a>> {
    let titles = Line::from(format!("{:<18} {:>7} {:>6} {:>6} {:>6}", "", "calls/s", "exec", "p50", "p99")).dim();
    let line = |command: &crate::top::row::Command| {
        Line::from(format!(
            "{} {:>7} {:>6} {:>6} {:>6}",
            pad_right(&command.name, 18),
            count(command.calls_per_second),
            micros(Some(command.execution_us)),
            micros(command.p50_us),
            micros(command.p99_us)
        ))
    };
    std::iter::once(titles).chain(figures.commands.iter().map(line)).collect()
}

fn slot_lines<'a>(figures: &crate::top::row::Figures) -> Vec<Line<'a>> {
    if figures.hot_slots.is_empty() {
        return vec![Line::from("no slot has keys, or it does not tell").dim()];
    }
    let is_hot = figures.hot_slots.iter().any(|slot| slot.cpu_share.is_some());
    let line = |slot: &str, keys: &str, share: &str| {
        format!("{slot:>6} {keys:>7}{}", if is_hot { format!(" {share:>7}") } else { String::new() })
    };
    let titles = Line::from(line("slot", "keys", "cpu")).dim();
    let line = |slot: &crate::top::rates::HotSlot| {
        let share = slot.cpu_share.map_or("-".into(), fine_percent);
        Line::from(line(&slot.slot.to_string(), &count(slot.keys as f64), &share))
    };
    std::iter::once(titles).chain(figures.hot_slots.iter().map(line)).collect()
}

/// Returns a share in percent, with two digits that count: of 16,384 slots under even load each has 0.0061 %.
fn fine_percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0%".into(),
        ..0.01 => format!("{percent:.4}%"),
        ..0.1 => format!("{percent:.3}%"),
        ..1.0 => format!("{percent:.2}%"),
        _ => format!("{percent:.1}%"),
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| Line::from(vec![Span::from(format!(" {keys:<9} ")).bold(), (*what).into()]))
        .collect();
    lines.push(Line::from(""));
    let notes = [
        " exec: time in a command, mean of the last interval",
        " p50, p99: of that interval, from coarse buckets",
        " busy: time a core worked; redis-server's CPU time",
    ];
    lines.extend(notes.map(|note| Line::from(note).dim()));
    let (width, height) = (56.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title_top(" keys ")), place);
}

#[cfg(test)]
mod tests;
