//! Rule objects of an ACL as they stand in the file in, the same in the order that their `before` links give out (JSON-1).

use std::collections::{BTreeMap, BTreeSet};

use crate::base::decode::Field;
use crate::base::document::Node;

/// Whether `before` is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It names the next rule.
    Named,
    /// The order of the list counts (JSON-2).
    Ignored,
}

/// The rules without those that repeat an earlier one of the same id or name word for word; each repeat is a warning.
pub fn without_repeats<'n, 'f>(fields: &[Field<'n, 'f>]) -> Vec<Field<'n, 'f>> {
    let mut kept: Vec<Field<'n, 'f>> = Vec::with_capacity(fields.len());
    let mut seen: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for field in fields {
        let known = key(field.node).map(|key| seen.entry(key).or_default());
        let is_repeat = known.as_ref().is_some_and(|list| {
            list.iter().filter_map(|at| kept.get(*at)).any(|earlier| earlier.node.same_content(field.node))
        });
        if is_repeat {
            field.warning("repeated-rule", "is in the list already and counts once");
            continue;
        }
        if let Some(list) = known {
            list.push(kept.len());
        }
        kept.push(field.clone());
    }
    kept
}

fn text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.get(key).and_then(Node::as_str).filter(|text| !text.is_empty())
}

fn key(node: &Node) -> Option<&str> {
    text(node, "id").or_else(|| text(node, "name"))
}

/// The rules in evaluation order. Where the links disagree with the list, the links are trusted and a warning says so; links
/// that do not form one chain are an error, and the order of the list is returned.
pub fn order<'n, 'f>(fields: &[Field<'n, 'f>], next: Next) -> Vec<Field<'n, 'f>> {
    let has_links = fields.iter().any(|field| field.node.get("before").is_some_and(|b| !b.is_null()));
    if next == Next::Ignored || !has_links {
        return fields.to_vec();
    }
    match follow(fields) {
        Ok(order) => {
            if let Some((at, moved)) = order.iter().enumerate().find(|(at, index)| at != *index)
                && let Some(field) = fields.get(*moved)
            {
                let message =
                    format!("by its `before` links this rule is number {} of the list: the links are followed", at + 1);
                field.warning("rule-order", message);
            }
            order.into_iter().filter_map(|index| fields.get(index).cloned()).collect()
        }
        Err(()) => fields.to_vec(),
    }
}

/// Indexes into `fields` along the links; faults are reported.
fn follow(fields: &[Field<'_, '_>]) -> Result<Vec<usize>, ()> {
    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, field) in fields.iter().enumerate() {
        text(field.node, "id").map(|id| by_id.entry(id).or_insert(index));
        text(field.node, "name").map(|name| by_name.entry(name).or_insert(index));
    }
    let shown = |index: usize| fields.get(index).and_then(|f| key(f.node)).unwrap_or("without name");
    let mut previous: Vec<Option<usize>> = vec![None; fields.len()];
    let mut following: Vec<Option<usize>> = vec![None; fields.len()];
    let mut is_broken = false;
    let mut last: Option<usize> = None;
    for (index, field) in fields.iter().enumerate() {
        let Some(before) = field.node.get("before").filter(|b| !b.is_null()) else {
            if let Some(other) = last {
                let message = format!(
                    "rules `{}` and `{}` both have no `before`, but only the last rule has none",
                    shown(other),
                    shown(index)
                );
                field.error("broken-chain", message);
                is_broken = true;
            }
            last = Some(index);
            continue;
        };
        let target = text(before, "id")
            .map_or_else(|| text(before, "name").and_then(|name| by_name.get(name)), |id| by_id.get(id));
        let Some(&target) = target else {
            let wanted = key(before).unwrap_or("without id");
            field.error(
                "broken-chain",
                format!("rule `{}` stands before rule `{wanted}`, which the ACL does not have", shown(index)),
            );
            is_broken = true;
            continue;
        };
        if let Some(other) = previous[target] {
            let message =
                format!("rules `{}` and `{}` both stand before rule `{}`", shown(other), shown(index), shown(target));
            field.error("broken-chain", message);
            is_broken = true;
        }
        previous[target] = Some(index);
        following[index] = Some(target);
    }
    if is_broken {
        return Err(());
    }
    let mut order = Vec::with_capacity(fields.len());
    let mut at = previous.iter().position(Option::is_none);
    while let Some(index) = at.filter(|_| order.len() < fields.len()) {
        order.push(index);
        at = following[index];
    }
    if order.len() == fields.len() && at.is_none() {
        return Ok(order);
    }
    let reached: BTreeSet<usize> = order.into_iter().collect();
    let cycle: Vec<usize> = (0..fields.len()).filter(|index| !reached.contains(index)).collect();
    let names: Vec<String> = cycle.iter().map(|index| format!("`{}`", shown(*index))).collect();
    if let Some(field) = cycle.first().and_then(|index| fields.get(*index)) {
        field.error("broken-chain", format!("the `before` links of rules {} go in a circle", names.join(", ")));
    }
    Err(())
}
