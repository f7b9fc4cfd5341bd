"""The page: one HTML file with the states, what draws them and nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from memshell.pictures.canvas import DARK, LIGHT
from memshell.pictures.kinds import LEGEND

if TYPE_CHECKING:
    from collections.abc import Sequence


def page(title: str, tracks: Sequence[dict[str, Any]]) -> str:
    """Return the page of what `memshell.pictures.film.track` made: of one machine, or of several side by side."""
    parts = {
        "TITLE": escape(title),
        "CSS": _part("page.css").replace("@LIGHT@", _variables(LIGHT)).replace("@DARK@", _variables(DARK)),
        "JS": _part("page.js").replace("@LEGEND@", json.dumps(LEGEND)),
        # "</" would end the element that holds it
        "DATA": json.dumps(tracks, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
    }
    head, *rest = _part("page.html").split("@")
    return head + "".join(parts.get(part, part) for part in rest)


def _part(name: str) -> str:
    return (files("memshell") / "pictures" / name).read_text(encoding="utf-8")


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{name.replace(' ', '-')}: {colour};" for name, colour in palette.items())
