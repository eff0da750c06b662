//! What `docs/teams.md` says of each row is what the report finds.

use std::collections::HashMap;

use tests::twin::report::{Options, Outcome, run, table};

#[test]
fn the_report_is_as_the_page_says() {
    let page = include_str!("../../../../docs/teams.md");
    let said: HashMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .filter_map(|line| Some((line.split_once('`')?.0, line.rsplit_once(" | ")?.1)))
        .collect();
    let verdicts = run(&Options::default()).expect("a report");
    println!("{}", table(&verdicts));
    assert_eq!(verdicts.len(), said.len());
    for verdict in verdicts {
        let said = said.get(verdict.row).expect("a row of the page");
        match verdict.outcome {
            Outcome::Pass => assert_eq!(*said, "pass", "{}", verdict.row),
            Outcome::Fail => assert_eq!(*said, "fail", "{}: {}", verdict.row, verdict.why),
            Outcome::Untestable => {
                assert!(said.starts_with("untestable"), "{}", verdict.row);
            }
        }
    }
}
