"""A plot from the user's own folder is in the report, and an error in it is one line."""

import sys

import pytest
from doc_blocks import block_with
from html_page import Page

from dmml.__main__ import main
from dmml.evaluation.endpoints.survival import SurvivalEndpoint
from dmml.evaluation.plots import Plot, new_figure
from dmml.evaluation.report.build import write_report

MODULE = '''
from dmml.evaluation.plots import Plot, new_figure


def risk_histogram(results):
    """How the predicted risk is distributed."""
    figure, axes = new_figure()
    axes.hist(results.predictions["risk"])
    axes.set_xlabel("predicted <risk>")
    return Plot("risk histogram", "Distribution of the risk", figure, caption=f"All patients of {results.cohort}.")


def with_pyplot(results):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1])
    return Plot("pyplot", "Drawn with pyplot", figure)


def nothing(results):
    return None


def figure_only(results):
    return new_figure()[0]


def twice(results):
    return Plot("risk_histogram", "The same name", new_figure()[0])


def folds(results):
    return Plot("folds", "A name of the report's own plots", new_figure()[0])


def fails(results):
    return results.predictions["no such column"]


def bad_text(results):
    figure, axes = new_figure()
    axes.set_title("$\\\\frac{$", parse_math=True)
    return Plot("bad", "Bad", figure)


word = "not a function"
'''


@pytest.fixture
def my_folder(tmp_path, monkeypatch):
    """A user's folder with a module of plots; it is the working directory."""
    (tmp_path / "my_plots.py").write_text(MODULE)
    (tmp_path / "broken_plots.py").write_text("1 / 0\n")
    (tmp_path / "needy_plots.py").write_text("import a_library_that_is_not_here\n")
    for name in ("my_plots", "broken_plots", "needy_plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plot_from_the_working_directory_is_in_the_report(my_folder, cohort, make):
    make.survival(my_folder / "runs" / "a", cohort)
    make.survival(my_folder / "runs" / "b", cohort, model="teacher")
    options = ["--plot", "my_plots:risk_histogram", "--plot", "my_plots:nothing", "--plot", "my_plots:with_pyplot"]
    assert main(["report", "runs/a", "runs/b", *options, "--out", "page.html"]) == 0
    page = Page((my_folder / "page.html").read_text()).check()
    assert page.text.count("Distribution of the risk") == 2
    assert page.text.count("All patients of held_out.") == 2
    assert page.text.count("Drawn with pyplot") == 2
    assert "predicted <risk>" in page.text
    assert "dmml report runs/a runs/b --plot my_plots:risk_histogram --plot my_plots:nothing" in page.text
    saved = {path.name for path in (my_folder / "page_plots").iterdir()}
    assert {"a_held_out_risk_histogram.png", "b_held_out_risk_histogram.svg", "a_held_out_pyplot.png"} <= saved


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("my_plots", "--plot my_plots: name a function as module:function"),
        ("my_plots:absent", "--plot my_plots:absent: my_plots has no function absent"),
        ("my_plots:word", "--plot my_plots:word: word of my_plots is not a function"),
        ("no_plots:f", "--plot no_plots:f: there is no module no_plots; put no_plots.py into the working directory"),
        ("broken_plots:f", "broken_plots cannot be imported (ZeroDivisionError: division by zero)"),
        ("needy_plots:f", "needy_plots cannot be imported (ModuleNotFoundError: No module named 'a_library_that"),
        ("my_plots:fails", "--plot my_plots:fails: failed on held_out (KeyError: 'no such column')"),
        ("my_plots:figure_only", "--plot my_plots:figure_only: returned Figure; return dmml.evaluation.plots.Plot("),
        ("my_plots:bad_text", "--plot my_plots:bad_text: failed on held_out (ValueError"),
    ],
)
def test_an_error_in_a_plot_is_reported_in_one_line(my_folder, cohort, make, capsys, name, line):
    make.survival(my_folder / "runs" / "a", cohort, horizons=[365])
    assert main(["report", "runs/a", "--plot", name]) == 2
    message = capsys.readouterr().err.strip()
    assert line in message
    assert "\n" not in message
    assert not (my_folder / "runs" / "a" / "report.html").exists()


def test_two_plots_with_one_name_are_refused(my_folder, cohort, make, capsys):
    make.survival(my_folder / "runs" / "a", cohort, horizons=[365])
    assert main(["report", "runs/a", "--plot", "my_plots:risk_histogram", "--plot", "my_plots:twice"]) == 2
    assert "the report has another plot with the name risk_histogram" in capsys.readouterr().err


def test_a_plot_of_the_endpoint_is_a_plot_of_every_report(tmp_path, cohort, make, monkeypatch):
    drawn = SurvivalEndpoint.plots

    def with_another(self, test):
        plot = Plot("n", "Patients", new_figure()[0], f"{len(test.with_outcome)} patients.")
        return [*drawn(self, test), plot]

    monkeypatch.setattr(SurvivalEndpoint, "plots", with_another)
    make.survival(tmp_path / "run", cohort, horizons=[365])
    page = Page(write_report([tmp_path / "run"]).read_text()).check()
    assert "60 patients." in page.text


def test_the_example_in_the_documentation_works(my_folder, cohort, make):
    (my_folder / "my_plots.py").write_text(block_with("docs/reports.md", "def risk_by_tissue"))
    make.survival(my_folder / "runs" / "luad", cohort, horizons=[365])
    assert main(["report", "runs/luad", "--plot", "my_plots:risk_by_tissue"]) == 0
    assert "One dot per patient of held_out." in Page((my_folder / "runs" / "luad" / "report.html").read_text()).text
