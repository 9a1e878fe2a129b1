"""``gradscope compare`` as a user runs it, on the sample runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compare_makers import assert_reasons
from makers import case_run
from run_cli import gradscope

import gradscope as api

SAMPLES = Path(__file__).parent.parent.parent / "sample_checkpoints"
COLLAPSE, HEALTHY, CONFOUNDED = (str(SAMPLES / name) for name in ("collapse", "healthy", "confounded"))
PROJECTION = "q_net.features_extractor.temporal_projection.weight"


@pytest.mark.parametrize(("a", "b", "worse"), [(COLLAPSE, HEALTHY, "a"), (HEALTHY, COLLAPSE, "b")])
def test_the_collapsed_run_is_worse_whichever_comes_first(a: str, b: str, worse: str, tmp_path: Path) -> None:
    done = gradscope("compare", a, b, "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert (document["verdict"], document["step"]) == (f"{worse} is worse", 10_000)
    assert [each["verdict"] for each in document["steps"]] == ["no difference"] * 3 + [
        f"{worse} is worse"
    ] * 2
    assert_reasons(document)
    layer = next(each for each in document["layers"] if each["name"] == PROJECTION)
    assert layer["parted_step"] == 8000


def test_the_screen_says_it_in_words(tmp_path: Path) -> None:
    done = gradscope("compare", COLLAPSE, HEALTHY, directory=tmp_path)
    assert done.code == 0
    words = " ".join(done.out.split())
    assert (
        "Verdict: A is worse. B keeps its gradients where A loses them: at step 10,000 A has 46.4 %" in words
    )
    assert "only B has input_norm.market.weight" in words
    assert "one batch each: no interval" in words
    assert max(map(len, done.out.splitlines()[3:])) <= 80
    verdict = done.out[done.out.index("Verdict:") :].partition("\n\n")[0]
    assert f"```\n{verdict}\n```" in (SAMPLES.parent / "README.md").read_text("utf-8")


def test_a_healthy_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    done = gradscope("compare", HEALTHY, HEALTHY, "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "no difference"
    assert {each["difference"] for each in document["steps"]} == {0.0}
    assert document["runs"] == ["healthy", "healthy"]
    assert_reasons(document)


def test_recomputed_and_stored_gradients_of_one_run_do_not_differ(tmp_path: Path) -> None:
    """Their fresh networks do, by 5 points and more: that alone is no verdict."""
    scan = ("scan", CONFOUNDED, "--source", "recomputed", "--batches", "2", "-q", "-o", "again.json")
    assert gradscope(*scan, directory=tmp_path).code == 0
    done = gradscope("compare", "again.json", CONFOUNDED, "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "no difference"
    assert any("recomputed in A and stored in B" in each for each in document["warnings"])
    assert document["reasons"]["shift"].startswith("A: not measured")
    assert_reasons(document)


def test_other_architectures_are_said_to_share_no_layer(tmp_path: Path) -> None:
    done = gradscope("compare", CONFOUNDED, COLLAPSE, "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "mixed"
    assert any("no layer has the same name in both" in each for each in document["warnings"])
    assert {each["verdict"] for each in document["layers"]} == {"not comparable"}
    assert_reasons(document)


def test_two_files_of_one_run_are_a_pair(tmp_path: Path) -> None:
    files = [f"{COLLAPSE}/rl_model_{step}_steps.zip" for step in (6000, 8000)]
    done = gradscope("compare", *files, "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "b is worse"
    assert document["runs"] == ["collapse/rl_model_6000_steps.zip", "collapse/rl_model_8000_steps.zip"]
    assert "different steps: step 6,000 in A, step 8,000 in B" in document["warnings"]
    assert_reasons(document)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((COLLAPSE,), "RUN_B"),
        (("nowhere", HEALTHY), "nowhere: no such file"),
        ((HEALTHY, "nowhere"), "nowhere: no such file"),
        ((str(SAMPLES), HEALTHY), "3 runs are here: collapse, confounded, healthy. Name one's folder, like"),
        ((str(SAMPLES), HEALTHY, "--run", "ill"), "no run is called 'ill'"),
        ((COLLAPSE, HEALTHY, "--layer", "*input_norm*"), f"{COLLAPSE}: --layer *input_norm*: fits none"),
        ((COLLAPSE, HEALTHY, "-o", "x.html"), "unknown form"),
        (("broken.json", HEALTHY), "not valid JSON"),
        (("other.json", HEALTHY), "not a gradscope result"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    done = gradscope("compare", *arguments, directory=tmp_path)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1


def test_one_run_of_a_folder_can_be_named(tmp_path: Path) -> None:
    done = gradscope("compare", str(SAMPLES), COLLAPSE, "--run", "healthy", "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["runs"] == ["healthy", "collapse"]
    assert document["verdict"] == "b is worse"


def two_runs(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        case_run(folder / name)


@pytest.mark.parametrize("empty", ["a", "b"])
def test_a_run_of_which_nothing_can_be_read_is_4_and_still_a_document(empty: str, tmp_path: Path) -> None:
    two_runs(tmp_path)
    for file in (tmp_path / empty).iterdir():
        file.unlink()
    done = gradscope("compare", "a", "b", "--json", directory=tmp_path)
    assert done.code == 4
    document = json.loads(done.out)
    assert document["verdict"] == "not comparable"
    assert_reasons(document)
    assert f"{empty}: no checkpoint" in done.err


def test_unreadable_files_are_3_and_named_and_fail_on_is_of_either_run(tmp_path: Path) -> None:
    two_runs(tmp_path)
    assert gradscope("compare", "a", "b", "--fail-on", "collapse", directory=tmp_path).code == 1
    (tmp_path / "b" / "broken.pt").write_bytes(b"")
    done = gradscope("compare", "a", "b", "--fail-on", "collapse", directory=tmp_path)
    assert done.code == 3
    assert "B: 1 file could not be read: broken.pt" in done.out
    assert "Verdict: No difference." in done.out


def test_limits_of_each_run_are_its_own_and_said(tmp_path: Path) -> None:
    two_runs(tmp_path)
    (tmp_path / "b" / "gradscope.toml").write_text("[limits]\nwarn = 0.9\ncritical = 0.9\ncollapse = 0.9\n")
    done = gradscope("compare", "a", "b", "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "no difference"
    assert any("limits differ" in each for each in document["warnings"])
    assert document["steps"][-1]["b"]["status"] == "ok"


def test_files_are_written_and_json_alone_goes_to_standard_output(tmp_path: Path) -> None:
    two_runs(tmp_path)
    outputs = [word for suffix in ("json", "csv", "md") for word in ("-o", f"both.{suffix}")]
    done = gradscope("compare", "a", "b", "--json", *outputs, directory=tmp_path)
    assert done.code == 0
    assert json.loads(done.out) == json.loads((tmp_path / "both.json").read_text("utf-8"))
    assert (tmp_path / "both.csv").read_text("utf-8").startswith("step,layer,")
    assert "**No difference.**" in (tmp_path / "both.md").read_text("utf-8")
    assert not (tmp_path / ".gradscope").exists()


def test_written_results_are_compared_as_they_are(tmp_path: Path) -> None:
    two_runs(tmp_path)
    assert gradscope("report", "a", "-q", "-o", "a.json", directory=tmp_path).code == 0
    done = gradscope("compare", "a.json", "b", "--json", directory=tmp_path)
    assert done.code == 0
    assert json.loads(done.out)["runs"][0].endswith("a.json")
    refused = gradscope("compare", "a.json", "b", "--zero-tolerance", "1", directory=tmp_path)
    assert refused.code == 2
    assert "--zero-tolerance 1.0 cannot change" in refused.err
    done = gradscope("scan", "b", "-q", "--zero-tolerance", "0.5", "-o", "b.json", directory=tmp_path)
    assert done.code == 0
    done = gradscope("compare", "a.json", "b.json", "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert document["verdict"] == "not comparable"
    assert_reasons(document)


def test_quiet_ascii_screens(tmp_path: Path) -> None:
    two_runs(tmp_path)
    done = gradscope("compare", "a", "b", "--ascii", "--quiet", "--no-color", directory=tmp_path, width=120)
    assert done.code == 0
    assert done.out.isascii()
    assert done.err == ""


def test_python_gives_the_same_verdict_for_paths_and_for_reports() -> None:
    found = api.compare(COLLAPSE, api.scan(HEALTHY))
    assert found.verdict == "a is worse"
    assert "46.4 % zeros (collapse), B 0.3 % (ok)" in found.reason
    with pytest.raises(api.UsageError, match="3 runs are here"):
        api.compare(SAMPLES, HEALTHY)
    with pytest.raises(api.NothingReadable):
        api.compare(HEALTHY, SAMPLES / "README.md")
