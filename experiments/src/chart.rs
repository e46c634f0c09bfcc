//! Draws charts: panels of lines and heat maps as SVG, and the same as PNG. Knows nothing of experiments.

mod axis;
mod heat;
mod panel;
mod png;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use axis::{Axis, duration, grouped};
pub use heat::HeatMap;
pub use panel::{Dot, Line, Mark, Panel};
pub use png::{RasterError, Rasteriser};

/// One file: a title, a legend, and panels side by side.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its files, without extension.
    pub name: String,
    pub title: String,
    /// The target, place and date of the measurement, in parts that a line may end between; below the title, since a picture is
    /// often shown without its page.
    pub subtitle: Vec<String>,
    /// Advice on what to look at and how to read it; shown below the figure on the page.
    pub caption: String,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Panels(Vec<Panel>),
    HeatMaps(Vec<HeatMap>),
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The width of a figure in pixels: what a page shows on a laptop without scaling.
const WIDTH: u32 = 1200;
const SINGLE_WIDTH: u32 = 860;
const PANEL_HEIGHT: u32 = 380;
const SINGLE_HEIGHT: u32 = 440;
const TITLE_HEIGHT: u32 = 40;
const SUBTITLE_ROW: u32 = 20;
/// Between two parts of a subtitle.
const SEPARATOR: &str = " · ";
const LEGEND_ROW: u32 = 24;
/// From either side of a figure to its text.
const EDGE: u32 = 16;
/// Sizes of text as plotters counts them: with the room above and below, 1.24 times the size of the font.
pub(crate) const SMALL: f64 = 15.0;
const LARGE: f64 = 20.0;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xE2, 0xE2, 0xE2);
const GREY: RGBColor = RGBColor(0x66, 0x66, 0x66);

/// Colours that people with any common colour vision tell apart on white (Okabe and Ito, "Color universal design",
/// 2008; their yellow is too light for lines, so grey stands in). Markers differ as well.
const PALETTE: [RGBColor; STYLES] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x00, 0x00, 0x00),
    RGBColor(0x77, 0x77, 0x77),
];

/// The number of lines of one figure that look different.
pub const STYLES: usize = 8;

impl Figure {
    /// Returns the figure as SVG.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, self.size()).into_drawing_area();
            self.draw(&root).expect("writing into a string succeeds");
        }
        // So that the page may shrink it, and a reader who cannot see it is told what it is.
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", crate::page::escape(&self.title)), 1)
    }

    fn size(&self) -> (u32, u32) {
        let body = match &self.body {
            Body::Panels(panels) if panels.len() == 1 => SINGLE_HEIGHT,
            Body::Panels(panels) => PANEL_HEIGHT * u32::try_from(panels.len().div_ceil(3)).unwrap_or(1),
            Body::HeatMaps(maps) => heat::height(maps),
        };
        (self.width(), self.header() + body)
    }

    fn width(&self) -> u32 {
        match &self.body {
            Body::Panels(panels) if panels.len() == 1 => SINGLE_WIDTH,
            _ => WIDTH,
        }
    }

    /// The height of title, subtitle and legend.
    fn header(&self) -> u32 {
        self.legend_top() + LEGEND_ROW * self.legend().last().map_or(0, |entry| entry.row + 1)
    }

    fn legend_top(&self) -> u32 {
        TITLE_HEIGHT + SUBTITLE_ROW * self.subtitle_lines().len() as u32
    }

    fn draw(&self, root: &Canvas<'_>) -> Drawn {
        root.fill(&WHITE)?;
        root.draw(&Text::new(self.title.clone(), (EDGE as i32, 12), bold(LARGE)))?;
        for (row, line) in self.subtitle_lines().into_iter().enumerate() {
            let at = (EDGE as i32, (TITLE_HEIGHT + SUBTITLE_ROW * row as u32) as i32 - 4);
            root.draw(&Text::new(line, at, text(SMALL - 1.0, HPos::Left, VPos::Top).color(&GREY)))?;
        }
        for entry in self.legend() {
            let y = (self.legend_top() + entry.row * LEGEND_ROW) as i32 + 8;
            match entry.key {
                Key::Line(style) => panel::draw_key(root, style, (entry.x, y))?,
                Key::Verdict(mark) => panel::draw_verdict_key(root, mark, (entry.x, y))?,
            }
            root.draw(&Text::new(entry.name, (entry.x + KEY_WIDTH, y), text(SMALL, HPos::Left, VPos::Center)))?;
        }
        let top = self.header();
        let (_, body) = root.split_vertically(top);
        match &self.body {
            Body::Panels(panels) => {
                let columns = panels.len().clamp(1, 3);
                let areas = body.split_evenly((panels.len().div_ceil(columns), columns));
                panels.iter().zip(&areas).try_for_each(|(panel, area)| panel.draw(root, area))
            }
            Body::HeatMaps(maps) => heat::draw(maps, root, top),
        }
    }

    /// Lays out the subtitle: its parts in lines that fit the width.
    fn subtitle_lines(&self) -> Vec<String> {
        let room = f64::from(self.width() - 2 * EDGE);
        let mut lines: Vec<String> = Vec::new();
        for part in &self.subtitle {
            match lines.last_mut() {
                Some(line) if text_width(&format!("{line}{SEPARATOR}{part}"), SMALL - 1.0) <= room => {
                    *line += SEPARATOR;
                    *line += part;
                }
                _ => lines.push(part.clone()),
            }
        }
        lines
    }

    /// Lays out the legend, in rows that fit the width: every line once, by its name, and then what markers say of how far a
    /// point can be believed, where there are others than whole ones.
    fn legend(&self) -> Vec<LegendEntry> {
        let Body::Panels(panels) = &self.body else { return Vec::new() };
        let lines = || panels.iter().flat_map(|panel| &panel.lines);
        let mut keys: Vec<(String, Key)> = Vec::new();
        for line in lines() {
            if !line.name.is_empty() && !keys.iter().any(|(name, _)| *name == line.name) {
                keys.push((line.name.clone(), Key::Line(line.style)));
            }
        }
        for (mark, meaning) in VERDICTS {
            if lines().flat_map(|line| &line.dots).any(|dot| dot.mark == mark) {
                keys.push((meaning.to_owned(), Key::Verdict(mark)));
            }
        }
        let (mut x, mut row) = (EDGE as i32, 0);
        let mut place = |(name, key): (String, Key)| {
            let needs = KEY_WIDTH + text_width(&name, SMALL) as i32 + 22;
            if x != EDGE as i32 && (self.width() - EDGE) as i32 - x < needs {
                (x, row) = (EDGE as i32, row + 1);
            }
            x += needs;
            LegendEntry { name, key, x: x - needs, row }
        };
        keys.into_iter().map(&mut place).collect()
    }
}

/// The markers of points that are not valid, with their explanations.
const VERDICTS: [(Mark, &str); 3] = [
    (Mark::Hollow, "hollow: in doubt (SUSPECT)"),
    (Mark::Crossed, "crossed: not valid (INVALID)"),
    (Mark::Failed, "cross at the axis: failed"),
];

#[derive(Clone, Copy, Debug)]
enum Key {
    /// Of a line with this style.
    Line(usize),
    Verdict(Mark),
}

struct LegendEntry {
    name: String,
    key: Key,
    x: i32,
    row: u32,
}

const KEY_WIDTH: i32 = 38;

/// Estimates how wide text is in pixels: 0.62 of the font's size for a letter, as in DejaVu Sans, which is wider than
/// most.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size / 1.24 * 0.62
}

fn text(size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(horizontal, vertical))
}

fn bold(size: f64) -> TextStyle<'static> {
    ("sans-serif", size, FontStyle::Bold).into_font().color(&INK)
}
