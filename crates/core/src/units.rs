//! Amounts people write: cores, bytes, durations. Parsing and printing only, always exact and without floating point.
//!
//! Every type prints the shortest text that reads back as the same amount.
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = written_cpu)]
pub struct Cpu(pub u64);

/// Bytes. A bare number in a run file is GB (10^9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = written_memory)]
pub struct Memory(pub u64);

/// A length of time in milliseconds, written like `24h`, `1h30m`, `10s` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = written_span)]
pub struct Span(pub u64);

/// In a run file, an amount is text or a number.
fn written(schema: &mut Schema, kinds: [&str; 2], examples: serde_json::Value) {
    schema.remove("format");
    schema.remove("minimum");
    schema.insert("type".to_owned(), kinds.as_slice().into());
    schema.insert("examples".to_owned(), examples);
}

fn written_cpu(schema: &mut Schema) {
    written(schema, ["string", "number"], json!([4, "0.5", "500m"]));
}

fn written_memory(schema: &mut Schema) {
    written(schema, ["string", "number"], json!(["12Gi", "512M", 16]));
}

fn written_span(schema: &mut Schema) {
    written(schema, ["string", "integer"], json!(["24h", "1h30m", "10s", 0]));
}

/// Why a text is not an amount. The message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not of the form described by the type.
    #[error("`{text}` is not {what}")]
    Malformed {
        /// What was written.
        text: String,
        /// What was expected, with examples.
        what: &'static str,
    },
    /// The number has a unit that does not exist.
    #[error("`{text}` has the unknown unit `{unit}`; write {what}")]
    Unit {
        /// What was written.
        text: String,
        /// The unit in it.
        unit: String,
        /// What was expected, with examples.
        what: &'static str,
    },
    /// Finer than the smallest step of the type.
    #[error("`{text}` is finer than {step}")]
    TooFine {
        /// What was written.
        text: String,
        /// The smallest step.
        step: &'static str,
    },
    /// Larger than 64 bits hold.
    #[error("`{text}` is too large")]
    TooLarge {
        /// What was written.
        text: String,
    },
}

const CPU: &str = "a number of cores such as `4`, `0.5` or `500m`";
const MEMORY: &str = "an amount of memory such as `12Gi`, `512M` or `16` (GB)";
const SPAN: &str = "a duration such as `24h`, `1h30m`, `10s` or `0`";

const MEMORY_UNITS: [(&str, u64); 12] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A decimal number as written: `digits` over ten to the power of `scale`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u128,
    scale: u32,
}

/// Result of scaling a decimal to whole steps.
enum Scaled {
    Exact(u64),
    Rounded(u64),
    TooLarge,
}

impl Decimal {
    /// Splits `text` into its leading decimal number and the rest; `None` without a digit or with too many of them.
    fn take(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fraction = if fraction.contains('.') { return None } else { fraction.trim_end_matches('0') };
        let whole = if whole.is_empty() { return None } else { whole.trim_start_matches('0') };
        if number.ends_with('.') || whole.len() > 20 || fraction.len() > 15 {
            return None;
        }
        let digits = format!("0{whole}{fraction}").parse().ok()?;
        Some((Self { digits, scale: u32::try_from(fraction.len()).ok()? }, rest))
    }

    /// This number of `unit`s in whole steps, rounded up.
    fn times(self, unit: u64) -> Scaled {
        let divisor = 10_u128.pow(self.scale);
        let Some(product) = self.digits.checked_mul(u128::from(unit)) else { return Scaled::TooLarge };
        match u64::try_from(product.div_ceil(divisor)) {
            Err(_) => Scaled::TooLarge,
            Ok(whole) if product.is_multiple_of(divisor) => Scaled::Exact(whole),
            Ok(whole) => Scaled::Rounded(whole),
        }
    }
}

fn malformed(text: &str, what: &'static str) -> UnitError {
    UnitError::Malformed { text: clip(text), what }
}

fn too_large(text: &str) -> UnitError {
    UnitError::TooLarge { text: clip(text) }
}

/// At most 40 characters of `text`, for messages.
fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl FromStr for Cpu {
    type Err = UnitError;

    /// Reads cores (`4`, `0.5`) or thousandths of one (`500m`).
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = Decimal::take(text).ok_or_else(|| malformed(text, CPU))?;
        let step = match unit {
            "" => 1000,
            "m" => 1,
            _ => return Err(UnitError::Unit { text: clip(text), unit: clip(unit), what: CPU }),
        };
        match number.times(step) {
            Scaled::Exact(milli) => Ok(Self(milli)),
            Scaled::Rounded(_) => {
                Err(UnitError::TooFine { text: clip(text), step: "a thousandth of a core" })
            }
            Scaled::TooLarge => Err(too_large(text)),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl FromStr for Memory {
    type Err = UnitError;

    /// Reads a number with a Kubernetes suffix (`12Gi`, `512M`) or a bare number of GB (10^9). A part of a byte
    /// rounds up.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = Decimal::take(text).ok_or_else(|| malformed(text, MEMORY))?;
        let size = match unit {
            "" => 1_000_000_000,
            _ => match MEMORY_UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, size)) => *size,
                None => return Err(UnitError::Unit { text: clip(text), unit: clip(unit), what: MEMORY }),
            },
        };
        match number.times(size) {
            Scaled::Exact(bytes) | Scaled::Rounded(bytes) => Ok(Self(bytes)),
            Scaled::TooLarge => Err(too_large(text)),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let whole = MEMORY_UNITS.iter().filter(|(_, size)| self.0.is_multiple_of(*size));
        if let Some((name, size)) = whole.min_by_key(|(_, size)| (self.0 / size).to_string().len()) {
            return write!(f, "{}{name}", self.0 / size);
        }
        let fraction = format!("{:09}", self.0 % 1_000_000_000);
        write!(f, "{}.{}G", self.0 / 1_000_000_000, fraction.trim_end_matches('0'))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    /// Reads numbers with units (`d`, `h`, `m`, `s`, `ms`) that add up, or a bare `0`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text == "0" {
            return Ok(Self(0));
        }
        let mut rest = text;
        let mut sum = 0_u64;
        while !rest.is_empty() {
            let (number, after) = Decimal::take(rest).ok_or_else(|| malformed(text, SPAN))?;
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let size = span_unit(text, unit)?;
            let part = match number.times(size) {
                Scaled::Exact(part) => part,
                Scaled::Rounded(_) => {
                    return Err(UnitError::TooFine { text: clip(text), step: "a millisecond" });
                }
                Scaled::TooLarge => return Err(too_large(text)),
            };
            sum = sum.checked_add(part).ok_or_else(|| too_large(text))?;
            rest = next;
        }
        if text.is_empty() { Err(malformed(text, SPAN)) } else { Ok(Self(sum)) }
    }
}

fn span_unit(text: &str, unit: &str) -> Result<u64, UnitError> {
    if unit.is_empty() {
        return Err(UnitError::Malformed { text: clip(text), what: SPAN });
    }
    SPAN_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size).ok_or_else(|| UnitError::Unit {
        text: clip(text),
        unit: clip(unit),
        what: SPAN,
    })
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let mut rest = self.0;
        // Days are read but not printed: `36h` says more than `1d12h`.
        for (name, size) in &SPAN_UNITS[1..] {
            if rest >= *size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check<T: FromStr<Err = UnitError> + PartialEq + fmt::Debug>(text: &str, expected: Result<T, &str>) {
        let found = text.parse::<T>().map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "reading {text:?}");
    }

    #[test]
    fn cores() {
        check("4", Ok(Cpu(4000)));
        check("0.5", Ok(Cpu(500)));
        check("500m", Ok(Cpu(500)));
        check("4.0", Ok(Cpu(4000)));
        check("0", Ok(Cpu(0)));
        check("0.0005", Err::<Cpu, _>("`0.0005` is finer than a thousandth of a core"));
        check("-1", Err::<Cpu, _>("`-1` is not a number of cores such as `4`, `0.5` or `500m`"));
        check(
            "1e3",
            Err::<Cpu, _>(
                "`1e3` has the unknown unit `e3`; write a number of cores such as `4`, `0.5` or `500m`",
            ),
        );
        check("99999999999999999999", Err::<Cpu, _>("`99999999999999999999` is too large"));
        for bad in ["", ".", "1.", ".5", "1.2.3", "many", " 4"] {
            assert!(bad.parse::<Cpu>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bytes() {
        check("12Gi", Ok(Memory(12 << 30)));
        check("512M", Ok(Memory(512_000_000)));
        check("16", Ok(Memory(16_000_000_000)));
        check("0.5", Ok(Memory(500_000_000)));
        check("1.5Gi", Ok(Memory(3 << 29)));
        check("0.1Ki", Ok(Memory(103)));
        check("512Mi", Ok(Memory(512 << 20)));
        check("2Ti", Ok(Memory(2 << 40)));
        check("1k", Ok(Memory(1000)));
        check("16Ei", Err::<Memory, _>("`16Ei` is too large"));
        check(
            "16GB",
            Err::<Memory, _>(
                "`16GB` has the unknown unit `GB`; write an amount of memory such as `12Gi`, `512M` or `16` (GB)",
            ),
        );
    }

    #[test]
    fn durations() {
        check("24h", Ok(Span(86_400_000)));
        check("1h30m", Ok(Span(5_400_000)));
        check("1.5h", Ok(Span(5_400_000)));
        check("10s", Ok(Span(10_000)));
        check("250ms", Ok(Span(250)));
        check("2d", Ok(Span(172_800_000)));
        check("0", Ok(Span(0)));
        check("0s", Ok(Span(0)));
        check("10", Err::<Span, _>("`10` is not a duration such as `24h`, `1h30m`, `10s` or `0`"));
        check(
            "1y",
            Err::<Span, _>(
                "`1y` has the unknown unit `y`; write a duration such as `24h`, `1h30m`, `10s` or `0`",
            ),
        );
        check("0.1ms", Err::<Span, _>("`0.1ms` is finer than a millisecond"));
        for bad in ["", "h", "1h30", "-1s", "1 h", "99999999999999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn printed_short() {
        assert_eq!(Cpu(4000).to_string(), "4");
        assert_eq!(Cpu(1500).to_string(), "1500m");
        assert_eq!(Memory(12 << 30).to_string(), "12Gi");
        assert_eq!(Memory(512_000_000).to_string(), "512M");
        assert_eq!(Memory(1_234_567_891).to_string(), "1.234567891G");
        assert_eq!(Span(7_200_000).to_string(), "2h");
        assert_eq!(Span(90_061_001).to_string(), "25h1m1s1ms");
    }

    proptest! {
        #[test]
        fn printed_reads_back(n in any::<u64>()) {
            prop_assert_eq!(Cpu(n).to_string().parse(), Ok(Cpu(n)));
            prop_assert_eq!(Memory(n).to_string().parse(), Ok(Memory(n)));
            prop_assert_eq!(Span(n).to_string().parse(), Ok(Span(n)));
        }

        #[test]
        fn never_panics(text in "\\PC{0,30}|[0-9.]{0,40}[a-zA-Z]{0,3}") {
            let _ = text.parse::<Cpu>();
            let _ = text.parse::<Memory>();
            let _ = text.parse::<Span>();
        }
    }
}
