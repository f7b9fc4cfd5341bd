"""Compile grammar.lark into table.json, with lark's LALR(1) construction.

Importing lark costs 70 ms and building the parser as much again: more than the whole start of the program. So
lark works at development time only, and `memshell.scenario.lalr` runs the table that it made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STARTS = ["program", "expression"]


def build(grammar: str) -> dict[str, Any]:
    """Return the table: terminals in the order in which a lexer tries them, rules, and actions by state."""
    from lark import Lark

    lark = Lark(grammar, parser="lalr", lexer="contextual", start=STARTS, maybe_placeholders=False)
    parser: Any = lark.parser.parser
    table = parser._parse_table  # noqa: SLF001 - lark gives its table to its own serializer only
    rules = sorted(set(lark.rules), key=str)
    rule_number = {rule: at for at, rule in enumerate(rules)}
    names = [terminal.name for terminal in sorted(lark.terminals, key=_lexer_order)]
    regexps = {terminal.name: terminal.pattern.to_regexp() for terminal in lark.terminals}
    states = _number_states(table.states, [table.start_states[start] for start in STARTS])
    return {
        "terminals": [[name, regexps[name]] for name in names],
        "ignore": sorted(lark.ignore_tokens),
        "rules": [_rule(rule) for rule in rules],
        "states": [_actions(table.states[state], states, rule_number) for state in states],
        "start": {name: states[table.start_states[name]] for name in STARTS},
        "end": {name: states[table.end_states[name]] for name in STARTS},
    }


def _number_states(found: dict[int, dict[str, Any]], starts: list[int]) -> dict[int, int]:
    """Number the states in the order of a walk over sorted symbols: lark's numbers change from run to run."""
    order = list(starts)
    for state in order:
        nexts = [argument for _symbol, (action, argument) in sorted(found[state].items()) if str(action) == "Shift"]
        order += [after for after in dict.fromkeys(nexts) if after not in order]
    return {state: at for at, state in enumerate(order)}


def _lexer_order(terminal: Any) -> tuple[int, int, int, str]:
    pattern = terminal.pattern
    return (-terminal.priority, -pattern.max_width, -len(pattern.value), terminal.name)


def _rule(rule: Any) -> list[Any]:
    """Return [name, length, positions that are kept, whether it dissolves into its parent]."""
    name = str(rule.origin.name)
    keep = [at for at, symbol in enumerate(rule.expansion) if not getattr(symbol, "filter_out", False)]
    return [name, len(rule.expansion), keep, name.startswith("_")]


def _actions(found: dict[str, Any], states: dict[int, int], rules: dict[Any, int]) -> dict[str, int]:
    """Return the state to shift to, or ``-1 - rule`` to reduce by, for each symbol."""
    actions = {}
    for symbol, (action, argument) in sorted(found.items()):
        actions[str(symbol)] = states[argument] if str(action) == "Shift" else -1 - rules[argument]
    return actions


def main() -> None:
    """Write table.json beside the grammar."""
    table = build((HERE / "grammar.lark").read_text(encoding="utf-8"))
    (HERE / "table.json").write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
