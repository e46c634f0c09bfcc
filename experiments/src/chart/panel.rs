//! A panel: two axes, and lines with markers, intervals and labels.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::{Canvas, Drawn, FAINT, INK, PALETTE, SMALL, text, text_width};

#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug)]
pub struct Line {
    /// Lines of one name, in whatever panel, share an entry in the legend; one without a name has none.
    pub name: String,
    /// Chooses colour and marker, below [`super::STYLES`].
    pub style: usize,
    pub dots: Vec<Dot>,
}

#[derive(Clone, Debug)]
pub struct Dot {
    pub x: f64,
    pub y: f64,
    /// From and to, upwards.
    pub interval: Option<(f64, f64)>,
    pub mark: Mark,
    /// Shown near the dot where there is room.
    pub label: Option<String>,
}

/// The marker of a dot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// The line alone.
    None,
    Filled,
    /// In doubt.
    Hollow,
    /// Not valid.
    Crossed,
    /// Not measured: a cross on the axis, apart from the line.
    Failed,
}

type Cell<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Pixel = (i32, i32);

const Y_LABELS: u32 = 84;
const X_LABELS: u32 = 54;
/// Half of the widest label below the end of an axis.
const RIGHT: u32 = 28;

impl Panel {
    pub(super) fn draw(&self, root: &Canvas<'_>, area: &Cell<'_>) -> Drawn {
        let (width, _) = area.dim_in_pixel();
        let (left, top) = (area.get_pixel_range().0.start, area.get_pixel_range().1.start);
        if !self.title.is_empty() {
            let middle = left + (Y_LABELS + (width - Y_LABELS) / 2) as i32;
            let style = text(SMALL + 1.0, HPos::Center, VPos::Top);
            root.draw(&Text::new(self.title.clone(), (middle, top + 6), style))?;
        }
        let mut x = self.x.clone();
        x.thin_out(f64::from(width - Y_LABELS - RIGHT));
        let positions = |axis: &Axis| Positions(axis.ticks.iter().filter_map(|tick| axis.position(tick.0)).collect());
        let mut chart = ChartBuilder::on(area)
            .margin_top(if self.title.is_empty() { 10 } else { 28 })
            .margin_right(RIGHT)
            .margin_left(6)
            .margin_bottom(6)
            .x_label_area_size(X_LABELS)
            .y_label_area_size(Y_LABELS)
            .build_cartesian_2d(positions(&x), positions(&self.y))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(INK)
            .label_style(text(SMALL, HPos::Center, VPos::Center))
            .axis_desc_style(text(SMALL + 1.0, HPos::Center, VPos::Center))
            .x_desc(&x.title)
            .y_desc(&self.y.title)
            .x_label_formatter(&|position| label_at(&x, *position))
            .y_label_formatter(&|position| label_at(&self.y, *position))
            .draw()?;
        // From here on in pixels, which is what markers and the room for labels are measured in.
        let corner = chart.backend_coord(&(0.0, 0.0));
        let opposite = chart.backend_coord(&(1.0, 1.0));
        let frame = Frame { panel: self, left: corner.0, bottom: corner.1, right: opposite.0, top: opposite.1 };
        frame.draw(root)
    }
}

/// An axis as plotters sees it: from 0 to 1, with a grid line and a label at each of these places and no others.
struct Positions(Vec<f64>);

impl Ranged for Positions {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (first, last): Pixel) -> i32 {
        first + (position * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.clone()
    }

    fn range(&self) -> Range<f64> {
        0.0..1.0
    }
}

fn label_at(axis: &Axis, position: f64) -> String {
    let near = |tick: &&(f64, String)| axis.position(tick.0).is_some_and(|at| (at - position).abs() < 1e-9);
    axis.ticks.iter().find(near).map(|tick| tick.1.clone()).unwrap_or_default()
}

/// The inside of a panel, in pixels of the whole figure.
struct Frame<'a> {
    panel: &'a Panel,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Frame<'_> {
    fn draw(&self, root: &Canvas<'_>) -> Drawn {
        let mut taken = Vec::new();
        let mut crossed = Vec::new();
        for line in &self.panel.lines {
            self.draw_line(root, line)?;
            crossed.extend(self.path(line).windows(2).flat_map(|ends| Room::along(ends[0], ends[1])));
        }
        for line in &self.panel.lines {
            for dot in &line.dots {
                if let Some((x, y)) = self.pixel(dot) {
                    // Failures at the same x stand above each other, clear of the labels below the axis.
                    let up = if dot.mark == Mark::Failed { 8 + 13 * line.style as i32 } else { 0 };
                    let at = (x, y - up);
                    draw_mark(root, line.style, dot.mark, at)?;
                    taken.push(Room::around(at, 7, 7));
                }
            }
        }
        for line in &self.panel.lines {
            for dot in line.dots.iter().filter(|dot| dot.label.is_some()) {
                self.draw_label(root, line.style, dot, &mut taken, &crossed)?;
            }
        }
        if self.panel.lines.iter().all(|line| line.dots.iter().all(|dot| dot.mark == Mark::Failed)) {
            let middle = ((self.left + self.right) / 2, (self.top + self.bottom) / 2);
            root.draw(&Text::new("nothing was measured", middle, text(SMALL, HPos::Center, VPos::Center)))?;
        }
        Ok(())
    }

    fn pixel(&self, dot: &Dot) -> Option<Pixel> {
        let x = self.panel.x.clamped(dot.x)?;
        let y = if dot.mark == Mark::Failed { 0.0 } else { self.panel.y.clamped(dot.y)? };
        Some((self.left + (x * f64::from(self.right - self.left)).round() as i32, self.height(y)))
    }

    fn height(&self, position: f64) -> i32 {
        self.bottom - (position * f64::from(self.bottom - self.top)).round() as i32
    }

    /// Returns where a line runs: through all dots that were measured.
    fn path(&self, line: &Line) -> Vec<Pixel> {
        line.dots.iter().filter(|dot| dot.mark != Mark::Failed).filter_map(|dot| self.pixel(dot)).collect()
    }

    fn draw_line(&self, root: &Canvas<'_>, line: &Line) -> Drawn {
        let color = PALETTE[line.style];
        let path = self.path(line);
        if 1 < path.len() {
            root.draw(&PathElement::new(path, color.stroke_width(2)))?;
        }
        for dot in &line.dots {
            let Some(((low, high), (x, _))) = dot.interval.zip(self.pixel(dot)) else { continue };
            let (Some(low), Some(high)) = (self.panel.y.clamped(low), self.panel.y.clamped(high)) else { continue };
            let (low, high) = (self.height(low), self.height(high));
            for path in [[(x, low), (x, high)], [(x - 5, low), (x + 5, low)], [(x - 5, high), (x + 5, high)]] {
                root.draw(&PathElement::new(path, color.stroke_width(1)))?;
            }
        }
        Ok(())
    }

    /// Writes a dot's label on the first of its sides where nothing else is drawn, or not at all: a label across a line
    /// would be read as the other line's.
    fn draw_label(&self, root: &Canvas<'_>, style: usize, dot: &Dot, taken: &mut Vec<Room>, crossed: &[Room]) -> Drawn {
        let (Some(label), Some((x, y))) = (&dot.label, self.pixel(dot)) else { return Ok(()) };
        let half = (text_width(label, SMALL - 1.0) / 2.0).ceil() as i32 + 1;
        let sides =
            [(half + 9, 0), (-half - 9, 0), (0, -15), (0, 15), (half + 6, 12), (-half - 6, -12), (half + 6, -12)];
        let room = |(right, down): Pixel| Room::around((x + right, y + down), half, 7);
        let inside = |room: &Room| {
            self.left < room.left && room.right < self.right && self.top < room.top && room.bottom < self.bottom
        };
        let has_room = |side: &Pixel| {
            let room = room(*side);
            inside(&room) && !taken.iter().chain(crossed).any(|other| other.overlaps(&room))
        };
        let Some(side) = sides.into_iter().find(has_room) else { return Ok(()) };
        taken.push(room(side));
        let style = text(SMALL - 1.0, HPos::Center, VPos::Center).color(&PALETTE[style]);
        root.draw(&Text::new(label.clone(), (x + side.0, y + side.1), style))
    }
}

/// A rectangle that something is drawn in.
struct Room {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Room {
    fn around((x, y): Pixel, half_width: i32, half_height: i32) -> Self {
        Self { left: x - half_width, right: x + half_width, top: y - half_height, bottom: y + half_height }
    }

    /// Returns the places that a line from one pixel to another passes through.
    fn along(from: Pixel, to: Pixel) -> impl Iterator<Item = Self> {
        let (right, down) = (to.0 - from.0, to.1 - from.1);
        let steps = (right.abs().max(down.abs()) / 4).max(1);
        (0..=steps).map(move |step| Self::around((from.0 + right * step / steps, from.1 + down * step / steps), 2, 2))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// Draws a sample of a line and its marker, for the legend.
pub(super) fn draw_key(root: &Canvas<'_>, style: usize, (x, y): Pixel) -> Drawn {
    root.draw(&PathElement::new([(x, y), (x + 28, y)], PALETTE[style].stroke_width(2)))?;
    draw_mark(root, style, Mark::Filled, (x + 14, y))
}

/// Draws a marker that says how far a point can be believed, of no line's colour, for the legend.
pub(super) fn draw_verdict_key(root: &Canvas<'_>, mark: Mark, (x, y): Pixel) -> Drawn {
    draw_shape(root, INK, shape(0), mark, (x + 14, y))
}

fn draw_mark(root: &Canvas<'_>, style: usize, mark: Mark, at: Pixel) -> Drawn {
    draw_shape(root, PALETTE[style], shape(style), mark, at)
}

fn draw_shape(root: &Canvas<'_>, color: RGBColor, shape: &[Pixel], mark: Mark, (x, y): Pixel) -> Drawn {
    let cross = |size: i32| {
        [[(x - size, y - size), (x + size, y + size)], [(x - size, y + size), (x + size, y - size)]]
            .map(|path| PathElement::new(path, color.stroke_width(2)))
    };
    match mark {
        Mark::None => return Ok(()),
        Mark::Failed => return cross(5).iter().try_for_each(|path| root.draw(path)),
        Mark::Filled | Mark::Hollow | Mark::Crossed => {}
    }
    let mut outline: Vec<Pixel> = shape.iter().map(|(right, down)| (x + right, y + down)).collect();
    let fill = if mark == Mark::Filled { color } else { WHITE };
    if outline.is_empty() {
        root.draw(&Circle::new((x, y), 5, fill.filled()))?;
        root.draw(&Circle::new((x, y), 5, color.stroke_width(2)))?;
    } else {
        root.draw(&Polygon::new(outline.clone(), fill.filled()))?;
        outline.extend_from_within(..2);
        root.draw(&PathElement::new(outline, color.stroke_width(2)))?;
    }
    if mark == Mark::Crossed {
        cross(3).iter().try_for_each(|path| root.draw(path))?;
    }
    Ok(())
}

/// Returns the corners of a style's marker around its middle; none for a circle.
fn shape(style: usize) -> &'static [Pixel] {
    match style {
        0 => &[],
        1 => &[(-5, -5), (5, -5), (5, 5), (-5, 5)],
        2 => &[(0, -6), (6, 5), (-6, 5)],
        3 => &[(0, -7), (7, 0), (0, 7), (-7, 0)],
        4 => &[(-6, -5), (6, -5), (0, 6)],
        5 => &[(-6, 0), (5, -6), (5, 6)],
        6 => &[(6, 0), (-5, -6), (-5, 6)],
        _ => &[(-3, -6), (3, -6), (6, 0), (3, 6), (-3, 6), (-6, 0)],
    }
}
