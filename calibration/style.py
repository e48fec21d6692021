"""The frame of every report: light and dark, screen and paper; no scripts, fonts or files to load."""

from collections.abc import Sequence
from html import escape

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #17202a; --soft: #5b6773; --line: #d9dee3; --grid: #e8ebee;
  --good: #2f6fb5; --bad: #c2571a; --error: #b3261e; --error-bg: #fdeceb;
  --pass: #1f7a46; --review: #9a6b00; --fail: #b3261e;
  --pass-zone: #1f7a4612; --review-zone: #d99a0026; --fail-zone: #b3261e14;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1b2128; --ink: #e8ecf0; --soft: #9aa7b4; --line: #323b45; --grid: #2a323b;
    --good: #6aa9ea; --bad: #f0955a; --error: #ff8a80; --error-bg: #43211f;
    --pass: #62c88e; --review: #e5b64a; --fail: #ff8a80;
    --pass-zone: #62c88e14; --review-zone: #e5b64a22; --fail-zone: #ff8a8018;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; display: grid; gap: 20px; }
main > * { min-width: 0; }
h1 { margin: 0; font-size: 32px; line-height: 1.2; overflow-wrap: anywhere; }
h1 span { color: var(--soft); font-weight: 400; }
h2 { margin: 0 0 8px; font-size: 18px; }
p { margin: 0 0 8px; }
.kicker { color: var(--soft); font-size: 13px; letter-spacing: .08em; text-transform: uppercase; }
.facts, .hint { color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
.lead { font-size: 20px; margin-top: 16px; max-width: 60ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 24px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 16px;
  padding: 0; border: 0; background: none; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 20px; }
.card h2 { font-size: 14px; color: var(--soft); font-weight: 600; margin: 0; }
.card .value { font-size: 34px; font-weight: 650; line-height: 1.25; margin: 2px 0 6px; }
.card p:last-child { font-size: 14px; color: var(--soft); margin: 0; }
.notes { border-left: 4px solid var(--review); }
.notes ul { margin: 0; padding-left: 20px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 12px; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; font-weight: 500; overflow-wrap: anywhere; }
thead th { color: var(--soft); font-size: 14px; font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
td.error { color: var(--error); background: var(--error-bg); font-weight: 650; }
.bar { display: inline-block; width: 90px; height: 8px; border-radius: 4px; background: var(--grid);
  margin-right: 10px; overflow: hidden; vertical-align: middle; }
.bar i { display: block; height: 100%; background: var(--bad); }
svg { display: block; width: 100%; height: auto; margin-top: 12px; }
svg text { fill: var(--ink); font-size: 13px; }
svg .tick { fill: var(--soft); text-anchor: middle; }
svg .name { text-anchor: end; }
svg .limit-name { font-weight: 600; }
svg .limit-name.review { fill: var(--review); } svg .limit-name.fail { fill: var(--fail); }
.good { fill: var(--good); } .bad { fill: var(--bad); }
.base, .frame { stroke: var(--line); fill: none; }
.grid { stroke: var(--grid); } .chance { stroke: var(--line); stroke-dasharray: 4 5; }
.zone.pass { fill: var(--pass-zone); } .zone.review { fill: var(--review-zone); }
.zone.fail { fill: var(--fail-zone); }
.limit { stroke-width: 1.5; } .limit.review { stroke: var(--review); } .limit.fail { stroke: var(--fail); }
.curve { fill: none; stroke: var(--good); stroke-width: 2.5; stroke-linejoin: round; }
.curve.bad-curve { stroke: var(--bad); } .key { font-weight: 650; }
.key.good { color: var(--good); } .key.bad { color: var(--bad); }
.dot { fill: var(--review); stroke: var(--card); stroke-width: 2; }
.roc { display: grid; grid-template-columns: 1fr minmax(0, 400px); gap: 32px; align-items: center; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 16px;
  margin-top: 12px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure.wrong { border: 2px solid var(--error); }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; background: var(--grid); }
figure img { width: 100%; height: 150px; object-fit: contain; display: block; }
.single figure div { grid-template-columns: 1fr; }
.single { grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); }
figcaption { padding: 8px 12px; font-size: 13px; overflow-wrap: anywhere; }
.tag { border: 1px solid currentColor; border-radius: 10px; padding: 0 8px; font-size: 12px;
  font-weight: 600; }
.tag.pass { color: var(--pass); } .tag.review { color: var(--review); } .tag.fail { color: var(--fail); }
@media (max-width: 700px) {
  .roc { grid-template-columns: 1fr; } main { padding: 20px 12px; }
  section { padding: 16px; overflow-x: auto; }
  .bar { display: none; } th, td { padding: 8px 6px; }
}
@media print { body { background: #fff; } section, .card, figure { break-inside: avoid; } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page; `title` is plain text, the sections are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
