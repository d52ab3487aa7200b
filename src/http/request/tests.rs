//! Whatever a name is made of, it is found as by comparing it with all names.

use proptest::prelude::*;

use super::*;

/// What a plain comparison with all that is in the table says.
fn compared(table: &FieldTable, name: &HeaderName) -> Option<Matter> {
    let known = table.places.iter().flatten().find(|(known, _)| known == name).map(|(_, matter)| *matter);
    known.or_else(|| (table.families && is_of_a_family(name.as_str())).then_some(Matter::Credential))
}

/// Tables of both modes, without rules and with as many as nobody has.
fn tables() -> Vec<FieldTable> {
    let name = |text: String| text.parse::<HeaderName>().expect("a name");
    let many = |kind: &str| (0..100).map(|n| name(format!("{kind}-{n}"))).collect::<Vec<_>>();
    let own = [header::ACCEPT_LANGUAGE, header::COOKIE, header::HOST, header::AUTHORIZATION];
    let rules = [(vec![], vec![]), (own.to_vec(), vec![header::FORWARDED]), (many("x-keyed"), many("x-secret"))];
    let modes = [Mode::Application, Mode::Protocol].into_iter();
    modes.flat_map(|mode| rules.iter().map(move |(keyed, secret)| FieldTable::new(mode, keyed, secret))).collect()
}

fn name() -> impl Strategy<Value = String> {
    let families =
        "x-(auth-request|amzn-oidc|goog-iap|goog-authenticated-user|ms-client-principal|consumer)-?[a-z]{0,8}";
    prop_oneof!["[a-z-]{1,24}", "x-(keyed|secret)-[0-9]{1,3}", "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,80}", families]
}

proptest! {
    #[test] // P43
    fn a_name_is_found_as_by_comparing_it_with_all(name in name()) {
        let name: HeaderName = name.parse().unwrap();
        for table in tables() {
            prop_assert_eq!(table.get(&name), compared(&table, &name), "{}", name);
        }
    }
}

#[test] // P43
fn a_name_that_one_table_has_is_found_in_all_as_by_comparing_it() {
    let tables = tables();
    for (name, _) in tables.iter().flat_map(|table| table.places.iter().flatten()) {
        for table in &tables {
            assert_eq!(table.get(name), compared(table, name), "{name}");
        }
    }
}

#[test] // P43
fn each_credential_is_found_however_it_is_spelt() {
    let table = FieldTable::new(Mode::Application, &[], &[]);
    for name in &CREDENTIALS {
        for spelt in [name.as_str().to_owned(), name.as_str().to_ascii_uppercase()] {
            let found = table.get(&spelt.parse().unwrap());
            let authorization = *name == header::AUTHORIZATION;
            assert!(found == Some(Matter::Credential) || authorization && found.is_some(), "{spelt}: {found:?}");
        }
    }
    for family in ["x-auth-request-", "x-amzn-oidc-", "x-goog-iap-", "x-ms-client-principal"] {
        let name = HeaderName::from_bytes(format!("{}New", family.to_uppercase()).as_bytes()).unwrap();
        assert_eq!(table.get(&name), Some(Matter::Credential), "{name}");
    }
}
