//! The write stall in virtual time: slow is served, stopped is cut.

use tidegate_core::session::{Ending, Input, Output, Shed, Transmit};

use crate::bench::{Bench, secs, settings};

fn measures(bench: &mut Bench) -> usize {
    bench.outputs().iter().filter(|output| matches!(output, Output::MeasureUnsent)).count()
}

/// Blocked, with as much in the kernel as was measured.
fn blocked(bench: &mut Bench) {
    bench.write();
    bench.outputs();
    bench.handle(Input::Blocked);
    assert_eq!(measures(bench), 1);
    bench.handle(Input::Unsent(50_000));
}

#[test]
fn a_peer_that_takes_nothing_is_cut_at_the_deadline() {
    let mut bench = Bench::new(settings());
    blocked(&mut bench);
    bench.pass(secs(15));
    assert_eq!(measures(&mut bench), 1);
    bench.handle(Input::Unsent(50_000));
    bench.pass(secs(15) - secs(1) / 1000);
    assert!(bench.outputs().is_empty());
    bench.pass_ms(1);
    assert_eq!(measures(&mut bench), 1);
    bench.handle(Input::Unsent(50_000));
    assert_eq!(bench.closing().map(|code| code.number()), Some(4103));
    assert!(matches!(&bench.take()[..], [Transmit::Close { code: Some(4103), reason }] if &**reason == "slow_consumer"));
    bench.pass(secs(5));
    assert!(matches!(&bench.outputs()[..], [Output::Terminate(Ending::Unanswered(code))] if code.number() == 4103));
}

#[test]
fn without_a_measurement_it_is_cut_a_second_later() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(Input::Blocked);
    bench.pass_ms(30_999);
    assert_eq!(bench.closing(), None);
    bench.pass_ms(1);
    assert_eq!(bench.closing().map(|code| code.number()), Some(4103));
}

#[test]
fn progress_in_the_kernel_is_progress() {
    let mut bench = Bench::new(settings());
    blocked(&mut bench);
    let mut unsent = 50_000;
    for _ in 0..100 {
        bench.pass(secs(15));
        assert_eq!(measures(&mut bench), 1);
        unsent -= 1;
        bench.handle(Input::Unsent(unsent));
    }
    assert_eq!(bench.closing(), None, "a byte every 15 s for 25 minutes is slow, not stopped");
    bench.pass(secs(15));
    bench.handle(Input::Unsent(unsent));
    bench.pass(secs(15));
    bench.handle(Input::Unsent(unsent));
    assert_eq!(bench.closing().map(|code| code.number()), Some(4103));
}

#[test]
fn a_byte_written_starts_the_time_anew() {
    let mut bench = Bench::new(settings());
    blocked(&mut bench);
    for _ in 0..10 {
        bench.pass(secs(29));
        bench.handle(Input::Wrote(1));
        bench.handle(Input::Blocked);
    }
    assert_eq!(bench.closing(), None);
    bench.handle(Input::Wrote(0));
    bench.pass(secs(31));
    assert_eq!(bench.closing().map(|code| code.number()), Some(4103), "writing nothing is no progress");
}

#[test]
fn a_raw_session_is_told_in_the_words_of_everybody() {
    let mut bench = Bench::raw(settings());
    bench.handle(Input::RawSend { text: true, data: "x".into() });
    bench.handle(Input::Blocked);
    bench.pass(secs(31));
    assert!(matches!(&bench.take()[..], [Transmit::Close { code: Some(1008), reason }] if &**reason == "client too slow"));
}

#[test]
fn raw_messages_have_room_up_to_the_budget() {
    let mut bench = Bench::raw(settings());
    let mut bytes = 0;
    while bench.session.has_room_for(10_000, 20_000) {
        bench.handle(Input::RawSend { text: false, data: vec![0; 10_000].into() });
        bytes += 10_000;
    }
    // Three inbound messages of 64 KiB and what is under way have their place in the 512 KiB.
    let most = 512 * 1024 - 3 * 64 * 1024 - 20_000;
    assert!((most - 10_000..=most).contains(&bytes), "{bytes}");
    assert_eq!(bench.session.outbox_bytes(), bytes);
    bench.session.poll_transmit(bench.now);
    assert!(bench.session.has_room_for(10_000, 20_000));
    assert!(!bench.session.has_room_for(10_000, 30_000));
    assert_eq!(bench.write().len(), bytes / 10_000 - 1);
    assert_eq!(bench.session.outbox_bytes(), 0);
}

#[test]
fn a_raw_message_larger_than_the_outbox_goes_alone() {
    let mut bench = Bench::raw(settings());
    assert!(bench.session.has_room_for(10_000_000, 100_000));
    bench.handle(Input::RawSend { text: false, data: vec![0; 10_000_000].into() });
    assert!(!bench.session.has_room_for(1, 0));
}

#[test]
fn a_node_over_its_budget_can_cut_the_connection() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(Input::Shed(Shed::Connection));
    assert_eq!(bench.close_frame(), Some((4103, "slow_consumer".into())));
}
