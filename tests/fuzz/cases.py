"""One case: drawn from a seed and a number, run, and judged."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import growth
from fuzz import arguments, companions, damage, pickles
from fuzz.guard import (
    DoesNotRun,
    Found,
    Refused,
    check_message,
    check_output,
    check_same,
    guarded,
    raw_controls,
    snapshot,
    terminal,
)
from fuzz.outcome import check_whole, same_folders, same_function
from fuzz.sources import TRAINED, Files, checkpoint, config_of, configs, families, fields, training, write
from fuzz.values import change
from growth.architectures import find
from growth.cli import main as command_line
from growth.hf.configs import parse
from growth.plan.plan import Plan
from growth.proof.twin import prove_twin

TWIN, ORACLE = 0.25, 0.1
"""Shares of the plans whose twin is run, and of the growths whose functions are compared."""
STRANGE = 0.03
"""Share of the configs that get a model_type without a declaration, for which every declaration is tried."""
KINDS = {
    "config": 55,
    "choices": 12,
    "header": 7,
    "index": 4,
    "pickle": 4,
    "trainer": 5,
    "companion": 5,
    "text": 2,
    "folder": 3,
    "command": 3,
    "verify": 1,
}
"""Kind of case -> its share in a hundred."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: in a word, by which outcomes are counted, and in full."""

    kind: str
    ended: str
    detail: str = ""


class Case:
    """A case, which is the same whenever it is drawn from the same seed and number.

    Args:
        seed, number: which one.
        box: an empty folder, in which sources and destinations lie.
        kinds: kind -> share.
    """

    def __init__(self, seed: int, number: int, box: Path, kinds: dict[str, int] = KINDS) -> None:
        self.rng, self.box = Random(f"{seed}/{number}"), box
        self.kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        self.said = ""

    def run(self) -> Outcome:
        """Run it.

        Raises:
            Found: what must not happen.
        """
        work: dict[str, Callable[[], str]] = {
            "config": self._plan,
            "choices": self._plan,
            "command": self._command,
            "verify": self._verify,
        }
        return Outcome(self.kind, work.get(self.kind, self._widen)(), self.said)

    def _plan(self) -> str:
        """A config, changed or not, planned from Python; some are proved and compared."""
        rng, raw = self.rng, copy.deepcopy(config_of(self.rng.randrange(configs())))
        sizes = self._sizes(raw)
        if self.kind == "config":
            self.said = "; ".join(change(rng, raw, fields()) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))))
            if rng.random() < STRANGE:
                raw["model_type"] = rng.choice(
                    ("arcee", "blenderbot", "seed_oss", "mamba", "resnet", "x", "", None, "\x1b[31m", 3)
                )
        choices = arguments.sensible(rng, sizes)
        if self.kind == "choices":
            choices = arguments.odd(
                rng,
                choices,
                raw,
                [raw, {**raw, "hidden_size": 64}, config_of(rng.randrange(configs())), "no/where", {}, 3],
            )
        self.said += f" | {raw.get('architectures')} {choices}"[:600]
        source: Any = parse(raw) if self.kind == "choices" and rng.random() < 0.2 else raw
        plan = guarded(lambda: growth.plan_widening(source, **choices))
        if isinstance(plan, Refused):
            return plan.kind
        guarded(lambda: check_output(f"{plan}"))
        if rng.random() < TWIN and (proved := guarded(lambda: self._proved(plan))) is not None:
            return proved.kind if isinstance(proved, Refused) else str(proved)
        return "planned"

    def _proved(self, plan: Plan) -> str:
        prove_twin(plan)
        if self.rng.random() < ORACLE / TWIN:
            try:
                same_function(plan, 3)
            except DoesNotRun:
                return "proved; the source does not run"
            return "proved and compared"
        return "proved"

    def _sizes(self, raw: dict[str, Any]) -> dict[str, int]:
        config = parse(raw)
        return dict(find(raw["model_type"]).at(config).read_sizes(config))

    def _files(self) -> Files:
        """A checkpoint with something odd about it, of this case's kind."""
        rng = self.rng
        model_type = rng.choice(TRAINED if self.kind == "trainer" else families())
        files = dict(training(model_type) if self.kind == "trainer" else checkpoint(model_type))
        ways: dict[str, Callable[[Random, Files], str]] = {
            "header": damage.header,
            "index": damage.index,
            "pickle": pickles.pickled,
            "trainer": pickles.trained,
            "companion": companions.companion,
            "text": damage.config_text,
            "folder": self._config,
        }
        self.said = f"{model_type}: " + "; ".join(
            ways.get(self.kind, companions.companion)(rng, files)
            for _ in range(rng.choice((1, 1, 2)) if self.kind == "companion" else 1)
        )
        return files

    def _lay_out(self, files: Files) -> str:
        """Everything a case may touch, in the box; the destination in words."""
        rng, box = self.rng, self.box
        for name in ("src", "secret", "home", "other"):
            (box / name).mkdir()
        write(files, box / "src")
        write(
            {
                "secret.txt": damage.SECRET,
                "secret.json": b'"' + damage.SECRET + b'"',
                "config.json": b'{"a": "' + damage.SECRET + b'"}',
            },
            box / "secret",
        )
        (box / "secret" / "secret.safetensors").write_bytes(checkpoint("gpt2")[damage.WEIGHTS])  # type: ignore[arg-type]
        (box / "file").write_bytes(b"a file")
        (box / "link").symlink_to("nowhere")
        target = rng.choice(arguments.TARGETS) if rng.random() < 0.3 else "wide"
        there = rng.random()
        if target == "wide" and there < 0.06:
            write(checkpoint(rng.choice(("gpt2", "llama"))), box / "wide")
            if there < 0.03:
                (box / "wide" / "notes.txt").write_text("kept by its owner")
        return target

    def _widen(self) -> str:
        """A folder, widened from Python."""
        target = self._lay_out(self._files())
        options = {**arguments.sensible(self.rng), **arguments.further(self.rng)}
        if self.kind == "trainer":
            options["optimizer"] = True
        self.said += f" | {target[:80]!r} {options}"[:600]
        result = self._watched(
            target, lambda: growth.widen_checkpoint(str(self.box / "src"), self._path(target), **options)
        )
        if isinstance(result, Refused):
            return result.kind
        guarded(lambda: check_output(str(result)))
        if self.rng.random() < ORACLE * 2 and not options.get("allow_nonfinite"):
            with suppress(DoesNotRun):
                guarded(lambda: same_folders(self.box / "src", result.path, result.plan))
                return "grown and compared"
        return "grown"

    def _verify(self) -> str:
        """Two folders of one family, of which one or both are damaged, compared from Python."""
        rng, box = self.rng, self.box
        model_type = rng.choice(families())
        self._lay_out(files := dict(checkpoint(model_type)))
        for name in ("src", "other"):
            changed = dict(files)
            if name == "other" or rng.random() < 0.3:
                way = rng.choice((damage.header, damage.index, pickles.pickled, companions.companion, self._config))
                self.said += f"{model_type} {name}: {way(rng, changed)}; "
            shutil.rmtree(box / name)
            write(changed, box / name)
        tokens, dtype = rng.choice((2, 20, 200)), rng.choice((None, None, "float32", "bfloat16", "x"))
        pair = [str(box / name) for name in rng.sample(("src", "other"), 2)]
        report = self._watched(
            "no", lambda: growth.check_equivalence(*pair, tokens=tokens, dtype=dtype), may_grow=False
        )
        if isinstance(report, Refused):
            return report.kind
        check_output(str(report))
        return "equal" if report.equal else "not equal"

    def _config(self, rng: Random, files: Files) -> str:
        return damage.config_values(rng, files, fields())

    def _command(self) -> str:
        """A folder, by the command line."""
        rng = self.rng
        target = self._lay_out(self._files() if rng.random() < 0.5 else dict(checkpoint(rng.choice(families()))))
        words = arguments.command(rng, arguments.sensible(rng), "src", target)
        self.said += f" | {words}"[:600]
        argv = sys.argv
        sys.argv = ["grow", *words]
        try:
            named = arguments.destination(words) or target
            code, out, err = self._watched(named, lambda: terminal(command_line.main), may_grow=words[0] == "widen")
        finally:
            sys.argv = argv
        if odd := raw_controls(out + err, "\n"):
            raise Found("control character", f"{odd} printed: {(out + err)[:200]!r}")
        if code not in (0, 1, 2) or "Traceback" in err + out:
            raise Found("command", f"exit code {code}: {err[-300:]!r}")
        if code == 1 and "verify" not in words[:1]:
            check_message(err.strip().removeprefix("grow: "))
        return f"exit {code}"

    def _path(self, target: str) -> Any:
        return target if target.startswith(("~", "/")) or not target else os.path.join(self.box, target)

    def _watched(self, target: str, call: Callable[[], Any], may_grow: bool = True) -> Any:
        """The result of a call, after which nothing but the destination may differ from before."""
        home, cwd = os.environ.get("HOME"), os.getcwd()
        os.environ["HOME"] = str(self.box / "home")
        os.chdir(self.box)
        try:
            place = (
                Path(os.path.abspath(os.path.expanduser(target.replace("\x00", ""))))
                if "\ud800" not in target
                else self.box / "no"
            )
            before, owned = snapshot(self.box), os.path.exists(place / "notes.txt")
            result = guarded(call)
            failed = isinstance(result, Refused) or (isinstance(result, tuple) and result[0] != 0) or not may_grow
            after = snapshot(self.box, "" if failed else str(place))
            if not failed:
                inside = os.path.relpath(place, self.box)
                parents = {os.path.relpath(p, self.box) for p in place.parents}
                before = {
                    name: what
                    for name, what in before.items()
                    if name != inside and not name.startswith(inside + os.sep)
                }
                after = {name: what for name, what in after.items() if name in before or name not in parents}
                if owned:
                    raise Found("lost", "a folder with notes of its owner was replaced")
            check_same(before, after)
            if not failed and os.path.isdir(place) and not isinstance(result, tuple):
                check_whole(place)
            elif not failed and not isinstance(result, tuple):
                raise Found("result", f"nothing at {place}")
            return result
        finally:
            os.chdir(cwd)
            os.environ.pop("HOME") if home is None else os.environ.update(HOME=home)


def run_case(seed: int, number: int, root: Path, kinds: dict[str, int] = KINDS) -> Outcome:
    """Run one case in a folder of its own below ``root``."""
    box = root / f"case-{number}"
    box.mkdir()
    case = Case(seed, number, box, kinds)
    try:
        return case.run()
    except Found as found:
        found.add_note(f"{case.kind}: {case.said}")
        raise
    finally:
        shutil.rmtree(box, ignore_errors=True)
