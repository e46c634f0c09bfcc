//! Makes the page and the charts of a folder from its JSON lines alone.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::chart::{Figure, RasterError, Rasteriser, duration, grouped};
use crate::experiment::Experiment;
use crate::figures::{Facet, Series, facets, short};
use crate::machine::Environment;
use crate::page::Page;
use crate::point::{Dimension, varying};
use crate::result::{Folder, Outcome, ResultError, Results, Run, Verdict};
use crate::statistics::Steadiness;
use crate::summary::{Percentile, Summary, summarise};
use crate::utilisation;

/// Draws every chart as SVG and PNG, and the page with all of them. Returns what was measured.
pub fn draw(folder: &Folder) -> Result<Vec<Summary>, ReportError> {
    draw_with(folder, &Rasteriser::new())
}

/// Returns all charts of a facet.
fn figures(facet: &Facet<'_>) -> Vec<Figure> {
    let mut figures = facet.figures();
    figures.extend(utilisation::figure(facet));
    figures
}

fn draw_with(folder: &Folder, rasteriser: &Rasteriser) -> Result<Vec<Summary>, ReportError> {
    let results = folder.read().map_err(ReportError::Result)?;
    // Without its experiment a folder can still be drawn; the page then has no question.
    let experiment = Experiment::read(&folder.experiment_file()).ok();
    let summaries = summarise(&results.runs);
    let facets = facets(&summaries);
    let subtitle = subtitle(experiment.as_ref(), &folder.environments(), &results.runs);
    let dress = |figure| Figure { subtitle: subtitle.clone(), ..figure };
    let figures: Vec<Figure> = facets.iter().flat_map(figures).map(dress).collect();
    let svgs: Vec<String> = figures.iter().map(Figure::svg).collect();
    for (figure, svg) in figures.iter().zip(&svgs) {
        write(&folder.0.join(format!("{}.svg", figure.name)), svg.as_bytes())?;
    }
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
    let cpus = folder.environments().last().map(|environment| environment.cpus);
    page.list(&notes(experiment, cpus, results, summaries));
    let reference = experiment.and_then(|experiment| experiment.reference.as_ref());
    if let Some((header, rows)) = crate::rounds::table(summaries, reference) {
        page.heading("SETs and GETs");
        page.paragraph(
            "Each client makes all its SETs, and then as many GETs. Throughput of each part is from its first request to \
             its last reply, together from the first SET to the last GET. Medians of the repeats; the mean of the whole.",
        );
        page.table(&header, &rows);
    }
    page.heading("Charts");
    page.paragraph(
        "A hollow marker is a point in doubt (SUSPECT), one with a cross inside is not valid (INVALID), and a cross \
         above the axis is a point that failed. The table below says why. All panels of a chart share their axes.",
    );
    for (figure, svg) in figures {
        page.figure(svg, &figure.caption);
    }
    page.heading("All points");
    let (header, rows) = table(summaries);
    page.table(&header, &rows);
    page.heading("Environment");
    for rows in environments(folder) {
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| (String::new(), vec![name, value])).collect();
        page.table(&["what".to_owned(), "on this machine".to_owned()], &rows);
    }
    page.heading("Commands");
    page.folded("The experiment", &std::fs::read_to_string(folder.experiment_file()).unwrap_or_default());
    page.folded("What was started to be measured", &commands(&results.runs, |run| &run.target_command));
    page.folded("The load generator, every run", &commands(&results.runs, |run| &run.load_command));
    page.paragraph("Every run in full is a line of runs.jsonl; `trine-lab chart` draws this page from it again.");
    page.finish()
}

/// Returns what a reader of a chart must know who sees nothing but the chart: what was measured, how, where and when. What
/// varies stands in the legend or along an axis.
fn subtitle(experiment: Option<&Experiment>, environments: &[Environment], runs: &[Run]) -> Vec<String> {
    let points = || runs.iter().map(|run| &run.point);
    let Some(first) = points().next() else { return Vec::new() };
    let varying = varying(points());
    let fixed = |dimension: Dimension| first.label(dimension).filter(|_| !varying.contains(&dimension));
    let mut targets: Vec<&str> = Vec::new();
    points().for_each(|point| {
        if !targets.contains(&point.target.as_str()) {
            targets.push(&point.target)
        }
    });
    let size = [Dimension::Servers, Dimension::Cores].into_iter().filter_map(fixed).collect::<Vec<_>>();
    let size = if size.is_empty() { String::new() } else { format!(": {}", size.join(" of ")) };
    let mut parts = vec![format!("{}{size}", targets.join(" and "))];
    let is_counted = first.operations.is_some();
    parts.extend(fixed(Dimension::ReadShare).or_else(|| is_counted.then(|| first.operation())));
    parts.extend(fixed(Dimension::ValueSize).map(|size| format!("values of {}", size.trim_start_matches("values "))));
    parts.extend([Dimension::Pipeline, Dimension::Concurrency].into_iter().filter_map(fixed));
    if let Some(workload) = experiment.map(|experiment| &experiment.workload) {
        let distribution = workload.distribution.as_ref().map_or(String::new(), |drawn| format!(", {drawn}"));
        parts.extend(workload.keys.map(|keys| format!("{} keys{distribution}", grouped(keys as f64))));
    }
    let open = points().filter(|point| point.rate.is_some()).count();
    parts.push(match open {
        0 => "closed loop".to_owned(),
        all if all == runs.len() => "open loop".to_owned(),
        _ => "closed and open loop".to_owned(),
    });
    if let Some(environment) = environments.last() {
        let virtualisation = match environment.virtualisation.as_str() {
            "" | "none visible" => String::new(),
            found => format!(" under {found}"),
        };
        parts.push(format!("{}, {} CPUs{virtualisation}", environment.cpu, environment.cpus));
    }
    let mut days: Vec<&str> = runs.iter().filter_map(|run| run.started.split('T').next()).collect();
    days.sort_unstable();
    days.dedup();
    match days.as_slice() {
        [] => {}
        [day] => parts.push((*day).to_owned()),
        [first, .., last] => parts.push(format!("{first} to {last}")),
    }
    let mut commits: Vec<&str> =
        runs.iter().map(|run| run.commit.as_str()).filter(|commit| !commit.is_empty()).collect();
    commits.sort_unstable();
    commits.dedup();
    parts.extend((!commits.is_empty()).then(|| format!("commit {}", commits.join(" and "))));
    parts
}

/// Returns the environments of all invocations, leaving out one that says the same as the one before it.
fn environments(folder: &Folder) -> Vec<Vec<(String, String)>> {
    let mut environments: Vec<Vec<(String, String)>> = Vec::new();
    for environment in folder.environments() {
        let rows = environment.rows();
        // The first row is the time it began.
        if environments.last().is_none_or(|last| last[1..] != rows[1..]) {
            environments.push(rows);
        }
    }
    environments
}

/// Says for each series what a reader wants to know first: how much, at what x, and how long requests took there.
pub fn findings(facets: &[Facet<'_>]) -> Vec<String> {
    let say = |facet: &Facet<'_>, series: &Series<'_>| {
        let name = match facet.name.as_str() {
            "" => series.name.clone(),
            facet => format!("{facet}, {}", series.name),
        };
        let Some(top) = series.top() else { return format!("{name}: no valid measurement.") };
        let best = top.point;
        let at = best.point.label(facet.x).unwrap_or_default();
        let interval = top.throughput.interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 % interval {} to {})", grouped(low.max(0.0)), grouped(high))
        });
        let throughput = format!("{} ops/s{interval} with {at}", grouped(top.throughput.mean));
        let p99 = best.latency_us(Percentile::P99).map_or_else(|| "not known".to_owned(), duration);
        let doubt = if best.is_beyond_doubt() { "" } else { " That point is in doubt; the table says why." };
        let near: Vec<String> = top.near.iter().filter_map(|member| member.point.label(facet.x)).collect();
        let said = match series.members.len() - 1 {
            0 => format!("throughput reaches {throughput}"),
            _ if top.is_peak() => format!("throughput peaks at {throughput}"),
            others if best.is_beyond_doubt() && top.unknown == 0 && near.len() < others => {
                format!("throughput reaches {throughput}, which is not told from that with {}", near.join(" and "))
            }
            _ => {
                let why = if top.unknown == 0 { "" } else { ", since points failed or are INVALID" };
                format!("no peak can be told{why}; the highest throughput is {throughput}")
            }
        };
        format!("{name}: {said}; p99 there is {p99}.{doubt}")
    };
    facets.iter().flat_map(|facet| facet.series.iter().map(move |series| say(facet, series))).collect()
}

/// Says what keeps the results from being the whole truth.
fn notes(
    experiment: Option<&Experiment>,
    cpus: Option<usize>,
    results: &Results,
    summaries: &[Summary],
) -> Vec<String> {
    let failed = results.runs.iter().filter(|run| run.figures().is_none()).count();
    let mut notes = vec![format!("{} runs of {} points; {failed} failed.", results.runs.len(), summaries.len())];
    for (verdict, meaning) in [(Verdict::Suspect, "in doubt"), (Verdict::Invalid, "not valid")] {
        match summaries.iter().filter(|summary| summary.verdict() == Some(verdict)).count() {
            0 => {}
            count => notes.push(format!("{count} of {} points are {verdict}: {meaning}.", summaries.len())),
        }
    }
    let short = |run: &&Run| matches!(run.outcome, Outcome::Measured { steadiness: Steadiness::TooShortToJudge, .. });
    match results.runs.iter().filter(short).count() {
        0 => {}
        count => notes.push(format!(
            "{count} runs measured fewer than four whole seconds: too short to judge whether throughput was steady."
        )),
    }
    let Some(experiment) = experiment else { return notes };
    if let Some(cpus) = cpus {
        notes.extend(experiment.pinned_differently(&(0..cpus).collect::<Vec<_>>()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Journal;
    use crate::sample;
    use proptest::prelude::*;

    /// Draws these runs, as on a machine without fonts, because PNG takes a second each here; returns the page, and all SVGs in one text.
    fn drawn(runs: &[Run]) -> (String, String, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder(directory.path().to_owned());
        let (mut journal, _) = Journal::open(&folder).unwrap();
        runs.iter().for_each(|run| journal.append(run).unwrap());
        draw_with(&folder, &Rasteriser::without_fonts()).unwrap();
        let mut svgs = String::new();
        for entry in std::fs::read_dir(&folder.0).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "svg") {
                svgs += &std::fs::read_to_string(entry.path()).unwrap();
            }
        }
        (std::fs::read_to_string(folder.page_file()).unwrap(), svgs, directory)
    }

    fn assert_sound(page: &str, svgs: &str) {
        for text in [page, svgs] {
            assert!(!text.contains("NaN") && !text.contains("inf\""), "coordinates are numbers");
        }
        assert!(!page.contains("http://www.w3.org/1999/xlink") && !page.contains("src="), "the page stands alone");
        assert!(!page.contains("<link") && !page.contains("@import") && !page.contains("<script"));
    }

    /// A sweep has all five charts with their axes and units, every point in the table, and its commands ready to copy.
    #[test]
    fn a_sweep_has_its_charts() {
        let (page, svgs, directory) = drawn(&sample::sweep(3, 1.0));
        assert_sound(&page, &svgs);
        for name in ["throughput-latency", "throughput", "latency", "percentiles", "utilisation"] {
            assert!(directory.path().join(format!("{name}.svg")).exists(), "{name}");
            assert!(!directory.path().join(format!("{name}.png")).exists(), "without fonts there is no PNG");
        }
        for label in [
            "throughput (thousand ops/s)",
            "concurrency (connections, log scale)",
            "p99.9 latency (log scale)",
            "99.99%",
            "SET",
            "GET",
            "CPU 1",
            "trine 3",
        ] {
            assert!(svgs.contains(label), "{label}");
        }
        assert!(page.contains("GET: throughput peaks at 239,999 ops/s"), "{page}");
        assert_eq!(page.matches("<td>OK</td>").count(), 10);
        assert!(page.contains("trine-load --value-size '10 20'"));
    }

    /// A PNG shows what the SVG does: it is twice as large, and not empty.
    #[test]
    fn a_chart_becomes_a_png() {
        let summaries = summarise(&sample::sweep(1, 1.0));
        let facets = facets(&summaries);
        let figure = &figures(&facets[0])[1];
        let png = Rasteriser::new().png(&figure.svg()).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && 5000 < png.len());
        let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert!(figure.svg().contains(&format!("width=\"{}\" height=\"{}\"", size(16) / 2, size(20) / 2)));
    }

    /// One point, and nothing but failures, are drawn as well; failures say why.
    #[test]
    fn little_can_be_drawn_too() {
        let (page, svgs, _) = drawn(&[sample::run(sample::point(16, 0.5), 1, 1.0)]);
        assert_sound(&page, &svgs);
        assert!(page.contains("throughput reaches") && !svgs.contains("nothing was measured"));
        let failures = [1, 2].map(|concurrency| sample::failed(sample::point(concurrency, 0.0), 1));
        let (page, svgs, _) = drawn(&failures);
        assert_sound(&page, &svgs);
        assert_eq!(page.matches("<td>FAILED</td>").count(), 2);
        assert!(page.contains("no route to &lt;host&gt;") && svgs.contains("nothing was measured"));
    }

    /// A doubtful point is drawn hollow: its marker is filled with white.
    #[test]
    fn doubt_is_hollow() {
        let hollow = "fill=\"#FFFFFF\"";
        let markers = |verdict| {
            let runs = [1, 2, 3].map(|repeat| sample::measured(sample::point(16, 0.5), repeat, 1000.0, verdict));
            drawn(&runs).1.matches(hollow).count()
        };
        assert!(markers("OK") < markers("SUSPECT"));
        let (page, ..) = drawn(&[sample::measured(sample::point(16, 0.5), 1, 1000.0, "SUSPECT")]);
        assert!(page.contains("<td>SUSPECT</td>") && page.contains("the load generator was busy"));
    }

    /// A picture without its page says what was measured, how and when, and what its markers mean; where all are whole
    /// nothing is to be said of them.
    #[test]
    fn a_picture_speaks_for_itself() {
        let rates = [("OK", 1), ("SUSPECT", 4), ("INVALID", 16)];
        let mut runs: Vec<Run> = rates
            .map(|(verdict, concurrency)| sample::measured(sample::point(concurrency, 0.0), 1, 1000.0, verdict))
            .to_vec();
        let explained =
            |svgs: &str| ["hollow: in doubt", "crossed: not valid", "cross at the axis"].map(|key| svgs.contains(key));
        let (_, svgs, directory) = drawn(&runs);
        assert_eq!(explained(&svgs), [true, true, false]);
        let chart = std::fs::read_to_string(directory.path().join("throughput.svg")).unwrap();
        for said in [
            "trine: 3 servers of 1 core",
            "SET",
            "values of 64 B",
            "pipeline 1",
            "closed loop",
            "2026-01-01",
            "0123abc",
        ] {
            assert!(chart.contains(said), "{said}: {chart}");
        }
        assert!(!chart.contains("16 connections"), "what varies is along the axis");
        runs.push(sample::failed(sample::point(64, 0.0), 1));
        assert_eq!(explained(&drawn(&runs).1), [true; 3]);
        assert_eq!(explained(&drawn(&sample::sweep(1, 1.0)).1), [false; 3]);
    }

    /// Panels side by side have one scale: the same height is the same latency.
    #[test]
    fn panels_share_their_scale() {
        let summaries = summarise(&sample::sweep(1, 1.0));
        let mut several = 0;
        for figure in figures(&facets(&summaries)[0]) {
            let crate::chart::Body::Panels(panels) = &figure.body else { continue };
            let scale = |panel: &crate::chart::Panel| [100.0, 10_000.0].map(|us| panel.y.position(us));
            assert!(panels.iter().all(|panel| scale(panel) == scale(&panels[0])), "{}", figure.name);
            several += usize::from(1 < panels.len());
        }
        assert_eq!(several, 3);
    }

    /// A peak is named where it is one: above every other point by more than chance, and beyond doubt.
    #[test]
    fn no_peak_is_named_where_none_can_be_told() {
        let said = |points: &[(u32, [f64; 3], &str)]| {
            let runs = points.iter().flat_map(|(concurrency, rates, verdict)| {
                let point = sample::point(*concurrency, 0.0);
                (1..).zip(rates).map(move |(repeat, rate)| sample::measured(point.clone(), repeat, *rate, verdict))
            });
            findings(&facets(&summarise(&runs.collect::<Vec<_>>()))).remove(0)
        };
        let low = (1, [1000.0, 1010.0, 1020.0], "OK");
        let high = (16, [5000.0, 5010.0, 5020.0], "OK");
        assert!(said(&[low, high]).contains("throughput peaks at 5,010 ops/s"));
        let plateau = said(&[low, high, (64, [4990.0, 5010.0, 5015.0], "OK")]);
        assert!(plateau.contains("reaches 5,010") && plateau.contains("not told from that with 64 conn"), "{plateau}");
        let wide = (64, [1000.0, 9000.0, 17_834.0], "OK");
        let invalid = (64, [6000.0, 6010.0, 6020.0], "INVALID");
        for points in
            [&[low, wide][..], &[low, (16, high.1, "SUSPECT")], &[low, (4, low.1, "OK")], &[low, high, invalid]]
        {
            let said = said(points);
            assert!(said.contains("no peak can be told") && !said.contains("peaks"), "{said}");
        }
    }

    /// More series than can be told apart go to charts of their own.
    #[test]
    fn many_series_become_facets() {
        let mut runs = Vec::new();
        for pipeline in [1, 16, 64] {
            for run in sample::sweep(1, 1.0) {
                let mut point = run.point.clone();
                point.pipeline = pipeline;
                runs.push(sample::run(point, 1, 1.0));
            }
        }
        let summaries = summarise(&runs);
        let facets = facets(&summaries);
        let shapes: Vec<(usize, usize)> =
            facets.iter().map(|facet| (facet.series.len(), facet.series[0].members.len())).collect();
        assert_eq!(shapes, [(3, 5), (3, 5)], "SET and GET apart, each with its three pipelines");
        let (page, svgs, directory) = drawn(&runs);
        assert_sound(&page, &svgs);
        assert!(directory.path().join("throughput-get.svg").exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// All results give coordinates that are numbers within the picture.
        #[test]
        fn every_coordinate_is_in_the_picture(rates in prop::collection::vec(1e-3..1e8f64, 1..8)) {
            let runs: Vec<Run> = rates.iter().enumerate()
                .map(|(index, rate)| sample::measured(sample::point(1 << index, 0.0), 1, *rate, "OK")).collect();
            let summaries = summarise(&runs);
            for figure in facets(&summaries).iter().flat_map(figures) {
                let svg = figure.svg();
                prop_assert!(!svg.contains("NaN"));
                let attribute = |name: &str| -> Vec<f64> {
                    let key = format!(" {name}=\"");
                    svg.split(&key).skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
                };
                let (width, height) = (attribute("width")[0], attribute("height")[0]);
                for (name, most) in [("x", width), ("cx", width), ("y", height), ("cy", height)] {
                    for value in attribute(name) {
                        prop_assert!((0.0..=most).contains(&value), "{} {value} of {most} in {}", name, figure.name);
                    }
                }
            }
        }
    }
}
