"""The table of families is made from the declarations, and `docs/families.md` holds the table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from growth import architectures
from growth.cli.main import grow as command
from growth.errors import UnsupportedModelError
from growth.hf.catalogue import describe, families

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- families: grow architectures --markdown -->\n", "\n<!-- end of families -->"


def grow(*arguments: str) -> str:
    result = CliRunner().invoke(command, ["architectures", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.rstrip("\n")


def test_the_page_holds_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BEGIN in text and END in text
    assert text.split(BEGIN)[1].split(END)[0] == grow("--markdown"), (
        "run `make families`, which writes the table of docs/families.md"
    )


def test_make_families_writes_the_table(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "bin").mkdir()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    page = tmp_path / "docs" / "families.md"
    page.write_text(f"{before}{BEGIN}old\n\nlines{END}{rest.partition(END)[2]}", encoding="utf-8")
    shutil.copy(PAGE.parents[1] / "Makefile", tmp_path)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    command = tmp_path / "bin" / "grow"
    for script, written in (("printf '%s\\n' '| \\1 é |'", "| \\1 é |"), ("exit 1", None), ("echo '| b |'", "| b |")):
        command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        command.chmod(0o755)
        as_it_was = page.read_bytes()
        call = ["make", "-o", ".venv/.stamp-env", "families", "BIN=bin"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode == 0) == (written is not None)
        if written is None:
            assert page.read_bytes() == as_it_was
        else:
            assert page.read_text(encoding="utf-8") == f"{before}{BEGIN}{written}{END}{rest.partition(END)[2]}"


def test_every_family_is_a_row_with_classes() -> None:
    rows = families()
    assert [row.model_type for row in rows] == architectures.known()
    for row in rows:
        assert row.positions and (row.classes or row.refuses.startswith("every growth")), row
        assert not row.refuses.endswith("."), row


def test_json_is_the_table() -> None:
    listed = json.loads(grow("--json"))
    assert [row["model_type"] for row in listed] == architectures.known()
    assert set(listed[0]) == {"model_type", "classes", "wider_heads", "positions", "widths", "refuses"}


@pytest.mark.parametrize("name", architectures.known())
def test_a_declaration_is_spelled_out(name: str) -> None:
    described = describe(name)
    spaces = {space for space, _, _ in described.spaces}
    for parameter, roles in described.parameters:
        for word in re.findall(r"(?:writes|reads) ([a-z ]+?)(?: \*| \+|;|$)", roles):
            assert word in spaces, (parameter, roles)
    assert {size for _, size, _ in described.spaces} <= {size for size, _, _ in described.sizes}


def test_one_declaration_on_the_terminal() -> None:
    text = grow("llama")
    assert re.search(
        r"layers\.\*\.self_attn\.o_proj\.weight +writes residual; reads kv_heads \* queries_per_kv \* value", text
    )
    assert json.loads(grow("llama", "--json"))["model_type"] == "llama"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no architecture is declared for model_type 'nope'"):
        describe("nope")


def test_a_misspelled_pattern_is_answered_with_the_nearest() -> None:
    llama = architectures.find("llama")
    for name, says in (
        ("layers.3.self_attn.q_projection.weight", "the nearest pattern is 'layers.*.self_attn.q_proj.weight'."),
        ("zz", "if it is a stock model, please report it."),
    ):
        assert llama.declared_roles(name, "LlamaForCausalLM") is None
        with pytest.raises(UnsupportedModelError) as caught:
            llama.roles(name, "LlamaForCausalLM")
        assert str(caught.value).endswith(says)
