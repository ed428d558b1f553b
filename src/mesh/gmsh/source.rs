//! A file read front to back in bounded memory: words and numbers of text, fixed-size pieces of binary
//! data, seeks, and the place of each for messages.
//!
//! Start at [`Source`]. Nothing here knows what the sections mean.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{GmshError, Place};

/// Bytes held at once.
pub(super) const CAPACITY: usize = 1 << 20;

/// The first read after a seek: block headers are found by seeks, and need a few bytes only.
const FIRST_READ: usize = 4096;

pub(super) type Result<T> = std::result::Result<T, GmshError>;

/// A file and a window on it.
pub(super) struct Source {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// The size of the file in bytes.
    pub(super) length: u64,
    /// Whether numbers are stored as bytes; then places are byte offsets, otherwise lines.
    pub(super) binary: bool,
    /// Whether those bytes are big-endian.
    pub(super) big: bool,
    /// The section being read, for messages.
    pub(super) section: String,
    buffer: Vec<u8>,
    /// What is not consumed yet: `buffer[start..end]`; `buffer[0]` stands at byte `origin` of the file.
    start: usize,
    end: usize,
    origin: u64,
    next_read: usize,
    line: u64,
}

impl Source {
    pub(super) fn open(path: &Path, capacity: usize) -> Result<Source> {
        let file = File::open(path).map_err(|e| GmshError::io(path, "open", &e))?;
        let about = file.metadata().map_err(|e| GmshError::io(path, "inspect", &e))?;
        if !about.is_file() {
            let reason = "it is not a regular file".to_string();
            return Err(GmshError::Io { file: path.to_path_buf(), action: "read".into(), reason });
        }
        Ok(Source {
            file,
            path: path.to_path_buf(),
            length: about.len(),
            binary: false,
            big: false,
            section: "the beginning".to_string(),
            buffer: vec![0; capacity],
            start: 0,
            end: 0,
            origin: 0,
            next_read: FIRST_READ.min(capacity),
            line: 1,
        })
    }

    /// The byte that comes next.
    pub(super) fn offset(&self) -> u64 {
        self.origin + self.start as u64
    }

    /// The bytes that are left.
    pub(super) fn room(&self) -> u64 {
        self.length.saturating_sub(self.offset())
    }

    pub(super) fn place(&self) -> Place {
        if self.binary { Place::Byte(self.offset()) } else { Place::Line(self.line) }
    }

    /// Goes to a byte of the file. Binary files only: lines are not counted.
    pub(super) fn seek(&mut self, offset: u64) {
        if (self.origin..=self.origin + self.end as u64).contains(&offset) {
            self.start = (offset - self.origin) as usize;
        } else {
            (self.start, self.end, self.origin) = (0, 0, offset);
            self.next_read = FIRST_READ.min(self.buffer.len());
        }
    }

    /// Reads more behind what is not consumed yet; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.origin += self.start as u64;
            (self.start, self.end) = (0, self.end - self.start);
        }
        let wanted = self.next_read.min(self.buffer.len() - self.end);
        self.next_read = (self.next_read * 4).min(self.buffer.len());
        if wanted == 0 {
            return Ok(false);
        }
        let at = self.origin + self.end as u64;
        loop {
            match self.file.read_at(&mut self.buffer[self.end..self.end + wanted], at) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(GmshError::io(&self.path, "read", &e)),
            }
        }
    }

    /// The next `n` bytes, at most the capacity.
    pub(super) fn bytes(&mut self, n: usize, expected: &str) -> Result<&[u8]> {
        while self.end - self.start < n {
            if !self.fill()? {
                return Err(self.truncated(expected));
            }
        }
        self.start += n;
        Ok(&self.buffer[self.start - n..self.start])
    }

    /// Skips blanks, and line ends too where `lines`; the byte that follows, `None` at the file's end.
    fn skip_blanks(&mut self, lines: bool) -> Result<Option<u8>> {
        loop {
            while self.start < self.end {
                match self.buffer[self.start] {
                    b' ' | b'\t' | b'\r' => self.start += 1,
                    b'\n' if lines => {
                        self.line += 1;
                        self.start += 1;
                    }
                    other => return Ok(Some(other)),
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The word that begins at the next byte, consumed.
    fn rest_of_word(&mut self, expected: &str) -> Result<Range<usize>> {
        let mut n = 0;
        loop {
            let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
            if let Some(length) = self.buffer[self.start + n..self.end].iter().position(blank) {
                n += length;
                break;
            }
            n = self.end - self.start;
            if !self.fill()? {
                if n == self.buffer.len() {
                    let found = format!("a word of more than {n} bytes");
                    return Err(self.syntax_found(expected, found));
                }
                break;
            }
        }
        self.start += n;
        Ok(self.start - n..self.start)
    }

    /// The next word, on this line or a later one; `None` at the end of the file.
    pub(super) fn first_word(&mut self, expected: &str) -> Result<Option<Range<usize>>> {
        match self.skip_blanks(true)? {
            None => Ok(None),
            Some(_) => self.rest_of_word(expected).map(Some),
        }
    }

    /// The next word of this line.
    pub(super) fn word(&mut self, expected: &str) -> Result<Range<usize>> {
        match self.skip_blanks(false)? {
            None => Err(self.truncated(expected)),
            Some(b'\n') => Err(self.syntax_found(expected, "the end of the line".to_string())),
            Some(_) => self.rest_of_word(expected),
        }
    }

    pub(super) fn text(&self, word: Range<usize>) -> &[u8] {
        &self.buffer[word]
    }

    /// Whether another word follows on this line.
    pub(super) fn more_on_line(&mut self) -> Result<bool> {
        Ok(!matches!(self.skip_blanks(false)?, None | Some(b'\n')))
    }

    /// Consumes the end of this line; exactly one line feed, since binary data may follow.
    pub(super) fn end_line(&mut self) -> Result<()> {
        match self.skip_blanks(false)? {
            None => Ok(()),
            Some(b'\n') => {
                self.start += 1;
                self.line += 1;
                Ok(())
            }
            Some(_) => {
                let word = self.rest_of_word("the end of the line")?;
                Err(self.syntax("the end of the line", word))
            }
        }
    }

    fn parse_integer(&self, word: Range<usize>, expected: &str) -> Result<i64> {
        integer(&self.buffer[word.clone()]).ok_or_else(|| self.syntax(expected, word))
    }

    /// An integer that begins a line.
    pub(super) fn first_integer(&mut self, expected: &str) -> Result<i64> {
        match self.first_word(expected)? {
            None => Err(self.truncated(expected)),
            Some(word) => self.parse_integer(word, expected),
        }
    }

    /// An integer on this line.
    pub(super) fn integer(&mut self, expected: &str) -> Result<i64> {
        let word = self.word(expected)?;
        self.parse_integer(word, expected)
    }

    /// An identifier on this line, or on a later one where it `begins` a line: at least 1.
    pub(super) fn identifier(&mut self, begins: bool, expected: &str) -> Result<u64> {
        let value = if begins { self.first_integer(expected)? } else { self.integer(expected)? };
        if value < 1 {
            return Err(self.syntax_found(expected, value.to_string()));
        }
        Ok(value as u64)
    }

    fn parse_float(&self, word: Range<usize>, expected: &str) -> Result<f64> {
        let text = std::str::from_utf8(&self.buffer[word.clone()]).ok();
        match text.and_then(|t| t.parse::<f64>().ok()) {
            Some(value) => Ok(value),
            None => Err(self.syntax(expected, word)),
        }
    }

    /// A number on this line, or on a later one where it `begins` a line.
    pub(super) fn float(&mut self, begins: bool, expected: &str) -> Result<f64> {
        let word = if begins { self.first_word(expected)? } else { Some(self.word(expected)?) };
        match word {
            None => Err(self.truncated(expected)),
            Some(word) => self.parse_float(word, expected),
        }
    }

    /// An integer on this line that is not negative.
    pub(super) fn identifier_or_zero(&mut self, expected: &str) -> Result<u64> {
        let value = self.integer(expected)?;
        u64::try_from(value).map_err(|_| self.syntax_found(expected, value.to_string()))
    }

    /// Gives back the word just read.
    pub(super) fn unread(&mut self, word: Range<usize>) {
        self.start = word.start;
    }

    /// A count that begins a line. Each of its items takes at least `least` bytes of the file.
    pub(super) fn count(&mut self, begins: bool, what: &str, least: u64) -> Result<u64> {
        let expected = format!("the number of {what}");
        let value = if begins { self.first_integer(&expected)? } else { self.integer(&expected)? };
        if value < 0 {
            return Err(self.syntax_found(&expected, value.to_string()));
        }
        self.check_count(value as u64, what, least)
    }

    /// Refuses a count whose items, of `least` bytes each, exceed the rest of the file.
    pub(super) fn check_count(&self, count: u64, what: &str, least: u64) -> Result<u64> {
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.room()) {
            return Err(GmshError::Count {
                file: self.path.clone(),
                place: self.place(),
                section: self.section.clone(),
                what: what.to_string(),
                count,
                room: self.room(),
            });
        }
        Ok(count)
    }

    /// A 32-bit integer, as text or binary as the file is.
    pub(super) fn int(&mut self, expected: &str) -> Result<i32> {
        if self.binary {
            let big = self.big;
            let bytes: [u8; 4] = self.bytes(4, expected)?.try_into().expect("4 bytes");
            return Ok(if big { i32::from_be_bytes(bytes) } else { i32::from_le_bytes(bytes) });
        }
        let value = self.first_integer(expected)?;
        i32::try_from(value).map_err(|_| self.syntax_found(expected, value.to_string()))
    }

    /// A count, as text or binary as the file is. Each of its items takes at least `least` bytes.
    pub(super) fn size(&mut self, what: &str, least: u64) -> Result<u64> {
        if !self.binary {
            return self.count(true, what, least);
        }
        let value = self.word_64(what)?;
        self.check_count(value, what, least)
    }

    /// 64 bits of a binary file.
    pub(super) fn word_64(&mut self, expected: &str) -> Result<u64> {
        let big = self.big;
        let bytes: [u8; 8] = self.bytes(8, expected)?.try_into().expect("8 bytes");
        Ok(if big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A number, as text or binary as the file is.
    pub(super) fn double(&mut self, expected: &str) -> Result<f64> {
        if self.binary { self.word_64(expected).map(f64::from_bits) } else { self.float(true, expected) }
    }

    /// What follows up to the end of this line, at most the capacity.
    pub(super) fn rest_of_line(&mut self, expected: &str) -> Result<String> {
        let mut n = 0;
        loop {
            if let Some(length) = self.buffer[self.start + n..self.end].iter().position(|&b| b == b'\n') {
                n += length;
                break;
            }
            n = self.end - self.start;
            if !self.fill()? {
                if n == self.buffer.len() {
                    return Err(self.syntax_found(expected, format!("a line of more than {n} bytes")));
                }
                break;
            }
        }
        let line = String::from_utf8_lossy(&self.buffer[self.start..self.start + n]).into_owned();
        self.start += n;
        Ok(line)
    }

    /// Consumes the word that ends the current section.
    pub(super) fn end_section(&mut self) -> Result<()> {
        let expected = format!("$End{}", self.section.trim_start_matches('$'));
        match self.first_word(&expected)? {
            None => Err(self.truncated(&expected)),
            Some(word) if self.text(word.clone()) == expected.as_bytes() => Ok(()),
            Some(word) => Err(self.syntax(&expected, word)),
        }
    }

    /// Skips what is left of the current section, its end included.
    pub(super) fn skip_section(&mut self) -> Result<()> {
        let expected = format!("$End{}", self.section.trim_start_matches('$'));
        let needle = expected.as_bytes();
        loop {
            let window = &self.buffer[self.start..self.end];
            // The byte behind the name must be here too: it may be the end of a longer name.
            let found = window.windows(needle.len() + 1).position(|w| {
                w[0] == b'$' && &w[..needle.len()] == needle && w[needle.len()].is_ascii_whitespace()
            });
            let consumed = match found {
                Some(at) => at + needle.len(),
                None => window.len().saturating_sub(needle.len()),
            };
            self.line += window[..consumed].iter().filter(|&&b| b == b'\n').count() as u64;
            self.start += consumed;
            if found.is_some() {
                return Ok(());
            }
            if !self.fill()? {
                if &self.buffer[self.start..self.end] == needle {
                    self.start = self.end;
                    return Ok(());
                }
                return Err(self.truncated(&expected));
            }
        }
    }

    /// The error for a word that is not what was expected.
    pub(super) fn syntax(&self, expected: &str, word: Range<usize>) -> GmshError {
        let bytes = &self.buffer[word];
        let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).escape_debug().collect();
        let dots = if bytes.len() > 40 { "..." } else { "" };
        self.syntax_found(expected, format!("`{text}{dots}`"))
    }

    /// The error for something else that is not what was expected.
    pub(super) fn syntax_found(&self, expected: &str, found: String) -> GmshError {
        self.syntax_at(self.place(), expected, found)
    }

    /// As [`Source::syntax_found`], at another place.
    pub(super) fn syntax_at(&self, place: Place, expected: &str, found: String) -> GmshError {
        GmshError::Syntax {
            file: self.path.clone(),
            place,
            section: self.section.clone(),
            expected: expected.to_string(),
            found,
        }
    }

    pub(super) fn truncated(&self, expected: &str) -> GmshError {
        GmshError::Truncated {
            file: self.path.clone(),
            place: self.place(),
            section: self.section.clone(),
            expected: expected.to_string(),
        }
    }
}

/// A decimal integer, nothing else.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(if negative { -value } else { value })
}
