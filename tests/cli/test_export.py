"""`pwff export`: tables, figures, one zip, or a client's model; runs are scripted."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.cli.arguments import EXPORTS, Run, parse
from pwff_core.cli.config_flags import config_of
from pwff_core.config import RunConfig
from pwff_core.export.build import RUN_FIGURES
from pwff_core.export.options import parse_options
from pwff_core.figures.printing import PRESETS
from pwff_core.runs.store import Store
from tests.support import scripted
from tests.support.cli_output import error_line

ONLY_FOR_PEFT = "--client and --when choose a model; add --as peft, or leave them out for the run's tables."
NOT_FOR_PEFT = "--formats, --size and --figures are of tables and figures; leave them out with --as peft."
UNKNOWN_FIGURE = (
    "There is no figure 'delya'; there are accuracy, reward, delay, energy, refusals, kl, pairs, loss, plane. Did you "
    "mean 'delay'?"
)
NO_NUMBERS = "This run has no numbers for the figure 'delay'; it has none of any figure."


@pytest.fixture(autouse=True)
def no_chrome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No browser draws pictures here."""
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nowhere"))


def played(path: Path) -> str:
    """A finished run of two clients and three rounds, in the store at a path."""
    return scripted.played(Store(path), RunConfig(clients=2))


def test_the_help_lists_figures_sizes_and_contents(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (", ".join(RUN_FIGURES), "|".join(PRESETS), "|".join(EXPORTS)):
        assert words in help_text
    assert [content for content in EXPORTS if content != "peft"] == ["tables", "figures", "all", "zip"]
    assert all(parse_options(content).content == content for content in EXPORTS if content != "peft")


# which run is exported


def test_export_by_id_by_its_start_and_latest(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oldest, newest = played(path), played(path)
    for word, run_id in (("latest", newest), (oldest, oldest), (newest[:7], newest)):
        to = tmp_path / word
        assert cli.main(["export", word, "--to", str(to)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(to / n) for n in ("rounds.csv", "clients.csv", "run.json")]
        assert json.loads((to / "run.json").read_text(encoding="utf-8"))["id"] == run_id


def test_an_unknown_run_names_the_newest(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert error_line(capsys, "export", "latest") == f"There is no run 'latest' in {path}; there are none yet."
    ids = [Store(path).create_run(RunConfig()) for _ in range(6)]
    error = error_line(capsys, "export", "nosuchid")
    assert error == f"There is no run 'nosuchid' in {path}; the newest are {', '.join(ids[:0:-1])}."
    Store(path).delete(ids[-1])
    assert "There is no run" in error_line(capsys, "export", ids[-1])


def test_the_start_of_several_runs_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    for run_id in ("abc23456", "abd23456"):
        made = store.create_run(RunConfig())
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE runs SET id = ? WHERE id = ?", (run_id, made))
        connection.close()
    error = error_line(capsys, "export", "ab")
    assert error == "'ab' is the start of several runs: abd23456, abc23456; give more letters."


def test_peft_exports_the_model_of_that_client_from_before_or_after(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def export_model(store: Store, *arguments: object) -> list[Path]:
        calls.append(arguments)
        return [tmp_path / "README.md"]

    monkeypatch.setattr("pwff_core.engine.peft_export.export_model", export_model)
    run_id = Store(path).create_run(RunConfig())
    assert cli.main(["export", "latest", "--as", "peft", "--client", "3"]) == 0
    assert cli.main(["export", run_id, "--client", "0", "--as", "peft", "--when", "before", "--to", "there"]) == 0
    assert calls == [
        (run_id, 3, "after", Path(f"{run_id}-client-3")),
        (run_id, 0, "before", Path("there")),
    ]
    assert capsys.readouterr().out == f"{tmp_path / 'README.md'}\n" * 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--as", "peft"], "--as peft writes one client's model; say whose with --client 0 or another number."),
        (["--as", "pfet", "--client", "1"], "--as: 'pfet' is not one of tables, figures, all, zip, peft."),
        (["--as", "peft", "--client", "1", "--when", "during"], "--when: 'during' is not one of before, after."),
        (["--client", "1"], ONLY_FOR_PEFT),
        (["--when", "before"], ONLY_FOR_PEFT),
        (["--clinet", "1"], "Unknown flag --clinet; did you mean --client? `pwff export --help` lists all flags."),
        (["--client", "1", "--as", "zip"], ONLY_FOR_PEFT),
        (["--as", "peft", "--client", "1", "--size", "slide"], NOT_FOR_PEFT),
        (["--as", "figures", "--formats", "gif"], "--formats: 'gif' is not one of png, svg, pdf, html."),
        (["--formats", "pdf"], "--formats: 'pdf' is not one of csv, json, parquet; --as all takes it."),
        (["--as", "all", "--formats", ","], "--formats is empty; give at least one, with commas between."),
        (["--as", "all", "--size", "A4"], "--size: 'A4' is not one of ieee-1, ieee-2, slide."),
        (["--size", "slide"], "--size and --figures are of figures; add --as figures, all or zip."),
        (["--as", "zip", "--figures", "delya"], UNKNOWN_FIGURE),
        (["--as", "zip", "--figures", "delay"], NO_NUMBERS),
        (["--ass", "peft"], "Unknown flag --ass; did you mean --as? `pwff export --help` lists all flags."),
    ],
)  # fmt: skip
def test_flags_that_disagree_are_refused(
    path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    Store(path).create_run(RunConfig())
    assert error_line(capsys, "export", "latest", *words) == error


def test_a_run_without_models_exports_none(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = Store(path).create_run(RunConfig())
    error = error_line(capsys, "export", run_id, "--as", "peft", "--client", "3")
    assert error.startswith(f"There are no models in {path.parent / 'models' / run_id};")


# figures, and everything


def test_a_zip_without_chrome_leaves_pictures_out_and_says_so(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = played(path)
    assert cli.main(["export", "latest", "--as", "zip", "--to", str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    file = tmp_path / "out" / f"pwff-{run_id}.zip"
    assert output.out == f"{file}\n"
    assert "so PNG, SVG and PDF are left out; HTML and all tables need no Chrome." in output.err
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert f"pwff-{run_id}/config.toml" in archive.namelist()


def test_an_exported_config_is_the_run_s(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(path)
    assert cli.main(["export", run_id, "--as", "all", "--formats", "csv", "--to", str(tmp_path / "out")]) == 0
    names = ["tables/rounds.csv", "tables/clients.csv", "caption.txt", "run.json", "config.toml", "README.txt"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    command = parse(["run", "--config", str(tmp_path / "out" / "config.toml"), "--preset", "paper"])
    assert isinstance(command, Run)
    assert config_of(command.preset, command.config, command.settings) == Store(path).run(run_id).config


def test_formats_asked_for_by_name_and_not_drawn_are_exit_code_1(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = played(path)
    words = ["export", run_id, "--as", "figures", "--figures", "delay", "--to", str(tmp_path / "out")]
    assert cli.main([*words, "--formats", "pdf,html"]) == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == [str(tmp_path / "out" / name) for name in ("figures.html", "caption.txt")]
    assert output.err.startswith("pwff: $BROWSER_PATH names ") and output.err.count("\n") == 1
    assert (tmp_path / "out" / "caption.txt").read_text(encoding="utf-8").startswith("delay: Delay of a round after")
    assert cli.main([*words, "--formats", "html", "--size", "slide"]) == 0


def test_a_folder_that_cannot_be_written_is_refused(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played(path)
    (tmp_path / "file").write_text("in the way")
    for content in ("tables", "zip"):
        error = error_line(capsys, "export", "--as", content, "--formats", "csv", "--to", str(tmp_path / "file"))
        assert error == f"Cannot write into {tmp_path / 'file'} (File exists); choose another folder."
