//! Manual pages and shell completions, both made from the table that the command line itself is: nothing is said twice.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

/// A page of the manual.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// `trine-serve` for `trine serve`. The file is named after it, with `.1` behind it: a command for users.
    pub name: String,
    /// The page, as `man` reads it.
    pub text: String,
}

/// Returns the script that teaches a shell a program's command line.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// Returns a program's manual: a page for the program, and one for each of its subcommands and theirs.
pub fn pages(command: Command) -> Vec<Page> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    let mut pages = Vec::new();
    add_pages(&command, source.trim_end(), &mut pages);
    pages
}

fn add_pages(command: &Command, source: &str, pages: &mut Vec<Page>) {
    pages.push(page(command, source));
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        add_pages(subcommand, source, pages);
    }
}

/// `source` is the program with its version.
fn page(command: &Command, source: &str) -> Page {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone());
    // No date: it would be that of the build, and no build would be like another.
    let mut text = format!(".TH \"{}\" \"1\" \"\" \"{source}\" \"\"\n", name.to_uppercase()).into_bytes();
    let rendered = man
        .render_name_section(&mut text)
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| if command.has_subcommands() { man.render_subcommands_section(&mut text) } else { Ok(()) })
        .and_then(|()| sections(&after).to_writer(&mut text));
    rendered.expect("memory can be written to");
    Page { name, text: String::from_utf8(text).expect("it was made of texts") }
}

/// Returns the text behind the options in `--help` as sections of their own: a paragraph that begins with `Examples:` or `Exit
/// status:` becomes one of that name, line by line; others are notes.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::default();
    let (mut heading, mut is_paragraph_over) = ("", true);
    for line in after.lines() {
        let begins = line.split_once(':').filter(|(title, _)| ["Examples", "Exit status", "Keys"].contains(title));
        let (title, line) = match begins {
            Some((title, rest)) => (title, rest.trim_start()),
            None if line.is_empty() => {
                is_paragraph_over = true;
                continue;
            }
            // A paragraph of prose may follow the examples.
            None if is_paragraph_over => ("Notes", line),
            None => (heading, line),
        };
        if heading != title {
            if !heading.is_empty() {
                roff.control("fi", []);
            }
            roff.control("SH", [title.to_uppercase().as_str()]);
            roff.control("nf", []);
            heading = title;
        } else if is_paragraph_over {
            roff.control("sp", []);
        }
        is_paragraph_over = false;
        if !line.is_empty() {
            roff.text([roman(line)]);
        }
    }
    if !heading.is_empty() {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn sample() -> Command {
        let serve = Command::new("serve")
            .about("Run it")
            .arg(Arg::new("port").long("port").help("Where"))
            .after_help("Examples:\n  demo serve -1\n  .demo 'x'\n\nA word on this.\n\nExit status: 0 well, 1 not.");
        let hidden = Command::new("secret").hide(true);
        Command::new("demo").about("A demonstration").version("1.2").subcommand(serve).subcommand(hidden)
    }

    /// The text behind the options in `--help` has sections of its own, and no line is taken for a macro.
    #[test]
    fn a_page_has_the_sections_that_a_reader_looks_for() {
        let pages = pages(sample());
        assert_eq!(pages.iter().map(|page| page.name.as_str()).collect::<Vec<_>>(), ["demo", "demo-serve"]);
        let text = &pages[1].text;
        let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "NOTES", "\"EXIT STATUS\""];
        assert_eq!(headings, expected, "{text}");
        assert!(text.contains("demo serve \\-1\n"), "{text}");
        assert!(!text.contains("\n.demo"), "no line of an example is a macro: {text}");
        assert!(pages[0].text.contains("demo 1.2"), "{}", pages[0].text);
    }

    /// Each shell gets a script that names the program and its subcommands.
    #[test]
    fn completions_know_the_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(sample(), shell)).unwrap();
            assert!(
                script.contains("demo") && script.contains("serve") && script.contains("port"),
                "{shell}: {script}"
            );
        }
    }
}
