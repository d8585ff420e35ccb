//! What fits where: amounts against nodes, and how amounts read to people. It chooses nothing.
use super::{Amounts, Gpu, Node};

/// Whether a GPU of `product` is of the `wanted` type: every token of `wanted` (letters and digits between other
/// characters, case apart) is a token of the product name. `None` is any.
pub fn gpu_matches(wanted: Option<&str>, product: &str) -> bool {
    let Some(wanted) = wanted else { return true };
    tokens(wanted).all(|token| tokens(product).any(|have| have.eq_ignore_ascii_case(token)))
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty())
}

/// What of `needs` there is too little of, each in words such as `4 cores (free: 2 cores)`; empty when everything fits.
pub(crate) fn lacks(needs: &Amounts, cpu_milli: u64, memory: u64, gpus: &[&Gpu]) -> Vec<String> {
    let matching = gpus.iter().filter(|gpu| gpu_matches(needs.gpu_type.as_deref(), &gpu.product)).count();
    let mut lacks = Vec::new();
    if needs.cpu_milli > cpu_milli {
        lacks.push(format!("{} (free: {})", cores(needs.cpu_milli), cores(cpu_milli)));
    }
    if needs.memory > memory {
        lacks.push(format!(
            "{} of memory (free: {})",
            bytes(needs.memory, Round::Up),
            bytes(memory, Round::Down)
        ));
    }
    if u64::from(needs.gpus) > matching as u64 {
        lacks.push(format!("{} (free: {matching})", gpu_words(needs)));
    }
    lacks
}

/// Whether a node that is empty would hold `needs`.
pub(crate) fn could_hold(node: &Node, needs: &Amounts) -> bool {
    lacks(needs, node.cpu_milli, node.memory, &node.gpus.iter().collect::<Vec<_>>()).is_empty()
}

/// The largest node in words: by GPUs, then cores, then memory.
pub(crate) fn largest<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    match nodes.max_by_key(|node| (node.gpus.len(), node.cpu_milli, node.memory)) {
        Some(node) => format!("the largest node, `{}`, has {}", node.name, node_words(node)),
        None => "there is no node".to_owned(),
    }
}

fn node_words(node: &Node) -> String {
    let mut products: Vec<&str> = node.gpus.iter().map(|gpu| gpu.product.as_str()).collect();
    products.sort_unstable();
    products.dedup();
    let gpus = match node.gpus.len() {
        0 => "no GPU".to_owned(),
        n => format!("{n} GPU{} ({})", plural(n as u64), products.join(", ")),
    };
    format!("{}, {} of memory and {gpus}", cores(node.cpu_milli), bytes(node.memory, Round::Down))
}

/// Amounts in words: `4 cores, 16.0 GiB of memory, 1 GPU`; what is 0 is left out.
pub(crate) fn amounts_words(amounts: &Amounts) -> String {
    let mut parts = Vec::new();
    if amounts.cpu_milli > 0 {
        parts.push(cores(amounts.cpu_milli));
    }
    if amounts.memory > 0 {
        parts.push(format!("{} of memory", bytes(amounts.memory, Round::Up)));
    }
    if amounts.gpus > 0 {
        parts.push(gpu_words(amounts));
    }
    if parts.is_empty() { "nothing in particular".to_owned() } else { parts.join(", ") }
}

fn gpu_words(amounts: &Amounts) -> String {
    let of = amounts.gpu_type.as_deref().map(|kind| format!(" of type `{kind}`")).unwrap_or_default();
    format!("{} GPU{}{of}", amounts.gpus, plural(amounts.gpus.into()))
}

fn cores(milli: u64) -> String {
    let text = match (milli / 1000, milli % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
    };
    format!("{text} core{}", if milli == 1000 { "" } else { "s" })
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// Which way a tenth is rounded, so that what is there never reads as more and what is needed never as less.
#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

fn bytes(count: u64, round: Round) -> String {
    let (unit, name) = match count {
        0x4000_0000.. => (1u64 << 30, "GiB"),
        0x10_0000.. => (1 << 20, "MiB"),
        _ => return format!("{count} bytes"),
    };
    let tenths = match round {
        Round::Up => (u128::from(count) * 10).div_ceil(u128::from(unit)),
        Round::Down => u128::from(count) * 10 / u128::from(unit),
    };
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, product: &str, expected: bool) {
        assert_eq!(gpu_matches(Some(wanted), product), expected, "`{wanted}` on `{product}`");
    }

    #[test]
    fn gpu_types_match_by_token() {
        check("A100", "NVIDIA A100-SXM4-80GB", true);
        check("NVIDIA-A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", true);
        check("a100-80gb", "NVIDIA A100-SXM4-80GB", true);
        check("T4", "Tesla T4", true);
        check("T4", "NVIDIA T400", false);
        check("A10", "NVIDIA A100-SXM4-80GB", false);
        check("H100", "NVIDIA A100-SXM4-80GB", false);
        assert!(gpu_matches(None, "anything"));
    }

    #[test]
    fn amounts_read_well() {
        let words = |cpu_milli, memory, gpus, kind: Option<&str>| {
            amounts_words(&Amounts { cpu_milli, memory, gpus, gpu_type: kind.map(str::to_owned) })
        };
        assert_eq!(words(1000, 1 << 30, 1, None), "1 core, 1.0 GiB of memory, 1 GPU");
        assert_eq!(
            words(2500, 12_000_000_000, 2, Some("T4")),
            "2.5 cores, 11.2 GiB of memory, 2 GPUs of type `T4`"
        );
        assert_eq!(words(0, 100, 0, None), "100 bytes of memory");
        assert_eq!(words(0, 0, 0, None), "nothing in particular");
    }

    #[test]
    fn what_is_there_is_never_rounded_up() {
        assert_eq!(bytes(12_000_000_000, Round::Down), "11.1 GiB");
        assert_eq!(bytes(3 << 20, Round::Down), "3.0 MiB");
        assert_eq!(bytes(u64::MAX, Round::Up), "17179869184.0 GiB");
    }
}
