"""``benchmarks/stream.py``, ``at_scale.py`` and ``gpu.py``: what they measure with, in small."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import at_scale
import gpu
import measured
import stream
import stream_child

import growth
from growth.hf.reader import open_checkpoint

MB = 1_000_000


def test_what_a_command_takes() -> None:
    busy = "import sys, time\nx = bytearray(60_000_000)\nwhile time.process_time() < 0.3: pass\nsys.exit(3)"
    done = measured.took([sys.executable, "-c", f"print('said')\n{busy}"])
    assert (done.code, done.out, done.err) == (3, "said\n", "")
    assert 0.3 <= done.cpu < 3 and done.wall >= 0.3
    assert 60 * MB <= done.peak < 150 * MB  # this process, with torch in it, has more
    with pytest.raises(SystemExit, match="a measured command ended with 3"):
        done.checked()
    idle = measured.took([sys.executable, "-c", "import time, sys; time.sleep(0.3); print('!', file=sys.stderr)"])
    assert idle.wall >= 0.3 > idle.cpu and idle.err.strip() == "!"
    both = measured.took(["sh", "-c", f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"])
    assert both.cpu >= 0.3  # what it starts counts
    assert measured.took(["sh", "-c", "kill -9 $$"]).code == -9


def test_tables_of_text_and_of_markdown() -> None:
    rows = [["one", "1"], ["a longer one", "234"]]
    assert measured.table(("case", "s"), rows, False).splitlines() == [
        "case            s",
        "one             1",
        "a longer one  234",
    ]
    assert measured.table(("case", "s"), rows, True) == "| case | s |\n|---|---:|\n| one | 1 |\n| a longer one | 234 |"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small``, a source of `stream.make_source`, and what it grew to."""
    folder = tmp_path_factory.mktemp("stream")
    stream.make_source(folder / "small", 1, torch.bfloat16)
    growth.widen_checkpoint(folder / "small", folder / "wide", width=1.5)
    return folder


def test_the_floor_reads_everything_and_writes_as_much(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    source = open_checkpoint(grown / "small")
    monkeypatch.setattr(stream_child, "open_checkpoint", lambda path: source)
    monkeypatch.setattr(
        type(source),
        "read",
        lambda self, name: read.append(name) or torch.full(self.shapes[name], 2.0, dtype=torch.bfloat16),
    )
    stream_child.floor(str(grown / "small"), str(grown / "wide"), str(grown / "floor"))
    assert read == [*source.shapes]
    wide, floor = (open_checkpoint(_with_config(grown, name)) for name in ("wide", "floor"))
    assert floor.shapes == wide.shapes and floor.dtypes == wide.dtypes
    sizes = [(grown / name / "model.safetensors").stat().st_size for name in ("wide", "floor")]
    assert abs(sizes[0] - sizes[1]) < 8192
    monkeypatch.undo()
    assert all((floor.read(name) == 2).all() for name in floor.shapes)


def _with_config(grown: Path, name: str) -> Path:
    (grown / name / "config.json").write_bytes((grown / "wide" / "config.json").read_bytes())
    return grown / name


def test_ratios_are_taken_within_a_round() -> None:
    plain = stream.Case(2_000_000_000, 300 * MB, 6e8, True, [2.0, 6.0, 3.0], [1.0, 2.0, 1.5], [1.0] * 3)
    noisy = stream.Case(2_000_000_000, 300 * MB, 6e8, False, [8.0, 18.0, 12.0], [1.0, 2.0, 1.5], [1.0] * 3)
    for case in (plain, noisy):
        case.wall, case.floor_wall, case.cp_wall = [10.0, 30.0, 20.0], [5.0] * 3, [4.0] * 3
    noisy.against = [16.0, 40.0, 20.0]
    found = stream.Measured({"x2": plain, "x2-noise": noisy}, [8.0, 9.0, 7.0], [0.5] * 3, (250 * MB, 900 * MB))
    times = ["20", "5", "4"]
    assert stream.rows(found) == [
        ["x2", "2.00", "3.0", "-", "2.0", "1.0", *times, "300 MB", "600 MB", "yes"],
        ["x2-noise", "2.00", "12.0", "20.0", "8.0", "4.0", *times, "300 MB", "600 MB", "no"],
    ]
    assert stream.costs(found) == [3.0, 12.0]
    said = stream.report(found, stream.Setting(jobs=2), True).splitlines()
    assert {line.count("|") for line in said[:4]} == {13}
    assert said[-1].startswith("250 M parameters in bfloat16, rounds: 3, 2 jobs. Left out: 8.0 CPU s of imports")
    del found.cases["x2"]
    assert stream.rows(found)[0][5] == "-"


@pytest.mark.slow
def test_streaming_is_measured(tmp_path: Path) -> None:
    told: list[str] = []
    setting = stream.Setting(20, "float32", ("x2", "x1.5-noise"), 1, jobs=1, shard="20MB", folder=tmp_path)
    found = stream.measure(setting, told.append)
    assert [*found.cases] == ["x2", "x1.5-noise"] and len(told) == 2 and not [*tmp_path.iterdir()]
    for case in found.cases.values():
        assert len(case.cpu) == 1 and case.written > 30 * MB and case.floor[0] > 0 and case.cp_wall[0] > 0
        assert 0 < case.memory < 6e8 and 3e8 < case.bound < 4e8
    assert found.cases["x2"].memory < found.cases["x2"].bound
    assert found.cases["x1.5-noise"].cpu[0] > found.cases["x2"].cpu[0]
    assert min(found.imports) > 1 and len(stream.rows(found)) == 2
    with pytest.raises(SystemExit, match="CheckpointError"):
        stream.child(found, "widen", tmp_path / "missing", tmp_path / "wide", "{}")


def config(**sizes: Any) -> LlamaConfig:
    given = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 1000, **sizes}
    return LlamaConfig(**given, num_attention_heads=4, architectures=["LlamaForCausalLM"], dtype="bfloat16")


def test_a_checkpoint_of_holes_is_read_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_scale, "SHARD", 130_000)
    raw = json.loads(config().to_json_string(use_diff=False))
    made = at_scale.make_sparse(tmp_path / "holes", raw)
    opened = open_checkpoint(tmp_path / "holes")
    assert (made.tensors, made.files) == (len(opened.shapes), len(opened.weight_files)) and made.files > 2
    plan = growth.plan_widening(tmp_path / "holes", width=2)
    assert plan.bytes(new=False) == made.size and set(opened.dtypes.values()) == {torch.bfloat16}
    assert not opened.read("model.layers.1.mlp.up_proj.weight").any()
    held = sum(path.stat().st_blocks * 512 for path in (tmp_path / "holes").iterdir())
    assert held < made.size + 20_000 * made.files
    assert growth.widen_checkpoint(tmp_path / "holes", tmp_path / "wide", width=2).proof.fold.exact


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Llama-3.1-405B", 405_853_388_800),
        pytest.param("DeepSeek-V3", 671.03e9, marks=pytest.mark.slow),
    ],
)
def test_the_configs_are_those_of_the_published_models(name: str, parameters: float, tmp_path: Path) -> None:
    plan = growth.plan_widening(at_scale.MODELS[name](), width=2)
    assert plan.parameters(new=False) == pytest.approx(parameters, rel=1e-4 if name == "DeepSeek-V3" else 0)


def test_the_time_is_that_of_the_workers_or_of_the_disk() -> None:
    growth_ = at_scale.Growth(read=1000.0, written=3000.0, cost=4.0)
    assert growth_.seconds(1, 2.0) == 12000 and growth_.seconds(4, 2.0) == 3000
    assert growth_.seconds(64, 2.0) == 2000 and growth_.seconds(64, 100.0) == 187.5
    assert growth_.enough(2.0) == 6 and growth_.seconds(6, 2.0) == 2000 < growth_.seconds(5, 2.0)
    assert [at_scale.clock(seconds) for seconds in (30, 61, 3599, 3600, 5400)] == [
        *("1 min", "2 min", "60 min", "1.0 h", "1.5 h")
    ]
    given = argparse.Namespace(disk=[2.0], workers=[1, 64])
    assert at_scale.projections({"a": (1000 * 10**9, 3000 * 10**9)}, {"plain": 4.0}, given) == [
        ["a, plain", "3", "2 GB/s", "3.3 h", "34 min", "6"]
    ]


@pytest.mark.slow
def test_what_is_too_large_is_planned_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = config(hidden_size=65536, intermediate_size=262144, num_hidden_layers=10, head_dim=16384)
    monkeypatch.setattr(at_scale, "MODELS", {"large": lambda: wide, "tiny": config})
    monkeypatch.setattr(sys, "argv", ["at_scale.py", "--folder", str(tmp_path), "--workers", "1", "--disk", "1"])
    at_scale.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["large", "93"] and lines[2].split()[:2] == ["tiny", "21"]
    assert "large: refused after" in lines[4] and "nothing left behind: grow: not enough disk space" in lines[4]
    assert lines[5].startswith("tiny: not tried to widen, since the disk")
    assert len(lines) == 14 and not [*tmp_path.iterdir()]


def test_a_refusal_that_leaves_something_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "small", tmp_path / "wide"

    def leaves(*arguments: object) -> measured.Took:
        (tmp_path / ".wide.growing").mkdir()
        return measured.Took(1, 1.0, 1.0, 1, "", "grow: 5 GB needed, 1 GB free\n")

    monkeypatch.setattr(at_scale, "grow", leaves)
    with pytest.raises(SystemExit, match=r"a refusal left something behind: \[\] became \['.wide.growing'\]"):
        at_scale.refused(source, target, 2, 10**18)
    monkeypatch.setattr(at_scale, "grow", lambda *arguments: measured.Took(0, 1.0, 1.0, 1, "", ""))
    with pytest.raises(SystemExit, match="was not refused for the disk"):
        at_scale.refused(source, target, 2, 10**18)


def test_growth_on_devices_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--parameters", "1", "--devices", "cpu", "--rounds", "1"])
    gpu.main()
    header, plain, noisy, _, said = capsys.readouterr().out.splitlines()
    assert header.split() == ["growth", "GB", "grown", "s", "GB/s"]
    assert plain.startswith("x2, cpu") and noisy.startswith("x2-noise, cpu") and "in bfloat16" in said
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU was found, so nothing was measured"):
        gpu.main()
    assert capsys.readouterr().out == ""
