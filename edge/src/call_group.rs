//! How calls stand in a report: what many have in common is written once. Written out one by one, they
//! would cost the edge a twentieth of its time.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::protocol::CallEvent;

/// Calls of one project, answered by one deployment, with one token.
#[derive(Serialize, Deserialize)]
struct CallGroup {
    project: Uuid,
    deployment: Uuid,
    grant: Option<Uuid>,
    api_token: Option<Uuid>,
    /// `at_ms`, `duration_us` and `status` of each.
    calls: Vec<(i64, u32, u16)>,
}

impl CallGroup {
    /// An empty group for `call` and those like it.
    fn like(call: &CallEvent) -> Self {
        Self {
            project: call.project,
            deployment: call.deployment,
            grant: call.grant,
            api_token: call.api_token,
            calls: Vec::new(),
        }
    }
}

/// What may stand in a report.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Group(CallGroup),
    /// As older edges wrote it.
    Call(CallEvent),
}

/// Writes groups; their order, and that of the calls in each, is that in which they came.
pub(crate) fn serialize<S: Serializer>(
    calls: &[CallEvent],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut groups: Vec<CallGroup> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut last = None;
    for call in calls {
        let common = (call.project, call.deployment, call.grant, call.api_token);
        // Mostly the last call was like this one.
        let place = match last {
            Some((place, of)) if of == common => place,
            _ => *places.entry(common).or_insert_with(|| {
                groups.push(CallGroup::like(call));
                groups.len() - 1
            }),
        };
        last = Some((place, common));
        groups[place]
            .calls
            .push((call.at_ms, call.duration_us, call.status));
    }
    groups.serialize(serializer)
}

/// Reads groups, and calls that stand alone.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<CallEvent>, D::Error> {
    let mut calls = Vec::new();
    for entry in Vec::<Entry>::deserialize(deserializer)? {
        match entry {
            Entry::Call(call) => calls.push(call),
            Entry::Group(group) => calls.extend(group.calls.iter().map(
                |&(at_ms, duration_us, status)| CallEvent {
                    project: group.project,
                    deployment: group.deployment,
                    grant: group.grant,
                    api_token: group.api_token,
                    at_ms,
                    duration_us,
                    status,
                },
            )),
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Report(#[serde(with = "super")] Vec<CallEvent>);

    fn call(grant: u128, at_ms: i64) -> CallEvent {
        CallEvent {
            project: Uuid::from_u128(1),
            deployment: Uuid::from_u128(2),
            grant: Some(Uuid::from_u128(grant)),
            api_token: None,
            at_ms,
            duration_us: 5,
            status: 200,
        }
    }

    #[test]
    fn what_calls_have_in_common_is_written_once_and_nothing_is_lost() {
        let report = Report(vec![call(3, 10), call(4, 11), call(3, 12)]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 2);
        assert_eq!(
            json[0]["calls"],
            serde_json::json!([[10, 5, 200], [12, 5, 200]])
        );
        let read: Report = serde_json::from_value(json).unwrap();
        assert_eq!(read.0, [call(3, 10), call(3, 12), call(4, 11)]);
    }

    #[test]
    fn calls_that_older_edges_report_are_read() {
        let alone = serde_json::json!([call(3, 10)]);
        let read: Report = serde_json::from_value(alone).unwrap();
        assert_eq!(read.0, [call(3, 10)]);
    }
}
