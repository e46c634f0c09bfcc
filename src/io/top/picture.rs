//! The terminal's contents as SVG, for documentation.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// A cell's size, and a letter's.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const LETTER: f64 = 14.0;
const MARGIN: f64 = 10.0;
const PAPER: &str = "#1b1e24";
const INK: &str = "#d8dbe0";

/// Draws a terminal's cells.
pub(super) fn svg(buffer: &Buffer) -> String {
    let (columns, lines) = (buffer.area.width, buffer.area.height);
    let (width, height) = (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(lines) * HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans Mono, Menlo, \
         Consolas, monospace\" font-size=\"{LETTER}\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for y in 0..lines {
        let mut x = 0;
        while x < columns {
            let style = Look::of(&buffer[(x, y)]);
            let end = (x..columns).find(|&x| Look::of(&buffer[(x, y)]) != style).unwrap_or(columns);
            let text: String = (x..end).map(|x| buffer[(x, y)].symbol()).collect();
            run(&mut svg, x, y, &text, style);
            x = end;
        }
    }
    svg + "</svg>\n"
}

/// The style of a cell.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    ink: &'static str,
    paper: Option<&'static str>,
    is_bold: bool,
    is_underlined: bool,
    is_dim: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let has = |modifier| cell.modifier.contains(modifier);
        let (ink, paper) = (colour(cell.fg).unwrap_or(INK), colour(cell.bg));
        let (ink, paper) = if has(Modifier::REVERSED) { (paper.unwrap_or(PAPER), Some(ink)) } else { (ink, paper) };
        let (is_bold, is_underlined, is_dim) = (has(Modifier::BOLD), has(Modifier::UNDERLINED), has(Modifier::DIM));
        Self { ink, paper, is_bold, is_underlined, is_dim }
    }
}

fn colour(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Red => Some("#ff6b68"),
        Color::Yellow => Some("#e5c07b"),
        Color::Cyan => Some("#56b6c2"),
        _ => None,
    }
}

/// Draws neighbours that look alike.
fn run(svg: &mut String, x: u16, y: u16, text: &str, look: Look) {
    let (left, top) = (MARGIN + f64::from(x) * WIDTH, MARGIN + f64::from(y) * HEIGHT);
    let width = text.chars().count() as f64 * WIDTH;
    if let Some(paper) = look.paper {
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{paper}\"/>"
        );
    }
    if look.is_underlined {
        let line = top + HEIGHT - 2.0;
        let _ = writeln!(svg, "<path d=\"M{left:.1} {line:.1}h{width:.1}\" stroke=\"{}\"/>", look.ink);
    }
    if bars(svg, (left, top), text, look.ink) {
        return;
    }
    // Each word by itself: spaces of another width in another font shall not push what follows.
    let mut at = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if 0 < length {
            let (x, width) = (left + at as f64 * WIDTH, length as f64 * WIDTH);
            let weight = if look.is_bold { " font-weight=\"bold\"" } else { "" };
            let opacity = if look.is_dim { " opacity=\"0.6\"" } else { "" };
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{weight}{opacity}>{}</text>",
                top + LETTER,
                look.ink,
                escaped(word)
            );
        }
        at += length + 1;
    }
}

/// Draws bars of eight heights as what they are: letters of a font would leave gaps. Returns whether the text was of these.
fn bars(svg: &mut String, (left, top): (f64, f64), text: &str, ink: &str) -> bool {
    const LOWEST: u32 = '▁' as u32;
    let eighths = |letter: char| match letter {
        ' ' => Some(0),
        letter => u32::from(letter).checked_sub(LOWEST).map(|above| above + 1).filter(|&eighths| eighths <= 8),
    };
    let Some(heights) = text.chars().map(eighths).collect::<Option<Vec<_>>>() else { return false };
    let mut x = 0;
    for run in heights.chunk_by(|a, b| a == b) {
        if 0 < run[0] {
            let (left, width) = (left + f64::from(x) * WIDTH, run.len() as f64 * WIDTH);
            let height = f64::from(run[0]) / 8.0 * HEIGHT;
            let top = top + HEIGHT - height;
            let _ = writeln!(
                svg,
                "<path fill=\"{ink}\" shape-rendering=\"crispEdges\" d=\"M{left:.1} {top:.1}h{width:.1}v{height:.1}h-{width:.1}z\"/>"
            );
        }
        x += run.len() as u32;
    }
    true
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
