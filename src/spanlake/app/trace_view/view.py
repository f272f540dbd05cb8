"""A trace as lines of text: a header, one line per span with its place in time, and below a span what went wrong in it.

Pure: the trace, the width and the time zone come in, styled lines go out. Colours only repeat what signs say, so the lines read the same
without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from rich.cells import cell_len
from rich.text import Text

from spanlake.app.trace_view.read import EXCEPTION, ReadTrace, TraceEvent, TraceSpan, read_attributes, read_event, read_link
from spanlake.app.trace_view.tree import Group, TraceTree, build_tree, choose_shown

KINDS = ("", "internal", "server", "client", "producer", "consumer")
SERVICE_STYLES = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
ERROR_STYLE, FAINT, SIGN_STYLE = "bold red", "bright_black", "yellow"
NO_SERVICE = "(no service)"

KIND_CELLS, DURATION_CELLS = 8, 9
BAR_CELLS_LEAST, BAR_CELLS_MOST = 16, 60
LABEL_CELLS_LEAST = 24
LEVEL_CELLS = 2  # of indentation
LEVELS_SHARE = 0.3  # of the width that indentation takes at most
DEPTH_CELLS = 5  # for the depth of a span that is deeper than that, and the sign behind it
DEPTH_LEVELS = 3  # levels that make room for it


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """How to show a trace: cells per line, spans at most (0: all), with attributes or without, and where the reader's clock is."""

    width: int
    limit: int
    attributes: bool = False
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class _Row:
    """A span in the forest. `tail` are the guides in front of it and `below` those in front of what stands under it."""

    index: int
    tail: str
    below: str
    hidden: int  # children that are not shown


@dataclass(frozen=True, slots=True)
class _Layout:
    """Cells per column; 0 for one that is left out."""

    label: int
    kind: int
    bar: int


def trace_lines(trace_id: str, trace: ReadTrace, options: ViewOptions) -> Iterator[Text]:
    """The whole view of a trace that has at least one span."""
    tree = build_tree(trace.spans)
    clock = _Clock.of(trace.spans)
    yield from _header(trace_id, trace, tree, clock, options.zone)
    shown = choose_shown(tree, options.limit)
    styles = _service_styles(trace.spans)
    levels_most = max(DEPTH_LEVELS + 2, int(options.width * LEVELS_SHARE) // LEVEL_CELLS)
    rows = [(group, list(_rows(tree, group, shown, levels_most))) for group in tree.groups]
    layout = _fit(options.width, max(_label_cells(trace.spans[row.index], row) for _, found in rows for row in found))
    painter = _Painter(trace.spans, clock, layout, styles, options)
    yield Text()
    if layout.bar:
        yield painter.ruler()
    for group, found in rows:
        if group.heading and found:
            yield Text(f"? {group.heading}", SIGN_STYLE)
        for row in found:
            yield from painter.span_lines(row)
    if options.attributes:
        yield from _resource_lines(trace.spans, styles)
    yield from _footer(trace, len(shown))


def _header(trace_id: str, trace: ReadTrace, tree: TraceTree, clock: _Clock, zone: tzinfo) -> Iterator[Text]:
    spans = trace.spans
    yield Text.assemble(("trace  ", FAINT), (trace_id, "bold"))
    root = spans[tree.roots[0]] if tree.roots else None
    named = Text.assemble(root.resource.service or NO_SERVICE, "  ", (root.name, "bold")) if root else Text("not here", SIGN_STYLE)
    yield Text.assemble(("root   ", FAINT), named)
    yield Text.assemble(("start  ", FAINT), clock.start_text(zone), ("   took  ", FAINT), duration_text(clock.total_ns))
    errors = sum(span.failed for span in spans)
    yield Text.assemble(
        ("has    ", FAINT),
        f"{_count(len(spans), 'span')} of {_count(len({span.resource.service for span in spans}), 'service')}, ",
        (_count(errors, "error"), ERROR_STYLE if errors else ""),
    )
    if len(tree.roots) > 1:
        yield Text(f"       {len(tree.roots)} roots", SIGN_STYLE)
    if tree.orphans:
        yield Text(
            f"       {_count(tree.orphans, 'span')} without the parent that {'it names' if tree.orphans == 1 else 'they name'}", SIGN_STYLE
        )
    if trace.partial:
        yield Text(f"       incomplete: {trace.message or 'the server does not say why'}", ERROR_STYLE)


def _footer(trace: ReadTrace, shown: int) -> Iterator[Text]:
    hidden = len(trace.spans) - shown
    if hidden:
        yield Text(f"{hidden:,} of {len(trace.spans):,} spans are not shown; --limit 0 shows all", SIGN_STYLE)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class _Clock:
    """The time that a trace spans. Spans without a start have no place in it."""

    start_ns: int
    total_ns: int

    @staticmethod
    def of(spans: tuple[TraceSpan, ...]) -> _Clock:
        timed = [span for span in spans if span.start_ns]
        start_ns = min((span.start_ns for span in timed), default=0)
        return _Clock(start_ns, max((max(span.start_ns, span.end_ns) for span in timed), default=0) - start_ns)

    def start_text(self, zone: tzinfo) -> str:
        """With milliseconds and the distance to UTC."""
        if not self.start_ns:
            return "unknown"
        try:
            time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.start_ns // 1000)
            return time.astimezone(zone).isoformat(" ", "milliseconds")
        except OverflowError:
            return f"{self.start_ns} ns after 1970"

    def place(self, span: TraceSpan) -> tuple[float, float] | None:
        """Where the span begins and ends, from 0 to 1; None if that is not known."""
        if not span.start_ns or not self.total_ns:
            return None
        begin = (span.start_ns - self.start_ns) / self.total_ns
        return begin, max(begin, (span.end_ns - self.start_ns) / self.total_ns)


def _service_styles(spans: tuple[TraceSpan, ...]) -> dict[str, str]:
    """A colour for each service, in order of appearance."""
    services = dict.fromkeys(span.resource.service for span in spans)
    return {service: SERVICE_STYLES[number % len(SERVICE_STYLES)] for number, service in enumerate(services)}


@dataclass(frozen=True, slots=True)
class _Node:
    """A span that is still to come. `ends` says for its levels, or the innermost of them, whether it is below the last sibling there."""

    index: int
    depth: int
    ends: tuple[bool, ...]


def _rows(tree: TraceTree, group: Group, shown: AbstractSet[int], levels_most: int) -> Iterator[_Row]:
    """The shown spans of a group, depth first. Roots stand at the margin, other tops below their heading."""
    stack = [_Node(index, 1, (end,)) if group.heading else _Node(index, 0, ()) for index, end in _siblings(group.tops, shown)]
    while stack:
        node = stack.pop()
        children = _siblings(tree.children[node.index], shown)
        hidden = len(tree.children[node.index]) - len(children)
        yield _Row(node.index, _guides(node, levels_most), _guides_below(node, levels_most, parent=bool(children)), hidden)
        ends = node.ends[-levels_most:]
        stack += [_Node(child, node.depth + 1, (*ends, end)) for child, end in children]


def _siblings(indices: Sequence[int], shown: AbstractSet[int]) -> list[tuple[int, bool]]:
    """(span, whether it is the last one) of those that are shown, backwards."""
    kept = [index for index in indices if index in shown]
    return [(index, index == kept[-1]) for index in reversed(kept)]


def _guides(node: _Node, levels_most: int) -> str:
    """The lines of the tree in front of a span; in front of a deep one its depth and the innermost lines."""
    if not node.ends:
        return ""
    own = "└╴" if node.ends[-1] else "├╴"
    if node.depth <= levels_most:
        return _uprights(node.ends[:-1]) + own
    return f"{node.depth:>{DEPTH_CELLS}}⋯" + _uprights(node.ends[-levels_most + DEPTH_LEVELS : -1]) + own


def _guides_below(node: _Node, levels_most: int, *, parent: bool) -> str:
    """The lines of the tree in front of what stands under a span."""
    own = "│ " if parent else "  "
    if node.depth <= levels_most:
        return _uprights(node.ends) + own
    return " " * DEPTH_CELLS + "⋯" + _uprights(node.ends[-levels_most + DEPTH_LEVELS :]) + own


def _uprights(ends: tuple[bool, ...]) -> str:
    return "".join("  " if end else "│ " for end in ends)


def _signs(span: TraceSpan, hidden: int) -> str:
    """What stands behind the name: how many children are hidden, events and links."""
    signs = f" +{hidden:,} hidden" if hidden else ""
    signs += f" •{len(span.events)}" if span.events else ""
    return signs + (f" →{len(span.links)}" if span.links else "")


def _label_cells(span: TraceSpan, row: _Row) -> int:
    marks = 2 * span.failed + 1
    return len(row.tail) + marks + cell_len(span.resource.service or NO_SERVICE) + cell_len(span.name) + len(_signs(span, row.hidden))


def _fit(width: int, label_cells: int) -> _Layout:
    """Columns for a line: the label gets what it needs if the bar keeps its least; a narrow line has no kinds, then no bar."""
    rest = width - DURATION_CELLS - 1
    kind = KIND_CELLS + 1 if rest - KIND_CELLS - 1 - BAR_CELLS_LEAST - 2 >= LABEL_CELLS_LEAST else 0
    rest -= kind
    if rest - BAR_CELLS_LEAST - 2 < LABEL_CELLS_LEAST:
        return _Layout(max(rest, 8), kind, 0)
    label = min(label_cells, rest - BAR_CELLS_LEAST - 2)
    return _Layout(label, kind, min(rest - 2 - label, BAR_CELLS_MOST))


@dataclass(frozen=True, slots=True)
class _Painter:
    """What every line needs."""

    spans: tuple[TraceSpan, ...]
    clock: _Clock
    layout: _Layout
    styles: dict[str, str]
    options: ViewOptions

    def ruler(self) -> Text:
        """The heading of the bars: from zero to the duration of the trace."""
        before = self.layout.label + self.layout.kind + DURATION_CELLS + 3
        end = duration_text(self.clock.total_ns)
        return Text(f"{'':{before}}0{end:>{self.layout.bar - 1}}", FAINT)

    def span_lines(self, row: _Row) -> Iterator[Text]:
        """The span's own line, then its error, its exceptions and, if asked for, everything else."""
        span = self.spans[row.index]
        yield self._line(span, row)
        lead = Text(row.below, FAINT)
        events = [read_event(event) for event in span.events]
        exceptions = [_exception_text(event) for event in events if event.name == EXCEPTION]
        if span.failed and span.status_message and span.status_message not in exceptions:
            yield self._cut(Text.assemble(lead, (f"✗ {span.status_message}", "red")))
        for text in exceptions:
            yield self._cut(Text.assemble(lead, (f"! {text}", "red")))
        if self.options.attributes:
            yield from (Text.assemble(lead, line) for line in _details(span, events))

    def _line(self, span: TraceSpan, row: _Row) -> Text:
        service = span.resource.service
        label = Text.assemble(
            (row.tail, FAINT),
            ("✗ ", ERROR_STYLE) if span.failed else "",
            (service or NO_SERVICE, self.styles[service]),
            " ",
            (span.name, ERROR_STYLE if span.failed else "bold"),
        )
        signs = _signs(span, row.hidden)
        label.truncate(max(self.layout.label - len(signs), 1), overflow="ellipsis")
        label.append(signs, SIGN_STYLE)
        label.truncate(self.layout.label, overflow="ellipsis", pad=True)
        kind = KINDS[span.kind] if span.kind < len(KINDS) else str(span.kind)
        if self.layout.kind:
            label.append(f" {kind:{KIND_CELLS}.{KIND_CELLS}}", FAINT)
        label.append(f" {duration_text(span.duration_ns):>{DURATION_CELLS}}")
        if self.layout.bar:
            place = self.clock.place(span)
            label.append("  ")
            label.append(bar(place, self.layout.bar) if place else "", "red" if span.failed else self.styles[service])
        label.rstrip()
        return label

    def _cut(self, line: Text) -> Text:
        line.truncate(self.options.width, overflow="ellipsis")
        return line


def _exception_text(event: TraceEvent) -> str:
    kind, message = event.attribute("exception.type"), event.attribute("exception.message")
    return ": ".join(part for part in (kind, message) if part) or EXCEPTION


def _details(span: TraceSpan, events: list[TraceEvent]) -> Iterator[Text]:
    """Everything else that a span says, in full."""
    yield Text.assemble(("id ", FAINT), span.span_id.hex(), *((("  scope ", FAINT), span.scope) if span.scope else ()))
    yield from _attribute_lines(read_attributes(iter(span.attributes)), "")
    for event in events:
        offset = f"{duration_text(event.time_ns - span.start_ns)} after its start" if event.time_ns and span.start_ns else ""
        yield Text.assemble(("• ", SIGN_STYLE), (event.name, "red" if event.name == EXCEPTION else ""), (f"  {offset}", FAINT))
        yield from _attribute_lines(event.attributes, "    ")
    for link in span.links:
        trace_id, span_id, attributes = read_link(link)
        yield Text.assemble(("→ ", SIGN_STYLE), f"trace {trace_id} span {span_id}")
        yield from _attribute_lines(attributes, "    ")


def _attribute_lines(attributes: tuple[tuple[str, str], ...], indent: str) -> Iterator[Text]:
    for key, value in attributes:
        first, *others = value.rstrip("\n").split("\n")
        yield Text.assemble(indent, (key, "cyan"), (" = ", FAINT), first)
        yield from (Text(f"{indent}    {line}") for line in others)


def _resource_lines(spans: tuple[TraceSpan, ...], styles: dict[str, str]) -> Iterator[Text]:
    """The attributes of each distinct resource, which its spans share."""
    for resource in dict.fromkeys(span.resource for span in spans):
        yield Text()
        yield Text.assemble(("resource  ", FAINT), (resource.service or NO_SERVICE, styles[resource.service]))
        yield from _attribute_lines(read_attributes(iter(resource.attributes)), "  ")


def bar(place: tuple[float, float], cells: int) -> str:
    """A bar from one share of `cells` to another, to half a cell, never empty."""
    halves = 2 * cells
    begin = min(int(place[0] * halves), halves - 1)
    end = min(max(round(place[1] * halves), begin + 1), halves)
    text = " " * (begin // 2)
    if begin % 2:
        text += "▐"
        begin += 1
    text += "█" * ((end - begin) // 2)
    return text + ("▌" if end > begin and (end - begin) % 2 else "")


_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def duration_text(duration_ns: int) -> str:
    """At most nine cells: `850 ns`, `12.3 µs`, `4.56 ms`, `1.23 s`, `2m 03s`, `5h 07m`, `12d 3h`."""
    sign, size = ("-", -duration_ns) if duration_ns < 0 else ("", duration_ns)
    seconds = round(size / 1e9)
    if seconds >= 86_400:
        days = seconds // 86_400
        return f"{sign}{days}d {seconds % 86_400 // 3600}h" if days < 1000 else f"{sign}{days:,}d"
    if seconds >= 3600:
        return f"{sign}{seconds // 3600}h {seconds % 3600 // 60:02}m"
    if seconds >= 60:
        return f"{sign}{seconds // 60}m {seconds % 60:02}s"
    for unit_ns, unit in _UNITS:
        if size >= unit_ns:
            number = size / unit_ns
            return f"{sign}{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"
    return f"{sign}{size} ns"
