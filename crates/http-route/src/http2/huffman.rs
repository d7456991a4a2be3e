//! The string code of HPACK (RFC 7541 section 5.2), decoded four bits at a time.

use std::sync::LazyLock;

use super::tables::HUFFMAN;

/// Where half a byte leads from a place in the code's tree.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    next: u16,
    /// The byte that was completed on the way: no code is shorter than five bits, so it is one at most.
    byte: Option<u8>,
    /// This is no beginning of any string: the end-of-string symbol was completed.
    wrong: bool,
}

struct Tree {
    steps: Vec<[Step; 16]>,
    /// The string may end here: at most seven bits, all ones, have been read of the next code.
    ends: Vec<bool>,
}

static TREE: LazyLock<Tree> = LazyLock::new(Tree::new);

#[derive(Debug, Clone, Copy)]
enum Branch {
    Open,
    Node(usize),
    Byte(u8),
}

impl Tree {
    fn new() -> Self {
        let mut nodes = vec![[Branch::Open; 2]];
        for (byte, (code, length)) in (0..=u8::MAX).zip(HUFFMAN) {
            let mut at = 0;
            for bit in (1..length).rev().map(|shift| (code >> shift & 1) as usize) {
                at = match nodes[at][bit] {
                    Branch::Node(next) => next,
                    _ => {
                        nodes.push([Branch::Open; 2]);
                        nodes[at][bit] = Branch::Node(nodes.len() - 1);
                        nodes.len() - 1
                    }
                };
            }
            nodes[at][(code & 1) as usize] = Branch::Byte(byte);
        }
        let mut ends = vec![false; nodes.len()];
        let mut at = 0;
        for _ in 0..8 {
            ends[at] = true;
            let Branch::Node(next) = nodes[at][1] else { break };
            at = next;
        }
        let steps = (0..nodes.len()).map(|from| std::array::from_fn(|bits| step(&nodes, from, bits)));
        Self {
            steps: steps.collect(),
            ends,
        }
    }
}

fn step(nodes: &[[Branch; 2]], from: usize, bits: usize) -> Step {
    let mut step = Step::default();
    let mut at = from;
    for shift in (0..4).rev() {
        match nodes[at][bits >> shift & 1] {
            Branch::Node(next) => at = next,
            Branch::Byte(byte) => {
                step.byte = Some(byte);
                at = 0;
            }
            Branch::Open => {
                step.wrong = true;
                return step;
            }
        }
    }
    step.next = u16::try_from(at).unwrap_or(u16::MAX);
    step
}

/// Appends what `coded` stands for, unless that is nothing, or longer than `room`.
pub(super) fn decode(coded: &[u8], room: usize, out: &mut Vec<u8>) -> Option<()> {
    let tree = &*TREE;
    let limit = out.len() + room;
    let mut at = 0_usize;
    for byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let step = tree.steps[at][usize::from(bits)];
            if step.wrong || out.len() > limit {
                return None;
            }
            out.extend(step.byte);
            at = usize::from(step.next);
        }
    }
    (tree.ends[at] && out.len() <= limit).then_some(())
}

/// How many bytes `plain` takes in the code.
pub(super) fn length(plain: &[u8]) -> usize {
    let bits: usize = plain
        .iter()
        .map(|byte| usize::from(HUFFMAN[usize::from(*byte)].1))
        .sum();
    bits.div_ceil(8)
}

pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let (mut held, mut count) = (0_u64, 0_u32);
    for byte in plain {
        let (code, length) = HUFFMAN[usize::from(*byte)];
        held = held << length | u64::from(code);
        count += u32::from(length);
        while count >= 8 {
            count -= 8;
            out.push((held >> count & 0xff) as u8);
        }
    }
    if count > 0 {
        // The rest is filled with the most significant bits of the end-of-string symbol, which are ones.
        out.push((held << (8 - count) & 0xff) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_the_standard() {
        // RFC 7541 appendix C.4.1 and C.6.1.
        let check = |plain: &str, coded: &[u8]| {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(
                (out.as_slice(), length(plain.as_bytes())),
                (coded, coded.len()),
                "{plain}"
            );
            out.clear();
            decode(coded, plain.len(), &mut out).unwrap();
            assert_eq!(out, plain.as_bytes());
            assert!(plain.is_empty() || decode(coded, plain.len() - 1, &mut Vec::new()).is_none());
        };
        check(
            "www.example.com",
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
        );
        check("302", &[0x64, 0x02]);
        check("", &[]);
    }

    #[test]
    fn every_byte_and_wrong_ends() {
        for byte in 0..=u8::MAX {
            let mut coded = Vec::new();
            encode(&[byte, b'a', byte], &mut coded);
            let mut out = Vec::new();
            decode(&coded, 3, &mut out).unwrap();
            assert_eq!(out, [byte, b'a', byte]);
        }
        // Padding of zeros, of more than seven bits, and the end-of-string symbol itself.
        for wrong in [&[0x18][..], &[0xff], &[0x1f, 0xff], &[0xff, 0xff, 0xff, 0xff]] {
            assert!(decode(wrong, 9, &mut Vec::new()).is_none(), "{wrong:?}");
        }
    }
}
