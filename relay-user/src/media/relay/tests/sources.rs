//! The sources that a call knows, through hold, new offers and other paths.

use super::*;

#[test]
fn the_kernel_relays_nothing_until_a_worker_knows_the_source() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    for port in [first, second] {
        let entry = bench.entry(port).unwrap();
        assert_eq!(entry.flags.get() & PINNED, 0);
    }
    let states = bench.statistics(CALL).unwrap().map(|stream| stream.state);
    assert_eq!(states, [StreamState::Waiting; 2]);

    bench.learn(first, "198.51.100.77:6100", 1);
    let entry = bench.entry(first).unwrap();
    assert!(entry.has(PINNED));
    assert_eq!(entry.peer, endpoint("198.51.100.77:6100".parse().unwrap()));
    assert_eq!(entry.from, endpoint(second.rtp));
    assert_eq!(entry.to, endpoint("192.0.2.2:7000".parse().unwrap()));
    assert_eq!(entry.ssrc_in.get(), 0x1234);
    assert_eq!(entry.timestamp_offset.get(), 5);
    // What the other leg sends goes to the learned peer, not to what SDP said.
    let back = bench.entry(second).unwrap();
    assert_eq!(back.to, entry.peer);
    assert!(!back.has(FlowEntry::PINNED));
    let [forth, back] = bench.statistics(CALL).unwrap();
    assert_eq!(forth.state, StreamState::Flowing);
    assert_eq!(forth.peer, Some("198.51.100.77:6100".parse().unwrap()));
    assert_eq!(back.state, StreamState::Waiting);
}

#[test]
fn a_leg_that_has_not_said_where_it_receives_is_no_obstacle() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let remote = media.legs[1].remote.take();
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(bench.entry(first).unwrap().has(FlowEntry::USERSPACE));
    bench.learn(first, "198.51.100.2:6000", 1);
    assert!(bench.entry(first).unwrap().has(FlowEntry::USERSPACE));

    // It sends before it has said so: what it sends pins it, and it is sent to.
    let mut early = bench.entry(second).unwrap();
    assert!(!early.has(FlowEntry::USERSPACE));
    bench.learn(second, "192.0.2.9:7000", 1);
    early = bench.entry(first).unwrap();
    assert!(early.has(PINNED) && !early.has(FlowEntry::USERSPACE));
    assert_eq!(early.to, endpoint("192.0.2.9:7000".parse().unwrap()));

    media.legs[1].remote = remote;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert_eq!(bench.entry(first), Some(early));
}

#[test]
fn hold_and_resume_keep_the_source_and_its_numbers() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let before = bench.entry(port).unwrap();

    media.streams[0].active = false;
    media.legs[0].negotiation += 1;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(bench.entry(port).unwrap().has(PINNED | FlowEntry::HELD));
    assert!(bench.told(port).entry.has(FlowEntry::HELD));
    assert_eq!(bench.statistics(CALL).unwrap()[0].state, StreamState::Held);

    media.streams[0].active = true;
    bench.connect(CALL, &media).unwrap();
    assert_eq!(bench.entry(port), Some(before));
}

#[test]
fn a_codec_with_another_clock_has_its_source_taken_up_anew() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    let news = bench.news(port, "198.51.100.2:6000", 1);
    bench.tell(port, &news);
    media.streams[0].clock_rate = 48_000;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    // The kernel leaves the next packet to the worker, which knows where the source is.
    let entry = bench.entry(port).unwrap();
    assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
    bench.tell(port, &news);
    assert!(!bench.entry(port).unwrap().has(FlowEntry::SSRC_KNOWN));
    bench.learn(port, "198.51.100.2:6000", 2);
    assert!(bench.entry(port).unwrap().has(PINNED));
}

#[test]
fn the_source_is_forgotten_when_it_moves_and_by_relatching() {
    for (latching, moved, kept) in [
        (Latching::Latch, true, false),
        (Latching::Latch, false, true),
        (Latching::RelatchOnReinvite, false, false),
        (Latching::RelatchOnReinvite, true, false),
    ] {
        let mut bench = Bench::new(16);
        let mut media = bench.media();
        media.legs[0].sources.latching = latching;
        let port = media.legs[0].port;
        bench.connect(CALL, &media).unwrap();
        let early = bench.news(port, "198.51.100.2:6000", 1);
        bench.tell(port, &early);
        let before = bench.entry(port).unwrap();

        media.legs[0].negotiation += 1;
        if moved {
            media.legs[0].remote.as_mut().unwrap().rtp = "198.51.100.2:9000".parse().unwrap();
        }
        bench.connect(CALL, &media).unwrap();
        let now = bench.entry(port).unwrap();
        assert_eq!(now.has(FlowEntry::PINNED), kept, "{latching:?} {moved}");
        assert_eq!(now.ssrc_out, before.ssrc_out);

        // News from before that comes late pins nobody that was forgotten.
        bench.tell(port, &early);
        assert_eq!(bench.entry(port).unwrap().has(FlowEntry::PINNED), kept);
        bench.learn(port, "198.51.100.2:9000", 2);
        assert!(bench.entry(port).unwrap().has(FlowEntry::PINNED));
    }
}

#[test]
fn a_hold_that_names_no_address_is_no_move() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let remote = media.legs[0].remote.take();
    bench.connect(CALL, &media).unwrap();
    assert!(bench.entry(port).unwrap().has(FlowEntry::PINNED));
    media.legs[0].remote = remote;
    bench.connect(CALL, &media).unwrap();
    assert!(bench.entry(port).unwrap().has(FlowEntry::PINNED));

    // Resumed elsewhere it is one.
    media.legs[0].remote = None;
    bench.connect(CALL, &media).unwrap();
    let rtp = "198.51.100.2:9000".parse().unwrap();
    media.legs[0].remote = remote.map(|remote| crate::media::RemoteMedia { rtp, ..remote });
    bench.connect(CALL, &media).unwrap();
    assert!(!bench.entry(port).unwrap().has(FlowEntry::PINNED));
    assert_eq!(bench.told(port).sources.rtp, Some(rtp));
}

#[test]
fn strictly_the_peer_is_whom_sdp_names() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    media.legs[0].sources.latching = Latching::Strict;
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    let named = endpoint("198.51.100.2:6000".parse().unwrap());
    for entry in [bench.entry(port).unwrap(), bench.told(port).entry] {
        assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
        assert_eq!(entry.peer, named);
    }
    assert_eq!(
        bench.statistics(CALL).unwrap()[0].state,
        StreamState::Waiting
    );
    let early = bench.news(port, "198.51.100.2:6000", 1);
    bench.tell(port, &early);

    // Another one is followed at once, and news of the first does not bring it back.
    media.legs[0].remote.as_mut().unwrap().rtp = "198.51.100.2:9000".parse().unwrap();
    bench.connect(CALL, &media).unwrap();
    bench.tell(port, &early);
    let named = endpoint("198.51.100.2:9000".parse().unwrap());
    assert!(bench.entry(port).unwrap().has(PINNED));
    assert_eq!(bench.entry(port).unwrap().peer, named);
    assert_eq!(bench.told(port).entry.peer, named);
    assert_eq!(bench.entry(media.legs[1].port).unwrap().to, named);

    // Latching from now on: whoever sends next.
    media.legs[0].sources.latching = Latching::Latch;
    bench.connect(CALL, &media).unwrap();
    bench.tell(port, &early);
    assert!(!bench.entry(port).unwrap().has(FlowEntry::PINNED));
}

#[test]
fn a_stream_that_changes_its_path_keeps_its_source() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let before = bench.entry(port).unwrap();

    media.legs[1].srtp = Some(keys_of(SrtpSuite::AeadAes128Gcm, 1));
    let path = userspace(PathReason::SrtpGcm);
    assert_eq!(bench.connect(CALL, &media), Ok(path));
    assert!(bench.entry(port).unwrap().has(FlowEntry::USERSPACE));
    let told = bench.told(port);
    assert!(told.protect.is_some() && told.unprotect.is_none());
    assert!(bench.told(media.legs[1].port).unprotect.is_some());

    media.legs[1].srtp = None;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let after = bench.entry(port).unwrap();
    // What the other leg has heard under a key it hears without one, too.
    assert_ne!(after.ssrc_out, before.ssrc_out);
    let ssrc_out = after.ssrc_out;
    assert_eq!(after, FlowEntry { ssrc_out, ..before });
}
