//! Writes HTML: the few elements that a page of results is made of. Everything is inline, so that one file is the
//! whole page, offline and in ten years.

use std::fmt::Write;

/// A page under construction.
pub struct Page {
    html: String,
}

impl Page {
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        Self { html }
    }

    pub fn lead(&mut self, text: &str) {
        self.line(&format!("<p class=\"lead\">{}</p>", escape(text)));
    }

    pub fn heading(&mut self, text: &str) {
        self.line(&format!("<h2>{}</h2>", escape(text)));
    }

    pub fn paragraph(&mut self, text: &str) {
        self.line(&format!("<p>{}</p>", escape(text)));
    }

    pub fn list(&mut self, items: &[String]) {
        let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
        self.line(&format!("<ul>\n{items}</ul>"));
    }

    /// Sets an SVG into the page, with its caption.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        self.line(&format!("<figure>\n{svg}\n<figcaption>{}</figcaption>\n</figure>", escape(caption)));
    }

    /// A table; a row's class, if not empty, names how it is set apart.
    pub fn table(&mut self, header: &[String], rows: &[(String, Vec<String>)]) {
        let head: String = header.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        self.line(&format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>"));
        for (class, cells) in rows {
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            self.line(&format!("<tr{class}>{cells}</tr>"));
        }
        self.line("</tbody></table></div>");
    }

    /// Text as it is, behind a line that opens it.
    pub fn folded(&mut self, summary: &str, text: &str) {
        let (summary, text) = (escape(summary), escape(text));
        self.line(&format!("<details><summary>{summary}</summary><pre>{text}</pre></details>"));
    }

    pub fn finish(mut self) -> String {
        self.line("</main>\n</body>\n</html>");
        self.html
    }

    fn line(&mut self, html: &str) {
        writeln!(self.html, "{html}").expect("writing to a string succeeds");
    }
}

/// Makes text safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

const STYLE: &str = "\
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #222; font: 16px/1.5 system-ui, 'DejaVu Sans', sans-serif; }
main { max-width: 1220px; margin: 0 auto; padding: 24px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid #ddd; }
.lead { font-size: 19px; color: #444; margin: 0 0 16px; }
figure { margin: 16px 0 32px; }
figure svg { display: block; max-width: 100%; height: auto; }
figcaption { color: #555; font-size: 14px; max-width: 860px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; border-bottom: 2px solid #222; padding: 4px 12px 4px 0; vertical-align: bottom; }
td:not(:last-child), th { white-space: nowrap; }
td { border-bottom: 1px solid #e2e2e2; padding: 4px 12px 4px 0; vertical-align: top; }
tr.suspect td { background: #fff8e5; }
tr.failed td { background: #fdecea; }
details { margin: 8px 0; }
pre { overflow-x: auto; background: #f6f6f6; padding: 12px; font-size: 13px; line-height: 1.4; }
";

#[cfg(test)]
mod tests {
    use super::*;

    /// Text from experiment files and error messages cannot become markup.
    #[test]
    fn text_stays_text() {
        let mut page = Page::new("<script>");
        page.paragraph("a < b & \"c\"");
        let html = page.finish();
        assert!(!html.contains("<script>") && html.contains("a &lt; b &amp; &quot;c&quot;"), "{html}");
    }
}
