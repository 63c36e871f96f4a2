"""Schedulers that were saved by an earlier version load, and continue where they were."""

from __future__ import annotations

import base64
import importlib
import io
import sys
import zlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from growth.training import lr_schedulers_by_group

SAVED = """
eNqlVc1vG0UU33zYcTZtvlpIGyCU7y20zjqO7aRfDm7kHCxCSEFaIaLReHfsnbLe9dudTZpKkYJQVHxBQkJIcEDihIq4F878BSCO
3EBIXECc4cDMrLOxHaVpyUi7s/P83u/93td4rTIwqCiplHJojSuTCvZNm26SWQsznG6+75RLo8q7XWu336z73haz09VtxL/CpnrT
C6hLStsr8gTKxQ+gbwf6NSPBUd9GDXwHBiozxhA/EYZRg7owuFJcq77x09/3/zWGudhrMtqgd4kPCZN5nENaStJB3VJvrSyrkOSY
QzuQ0gxB3CI1HDosgOEdUDWjn4scH0ZWit9/LtYXUqnhNYjLwgacqijSiYUbTeJStw6nueQUl2wRWrcZsoiJt2GUC4WdSwJGfG8T
xloRDr4jucF4S4ZQ83yCTRsmVo1RgUprNeJzTxRXHQKTLRl1LQyIBWdWQ3kKGGYEzpqm5zjEZNRzA7Udg0VNpsITJkLVkDqMugip
kezJPZhah3OSaBP7uBFlO4DzGzCt7cBTmpHc/ymApzfgmXbqUMioE6jIJwLSQlKD8JhUmDlChRE38Hy0OafCs5omwwy4Jq4TuBCZ
qGXHw+xWJFThOaOP6+jwvDHAd7MZwguVPgYvvlVRKn178JJ4vdzqCvhN3+J5spZlcK9cXAeNAX+/+pEtDq/dg0vrcBnbvIoPfv/H
sXa/sXnhbF4qm1fGHmvZ4y17YtWebNlnVg2Ve6Uu5Ul3EC99Oi59uAOzms2zodszNo/FvmBHXDOQsSXHuTbHrHjNt6T3HIP8OhQi
Kgv3YHEdrkgqXx9Lxea+77d9k7AqW6aKA8JpBXB1A65pMbdYkUj+Dg4YIk2P99L1SsIY4SLEW6+JTC90GdyoJCMZDVA7VCi2jGkh
qhPG8ZGJeXottEWZzRtH2MJS1LRIgvPMvL4BJS1OaRwQkb1TczyPs7y5ActaPJArxaXog0eTXqsMpT5+7zfjT15m8awdeXtMKafj
2yPNZ6SBGdokfsBrXy4NH1wiGQH54K9fPhRFEc/RkNNK4QCy3Y8IO7Tuiskul7I9V9Mjrfy8IFDcgj/EtdH/UAITSjEmUN1mxBMt
XC5d/T9+95dDGXOI4LB3/dfzogrJh3IYVW503cqzerl05QQEFGW3KLzfvv3Vt9ylMniM96Vu75ly6dpJwn9M/2MdFYi76UT5z6rC
+49f1t85vv4zytxBA8rwA+LzOaR3sbjTELXKpfRjktFz+UxGX8jNZfOZxXxBz80tzusLC3pmsaBnC/qinl/IZfX5gmCZ+/lcReM8
NMmyT5CNeXZO5fgh5r3/473WnQM41WV5Y1A5ao57QTqHaLoL5JNOkEOT24vTOQgTXTiTCeXwAPaad3bSaJf5ZwmlZ3Ye3fZsssc2
02vb2UNjXbafdtgekbvO0s50xzykHNN0a5Vk8tJ+iw5cji1TPftIf7R/NxTt3E5+/TAcnaPbN5GMbFJSP9L9D2gWl0k=
"""
"""What ``torch.save`` wrote, zipped, for ``CosineAnnealingLR(SGD(..., lr=0.1), 30, eta_min=1e-3)``
after five steps and a growth that split its group by the factors 1 and 1/2. The class was then
``growth.by_group.CosineByGroup``."""


def load() -> Any:
    content = zlib.decompress(base64.b64decode(SAVED))
    return torch.load(io.BytesIO(content), weights_only=False)


@pytest.mark.filterwarnings("ignore:Seems like:UserWarning")  # torch's, of every scheduler that was pickled
def test_a_saved_scheduler_loads_and_steps() -> None:
    scheduler = load()
    assert type(scheduler) is lr_schedulers_by_group.CosineByGroup and scheduler.floors == [1e-3, 5e-4]
    small = SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    cosine = CosineAnnealingLR(small, 30, eta_min=1e-3)
    for _ in range(5):
        small.step()
        cosine.step()
    for _ in range(25):
        small.step()
        cosine.step()
        scheduler.optimizer.step()
        scheduler.step()
        rate = small.param_groups[0]["lr"]
        assert [group["lr"] for group in scheduler.optimizer.param_groups] == pytest.approx(
            [rate, rate / 2], rel=1e-12
        )
    assert rate == pytest.approx(1e-3)


def test_without_the_alias_it_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "growth.by_group", None)
    with pytest.raises(ModuleNotFoundError, match=r"growth\.by_group"):
        load()


def test_the_alias_has_every_class() -> None:
    alias = importlib.import_module("growth.by_group")
    made = {kind for kind, _, _ in lr_schedulers_by_group.BY_GROUP.values()}
    assert {getattr(alias, name) for name in alias.__all__} == made
