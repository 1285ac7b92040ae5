"""Tables show every number, where it comes from and what it is worth, in the paper's layout."""

from html.parser import HTMLParser

import pandas as pd
import pytest

import compare_peers
import show_table
from hnetcl import records, tables
from hnetcl.verdicts import compare, summarise
from test_records import make_record
from test_verdicts import make_reference, make_runs


def make_table(runs, reference, experiments=("SplitMNIST",), margin=0.5):
    return tables.build_table(
        summarise(runs),
        compare(runs, reference, margin),
        reference,
        list(experiments),
        "Table 1 & co",
        margin,
    )


def cell(table, method, scenario, grid=0):
    return table.grids[grid].cells.loc[method, scenario]


def test_a_cell_shows_our_value_the_published_one_and_the_verdict():
    table = make_table(make_runs([90.0, 92.0]), make_reference(95.25, 0.01))
    assert cell(table, "HNET+ENT", "CL1") == [
        "91.00 ± 1.00 (n=2)",
        "paper 95.25 ± 0.01 (n=20)",
        "below (−4.25)",
    ]


def test_a_single_seed_shows_no_spread():
    table = make_table(make_runs([95.0]), make_reference(95.25, 0.01))
    assert cell(table, "HNET+ENT", "CL1") == [
        "95.00 (n=1)",
        "paper 95.25 ± 0.01 (n=20)",
        "reproduced (−0.25)",
    ]


def test_a_published_cell_without_a_run_says_so():
    reference = pd.concat([make_reference(95.0, 0.1), make_reference(90.0, 0.1, "HNET+R")])
    table = make_table(make_runs([95.0]), reference)
    assert cell(table, "HNET+R", "CL1") == ["not run", "paper 90.00 ± 0.10 (n=20)"]


def test_a_cell_that_nobody_has_stays_visibly_empty():
    runs = pd.concat([make_runs([95.0]), make_runs([80.0], "my method", "cl2")])
    table = make_table(runs, make_reference(95.0, 0.1))
    assert cell(table, "my method", "CL1") == ["–"]
    assert cell(table, "my method", "CL2") == ["80.00 (n=1)"]


def test_marks_and_their_notes_come_together():
    checked = make_reference(95.0, 0.1)
    bound = make_reference(95.0, 0.1, "Offline (joint)", artefact="van de Ven baselines (not in paper table)")
    runs = pd.concat([make_runs([95.0]), make_runs([95.0], "Offline (joint)")])

    plain = make_table(runs, checked)
    marked = make_table(runs, pd.concat([checked.assign(confidence="unchecked"), bound]))

    assert cell(plain, "HNET+ENT", "CL1")[1].endswith("(n=20)")
    assert cell(marked, "HNET+ENT", "CL1")[1].endswith("(n=20)†")
    assert cell(marked, "Offline (joint)", "CL1")[1].endswith("(n=20)‡§")
    assert [note[0] for note in plain.notes] == ["r"]
    assert [note[0] for note in marked.notes] == ["r", "†", "‡", "§"]
    as_published = make_table(runs.assign(redrawn=runs["method"] == "Offline (joint)"), pd.concat([checked, bound]))
    assert cell(as_published, "HNET+ENT", "CL1")[1].endswith("(n=20)")
    assert cell(as_published, "Offline (joint)", "CL1")[1].endswith("(n=20)‡¶")
    assert [note[0] for note in as_published.notes] == ["r", "‡", "¶"]


def test_the_rule_is_stated_with_the_margin_that_was_used():
    (note,) = make_table(make_runs([95.0]), make_reference(95.0, 0.1), margin=0.75).notes
    assert "0.75 percentage points" in note


def test_methods_stand_in_the_papers_order_and_scenarios_in_theirs():
    labels = ["Offline (joint)", "None (fine-tune)", "DGR+distill", "zeta", "HNET+R", "HNET+ENT"]
    everything = [make_record(label=label, scenarios=("cl3", "cl1", "cl2")) for label in labels]
    (grid,) = make_table(records.runs_table(everything), make_reference(1, 1)[:0]).grids
    expected = ["HNET+ENT", "HNET+R", "DGR+distill", "zeta", "None (fine-tune)", "Offline (joint)"]
    assert list(grid.cells.index) == expected
    assert list(grid.cells.columns) == ["CL1", "CL2", "CL3"]


def test_without_published_values_nothing_claims_to_be_compared():
    runs = make_runs([95.0, 96.0], title="Split digits")
    table = make_table(runs, make_reference(1, 1)[:0], ["Split digits"])
    assert table.notes == []
    for text in (tables.markdown(table), tables.latex(table)):
        assert "95.50" in text
        assert "paper" not in text
        assert "reproduced" not in text


def test_experiments_stand_in_the_order_asked_for_and_an_unknown_one_is_named():
    runs = pd.concat([make_runs([95.0]), make_runs([90.0], title="Split digits")])
    table = make_table(runs, make_reference(95.0, 0.1), ["Split digits", "SplitMNIST"])
    assert [grid.experiment for grid in table.grids] == ["Split digits", "SplitMNIST"]
    with pytest.raises(ValueError, match=r"SplitCIFAR.*Allowed.*SplitMNIST"):
        make_table(runs, make_reference(95.0, 0.1), ["SplitCIFAR"])


def two_experiments():
    everything = [
        make_record(title, label, seed)
        for title in ("SplitMNIST", "50%_digits & more")
        for label in ("HNET+ENT", "None (fine-tune)")
        for seed in range(2)
    ]
    runs = pd.concat([records.runs_table(everything), make_runs([88.0], scenario="cl2")])
    return make_table(runs, make_reference(95.0, 0.1), ["SplitMNIST", "50%_digits & more"])


def test_markdown_rows_have_as_many_fields_as_their_header_and_every_line_of_every_cell():
    table = two_experiments()
    blocks = [block.splitlines() for block in tables.markdown(table).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2
    for block, (_, cells) in zip(blocks, table.grids, strict=True):
        header, _, *rows = ([field.strip() for field in row.strip("|").split("|")] for row in block)
        assert header == ["Method", *cells.columns]
        assert [row[0] for row in rows] == list(cells.index)
        for row, lines in zip(rows, cells.to_numpy(), strict=True):
            assert [field.split("<br>") for field in row[1:]] == list(lines)


def test_latex_rows_are_balanced_and_special_characters_escaped():
    text = tables.latex(two_experiments())
    (columns,) = (line for line in text.splitlines() if line.startswith(r"\begin{tabular}"))
    width = len(columns.removeprefix(r"\begin{tabular}").strip("{}"))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {width - 1}
    assert r"50\%\_digits \& more" in text
    assert r"Table 1 \& co" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()  # no sign that a document would need a package for
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption", r"$\pm$"):
        assert rule in text


class Cells(HTMLParser):
    """The text of every cell of a page's tables, lines parted by <br>, and the kinds of those that have one."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.kinds, self.inside = [], {}, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside, self.kind = True, dict(attributes).get("class")
        elif tag == "br":
            self.rows[-1][-1] += "<br>"

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False
            if self.kind:
                self.kinds[self.rows[-1][-1]] = self.kind

    def handle_data(self, text):
        if self.inside:
            self.rows[-1][-1] += text


def test_the_page_of_a_table_has_the_same_cells_as_its_markdown(tmp_path, monkeypatch):
    runs = pd.concat([make_runs([90.0, 92.0]), make_runs([99.0], "a < b & c", "cl3"), make_runs([96.0], "SI", "cl2")])
    reference = pd.concat([make_reference(95.25, 0.01), make_reference(90.0, 0.1, "SI", "CL2")])
    text = tables.markdown(make_table(runs, reference))
    (tmp_path / "mine.md").write_text(text)
    monkeypatch.setattr(
        "sys.argv", ["show", "--markdown", str(tmp_path / "mine.md"), "--html", str(tmp_path / "mine.html")]
    )
    show_table.main()
    page = (tmp_path / "mine.html").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    shown = Cells(page)
    assert shown.rows == [line.strip("| ").split(" | ") for line in lines]
    assert sorted(shown.kinds.values()) == ["above", "below"]
    assert all(kind in cell.split("<br>")[-1] for cell, kind in shown.kinds.items())
    assert "<h2>Table 1 &amp; co</h2>" in page and "<h3>SplitMNIST</h3>" in page
    assert "|" not in page and "**" not in page and "<li>reproduced: " in page


def test_the_authors_code_stands_beside_our_runs_and_the_published_values(tmp_path, monkeypatch):
    """A seed's accuracy is the mean over its tasks; the verdict compares ours with theirs, not with the published."""
    peers = tmp_path / "peers.csv"
    peers.write_text(
        "method,scenario,seed,task,final,during,inference\n"
        "hnet_r,CL3,1,1,96.0,99.0,\nhnet_r,CL3,1,2,94.0,99.0,\n"
        "hnet_ent,CL1,1,1,90.0,99.0,\nhnet_ent,CL1,1,2,80.0,99.0,\n"
        "hnet_ent,CL1,2,1,91.0,99.0,\nhnet_ent,CL1,2,2,83.0,99.0,\n"
    )
    runs, reference = tmp_path / "runs.csv", tmp_path / "reference.csv"
    records.write_table(make_runs([86.0, 86.5]), runs)
    records.write_table(make_reference(95.25, 0.01), reference)
    csv, text = tmp_path / "out.csv", tmp_path / "out.md"
    options = {"peers": peers, "runs": runs, "reference": reference, "csv": csv, "markdown": text}
    arguments = [word for name, path in options.items() for word in (f"--{name}", str(path))]
    monkeypatch.setattr("sys.argv", ["compare_peers", "--experiment", "SplitMNIST", *arguments])
    compare_peers.main()
    assert text.read_text().splitlines()[2:] == [
        "| HNET+ENT, CL1 | 86.00 ± 1.00 (n=2) | 86.25 ± 0.25 (n=2)<br>reproduced (+0.25) | 95.25 ± 0.01 |",
        "| HNET+R, CL3 | 95.00 (n=1) | not run | – |",
    ]
    assert pd.read_csv(csv)["theirs_mean"].tolist() == [86.0, 95.0]
