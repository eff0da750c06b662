use proptest::prelude::*;
use rtcp_types::prelude::*;
use rtcp_types::{
    App, Bye, Compound, DelaySinceLastReceiverReport, DelaySinceLastReceiverReportBlock, Fir,
    LossRle, Nack, Packet, PayloadFeedback, Pli, ReceiverReport, ReportBlock, Sdes, SdesChunk,
    SdesItem, SenderReport, TransportFeedback, Xr,
};

use super::*;

const OWN_IN: u32 = 0x1111_1111;
const OWN_OUT: u32 = 0xaaaa_aaaa;
const HEARD_OUT: u32 = 0xbbbb_bbbb;
const HEARD_IN: u32 = 0x2222_2222;
const STRANGER: u32 = 0x3333_3333;

fn translator() -> Translator {
    Translator {
        sent: Sent {
            ssrc_in: Some(OWN_IN),
            ssrc_out: OWN_OUT,
            timestamp_offset: 5000,
        },
        heard: Some(Heard {
            ssrc_out: HEARD_OUT,
            ssrc_in: HEARD_IN,
            sequence_shift: 1000,
        }),
    }
}

fn written(compound: &rtcp_types::CompoundBuilder<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1500];
    let length = compound.write_into(&mut buffer).expect("it fits");
    buffer.truncate(length);
    buffer
}

fn translated(compound: rtcp_types::CompoundBuilder<'_>) -> Vec<u8> {
    let mut buffer = written(&compound);
    translator().translate(&mut buffer).expect("it is RTCP");
    buffer
}

fn packets(compound: &[u8]) -> Vec<Packet<'_>> {
    Compound::parse(compound)
        .expect("a compound")
        .map(|packet| packet.expect("a packet"))
        .collect()
}

#[test]
fn a_sender_report_speaks_of_both_streams_as_the_other_leg_knows_them() {
    let compound = translated(
        Compound::builder()
            .add_packet(
                SenderReport::builder(OWN_IN)
                    .ntp_timestamp(0x0102_0304_0506_0708)
                    .rtp_timestamp(u32::MAX - 999)
                    .packet_count(50)
                    .octet_count(8000)
                    .add_report_block(
                        ReportBlock::builder(HEARD_OUT)
                            .fraction_lost(9)
                            .cumulative_lost(77)
                            .extended_sequence_number(0x0002_0010)
                            .interarrival_jitter(33)
                            .last_sender_report_timestamp(44)
                            .delay_since_last_sender_report_timestamp(55),
                    )
                    .add_report_block(ReportBlock::builder(STRANGER).extended_sequence_number(99)),
            )
            .add_packet(
                Sdes::builder()
                    .add_chunk(
                        SdesChunk::builder(OWN_IN)
                            .add_item(SdesItem::builder(SdesItem::CNAME, "telephone"))
                            .add_item(SdesItem::builder(SdesItem::TOOL, "x")),
                    )
                    .add_chunk(SdesChunk::builder(STRANGER)),
            )
            .add_packet(App::builder(OWN_IN, "test").data(&[1, 2, 3, 4]))
            .add_packet(
                Bye::builder()
                    .add_source(OWN_IN)
                    .add_source(STRANGER)
                    .reason("done"),
            ),
    );
    let packets = packets(&compound);
    let [
        Packet::Sr(report),
        Packet::Sdes(description),
        Packet::App(app),
        Packet::Bye(bye),
    ] = packets.as_slice()
    else {
        panic!("{packets:?}");
    };
    assert_eq!(report.ssrc(), OWN_OUT);
    assert_eq!(report.ntp_timestamp(), 0x0102_0304_0506_0708);
    assert_eq!(report.rtp_timestamp(), 4000);
    assert_eq!((report.packet_count(), report.octet_count()), (50, 8000));
    let blocks: Vec<_> = report.report_blocks().collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].ssrc(), HEARD_IN);
    assert_eq!(blocks[0].extended_sequence_number(), 0x0002_0010 - 1000);
    assert_eq!(
        (blocks[0].fraction_lost(), blocks[0].cumulative_lost()),
        (9, 77)
    );
    assert_eq!(blocks[0].interarrival_jitter(), 33);
    assert_eq!(blocks[0].last_sender_report_timestamp(), 44);
    assert_eq!(blocks[0].delay_since_last_sender_report_timestamp(), 55);
    assert_eq!(
        (blocks[1].ssrc(), blocks[1].extended_sequence_number()),
        (STRANGER, 99)
    );
    let chunks: Vec<_> = description.chunks().map(SdesChunk::ssrc).collect();
    assert_eq!(chunks, [OWN_OUT, STRANGER]);
    assert_eq!(app.ssrc(), OWN_OUT);
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [OWN_OUT, STRANGER]);
    assert_eq!(bye.reason(), Some(b"done".as_slice()));
}

#[test]
fn a_reporter_that_counts_from_another_packet_on_keeps_no_negative_cycles() {
    let compound = translated(
        Compound::builder().add_packet(
            ReceiverReport::builder(OWN_IN)
                .add_report_block(ReportBlock::builder(HEARD_OUT).extended_sequence_number(999)),
        ),
    );
    let packets = packets(&compound);
    let [Packet::Rr(report)] = packets.as_slice() else {
        panic!("{packets:?}");
    };
    assert_eq!(report.ssrc(), OWN_OUT);
    let block = report.report_blocks().next().expect("one block");
    assert_eq!(block.extended_sequence_number(), 0xffff);
}

#[test]
fn feedback_asks_the_other_leg_about_its_own_packets() {
    let compound = translated(
        Compound::builder()
            .add_packet(ReceiverReport::builder(OWN_IN))
            .add_packet(
                TransportFeedback::builder_owned(
                    Nack::builder()
                        .add_rtp_sequence(1005)
                        .add_rtp_sequence(1007),
                )
                .sender_ssrc(OWN_IN)
                .media_ssrc(HEARD_OUT),
            )
            .add_packet(
                PayloadFeedback::builder_owned(Pli::builder())
                    .sender_ssrc(OWN_IN)
                    .media_ssrc(HEARD_OUT),
            )
            .add_packet(
                PayloadFeedback::builder_owned(Fir::builder().add_ssrc(HEARD_OUT, 3))
                    .sender_ssrc(OWN_IN),
            ),
    );
    let packets = packets(&compound);
    let [
        _,
        Packet::TransportFeedback(nack),
        Packet::PayloadFeedback(pli),
        Packet::PayloadFeedback(fir),
    ] = packets.as_slice()
    else {
        panic!("{packets:?}");
    };
    assert_eq!((nack.sender_ssrc(), nack.media_ssrc()), (OWN_OUT, HEARD_IN));
    let asked: Vec<_> = nack
        .parse_fci::<Nack<'_>>()
        .expect("a NACK")
        .entries()
        .collect();
    assert_eq!(asked, [5, 7]);
    assert_eq!((pli.sender_ssrc(), pli.media_ssrc()), (OWN_OUT, HEARD_IN));
    let fir = fir.parse_fci::<Fir<'_>>().expect("a FIR");
    let asked: Vec<_> = fir
        .entries()
        .map(|entry| (entry.ssrc(), entry.sequence()))
        .collect();
    assert_eq!(asked, [(HEARD_IN, 3)]);
}

#[test]
fn extended_reports_speak_of_what_was_sent() {
    let compound = translated(
        Compound::builder()
            .add_packet(ReceiverReport::builder(OWN_IN))
            .add_packet(
                Xr::builder()
                    .sender_ssrc(OWN_IN)
                    .add_block(LossRle::builder().ssrc(HEARD_OUT).begin(1100).end(1200))
                    .add_block(
                        DelaySinceLastReceiverReport::builder().add_block(
                            DelaySinceLastReceiverReportBlock::builder()
                                .ssrc(HEARD_OUT)
                                .last_receiver_report(8),
                        ),
                    ),
            ),
    );
    let packets = packets(&compound);
    let [_, Packet::Xr(report)] = packets.as_slice() else {
        panic!("{packets:?}");
    };
    assert_eq!(report.sender_ssrc(), OWN_OUT);
    let blocks: Vec<_> = report.block_iter().collect();
    let loss = blocks[0].parse_into::<LossRle<'_>>().expect("loss");
    assert_eq!(
        (loss.media_ssrc(), loss.begin(), loss.end()),
        (HEARD_IN, 100, 200)
    );
    let delay = blocks[1]
        .parse_into::<DelaySinceLastReceiverReport<'_>>()
        .expect("delay");
    let delay = delay.block_iter().next().expect("one");
    assert_eq!((delay.ssrc(), delay.last_receiver_report()), (HEARD_IN, 8));
}

#[test]
fn the_voip_metrics_block_and_remb_name_the_stream_as_it_was_sent() {
    let mut packet = vec![0x80, 207, 0, 10];
    packet.extend(OWN_IN.to_be_bytes());
    packet.extend([7, 0, 0, 8]);
    packet.extend(HEARD_OUT.to_be_bytes());
    packet.extend([0x55; 28]);
    let mut expected = packet.clone();
    expected[4..8].copy_from_slice(&OWN_OUT.to_be_bytes());
    expected[12..16].copy_from_slice(&HEARD_IN.to_be_bytes());
    translator().translate(&mut packet).expect("it is RTCP");
    assert_eq!(packet, expected);

    let mut packet = vec![0x8f, 206, 0, 5];
    packet.extend(OWN_IN.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(b"REMB\x01\x02\x03\x04");
    packet.extend(HEARD_OUT.to_be_bytes());
    translator().translate(&mut packet).expect("it is RTCP");
    assert_eq!(packet[4..8], OWN_OUT.to_be_bytes());
    assert_eq!(packet[20..24], HEARD_IN.to_be_bytes());
}

#[test]
fn before_the_first_rtp_every_sender_is_the_stream() {
    let translator = Translator {
        sent: Sent {
            ssrc_in: None,
            ssrc_out: OWN_OUT,
            timestamp_offset: 1,
        },
        heard: None,
    };
    let mut packet = written(
        &Compound::builder().add_packet(
            ReceiverReport::builder(STRANGER)
                .add_report_block(ReportBlock::builder(HEARD_OUT).extended_sequence_number(5)),
        ),
    );
    translator.translate(&mut packet).expect("it is RTCP");
    let packets = packets(&packet);
    let [Packet::Rr(report)] = packets.as_slice() else {
        panic!("{packets:?}");
    };
    assert_eq!(report.ssrc(), OWN_OUT);
    let block = report.report_blocks().next().expect("one");
    assert_eq!(
        (block.ssrc(), block.extended_sequence_number()),
        (HEARD_OUT, 5)
    );
}

#[test]
fn malformed_compounds_are_errors() {
    let report = |count: u8| {
        let mut packet = vec![0x80 | count, 201, 0, 1];
        packet.extend(OWN_IN.to_be_bytes());
        packet
    };
    let with = |index: usize, octet: u8| {
        let mut packet = report(0);
        packet[index] = octet;
        packet
    };
    let padded = |padding: u8| {
        let mut packet = vec![0xa0, 201, 0, 2];
        packet.extend(OWN_IN.to_be_bytes());
        packet.extend([0, 0, 0, padding]);
        packet
    };
    for (description, mut packet, result) in [
        ("a report", report(0), Ok(())),
        ("nothing", vec![], Err(RtcpError::Truncated)),
        (
            "three octets",
            vec![0x80, 201, 0],
            Err(RtcpError::Truncated),
        ),
        ("version 1", with(0, 0x40), Err(RtcpError::Version)),
        ("an RTP payload type", with(1, 0), Err(RtcpError::Type)),
        ("longer than it is", with(3, 2), Err(RtcpError::Truncated)),
        (
            "no room for the SSRC",
            vec![0x80, 201, 0, 0],
            Err(RtcpError::Truncated),
        ),
        (
            "a block that is not there",
            report(1),
            Err(RtcpError::Truncated),
        ),
        (
            "trailing octets",
            [report(0), vec![0x80]].concat(),
            Err(RtcpError::Truncated),
        ),
        ("padding", padded(4), Ok(())),
        ("padding of none", padded(0), Err(RtcpError::Padding)),
        ("odd padding", padded(3), Err(RtcpError::Padding)),
        (
            "more padding than packet",
            padded(16),
            Err(RtcpError::Padding),
        ),
        (
            "padding over the SSRC",
            padded(8),
            Err(RtcpError::Truncated),
        ),
        (
            "padding in the middle",
            [padded(4), report(0)].concat(),
            Err(RtcpError::Padding),
        ),
        (
            "a chunk without end",
            vec![0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, 65, 65],
            Err(RtcpError::Truncated),
        ),
        ("a BYE of nobody", vec![0x80, 203, 0, 0], Ok(())),
        (
            "a BYE cut short",
            vec![0x81, 203, 0, 0],
            Err(RtcpError::Truncated),
        ),
    ] {
        assert_eq!(translator().translate(&mut packet), result, "{description}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_in_is_translated_or_refused(
        mut packet in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 192u8..224, first in 0x80u8..0xc0, words in 0u16..50,
    ) {
        if let Some(head) = packet.first_chunk_mut::<4>() {
            let [high, low] = words.to_be_bytes();
            *head = [first, kind, high, low];
        }
        let length = packet.len();
        let _ = translator().translate(&mut packet);
        prop_assert_eq!(packet.len(), length);
    }

    /// What one direction does to a stream's identity, the reports of the other undo.
    #[test]
    fn a_report_about_a_translated_stream_names_what_was_sent(
        sent in 0u32..0x7000_0000, shift in 0u32..0x0fff_ffff, ssrc_in: u32, ssrc_out: u32,
    ) {
        let translator = Translator {
            sent: Sent::default(),
            heard: Some(Heard { ssrc_out, ssrc_in, sequence_shift: shift }),
        };
        let mut packet = written(&Compound::builder().add_packet(
            ReceiverReport::builder(1).add_report_block(
                ReportBlock::builder(ssrc_out).extended_sequence_number(sent + shift),
            ),
        ));
        translator.translate(&mut packet).expect("it is RTCP");
        let report = ReceiverReport::parse(&packet).expect("a report");
        let block = report.report_blocks().next().expect("one");
        prop_assert_eq!((block.ssrc(), block.extended_sequence_number()), (ssrc_in, sent));
    }
}
