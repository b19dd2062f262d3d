//! Joined DATA frames: what a client sent, cut elsewhere.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use misaki::face::network::{FRAME, Frames};
use misaki::face::telemetry::{Budget, Share};
use proptest::prelude::*;
use tokio::io::ReadBuf;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Frame {
    let payload = (0..length).map(|at| (at as u32 ^ stream) as u8).collect();
    Frame { kind, flags, stream, payload }
}

fn write(frames: &[Frame]) -> Vec<u8> {
    let write = |frame: &Frame| {
        let length = (frame.payload.len() as u32).to_be_bytes();
        [&length[1..], &[frame.kind, frame.flags], &frame.stream.to_be_bytes(), &frame.payload].concat()
    };
    frames.iter().flat_map(write).collect()
}

/// The frames in `bytes`, and the bytes after the last whole one.
fn read(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        frames.push(Frame { kind: bytes[3], flags: bytes[4], stream, payload: payload.to_vec() });
        bytes = &bytes[9 + length..];
    }
    (frames, bytes)
}

/// The frames with all plain DATA frames joined that follow each other in one stream.
fn joined(frames: &[Frame]) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        let is_plain = |frame: &Frame| frame.kind == DATA && frame.flags & !END_STREAM == 0;
        match all.last_mut() {
            Some(last) if is_plain(frame) && is_plain(last) && last.flags == 0 && last.stream == frame.stream => {
                last.payload.extend(&frame.payload);
                last.flags = frame.flags;
            }
            _ => all.push(frame.clone()),
        }
    }
    all
}

/// Hands on `bytes`, which arrive in pieces of `arriving`, to a reader with room for `room` at a time: the last size of
/// each repeats. A piece of no bytes has not arrived yet.
fn pass(bytes: &[u8], arriving: &[usize], room: &[usize], budget: &Arc<Budget>) -> Vec<u8> {
    let mut frames = Frames::new(budget.clone());
    let size = |sizes: &[usize], turn: usize| sizes[turn.min(sizes.len() - 1)];
    let (mut at, mut turn, mut out) = (0, 0, Vec::new());
    for reads in 0.. {
        let mut place = vec![0; size(room, reads).max(1)];
        let mut place = ReadBuf::new(&mut place);
        let polled = frames.poll_read(
            |free: &mut ReadBuf| -> Poll<io::Result<()>> {
                let arrived = size(arriving, turn);
                turn += 1;
                if arrived == 0 && turn < arriving.len() {
                    return Poll::Pending;
                }
                let count = arrived.max(1).min(free.remaining()).min(bytes.len() - at);
                free.put_slice(&bytes[at..at + count]);
                at += count;
                Poll::Ready(Ok(()))
            },
            &mut place,
        );
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if place.filled().is_empty() => break,
            Poll::Ready(result) => {
                result.unwrap();
                out.extend_from_slice(place.filled());
            }
        }
    }
    out
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let length = prop_oneof![Just(0), 1..20usize, Just(FRAME / 4), 1000..FRAME / 2];
    let kind = prop_oneof![6 => Just(DATA), 1 => Just(HEADERS), 1 => Just(8u8)];
    let flags = prop_oneof![5 => Just(0u8), 1 => Just(END_STREAM), 1 => Just(8u8), 1 => Just(9u8)];
    (kind, flags, prop_oneof![3 => Just(1u32), 1 => Just(3)], length)
        .prop_map(|(kind, flags, stream, length)| frame(kind, flags, stream, length))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn joined_frames_are_what_was_sent(
        frames in prop::collection::vec(any_frame(), 1..20),
        arriving in prop::collection::vec(prop_oneof![Just(0), 1..30usize, 1000..200_000usize], 1..20),
        room in prop::collection::vec(prop_oneof![1..30usize, 8192..70_000usize], 1..20),
        cut in 0..12usize,
        has_memory: bool,
    ) {
        let sent = write(&frames);
        let sent = &sent[..sent.len().saturating_sub(cut)];
        let budget = Budget::new(if has_memory { 64 << 20 } else { 0 });
        let out = pass(sent, &arriving, &room, &budget);
        let (passed, rest) = read(&out);
        prop_assert!(passed.iter().all(|frame| frame.payload.len() <= FRAME));
        prop_assert!(out.len() <= sent.len());
        if cut == 0 {
            prop_assert!(rest.is_empty() && joined(&passed) == joined(&frames));
        }
        prop_assert_eq!(budget.used(Share::Ingest), 0);
    }
}

#[test]
fn frames_that_have_arrived_are_joined_up_to_the_limit() {
    let budget = Budget::new(64 << 20);
    let sent = [vec![frame(DATA, 0, 1, FRAME / 4); 9], vec![frame(DATA, END_STREAM, 1, 7)]].concat();
    let out = pass(&write(&sent), &[usize::MAX], &[8192], &budget);
    let lengths: Vec<usize> = read(&out).0.iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lengths, [FRAME, FRAME, FRAME / 4 + 7]);
}

/// Each of a thousand connections may stop within a head or a frame: none keeps a buffer for it.
#[test]
fn a_connection_that_stops_holds_no_buffer() {
    let budget = Budget::new(64 << 20);
    for most in [5, 9, 20_000] {
        let sent = write(&[frame(DATA, 0, 1, 30_000)]);
        let mut frames = Frames::new(budget.clone());
        let mut at = 0;
        for _ in 0..10 {
            let mut place = vec![0; 70_000];
            let _ = frames.poll_read(
                |free: &mut ReadBuf| {
                    let count = free.remaining().min(most - at);
                    free.put_slice(&sent[at..at + count]);
                    at += count;
                    if count == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
                },
                &mut ReadBuf::new(&mut place),
            );
        }
        assert_eq!((at, budget.used(Share::Ingest)), (most, 0));
    }
}
