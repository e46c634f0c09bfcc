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
        let cells = self.names_width() + CELL_WIDTH_MIN * self.columns.len() as i32;
        let title = text_width(&self.title, SMALL + 1.0).max(text_width(&self.x_title, SMALL + 1.0)) as i32;
        cells.max(title) + 2 * MARGIN
    }

    fn height(&self) -> i32 {
        TITLE + CELL_HEIGHT * self.rows.len() as i32 + FOOT
    }

    fn draw(&self, root: &Canvas<'_>, (left, top): (i32, i32), width: i32, names: i32) -> Drawn {
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

/// Returns how many maps stand side by side: as many as fit, at most three, and so that rows are equally full.
fn columns(maps: &[HeatMap]) -> usize {
    let widest = maps.iter().map(HeatMap::least_width).max().unwrap_or(1);
    let fit = (WIDTH as i32 / widest.max(1)).clamp(1, 3) as usize;
    maps.len().div_ceil(maps.len().div_ceil(fit).max(1)).max(1)
}

/// Returns how high all maps are together.
pub(super) fn height(maps: &[HeatMap]) -> u32 {
    maps.chunks(columns(maps)).map(row_height).sum::<i32>() as u32
}

fn row_height(maps: &[HeatMap]) -> i32 {
    maps.iter().map(HeatMap::height).max().unwrap_or(0)
}

pub(super) fn draw(maps: &[HeatMap], root: &Canvas<'_>, top: u32) -> Drawn {
    let columns = columns(maps);
    let width = WIDTH as i32 / columns as i32;
    // The same for all, so that their columns line up.
    let names = maps.iter().map(HeatMap::names_width).max().unwrap_or(0);
    let mut y = top as i32;
    for row in maps.chunks(columns) {
        for (column, map) in row.iter().enumerate() {
            map.draw(root, (width * column as i32, y), width, names)?;
        }
        y += row_height(row);
    }
    Ok(())
}
