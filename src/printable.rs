//! Text from elsewhere, as it may be printed.
//!
//! A terminal obeys what it is sent: an escape sequence in a server's name or in an error could move the cursor, hide lines, or
//! rename the window. Whatever others may have written is shown through this.

use std::{borrow::Cow, fmt::Write as _};

/// Returns a text in which every control character stands as an escape, `\u001b`, and so does what changes the direction of writing.
/// Line ends and tabs stay. The escapes are JSON's, so that JSON stays JSON.
pub fn printable(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut done = 0;
    for (at, letter) in text.char_indices() {
        if is_printable(letter) || (letter == '\r' && text[at..].starts_with("\r\n")) {
            continue;
        }
        shown.push_str(&text[done..at]);
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            // A String takes everything.
            let _ = write!(shown, "\\u{unit:04x}");
        }
        done = at + letter.len_utf8();
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[done..]);
    Cow::Owned(shown)
}

fn is_printable(letter: char) -> bool {
    match letter {
        '\n' | '\t' => true,
        // Marks of direction (Unicode's UAX #9), separators of lines, and tags, which nobody sees.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        '\u{e0000}'..='\u{e007f}' => false,
        letter => !letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No escape sequence gets through, whichever way it is written; text stays text.
    #[test]
    fn a_terminal_is_sent_no_commands() {
        for (text, shown) in [
            (
                "plain text, with \u{e4} and \u{1f600}\n\tand lines\r\n",
                "plain text, with \u{e4} and \u{1f600}\n\tand lines\r\n",
            ),
            ("\x1b[2J\x1b]0;title\x07", "\\u001b[2J\\u001b]0;title\\u0007"),
            ("a\rb\r", "a\\u000db\\u000d"),
            ("\u{9b}2J\u{7f}\0", "\\u009b2J\\u007f\\u0000"),
            ("\u{202e}txt.exe\u{2069}", "\\u202etxt.exe\\u2069"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("", ""),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
    }
}
