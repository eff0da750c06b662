mod damage;
mod fast_path;
mod lasting;
mod peers;
mod secured;
mod signalling;
mod teams;
mod teams_report;
