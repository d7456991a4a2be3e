//! The table and the JSON of a listing.

use target::ListedContainer;

use super::*;

fn listing() -> Listing {
    let container = |name: &str| ListedContainer {
        name: name.to_owned(),
        image: format!("{name}:1"),
    };
    Listing {
        context: Some("staging".to_owned()),
        namespace: "shop".to_owned(),
        targets: vec![
            Listed {
                target: "deploy/checkout".to_owned(),
                ready: (2, 3),
                containers: vec![container("app"), container("proxy")],
                state: "ready".to_owned(),
            },
            Listed {
                target: "pod/x".to_owned(),
                ready: (0, 1),
                containers: Vec::new(),
                state: "Waiting: \u{1b}[2Jpull\nfailed".to_owned(),
            },
        ],
        missing: vec![("daemonsets", "no permission".to_owned())],
    }
}

#[test]
fn columns_are_aligned_and_free_of_control_characters() {
    let expected = "\
TARGET           READY  STATE                     CONTAINERS
deploy/checkout  2/3    ready                     app, proxy
pod/x            0/1    Waiting: \u{fffd}[2Jpull failed
";
    assert_eq!(table(&listing()), expected);
    assert_eq!(notes(&listing()), "inpod: daemonsets are missing: no permission\n");
}

#[test]
fn nothing_is_told_beside_the_table() {
    let empty = Listing {
        targets: Vec::new(),
        missing: Vec::new(),
        ..listing()
    };
    assert_eq!(table(&empty), "");
    assert_eq!(notes(&empty), "inpod: nothing in namespace shop can be a target\n");
}

#[test]
fn json_has_everything() {
    let value: serde_json::Value = serde_json::from_str(&json(&listing())).unwrap();
    assert_eq!(value["namespace"], "shop");
    assert_eq!(
        value["targets"][0]["containers"][1],
        json!({"name": "proxy", "image": "proxy:1"})
    );
    assert_eq!(value["targets"][0]["ready"], 2);
    assert_eq!(value["missing"][0]["kind"], "daemonsets");
}
