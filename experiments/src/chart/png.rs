//! Turns SVG into PNG.

use std::fmt;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

/// Twice the size on a page, so that it is sharp on today's screens and on paper.
const SCALE: f32 = 2.0;

/// Renders SVG with the fonts of this machine.
pub struct Rasteriser {
    options: usvg::Options<'static>,
}

impl Rasteriser {
    pub fn new() -> Self {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_system_fonts();
        let preferred = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial"];
        let has = |name: &str| fonts.faces().any(|face| face.families.iter().any(|(family, _)| family == name));
        let any = fonts.faces().next().and_then(|face| face.families.first().map(|(name, _)| name.clone()));
        if let Some(family) = preferred.into_iter().find(|name| has(name)).map(str::to_owned).or(any) {
            fonts.set_sans_serif_family(family);
        }
        Self { options: usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() } }
    }

    /// Makes one without fonts, for tests of a machine that has none.
    #[cfg(test)]
    pub fn without_fonts() -> Self {
        Self { options: usvg::Options::default() }
    }

    /// Returns whether text will show. Where it will not, charts are better left to the SVG.
    pub fn has_fonts(&self) -> bool {
        !self.options.fontdb.is_empty()
    }

    pub fn png(&self, svg: &str) -> Result<Vec<u8>, RasterError> {
        let tree = usvg::Tree::from_str(svg, &self.options).map_err(|error| RasterError(error.to_string()))?;
        let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| RasterError("no size".to_owned()))?;
        let pixels = tiny_skia::Pixmap::new(size.width(), size.height());
        let mut pixels = pixels.ok_or_else(|| RasterError("too large".to_owned()))?;
        resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| RasterError(error.to_string()))
    }
}

/// The SVG is not one that can be drawn: a defect of the program that made it.
#[derive(Debug)]
pub struct RasterError(String);

impl std::error::Error for RasterError {}

impl fmt::Display for RasterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot draw the SVG as PNG: {}", self.0)
    }
}
