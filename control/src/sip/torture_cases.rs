//! Messages made from what RFC 4475 says of them, with the answer that its sections ask of a
//! parser.

pub(crate) struct Case {
    /// The name that the RFC gives the message.
    pub name: &'static str,
    /// Lines end in `\n` here.
    pub text: &'static str,
    /// `None`: good. Otherwise the status of the answer, 0 for none.
    pub answer: Option<u16>,
}

const fn good(name: &'static str, text: &'static str) -> Case {
    Case {
        name,
        text,
        answer: None,
    }
}

const fn bad(name: &'static str, answer: u16, text: &'static str) -> Case {
    Case {
        name,
        text,
        answer: Some(answer),
    }
}

macro_rules! head {
    ($method:literal) => {
        concat!(
            "Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bK293423\n",
            "To: <sip:user@example.com>\nFrom: <sip:other@example.net>;tag=39291\n",
            "Call-ID: torture.1234\nCSeq: 9 ",
            $method,
            "\nMax-Forwards: 70\n",
            "Contact: <sip:host5.example.net>\n",
        )
    };
}

macro_rules! register {
    () => {
        concat!(
            "Via: SIP/2.0/UDP saturn.example.com:5060;branch=z9hG4bKkdjuw\n",
            "Max-Forwards: 70\nFrom: sip:watson@example.com;tag=DkfVgjkrtMwaerKKpe\n",
            "To: sip:watson@example.com\nCall-ID: register.70710\nCSeq: 2 REGISTER\n",
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    good(
        "wsinv",
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\n\
         TO :\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\n\
         from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n\
         MaX-fOrWaRdS: 0068\n\
         Call-ID: wsinv.ndaksdj@192.0.2.1\n\
         Content-Length   : 4\n\
         cseq: 0009\n  INVITE\n\
         Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\n\
         s :\n\
         NewFangledHeader:   newfangled value\n continued newfangled value\n\
         UnknownHeaderWithUnusualValue: ;;,,;;,;\n\
         Content-Type: application/sdp\n\
         Route:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n\
         v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n \
         SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n\
         m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n\
         \nv=0\n",
    ),
    good(
        "intmeth",
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0\n\
         Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\n\
         To: \"BEL:\x07 NUL: DEL:\x7f\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\n\
         From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.\n\
         Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\n\
         CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\n\
         Max-Forwards: 255\n\
         extensionHeader-!.%*+_`'~: 大停電\n\
         Content-Length: 0\n\n",
    ),
    good(
        "esc01",
        concat!(
            "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0\n",
            "Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bK1\n",
            "To: sip:%75se%72@example.com\nFrom: <sip:I%20have%20spaces@example.net>;tag=938\n",
            "Call-ID: esc01.2\nCSeq: 234234 INVITE\nMax-Forwards: 87\n",
            "C: application/sdp\n",
            "Contact: <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>\n\nv=0\n",
        ),
    ),
    good(
        "escnull",
        concat!(
            "REGISTER sip:example.com SIP/2.0\n",
            "To: sip:null-%00-null@example.com\nFrom: sip:null-%00-null@example.com;tag=8393\n",
            "Via: SIP/2.0/UDP host.example.com;branch=z9hG4bK.39823\n",
            "Max-Forwards: 70\nCall-ID: escnull.3\nCSeq: 14398234 REGISTER\nL: 0\n",
            "Contact: <sip:%00@host5.example.com>\nContact: <sip:%00%00@host5.example.com>\n\n",
        ),
    ),
    good(
        "esc02",
        concat!(
            "RE%47IST%45R sip:registrar.example.com SIP/2.0\n",
            "To: \"%Z%45\" <sip:resource@example.com>\n",
            "From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23\n",
            "Call-ID: esc02.asdf\nVia: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234\n",
            "CSeq: 29344 RE%47IST%45R\nMax-Forwards: 70\n",
            "Contact: <sip:alias1@host1.example.com>\n",
            "C%6Fntact: <sip:alias2@host2.example.com>\nl: 0\n\n",
        ),
    ),
    good(
        "lwsdisp",
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\n",
            "From: caller<sip:caller@example.com>;tag=323\nMax-Forwards: 70\n",
            "Call-ID: lwsdisp.1234\nCSeq: 60 OPTIONS\n",
            "Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw\nl: 0\n\n",
        ),
    ),
    good(
        "dblreq",
        concat!(
            "REGISTER sip:example.com SIP/2.0\nTo: sip:j.user@example.com\n",
            "From: sip:j.user@example.com;tag=43251j3j324\nMax-Forwards: 8\nI: dblreq.0ha\n",
            "Contact: sip:j.user@host.example.com\nCSeq: 8 REGISTER\n",
            "Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492\nContent-Length: 0\n\n",
            "INVITE sip:joe@example.com SIP/2.0\nt: sip:joe@example.com\n\n",
        ),
    ),
    good(
        "semiuri",
        concat!(
            "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0\n",
            "To: sip:j_user@example.com\nFrom: sip:caller@example.org;tag=33242\n",
            "Max-Forwards: 3\nCall-ID: semiuri.0ha0isndaksdj\nCSeq: 8 OPTIONS\n",
            "Accept: application/sdp, application/pkcs7-mime,\n  multipart/mixed\n",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw\nl: 0\n\n",
        ),
    ),
    good(
        "transports",
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\n",
            "From: <sip:caller@example.com>;tag=323\nMax-Forwards: 70\nCall-ID: transports.kij\n",
            "CSeq: 60 OPTIONS\nVia: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw\n",
            "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf\n",
            "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj\n",
            "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en\nl: 0\n\n",
        ),
    ),
    good(
        "unreason",
        concat!(
            "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое\n",
            "Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\nCall-ID: unreason.1234ksdfak\n",
            "CSeq: 35 INVITE\nFrom: <sip:user@example.com>;tag=11141343\n",
            "To: <sip:user@example.edu>;tag=2229\nContent-Length: 0\n\n",
        ),
    ),
    good(
        "noreason",
        concat!(
            "SIP/2.0 100 \nVia: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe\n",
            "Call-ID: noreason.asndj\nCSeq: 35 INVITE\nFrom: <sip:user@example.com>;tag=39ansfi3\n",
            "To: <sip:user@example.edu>;tag=902jndnke3\nContent-Length: 0\n\n",
        ),
    ),
    good(
        "unkscm",
        concat!(
            "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0\n",
            head!("OPTIONS"),
            "l: 0\n\n"
        ),
    ),
    good(
        "unksm2",
        concat!(
            "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0\n",
            head!("OPTIONS"),
            "l: 0\n\n"
        ),
    ),
    good(
        "zeromf",
        "OPTIONS sip:u@example.com SIP/2.0\nTo: sip:u@example.com\nFrom: sip:c@example.net;tag=3\n\
          Max-Forwards: 0\nCall-ID: zeromf\nCSeq: 1 OPTIONS\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nl: 0\n\n",
    ),
    good(
        "mpart01",
        concat!(
            "MESSAGE sip:kumiko@example.org SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d;rport\n",
            "Max-Forwards: 70\nRoute: <sip:127.0.0.1:5080>\nIdentity: r5mwreLuyDRYBi/0TiPwEsY3rEVsk\n",
            "Contact: <sip:fluffy@127.0.0.1:5070>\nTo: <sip:kumiko@example.org>\nFrom: <sip:fluffy@example.com>;tag=2fb0dcc9\n",
            "Call-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..\nCSeq: 1 MESSAGE\n",
            "Content-Transfer-Encoding: binary\nContent-Type: multipart/mixed;boundary=7a9cbec02ceef655\n\n",
            "--7a9cbec02ceef655\nContent-Type: text/plain\n\nHello\n--7a9cbec02ceef655--\n",
        ),
    ),
    // A Date in another zone than GMT is nothing that we read.
    good(
        "baddate",
        concat!(
            "INVITE sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "Date: Fri, 01 Jan 2010 16:00:00 EST\nl: 0\n\n"
        ),
    ),
    // The transaction layer refuses the next two.
    good(
        "badbranch",
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\nFrom: sip:caller@example.org;tag=33242\n",
            "Max-Forwards: 3\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK\nCall-ID: badbranch.sadonfo\n",
            "CSeq: 8 OPTIONS\nl: 0\n\n",
        ),
    ),
    good(
        "inv2543",
        concat!(
            "INVITE sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP iftgw.example.com\n",
            "From: <sip:+13035551111@ift.client.example.net;user=phone>\nRecord-Route: <sip:UserB@example.com;maddr=ss1.example.com>\n",
            "To: sip:+16505552222@ss1.example.net;user=phone\nCall-ID: inv2543.1717@ift.client.example.com\n",
            "CSeq: 56 INVITE\nContent-Type: application/sdp\n\nv=0\n",
        ),
    ),
    good(
        "novelsc",
        concat!(
            "OPTIONS novel.scheme+x:opaque;data?x SIP/2.0\n",
            head!("OPTIONS"),
            "l: 0\n\n"
        ),
    ),
    good(
        "bext01",
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\n",
            head!("OPTIONS"),
            "Require: nothingSupportsThis, nothingSupportsThisEither\nProxy-Require: noProxiesSupportThis\nl: 0\n\n"
        ),
    ),
    good(
        "invut",
        concat!(
            "INVITE sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "Content-Type: application/unknownformat\n\n<audio>\n</audio>\n"
        ),
    ),
    good(
        "regaut01",
        concat!(
            "REGISTER sip:example.com SIP/2.0\n",
            head!("REGISTER"),
            "Authorization: NoOneKnowsThisScheme opaque-data=here\nl: 0\n\n"
        ),
    ),
    good(
        "bcast",
        concat!(
            "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\n",
            "Call-ID: bcast.0384840201234\nCSeq: 35 INVITE\nFrom: sip:user@example.com;tag=11141343\n",
            "To: sip:user@example.edu;tag=2229\nl: 0\n\n",
        ),
    ),
    good(
        "cparam01",
        concat!(
            "REGISTER sip:example.com SIP/2.0\n",
            register!(),
            "m: sip:+19725552222@gw1.example.net;unknownparam\nl: 0\n\n"
        ),
    ),
    good(
        "cparam02",
        concat!(
            "REGISTER sip:example.com SIP/2.0\n",
            register!(),
            "m: <sip:+19725552222@gw1.example.net;unknownparam>\nl: 0\n\n"
        ),
    ),
    good(
        "regescrt",
        concat!(
            "REGISTER sip:example.com SIP/2.0\n",
            register!(),
            "m: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\nl: 0\n\n"
        ),
    ),
    good(
        "sdp01",
        concat!(
            "INVITE sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "Accept: text/nobodyKnowsThis\nContent-Type: application/sdp\n\nv=0\n"
        ),
    ),
    bad(
        "badinv01",
        400,
        concat!(
            "INVITE sip:user@example.com SIP/2.0\nTo: sip:j.user@example.com\n",
            "From: sip:caller@example.net;tag=134161461246\nMax-Forwards: 7\nCall-ID: badinv01.0ha\n",
            "CSeq: 8 INVITE\nVia: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bK1\n",
            "Contact: \"Joe\" <sip:joe@example.org>;;;;\nContent-Length: 0\n\n",
        ),
    ),
    bad(
        "clerr",
        400,
        concat!(
            "INVITE sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "Content-Length: 9999\n\nv=0\n"
        ),
    ),
    bad(
        "ncl",
        400,
        concat!(
            "INVITE sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "Content-Length: -999\n\nv=0\n"
        ),
    ),
    bad(
        "scalar02",
        400,
        concat!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/TCP host129.example.com;branch=z9hG4bK342sdfoi3\n",
            "To: <sip:user@example.com>\nFrom: <sip:user@example.com>;tag=239232jh3\n",
            "CSeq: 36893488147419103232 REGISTER\nCall-ID: scalar02.23o0\nMax-Forwards: 255\n",
            "Contact: <sip:user@host129.example.com>;expires=280297596632815\nContent-Length: 0\n\n",
        ),
    ),
    bad(
        "scalarlg",
        0,
        concat!(
            "SIP/2.0 503 Service Unavailable\n",
            "Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bKzzxdiwo34sw;received=192.0.2.129\n",
            "To: <sip:user@example.com>\nFrom: <sip:other@example.net>;tag=2easdjfejw\n",
            "CSeq: 9292394834772304023312 OPTIONS\nCall-ID: scalarlg.noase0\n",
            "Retry-After: 949302838503028349304023988\nContent-Length: 0\n\n",
        ),
    ),
    bad(
        "quotbal",
        400,
        concat!(
            "INVITE sip:user@example.com SIP/2.0\nTo: \"Mr. J. User <sip:j.user@example.com>\n",
            "From: sip:caller@example.net;tag=93334\nMax-Forwards: 10\nCall-ID: quotbal.aksdj\n",
            "Contact: <sip:caller@host59.example.net>\nCSeq: 8 INVITE\n",
            "Via: SIP/2.0/UDP 192.0.2.59:5050;branch=z9hG4bKkdjuw39234\nContent-Length: 0\n\n",
        ),
    ),
    bad(
        "ltgtruri",
        400,
        concat!(
            "INVITE <sip:user@example.com> SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "lwsruri",
        400,
        concat!(
            "INVITE sip:user@example.com; lr SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "lwsstart",
        400,
        concat!(
            "INVITE  sip:user@example.com  SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "trws",
        400,
        concat!(
            "OPTIONS sip:remote-target@example.com SIP/2.0  \n",
            head!("OPTIONS"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "escruri",
        400,
        concat!(
            "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "regbadct",
        400,
        concat!(
            "REGISTER sip:example.com SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@example.com;tag=998332\n",
            "Max-Forwards: 70\nCall-ID: regbadct.k345asrl3fdbv@10.0.0.1\nCSeq: 1 REGISTER\n",
            "Via: SIP/2.0/UDP 135.180.130.133:5060;branch=z9hG4bKkdjuw\n",
            "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\nl: 0\n\n",
        ),
    ),
    bad(
        "badaspec",
        400,
        concat!(
            "OPTIONS sip:user@example.org SIP/2.0\nVia: SIP/2.0/UDP host4.example.com:5060;branch=z9hG4bKkdju43234\n",
            "Max-Forwards: 70\nFrom: \"Bell, Alexander\" <sip:a.g.bell@example.com>;tag=433423\n",
            "To: \"Watson, Thomas\" < sip:t.watson@example.org >\nCall-ID: badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3\n",
            "CSeq: 3923239 OPTIONS\nl: 0\n\n",
        ),
    ),
    bad(
        "baddn",
        400,
        concat!(
            "OPTIONS sip:t.watson@example.org SIP/2.0\nVia: SIP/2.0/UDP c.example.com:5060;branch=z9hG4bKkdjuw\n",
            "Max-Forwards: 70\nFrom: Bell, Alexander <sip:a.g.bell@example.com>;tag=43\n",
            "To: Watson, Thomas <sip:t.watson@example.org>\nCall-ID: baddn.31415@c.example.com\n",
            "CSeq: 3923239 OPTIONS\nl: 0\n\n",
        ),
    ),
    bad(
        "badvers",
        505,
        concat!(
            "OPTIONS sip:t.watson@example.org SIP/7.0\n",
            head!("OPTIONS"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "mismatch01",
        400,
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "mismatch02",
        400,
        concat!(
            "NEWMETHOD sip:user@example.com SIP/2.0\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "bigcode",
        0,
        concat!(
            "SIP/2.0 4294967301 better not break the receiver\n",
            head!("INVITE"),
            "l: 0\n\n"
        ),
    ),
    bad(
        "insuf",
        400,
        concat!(
            "INVITE sip:user@example.com SIP/2.0\nCSeq: 193942 INVITE\n",
            "Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf\nContent-Type: application/sdp\nl: 0\n\n"
        ),
    ),
    bad(
        "multi01",
        400,
        concat!(
            "INVITE sip:user@company.com SIP/2.0\n",
            head!("INVITE"),
            "Call-ID: multi01.2\nCSeq: 59 INVITE\nl: 0\n\n"
        ),
    ),
    bad(
        "mcl01",
        400,
        concat!(
            "OPTIONS sip:user@example.com SIP/2.0\n",
            head!("OPTIONS"),
            "Content-Length: 13\nContent-Length: 5\n\nabcdefghijklm"
        ),
    ),
];

/// `longreq`, whose values are long; its lines end as on the wire.
pub(crate) fn long_request() -> String {
    let long = "a".repeat(1500);
    format!(
        "INVITE sip:user@example.com SIP/2.0\r\n\
         To: \"I have a user name of extreme {long}\" <sip:user@example.com:6000;unknownparam1=very{long}>\r\n\
         F: sip:{long}@example.net;tag=12{long}424;unknownheaderparamname{long}=unknowheaderparamvalue{long}\r\n\
         Call-ID: longreq.one{long}\r\nCSeq: 3882340 INVITE\r\n\
         Unknown-{long}-Name: unknown-{long}-value; unknown-{long}-parameter-name = unknown-{long}\r\n\
         Via: SIP/2.0/TCP sip33.example.com;branch=z9hG4bK-longreq\r\n\
         V: SIP/2.0/TCP sip32.example.com;unknown={long};branch=z9hG4bKik{long}\r\n\
         Max-Forwards: 70\r\nContact: <sip:amazinglylongcallernamewithnospace{long}@host5.example.net>\r\nl: 0\r\n\r\n"
    )
}
