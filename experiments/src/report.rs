//! Makes the page and the charts of a folder from its JSON lines alone.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::chart::{Figure, RasterError, Rasteriser, duration};
use crate::experiment::Experiment;
use crate::figures::{Facet, Series, facets, short};
use crate::page::Page;
use crate::point::{Dimension, varying};
use crate::result::{Folder, Outcome, ResultError, Results, Run, Verdict};
use crate::statistics::Steadiness;
use crate::summary::{Percentile, Summary, summarise};

/// Draws every chart as SVG and PNG, and the page with all of them. Returns what was measured.
pub fn draw(folder: &Folder) -> Result<Vec<Summary>, ReportError> {
    let results = folder.read().map_err(ReportError::Result)?;
    // Without its experiment a folder can still be drawn; the page then has no question.
    let experiment = Experiment::read(&folder.experiment_file()).ok();
    let summaries = summarise(&results.runs);
    let facets = facets(&summaries);
    let figures: Vec<Figure> = facets.iter().flat_map(Facet::figures).collect();
    let svgs: Vec<String> = figures.iter().map(Figure::svg).collect();
    for (figure, svg) in figures.iter().zip(&svgs) {
        write(&folder.0.join(format!("{}.svg", figure.name)), svg.as_bytes())?;
    }
    let rasteriser = Rasteriser::new();
    if rasteriser.has_fonts() {
        for (figure, svg) in figures.iter().zip(&svgs) {
            let png = rasteriser.png(svg).map_err(ReportError::Raster)?;
            write(&folder.0.join(format!("{}.png", figure.name)), &png)?;
        }
    } else {
        eprintln!(
            "trine-lab: no font is installed, so no PNG was drawn (the SVG and the page need none): install one, for \
             example with `apt install fonts-dejavu-core`, then `trine-lab chart {}`",
            folder.0.display()
        );
    }
    let page = page(folder, experiment.as_ref(), &results, &summaries, &facets, figures.iter().zip(&svgs));
    write(&folder.page_file(), page.as_bytes())?;
    Ok(summaries)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    std::fs::write(path, bytes).map_err(|error| ReportError::Io { path: path.to_owned(), error })
}

fn page<'a>(
    folder: &Folder,
    experiment: Option<&Experiment>,
    results: &Results,
    summaries: &[Summary],
    facets: &[Facet<'_>],
    figures: impl Iterator<Item = (&'a Figure, &'a String)>,
) -> String {
    let name = folder.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut page = Page::new(experiment.map_or(&name, |experiment| &experiment.title));
    if let Some(experiment) = experiment {
        page.lead(&experiment.question);
    }
    page.list(&findings(facets));
    page.list(&notes(experiment, results, summaries));
    page.heading("Charts");
    page.paragraph(
        "A hollow marker is a point in doubt (SUSPECT), one with a cross inside is not valid (INVALID), and a cross on \
         the axis is a point that failed. The table below says why.",
    );
    for (figure, svg) in figures {
        page.figure(svg, &figure.caption);
    }
    page.heading("All points");
    let (header, rows) = table(summaries);
    page.table(&header, &rows);
    page.heading("Environment");
    for environment in folder.environments() {
        let rows: Vec<_> = environment.rows().into_iter().map(|(name, value)| (String::new(), vec![name, value])).collect();
        page.table(&["what".to_owned(), "on this machine".to_owned()], &rows);
    }
    page.heading("Commands");
    page.folded("The experiment", &std::fs::read_to_string(folder.experiment_file()).unwrap_or_default());
    page.folded("What was started to be measured", &commands(&results.runs, |run| &run.target_command));
    page.folded("The load generator, every run", &commands(&results.runs, |run| &run.load_command));
    page.paragraph("Every run in full is a line of runs.jsonl; `trine-lab chart` draws this page from it again.");
    page.finish()
}

/// Says for each series what a reader wants to know first: how much, at what x, and how long requests took there.
pub fn findings(facets: &[Facet<'_>]) -> Vec<String> {
    let say = |facet: &Facet<'_>, series: &Series<'_>| {
        let name = match facet.name.as_str() {
            "" => series.name.clone(),
            facet => format!("{facet}, {}", series.name),
        };
        let Some((best, top)) = peak(series) else { return format!("{name}: no valid measurement.") };
        let at = best.point.label(facet.x).unwrap_or_default();
        let interval = top.interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 % interval {} to {})", grouped(low.max(0.0)), grouped(high))
        });
        let p99 = best.latency_us(Percentile::P99).map_or_else(|| "not known".to_owned(), duration);
        let doubt = match best.verdict() {
            Some(Verdict::Ok) => "",
            _ => " That point is in doubt; the table says why.",
        };
        let peaks = if series.members.len() == 1 { "reaches" } else { "peaks at" };
        format!("{name}: throughput {peaks} {} ops/s{interval} with {at}; p99 there is {p99}.{doubt}", grouped(top.mean))
    };
    facets.iter().flat_map(|facet| facet.series.iter().map(move |series| say(facet, series))).collect()
}

fn peak<'a>(series: &Series<'a>) -> Option<(&'a Summary, crate::statistics::Estimate)> {
    let valid = series.members.iter().filter(|member| member.verdict() != Some(Verdict::Invalid));
    let measured = valid.filter_map(|member| Some((*member, member.throughput()?)));
    measured.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean))
}

/// Says what keeps the results from being the whole truth.
fn notes(experiment: Option<&Experiment>, results: &Results, summaries: &[Summary]) -> Vec<String> {
    let failed = results.runs.iter().filter(|run| run.figures().is_none()).count();
    let mut notes = vec![format!("{} runs of {} points; {failed} failed.", results.runs.len(), summaries.len())];
    for (verdict, meaning) in [(Verdict::Suspect, "in doubt"), (Verdict::Invalid, "not valid")] {
        match summaries.iter().filter(|summary| summary.verdict() == Some(verdict)).count() {
            0 => {}
            count => notes.push(format!("{count} of {} points are {verdict}: {meaning}.", summaries.len())),
        }
    }
    let short = |run: &&Run| {
        matches!(run.outcome, Outcome::Measured { steadiness: Steadiness::TooShortToJudge, .. })
    };
    match results.runs.iter().filter(short).count() {
        0 => {}
        count => notes.push(format!(
            "{count} runs measured fewer than four whole seconds: too short to judge whether throughput was steady."
        )),
    }
    let Some(experiment) = experiment else { return notes };
    let groups = experiment.schedule();
    for target in &experiment.targets {
        if !results.runs.iter().any(|run| run.point.target == target.name()) {
            notes.push(format!("Target {} was left out: nothing was measured of it.", target.name()));
        }
    }
    let planned = groups.iter().flat_map(|group| group.points.iter().map(|point| (point.id(), group.repeat)));
    let known: Vec<(String, u32)> = results.runs.iter().map(|run| (run.point.id(), run.repeat)).collect();
    match planned.filter(|run| !known.contains(run)).count() {
        0 => {}
        missing => notes.push(format!("{missing} planned runs have not been made.")),
    }
    notes
}

/// Returns the table of all points: header, and rows with their class.
pub fn table(summaries: &[Summary]) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let mut dimensions = varying(summaries.iter().map(|summary| &summary.point));
    if dimensions.is_empty() {
        dimensions = vec![Dimension::Target, Dimension::Concurrency];
    }
    let name = |dimension: &Dimension| match dimension {
        Dimension::ReadShare => "operation".to_owned(),
        other => short(*other).to_owned(),
    };
    let mut header: Vec<String> = dimensions.iter().map(name).collect();
    for name in ["runs", "ops/s", "± 95 %", "p50", "p99", "p99.9", "errors", "verdict", "why"] {
        header.push(name.to_owned());
    }
    (header, summaries.iter().map(|summary| row(summary, &dimensions)).collect())
}

fn row(summary: &Summary, dimensions: &[Dimension]) -> (String, Vec<String>) {
    let none = || "–".to_owned();
    let mut cells: Vec<String> = dimensions
        .iter()
        .map(|dimension| match dimension {
            Dimension::ReadShare => summary.point.operation(),
            other => summary.point.value(*other).unwrap_or_else(none),
        })
        .collect();
    let throughput = summary.throughput();
    let half = throughput.and_then(|throughput| throughput.interval.map(|interval| interval.1 - throughput.mean));
    let errors: u64 = summary.figures().map(|figures| figures.errors.total + figures.wrong_values).sum();
    cells.push(summary.runs.len().to_string());
    cells.push(throughput.map_or_else(none, |throughput| grouped(throughput.mean)));
    cells.push(half.map_or_else(none, grouped));
    cells.extend(Percentile::ALL.map(|percentile| summary.latency_us(percentile).map_or_else(none, duration)));
    cells.push(errors.to_string());
    let verdict = match (summary.verdict(), summary.failures()) {
        (None, _) => "FAILED".to_owned(),
        (Some(verdict), 0) => verdict.to_string(),
        (Some(verdict), failures) => format!("{verdict}, {failures} of {} failed", summary.runs.len()),
    };
    let class = match (summary.verdict(), summary.failures()) {
        (Some(Verdict::Ok), 0) => "",
        (Some(Verdict::Suspect), 0) => "suspect",
        _ => "failed",
    };
    cells.push(verdict);
    cells.push(summary.reasons().join("; "));
    (class.to_owned(), cells)
}

/// Returns every command line once, in the order they were first used.
fn commands(runs: &[Run], command: impl Fn(&Run) -> &Vec<String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for run in runs {
        let words = command(run);
        let line = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "));
        if !line.is_empty() && !seen.contains(&line) {
            seen.push(line);
        }
    }
    if seen.is_empty() { "nothing".to_owned() } else { seen.join("\n") }
}

/// Writes a number without a fraction, in groups of three digits.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// Why there is no page.
#[derive(Debug)]
pub enum ReportError {
    Result(ResultError),
    Raster(RasterError),
    Io { path: PathBuf, error: std::io::Error },
}

impl std::error::Error for ReportError {}

impl fmt::Display for ReportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(error) => error.fmt(formatter),
            Self::Raster(error) => error.fmt(formatter),
            Self::Io { path, error } => write!(formatter, "cannot write {}: {error}", path.display()),
        }
    }
}
