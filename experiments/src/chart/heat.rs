//! Heat maps of how busy things are: a row for each, a column for each value of x.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Canvas, Drawn, INK, SMALL, WIDTH, text, text_width};

#[derive(Clone, Debug)]
pub struct HeatMap {
    pub title: String,
    pub x_title: String,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// A row of maps in the figure, and where its maps begin and end.
pub(super) struct MapRow {
    pub(super) height: u32,
    maps: Vec<usize>,
}

const CELL_HEIGHT: i32 = 26;
/// Wide enough for "100 %".
const CELL_WIDTH_MIN: i32 = 46;
const CELL_WIDTH_MAX: i32 = 84;
const TITLE: i32 = 32;
const FOOT: i32 = 64;
const MARGIN: i32 = 16;

impl HeatMap {
    fn names_width(&self) -> i32 {
        self.rows.iter().map(|(name, _)| text_width(name, SMALL) as i32).max().unwrap_or(0) + 14
    }

    /// Returns the width it needs at least, with names and margins.
    fn least_width(&self) -> i32 {
        let cells = CELL_WIDTH_MIN * self.columns.len() as i32;
        let title = text_width(&self.title, SMALL + 1.0).max(text_width(&self.x_title, SMALL + 1.0)) as i32;
        self.names_width() + cells.max(title - self.names_width()) + 2 * MARGIN
    }

    fn height(&self) -> i32 {
        TITLE + CELL_HEIGHT * self.rows.len() as i32 + FOOT
    }

    fn draw(&self, root: &Canvas<'_>, (left, top): (i32, i32), width: i32) -> Drawn {
        let names = self.names_width();
        let room = width - 2 * MARGIN - names;
        let cell = (room / (self.columns.len() as i32).max(1)).clamp(1, CELL_WIDTH_MAX);
        let (x0, y0) = (left + MARGIN + names, top + TITLE);
        let title = text(SMALL + 1.0, HPos::Left, VPos::Top);
        root.draw(&Text::new(self.title.clone(), (left + MARGIN, top + 8), title))?;
        for (row, (name, values)) in self.rows.iter().enumerate() {
            let y = y0 + CELL_HEIGHT * row as i32;
            let middle = y + CELL_HEIGHT / 2;
            root.draw(&Text::new(name.clone(), (x0 - 8, middle), text(SMALL, HPos::Right, VPos::Center)))?;
            for (column, value) in values.iter().enumerate() {
                let x = x0 + cell * column as i32;
                let corners = [(x, y), (x + cell - 1, y + CELL_HEIGHT - 1)];
                let color = value.map_or(RGBColor(0xF4, 0xF4, 0xF4), shade);
                root.draw(&Rectangle::new(corners, color.filled()))?;
                let label = value.map_or_else(|| "–".to_owned(), |busy| format!("{:.0}", busy * 100.0));
                // Dark ink up to where the shade is as dark as light ink would be light.
                let ink = if value.is_some_and(|busy| 0.55 < busy) { WHITE } else { INK };
                let style = text(SMALL, HPos::Center, VPos::Center).color(&ink);
                root.draw(&Text::new(label, (x + cell / 2, middle), style))?;
            }
        }
        let foot = y0 + CELL_HEIGHT * self.rows.len() as i32;
        for (column, label) in self.columns.iter().enumerate() {
            let at = (x0 + cell * column as i32 + cell / 2, foot + 6);
            root.draw(&Text::new(label.clone(), at, text(SMALL, HPos::Center, VPos::Top)))?;
        }
        let middle = x0 + (cell * self.columns.len() as i32) / 2;
        let half = text_width(&self.x_title, SMALL + 1.0) as i32 / 2;
        let middle = middle.max(left + MARGIN + half);
        root.draw(&Text::new(self.x_title.clone(), (middle, foot + 28), text(SMALL + 1.0, HPos::Center, VPos::Top)))
    }
}

/// From white over blue to nearly black: rises in darkness alone, so it needs no colour vision.
fn shade(busy: f64) -> RGBColor {
    let stops = [(0xF7, 0xFB, 0xFF), (0x9E, 0xCA, 0xE1), (0x2F, 0x7E, 0xBC), (0x08, 0x30, 0x6B)];
    let place = busy.clamp(0.0, 1.0) * 3.0;
    let index = (place as usize).min(2);
    let part = place - index as f64;
    let mix = |from: i32, to: i32| (f64::from(from) + f64::from(to - from) * part).round() as u8;
    let (from, to) = (stops[index], stops[index + 1]);
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Sets as many maps side by side as fit.
pub(super) fn rows(maps: &[HeatMap]) -> Vec<MapRow> {
    let mut rows: Vec<MapRow> = Vec::new();
    let mut used = WIDTH as i32;
    for (index, map) in maps.iter().enumerate() {
        let needs = map.least_width();
        match rows.last_mut() {
            Some(row) if used + needs <= WIDTH as i32 && row.maps.len() < 3 => {
                row.height = row.height.max(map.height() as u32);
                row.maps.push(index);
                used += needs;
            }
            _ => {
                rows.push(MapRow { height: map.height() as u32, maps: vec![index] });
                used = needs;
            }
        }
    }
    rows
}

pub(super) fn draw(maps: &[HeatMap], root: &Canvas<'_>, top: u32) -> Drawn {
    let mut y = top as i32;
    for row in rows(maps) {
        // What is left over is shared out, so that maps of one row line up.
        let needed: i32 = row.maps.iter().map(|&index| maps[index].least_width()).sum();
        let spare = (WIDTH as i32 - needed).max(0) / row.maps.len().max(1) as i32;
        let mut x = 0;
        for &index in &row.maps {
            let width = maps[index].least_width() + spare;
            maps[index].draw(root, (x, y), width)?;
            x += width;
        }
        y += row.height as i32;
    }
    Ok(())
}
