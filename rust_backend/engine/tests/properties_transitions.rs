//! The table of legal transitions.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::select;
use taskito_engine::transitions::{Event, INITIAL, State, TRANSITIONS, next};

/// The state after these events, of which those that are not legal are refused.
fn walk(start: State, events: &[Event]) -> Vec<State> {
    let mut path = vec![start];
    for event in events {
        let present = *path.last().unwrap_or(&start);
        path.extend(next(present, *event));
    }
    path
}

proptest! {
    #[test]
    fn a_final_state_never_changes(
        start in select(INITIAL.to_vec()),
        events in prop::collection::vec(select(Event::ALL.to_vec()), 0..50),
    ) {
        let path = walk(start, &events);
        let position = path.iter().position(|state| state.is_final());
        prop_assert!(position.is_none_or(|position| position == path.len() - 1));
    }

    #[test]
    fn nothing_succeeds_or_dies_without_having_run(
        start in select(INITIAL.to_vec()),
        events in prop::collection::vec(select(Event::ALL.to_vec()), 0..50),
    ) {
        for pair in walk(start, &events).windows(2) {
            if matches!(pair[1], State::Complete | State::Dead) {
                prop_assert_eq!(pair[0], State::Running);
            }
            if pair[1] == State::Running {
                prop_assert_eq!(pair[0], State::Ready);
            }
        }
    }

    #[test]
    fn a_blocked_job_is_never_blocked_again(
        events in prop::collection::vec(select(Event::ALL.to_vec()), 0..50),
    ) {
        let path = walk(State::Blocked, &events);
        prop_assert!(path[1..].iter().all(|state| *state != State::Blocked));
    }

    #[test]
    fn the_table_and_the_function_agree(
        state in select(State::ALL.to_vec()),
        event in select(Event::ALL.to_vec()),
    ) {
        let rows: Vec<_> =
            TRANSITIONS.iter().filter(|(from, by, _)| *from == state && *by == event).collect();
        prop_assert!(rows.len() <= 1);
        prop_assert_eq!(next(state, event), rows.first().map(|(_, _, to)| *to));
    }
}

#[test]
fn names_are_unique_and_can_be_read_back() {
    let names: HashSet<_> = State::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(names.len(), State::ALL.len());
    assert!(
        State::ALL
            .iter()
            .all(|state| State::from_name(state.name()) == Some(*state))
    );
    assert_eq!(State::from_name("pending"), None);
    let events: HashSet<_> = Event::ALL.iter().map(|event| event.name()).collect();
    assert_eq!(events.len(), Event::ALL.len());
}

#[test]
fn every_state_can_be_reached_and_every_open_one_can_end() {
    let mut reached: HashSet<State> = INITIAL.into_iter().collect();
    for _ in State::ALL {
        for (from, _, to) in TRANSITIONS {
            if reached.contains(&from) {
                reached.insert(to);
            }
        }
    }
    assert_eq!(reached.len(), State::ALL.len());
    for state in State::ALL.into_iter().filter(|state| !state.is_final()) {
        assert_eq!(
            next(state, Event::Cancel),
            Some(State::Cancelled),
            "{state}"
        );
        assert_eq!(
            next(state, Event::Expire),
            Some(State::Cancelled),
            "{state}"
        );
    }
}

#[test]
fn every_event_is_legal_somewhere() {
    for event in Event::ALL {
        assert!(
            State::ALL
                .into_iter()
                .any(|state| next(state, event).is_some()),
            "{event:?}"
        );
    }
}
