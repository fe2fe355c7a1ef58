"""The records of `bench.py` become the tables of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
PLAIN, OURS = "onnxruntime forward", "onnx_xcam"
MANY = 1000


def put_into(path: Path, records: Sequence[Record]) -> None:
    """Replace what stands between the marks of a Markdown file by the tables."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{tables(records)}\n{END}{after}", encoding="utf-8", newline="\n")


def tables(records: Sequence[Record]) -> str:
    """All tables, a section for each layer, batch size and number of threads."""
    parts = [_taken(records)]
    for layer in ("auto", "middle"):
        for batch in sorted({record["key"][2] for record in records}):
            for threads in sorted({record["key"][3] for record in records}):
                found = [record for record in records if record["key"][1:] == [layer, batch, threads]]
                parts += [_section(layer, batch, threads, found)] if found else []
    parts += list(_memory(records))
    parts += list(_reasons(records))
    return "\n\n".join(parts)


def _taken(records: Iterable[Record]) -> str:
    """When, where and with what the records were taken; several lines if they differ."""
    said: dict[str, list[str]] = {}
    for record in records:
        about = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        said.setdefault(f"{record['machine']}; {about}", []).append(record["date"])
    lines = []
    for about, dates in said.items():
        first, last = min(dates), max(dates)
        lines.append(f"Taken {first if first == last else f'{first} to {last}'} on {about}.")
    return "\n".join(lines)


def _section(layer: str, batch: int, threads: int, records: Sequence[Record]) -> str:
    what = "Default layer" if layer == "auto" else "Middle layer"
    title = f"### {what}, batch {batch}, {threads} thread{'' if threads == 1 else 's'}"
    columns = _columns(records)
    head = ["model", "plain forward", *(_heading(*column) for column in columns)]
    rows = [[_name(record), _plain(record), *(_cell(record, *column) for column in columns)] for record in records]
    return f"{title}\n\n{_markdown(head, rows)}"


def _columns(records: Iterable[Record]) -> list[tuple[str, int]]:
    """Names and numbers of classes, ours first; 1000 for whom 1 and 10 are known and 1000 matters."""
    found: dict[tuple[str, int], None] = {}
    for record in records:
        found |= {(figure["name"], figure["classes"]): None for figure in record["figures"] if figure["name"] != PLAIN}
    many = (OURS, MANY) in found
    for name, classes in list(found):
        if many and classes == 10 and name != OURS:
            found[name, MANY] = None
    order = list(dict.fromkeys(name for name, _ in found))
    return sorted(found, key=lambda column: (order.index(column[0]), column[1]))


def _heading(name: str, classes: int) -> str:
    return name if classes == 0 else f"{name}, {classes} class{'' if classes == 1 else 'es'}"


def _figure(record: Record, name: str, classes: int) -> Record | None:
    return next((one for one in record["figures"] if (one["name"], one["classes"]) == (name, classes)), None)


def _plain(record: Record) -> str:
    found = _figure(record, PLAIN, 0)
    assert found
    return f"{found['ms']['median']:.2f} ms, {found['rounds']} rounds"


def _cell(record: Record, name: str, classes: int) -> str:
    found = _figure(record, name, classes)
    if found:
        ratio = found["ratio"]
        digits = 3 if ratio["median"] < 2 else 1 if ratio["median"] < 100 else 0
        return f"{ratio['median']:.{digits}f} ({ratio['low']:.{digits}f} to {ratio['high']:.{digits}f})"
    one, ten = _figure(record, name, 1), _figure(record, name, 10)
    if classes == MANY and one and ten and name != OURS:  # ours is measured, or not stated
        each = (ten["ratio"]["median"] - one["ratio"]["median"]) / 9
        return f"about {one['ratio']['median'] + (MANY - 1) * each:.0f} *"
    return "-"


def _name(record: Record) -> str:
    return Path(record["key"][0]).stem.removeprefix("timm:")


def _memory(records: Iterable[Record]) -> Iterator[str]:
    rows = []
    for record in records:
        if not record["memory"]:
            continue
        _, _, batch, threads = record["key"]
        plain, made = record["memory"][PLAIN], record["memory"][OURS]
        sizes = [f"{found['model'] / 1e6:.0f} MB" for found in (plain, made)]
        whole = f"{made['peak'] / plain['peak']:.2f}"
        rows.append([_name(record), str(batch), str(threads), *sizes, f"{made['model'] / plain['model']:.2f}", whole])
    if rows:
        head = ["model", "batch", "threads", "plain", "with the map", "ratio", "ratio of the whole process"]
        yield f"### Peak memory of a run\n\n{_markdown(head, rows)}"


def _reasons(records: Iterable[Record]) -> Iterator[str]:
    """Who was not timed, where, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for name, reason in record["skipped"].items():
            models = found.setdefault((name, reason), [])
            shown = f"{_name(record)} ({'default' if record['key'][1] == 'auto' else 'middle'} layer)"
            models += [] if shown in models else [shown]
    if found:
        lines = [f"- {name}: {reason}: {', '.join(models)}." for (name, reason), models in found.items()]
        yield "### Not timed\n\n" + "\n".join(lines)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
