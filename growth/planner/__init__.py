"""Whether to grow, when and into what, or to start with the large model: worked out from short logs, the
costs of the models and a budget. Nothing is trained, and no weight is read.

May import: `growth.plan` and the rooms below. Imported by: `growth.training`, whose public name `advise` is.
Public: `advise`, `Advice`, `Candidate`. Read in this order:

* ``training_logs.py``, ``loss_curves.py``, ``curve_pairs.py``: what is known of the models: logs, the curves
  through them, and how curves of one text hang together
* ``run_costs.py``, ``budgets.py``: what a token costs, and what the budget buys
* ``head_start.py``, ``trial.py``: what a grown model carries over, known beforehand or from a trial growth
* ``alternatives.py``, ``decision.py``: the ways to spend the budget, compared
* ``advising.py``, ``advice.py``, ``advice_text.py``, ``advice_plot.py``: the answer, as a value, a table and a picture
"""

from growth.planner.advice import Advice, Candidate
from growth.planner.advising import advise

__all__ = ["Advice", "Candidate", "advise"]
