mod damage;
mod fast_path;
mod peers;
mod signalling;
mod teams;
mod teams_report;
