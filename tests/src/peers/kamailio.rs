//! Kamailio: a SIP proxy that speaks TLS to the session border controller and UDP to a user agent
//! behind it, and stays in every call's route.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::lab::{Lab, LabError, Namespace, Party, Process, Result, wait_until};

/// What a Kamailio is to be.
#[derive(Clone, Debug)]
pub struct KamailioConfig<'a> {
    pub party: Party,
    /// The name that it goes by.
    pub name: &'a str,
    /// Where it listens for TLS, with a certificate demanded of whoever connects.
    pub tls: SocketAddr,
    /// Where it listens for UDP.
    pub udp: SocketAddr,
    /// Where it sends what came over UDP: by TLS.
    pub border: SocketAddr,
    /// Where it sends what came over TLS: by UDP.
    pub agent: SocketAddr,
    pub certificate: &'a Path,
    pub key: &'a Path,
    pub roots: &'a Path,
    pub proofs: Proofs,
}

/// Who has to prove a password to whom, where both are called and know the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proofs {
    #[default]
    None,
    /// Whoever comes over TLS to Kamailio, by the algorithm that it names.
    Demanded(&'static str),
    /// Kamailio to whoever challenges what it sent by TLS.
    Given,
}

impl Proofs {
    pub const USER: &'static str = "trunk-7";
    pub const PASSWORD: &'static str = "sesame";
    /// What a challenge of Kamailio's calls it, and what one of ours calls us.
    pub const REALMS: [&'static str; 2] = ["proxy.example.com", "sbc.example.com"];
}

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    process: Process,
}

/// How long one takes at most to be there.
const START: Duration = Duration::from_secs(20);

impl Kamailio {
    /// Starts one and waits until it takes connections.
    ///
    /// # Errors
    /// When its files cannot be written or it does not come up.
    pub fn start(lab: &Lab, config: &KamailioConfig<'_>) -> Result<Self> {
        let directory = lab.directory().join("kamailio");
        let failed = |path: &Path, error| LabError::new(format!("{}: {error}", path.display()));
        fs::create_dir_all(&directory).map_err(|error| failed(&directory, error))?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|error| failed(&path, error))?;
            Ok(path)
        };
        let tls = write("tls.cfg", tls(config))?;
        let script = write("kamailio.cfg", script(config, &tls))?;
        let namespace = lab.peer(config.party);
        let mut command = namespace.command("kamailio");
        // In the foreground, its log to us, with little memory.
        command.args(["-DD", "-E", "-m", "32", "-M", "8", "-f"]);
        command.arg(&script).arg("-Y").arg(&directory);
        let mut kamailio = Self {
            process: Process::start("kamailio", command, lab.directory())?,
        };
        if kamailio.takes_connections(namespace, config.tls) {
            return Ok(kamailio);
        }
        Err(LabError::new(format!(
            "Kamailio does not come up; it said:\n{}",
            kamailio.process.text()
        )))
    }

    fn takes_connections(&mut self, namespace: &Namespace, at: SocketAddr) -> bool {
        let connects = || matches!(namespace.enter(|| TcpStream::connect(at)), Ok(Ok(_)));
        wait_until(START, || !self.process.is_running() || connects()) && self.process.is_running()
    }

    /// Everything it has said.
    #[must_use]
    pub fn text(&self) -> String {
        self.process.text()
    }

    /// Waits until it has said something so many times.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_for(&self, what: &str, times: usize, limit: Duration) -> Result<String> {
        self.process.wait_for(what, times, limit)
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // It takes its children with it; what is left goes with the namespace.
        if self.process.signal(Signal::SIGTERM).is_ok() {
            let _ = self.process.wait(Duration::from_secs(3));
        }
    }
}

fn tls(config: &KamailioConfig<'_>) -> String {
    let end = |name: &str| {
        format!(
            "[{name}:default]\nmethod = TLSv1.2+\nverify_certificate = yes\n\
             require_certificate = yes\ncertificate = {}\nprivate_key = {}\nca_list = {}\n",
            config.certificate.display(),
            config.key.display(),
            config.roots.display(),
        )
    };
    format!("{}\n{}", end("server"), end("client"))
}

fn script(config: &KamailioConfig<'_>, tls: &Path) -> String {
    let modules: String = [
        "tls", "sl", "tm", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "auth", "uac",
    ]
    .map(|module| format!("loadmodule \"{module}.so\"\n"))
    .concat();
    let (user, password, [realm, our_realm]) = (Proofs::USER, Proofs::PASSWORD, Proofs::REALMS);
    let [algorithm, registered, called] = match config.proofs {
        Proofs::Demanded(algorithm) => {
            // 401 to what is for Kamailio itself, 407 to what goes through it.
            let demand = |kind: &str, who: &str| {
                format!(
                    "if (!{kind}_authenticate(\"{realm}\", \"{password}\", \"0\") || $au != \"{user}\") {{\n\
                     {who}_challenge(\"{realm}\", \"1\");\nexit;\n}}\n\
                     xlog(\"L_WARN\", \"$rm of $ci proven by $aa\\n\");\nconsume_credentials();\n"
                )
            };
            [
                format!("modparam(\"auth\", \"algorithm\", \"{algorithm}\")"),
                demand("pv_www", "www"),
                demand("pv_proxy", "proxy"),
            ]
        }
        _ => Default::default(),
    };
    let answers = match config.proofs {
        Proofs::Given => "t_on_failure(\"PROVE\");",
        _ => "",
    };
    format!(
        r#"#!KAMAILIO
debug=2
log_stderror=yes
children=2
tcp_children=2
enable_tls=yes
tcp_accept_aliases=yes
auto_aliases=no
alias="{name}"
listen=udp:{udp}
listen=tls:{own}

{modules}
modparam("tls", "config", "{tls}")
modparam("rr", "enable_double_rr", 1)
modparam("uac", "auth_username_avp", "$avp(user)")
modparam("uac", "auth_password_avp", "$avp(password)")
modparam("uac", "auth_realm_avp", "$avp(realm)")
{algorithm}

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if ($proto == "tls") {{
        xlog("L_WARN", "$rm of $ci by tls, $tls_peer_subject_cn\n");
    }} else {{
        xlog("L_WARN", "$rm of $ci by $proto\n");
    }}
    if (is_method("OPTIONS") && uri == myself) {{
        sl_send_reply("200", "OK");
        exit;
    }}
    if (is_method("REGISTER")) {{
        {registered}
        append_to_reply("Contact: $ct;expires=600\r\n");
        sl_send_reply("200", "OK");
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (has_totag()) {{
        if (loose_route() || (is_method("ACK") && t_check_trans())) {{
            t_relay();
            exit;
        }}
        if (!is_method("ACK")) sl_send_reply("404", "Not Here");
        exit;
    }}
    if (is_method("INVITE")) record_route();
    if ($proto == "tls") {{
        {called}
        $du = "sip:{agent}";
    }} else {{
        {answers}
        $du = "sip:{border};transport=tls";
    }}
    if (!t_relay()) sl_reply_error();
}}

failure_route[PROVE] {{
    if (!t_check_status("401|407")) exit;
    $avp(user) = "{user}";
    $avp(password) = "{password}";
    $avp(realm) = "{our_realm}";
    if (uac_auth()) t_relay();
}}
"#,
        name = config.name,
        udp = config.udp,
        own = config.tls,
        tls = tls.display(),
        agent = config.agent,
        border = config.border,
    )
}
