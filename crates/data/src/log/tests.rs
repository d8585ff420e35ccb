//! The log against a model: what was appended is what is read, from every place, after every cut.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::frame::BLOCK;
use super::*;

type Piece = (u64, Stream, Vec<u8>);

fn write(dir: &Path, pieces: &[Piece], limit: u64) -> Writer {
    let mut writer = Writer::open_with(dir, limit).unwrap();
    for (at, stream, bytes) in pieces {
        writer.append(*at, *stream, bytes).unwrap();
    }
    writer.flush().unwrap();
    writer
}

/// Everything from where the reader stands, adjacent records of one stream and time joined.
fn rest(reader: &mut Reader) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let before = pieces.len();
        let mut any = false;
        for record in reader.batch().unwrap() {
            any = true;
            assert!(!record.bytes.is_empty());
            assert_eq!(record.next, record.position + record.bytes.len() as u64);
            match pieces.last_mut() {
                Some(last) if (last.0, last.1) == (record.at_ns, record.stream) => {
                    last.2.extend(record.bytes);
                }
                _ => pieces.push((record.at_ns, record.stream, record.bytes.to_vec())),
            }
        }
        if !any {
            assert_eq!(before, pieces.len());
            return pieces;
        }
    }
}

fn joined(pieces: &[Piece]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces.iter().filter(|p| !p.2.is_empty()) {
        match out.last_mut() {
            Some(last) if (last.0, last.1) == (piece.0, piece.1) => last.2.extend(&piece.2),
            _ => out.push(piece.clone()),
        }
    }
    out
}

fn flat(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|p| p.2.clone()).collect()
}

fn size(dir: &Path) -> u64 {
    segments(dir).unwrap().iter().map(|n| std::fs::metadata(segment_path(dir, *n)).unwrap().len()).sum()
}

fn lines(count: usize) -> Vec<Piece> {
    let stream = |n: usize| [Stream::Stdout, Stream::Stderr, Stream::System][n % 3];
    (0..count)
        .map(|n| (1000 + n as u64, stream(n), format!("line {n} {}\n", "x".repeat(n % 97)).into_bytes()))
        .collect()
}

#[test]
fn a_missing_and_an_empty_log_have_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut reader = Reader::open(&log).unwrap();
    assert_eq!(rest(&mut reader), []);
    reader.tail(10).unwrap();
    reader.from(10).unwrap();
    assert_eq!((reader.position(), reader.is_finished()), (0, false));
    let mut writer = Writer::open(&log).unwrap();
    assert_eq!(rest(&mut reader), []);
    writer.append(5, Stream::Stderr, b"late\n").unwrap();
    writer.flush().unwrap();
    assert_eq!(rest(&mut reader), [(5, Stream::Stderr, b"late\n".to_vec())]);
    writer.finish().unwrap();
    assert_eq!(rest(&mut reader), []);
    assert!(reader.is_finished());
}

#[test]
fn one_writer_and_nothing_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path()).unwrap();
    assert!(matches!(Writer::open(dir.path()), Err(LogError::Busy { .. })));
    writer.append(1, Stream::Stdout, b"a").unwrap();
    writer.finish().unwrap();
    writer.finish().unwrap();
    assert!(matches!(writer.append(1, Stream::Stdout, b"a"), Err(LogError::Finished { .. })));
    drop(writer);
    assert!(matches!(Writer::open(dir.path()), Err(LogError::Finished { .. })));
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(rest(&mut reader).len(), 1);
    assert!(reader.is_finished());
    assert_eq!(reader.position(), 1);
}

#[test]
fn a_log_whose_end_is_taken_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    Writer::take_end(&dir.path().join("none")).unwrap();
    let pieces = lines(500);
    write(dir.path(), &pieces[..300], 10_000).finish().unwrap();
    Writer::take_end(dir.path()).unwrap();
    Writer::take_end(dir.path()).unwrap();
    write(dir.path(), &pieces[300..], 10_000).finish().unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(rest(&mut reader), joined(&pieces));
    assert!(reader.is_finished());
}

#[test]
fn a_writer_goes_on_where_the_last_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let all = lines(4000);
    for part in all.chunks(700) {
        write(dir.path(), part, 200_000);
    }
    assert!(segments(dir.path()).unwrap().len() > 1);
    assert_eq!(rest(&mut Reader::open(dir.path()).unwrap()), joined(&all));
}

#[test]
fn time_never_runs_backwards() {
    let dir = tempfile::tempdir().unwrap();
    let pieces: Vec<Piece> =
        [10, 5, 20].map(|at| (at, Stream::Stdout, at.to_string().into_bytes())).into_iter().collect();
    write(dir.path(), &pieces, u64::MAX);
    let read = rest(&mut Reader::open(dir.path()).unwrap());
    assert_eq!(
        read.iter().map(|p| (p.0, p.2.clone())).collect::<Vec<_>>(),
        [(10, b"105".to_vec()), (20, b"20".to_vec())]
    );
}

#[test]
fn every_tail_and_position_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = lines(9000);
    all.push((90_000, Stream::Stdout, b"no newline".to_vec()));
    write(dir.path(), &all, 3 * BLOCK as u64);
    let text = flat(&all);
    let starts: Vec<u64> =
        std::iter::once(0).chain(memchr::memchr_iter(b'\n', &text).map(|i| i as u64 + 1)).collect();
    let mut reader = Reader::open(dir.path()).unwrap();
    for wanted in (0..=9010_usize).step_by(173).chain([1, 2, 9000, 9001]) {
        reader.tail(wanted as u64).unwrap();
        let expected =
            if wanted == 0 { text.len() as u64 } else { starts[starts.len().saturating_sub(wanted)] };
        assert_eq!(reader.position(), expected, "tail {wanted}");
        assert!(flat(&rest(&mut reader)) == text[usize::try_from(expected).unwrap()..], "tail {wanted}");
    }
    for position in (0..text.len()).step_by(9973).chain([text.len() - 1, text.len(), text.len() + 5]) {
        reader.from(position as u64).unwrap();
        assert_eq!(reader.position(), position.min(text.len()) as u64);
        assert!(flat(&rest(&mut reader)) == text[position.min(text.len())..], "position {position}");
    }
}

/// Lines of a stream, as they stand in the log; the last one may have no end.
fn lines_of(all: &[Piece], stream: Stream) -> Vec<Vec<u8>> {
    let text = flat(&all.iter().filter(|p| p.1 == stream).cloned().collect::<Vec<_>>());
    text.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn the_last_lines_of_one_stream_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = lines(9000);
    // One stream is silent long before the end, one has a line in pieces, and none has ended.
    all.retain(|p| p.1 != Stream::Stderr || p.0 < 3000);
    for (n, piece) in ["a line ", "in ", "pieces\nand one ", "without end"].iter().enumerate() {
        all.push((20_000 + 2 * n as u64, Stream::Stdout, piece.as_bytes().to_vec()));
        all.push((20_001 + 2 * n as u64, Stream::System, format!("between {n}\n").into_bytes()));
    }
    write(dir.path(), &all, 3 * BLOCK as u64);
    assert!(segments(dir.path()).unwrap().len() > 1);
    let mut reader = Reader::open(dir.path()).unwrap();
    for stream in [Stream::Stdout, Stream::Stderr, Stream::System] {
        let expected = lines_of(&all, stream);
        for wanted in (0..=expected.len() + 1).step_by(173).chain([1, 2, 3, expected.len()]) {
            reader.tail_of(stream, wanted as u64).unwrap();
            let found = lines_of(&rest(&mut reader), stream);
            assert!(found == expected[expected.len().saturating_sub(wanted)..], "{stream:?} {wanted}");
        }
    }
}

#[test]
fn a_batch_not_taken_to_its_end_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = lines(60);
    write(dir.path(), &all, u64::MAX);
    let mut reader = Reader::open(dir.path()).unwrap();
    let mut got = Vec::new();
    while let Some(record) = reader.batch().unwrap().next() {
        got.push((record.at_ns, record.stream, record.bytes.to_vec()));
    }
    assert_eq!(got, joined(&all));
}

#[test]
fn overhead_is_small_and_long_lines_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    let chunk =
        "x".repeat(64).as_bytes().iter().chain(b"\n").copied().cycle().take(65_536).collect::<Vec<_>>();
    let pieces: Vec<Piece> = (0..200).map(|n| (n, Stream::Stdout, chunk.clone())).collect();
    write(dir.path(), &pieces, u64::MAX);
    let payload = 200 * 65_536;
    assert!(size(dir.path()) < payload + payload / 200, "{} bytes for {payload}", size(dir.path()));
    let long = vec![b'y'; 3 << 20];
    write(dir.path(), &[(500, Stream::Stderr, long.clone())], u64::MAX);
    let mut reader = Reader::open(dir.path()).unwrap();
    reader.from(payload).unwrap();
    assert!(rest(&mut reader) == [(500, Stream::Stderr, long)]);
}

#[test]
fn damage_is_told_once_and_reading_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let all = lines(9000);
    drop(write(dir.path(), &all, u64::MAX));
    let path = segment_path(dir.path(), 0);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(&[0; 300], 2 * BLOCK as u64 + 5000).unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    let mut text = Vec::new();
    let mut gaps = Vec::new();
    loop {
        match reader.batch() {
            Ok(batch) => {
                let before = text.len();
                batch.for_each(|r| text.extend_from_slice(r.bytes));
                if text.len() == before {
                    break;
                }
            }
            Err(LogError::Damaged { from, to, .. }) => gaps.push((from, to)),
            Err(e) => panic!("{e}"),
        }
    }
    let whole = flat(&all);
    let [(from, to)] = gaps[..] else { panic!("{gaps:?}") };
    let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
    assert!(to - from < BLOCK);
    assert!(text == [&whole[..from], &whole[to..]].concat());
    // A writer cuts nothing behind damage, and the end is found all the same.
    drop(write(dir.path(), &[(99_999, Stream::System, b"more\n".to_vec())], u64::MAX));
    reader.tail(1).unwrap();
    assert_eq!(flat(&rest(&mut reader)), b"more\n");
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(write(dir.path(), &lines(3), u64::MAX));
    let path = segment_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 2;
    let crc = crc32fast::hash(&bytes[..32]).to_le_bytes();
    bytes[32..36].copy_from_slice(&crc);
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(LogError::Version { version: 2, .. })));
    assert!(matches!(Writer::open(dir.path()), Err(LogError::Version { version: 2, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost_or_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path()).unwrap();
    writer.append(1, Stream::Stdout, b"before\n").unwrap();
    writer.flush().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let real = writer.swap_file(full);
    writer.append(2, Stream::Stdout, b"during\n").unwrap();
    assert!(matches!(writer.flush(), Err(LogError::DiskFull { .. })));
    let chunk = vec![b'x'; 100_000];
    let accepted = (0..10).take_while(|n| writer.append(3 + n, Stream::Stdout, &chunk).is_ok()).count();
    assert!((1..5).contains(&accepted), "{accepted} chunks accepted without a disk");
    assert_eq!(flat(&rest(&mut Reader::open(dir.path()).unwrap())), b"before\n");
    writer.swap_file(real);
    writer.append(50, Stream::System, b"after\n").unwrap();
    writer.finish().unwrap();
    let text = flat(&rest(&mut Reader::open(dir.path()).unwrap()));
    assert_eq!(text.len(), 7 + 7 + accepted * chunk.len() + 6);
    assert!(text.starts_with(b"before\nduring\nxxx") && text.ends_with(b"xxafter\n"));
}

#[test]
fn reader_memory_does_not_grow_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = vec![b'z'; 65_536];
    let pieces: Vec<Piece> = (0..400).map(|n| (n, Stream::Stdout, chunk.clone())).collect();
    write(dir.path(), &pieces, 5 << 20);
    let mut reader = Reader::open(dir.path()).unwrap();
    let mut bytes = 0;
    while let Some(n) = Some(reader.batch().unwrap().map(|r| r.bytes.len()).sum::<usize>()).filter(|n| *n > 0)
    {
        bytes += n;
        assert!(reader.memory() <= 16 * BLOCK);
    }
    assert_eq!(bytes, 400 * 65_536);
}

fn piece() -> impl Strategy<Value = Piece> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr), Just(Stream::System)];
    let bytes = prop_oneof![
        4 => proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
        1 => (1_usize..150_000, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ];
    (0_u64..1000, stream, bytes)
}

/// Cuts the log to its first `cut` bytes, as a crash might.
fn truncate(dir: &Path, mut cut: u64) {
    for number in segments(dir).unwrap() {
        let path = segment_path(dir, number);
        let len = std::fs::metadata(&path).unwrap().len();
        let keep = len.min(cut);
        File::options().write(true).open(&path).unwrap().set_len(keep).unwrap();
        cut -= keep;
        if keep < len && cut == 0 && number > 0 && keep == 0 {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_a_prefix_of_what_was_written_after_any_cut(
        mut pieces in proptest::collection::vec(piece(), 1..60),
        cut in 0.0_f64..1.0,
        limit in prop_oneof![Just(100_000_u64), Just(u64::MAX)],
        garbage in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        pieces.sort_by_key(|p| p.0);
        let dir = tempfile::tempdir().unwrap();
        drop(write(dir.path(), &pieces, limit));
        let text = flat(&pieces);
        prop_assert_eq!(&rest(&mut Reader::open(dir.path()).unwrap()), &joined(&pieces));

        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place to cut")]
        truncate(dir.path(), (size(dir.path()) as f64 * cut) as u64);
        let last = segment_path(dir.path(), *segments(dir.path()).unwrap().last().unwrap());
        let len = std::fs::metadata(&last).unwrap().len();
        File::options().write(true).open(&last).unwrap().write_all_at(&garbage, len).unwrap();
        let kept = flat(&rest(&mut Reader::open(dir.path()).unwrap()));
        prop_assert!(text.starts_with(&kept));

        let mut writer = write(dir.path(), &[(2000, Stream::System, b"again\n".to_vec())], limit);
        writer.finish().unwrap();
        let mut reader = Reader::open(dir.path()).unwrap();
        let after = flat(&rest(&mut reader));
        prop_assert!(after == [kept.as_slice(), b"again\n"].concat());
        prop_assert!(reader.is_finished());
    }
}

#[test]
fn a_log_with_a_limit_keeps_its_begin_and_its_end_and_says_what_is_between() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let mut writer = Writer::open_bounded(dir.path(), limit).unwrap();
    let line = |n: u64| format!("line {n:08} {}\n", "x".repeat(100));
    let count = 100_000;
    let mut early = Reader::open(dir.path()).unwrap();
    for n in 0..count {
        writer.append(n + 1, Stream::Stdout, line(n).as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let size: u64 =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(size > limit / 2 && size < limit + limit / 4, "{size}");
    // Also for who had opened it before anything was there.
    for reader in [&mut early, &mut Reader::open(dir.path()).unwrap()] {
        let (mut text, mut gap) = (Vec::new(), None);
        while !reader.is_finished() {
            match reader.batch() {
                Ok(batch) => batch.for_each(|record| text.extend_from_slice(record.bytes)),
                Err(LogError::LeftOut { from, to }) => {
                    assert_eq!(from, text.len() as u64);
                    assert_eq!(gap.replace((from, to)), None, "told once");
                }
                Err(e) => panic!("{e}"),
            }
        }
        let (from, to) = gap.expect("something is left out");
        let whole: Vec<u8> = (0..count).flat_map(|n| line(n).into_bytes()).collect();
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        assert!(text == [&whole[..from], &whole[to..]].concat(), "begin and end are as they were");
    }
    // The end is found without the middle.
    let mut reader = Reader::open(dir.path()).unwrap();
    reader.tail(2).unwrap();
    let text: Vec<u8> = reader.batch().unwrap().flat_map(|record| record.bytes.to_vec()).collect();
    assert_eq!(text, [line(count - 2), line(count - 1)].concat().into_bytes());
}
