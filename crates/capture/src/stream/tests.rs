use super::*;

const NOW: Duration = Duration::from_secs(1);

/// Segments (offset from the first byte, bytes, FIN) in the order of arrival.
type Segments<'a> = &'a [(i64, &'a str, bool)];

fn feed(first: u32, segments: Segments<'_>) -> (String, Stream) {
    let mut stream = Stream::new(first);
    let mut out = Vec::new();
    for (offset, bytes, fin) in segments {
        let sequence = first.wrapping_add(*offset as u32);
        stream
            .push(sequence, bytes.as_bytes(), *fin, NOW, 1 << 20, |new| {
                out.extend_from_slice(new);
            })
            .unwrap();
    }
    (String::from_utf8(out).unwrap(), stream)
}

#[test]
fn segments_in_any_order_give_the_stream() {
    let cases: &[(&str, Segments<'_>, &str, bool)] = &[
        ("nothing", &[], "", false),
        ("in order", &[(0, "abc", false), (3, "def", true)], "abcdef", true),
        ("only an end", &[(0, "", true)], "", true),
        ("out of order", &[(3, "def", false), (0, "abc", false)], "abcdef", false),
        (
            "backwards",
            &[
                (4, "e", true),
                (3, "d", false),
                (2, "c", false),
                (1, "b", false),
                (0, "a", false),
            ],
            "abcde",
            true,
        ),
        (
            "repeated",
            &[(0, "abc", false), (0, "abc", false), (3, "d", false), (0, "abc", false)],
            "abcd",
            false,
        ),
        (
            "repeated and longer",
            &[(0, "abc", false), (0, "abcdef", true)],
            "abcdef",
            true,
        ),
        (
            "overlap, first counts",
            &[(2, "CD", false), (0, "abcdef", false)],
            "abcdef",
            false,
        ),
        (
            "waiting overlap",
            &[(2, "cd", false), (1, "bXYe", false), (0, "a", false)],
            "abcde",
            false,
        ),
        (
            "hole between two",
            &[(1, "b", false), (3, "d", false), (1, "bcdef", false), (0, "a", false)],
            "abcdef",
            false,
        ),
        (
            "waiting within waiting",
            &[(1, "bcde", false), (2, "XX", false), (0, "a", false)],
            "abcde",
            false,
        ),
        ("end before the data", &[(3, "", true), (0, "abc", false)], "abc", true),
        ("end behind a gap", &[(0, "a", false), (3, "d", true)], "a", false),
        ("data behind the end", &[(0, "abc", true), (3, "x", false)], "abc", true),
        (
            "data over the end, waiting",
            &[(3, "d", true), (2, "cdX", false), (0, "ab", false)],
            "abcd",
            true,
        ),
        (
            "a second end does not move it",
            &[(3, "", true), (5, "", true), (0, "abc", false)],
            "abc",
            true,
        ),
        (
            "keep-alive",
            &[(0, "abc", false), (2, "", false), (2, "c", false), (3, "d", false)],
            "abcd",
            false,
        ),
        (
            "before the beginning",
            &[(-1, "", false), (-3, "xx", false), (0, "a", false)],
            "a",
            false,
        ),
    ];
    // The first sequence number of the last two makes every case wrap.
    for first in [0, 1000, u32::MAX, u32::MAX - 2] {
        for (name, segments, expect, finished) in cases {
            let (out, stream) = feed(first, segments);
            assert_eq!(
                (out.as_str(), stream.finished()),
                (*expect, *finished),
                "{name}, from {first}"
            );
        }
    }
}

#[test]
fn what_waits_is_counted_and_bounded() {
    let (_, mut stream) = feed(5, &[(10, "aaaa", false), (20, "bbbb", false)]);
    assert_eq!(stream.waiting_bytes(), 2 * (4 + PIECE));
    // Of an overlap only what is new is kept.
    let (_, overlapping) = feed(
        5,
        &[
            (10, "aaaa", false),
            (12, "bbbb", false),
            (8, "ccc", false),
            (11, "d", false),
        ],
    );
    assert_eq!(overlapping.waiting_bytes(), (4 + 2 + 2) + 3 * PIECE);
    let full = stream.push(5 + 30, &[0; 100], false, NOW, 299, |_| {});
    assert_eq!(full, Err(Overload));
    let mut out = 0;
    stream
        .push(5, &[0; 130], false, NOW, 300, |new| out += new.len())
        .unwrap();
    assert_eq!((out, stream.waiting_bytes(), stream.gap_since()), (130, 0, None));
}

#[test]
fn the_time_of_a_gap_begins_anew_when_it_moves() {
    let at = Duration::from_secs;
    let mut stream = Stream::new(0);
    let push = |stream: &mut Stream, offset, now| {
        stream.push(offset, b"x", false, at(now), 1000, |_| {}).unwrap();
        stream.gap_since()
    };
    assert_eq!(push(&mut stream, 2, 1), Some(at(1)));
    assert_eq!(push(&mut stream, 4, 2), Some(at(1)));
    assert_eq!(push(&mut stream, 0, 3), Some(at(3)));
    assert_eq!(push(&mut stream, 1, 4), Some(at(4)));
    assert_eq!(push(&mut stream, 3, 5), None);
}

#[test]
fn random_order_with_repeats_gives_every_byte_once() {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..300 {
        let data: Vec<u8> = (0..5000).map(|_| random(256) as u8).collect();
        let first = u32::MAX - random(6000) as u32;
        let mut stream = Stream::new(first);
        let mut out = Vec::new();
        for step in 0.. {
            let start = if step % 4 == 0 {
                out.len().saturating_sub(random(50))
            } else {
                random(data.len())
            };
            let end = (start + random(400)).min(data.len());
            let fin = end == data.len();
            let sequence = first.wrapping_add(start as u32);
            stream
                .push(sequence, &data[start..end], fin, NOW, 1 << 20, |new| {
                    out.extend_from_slice(new);
                })
                .unwrap();
            if stream.finished() {
                break;
            }
            assert!(step < 100_000, "round {round} does not end");
        }
        assert_eq!(out, data, "round {round}");
        assert_eq!(stream.waiting_bytes(), 0);
    }
}
