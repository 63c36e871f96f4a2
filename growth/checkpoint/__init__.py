"""Checkpoint folders: planning, widening, verifying, and the training state of a Trainer
checkpoint.

May import: every room below. Imported by: the command line alone.
Read in this order:

* ``preview.py``: `growth.plan_widening`
* ``results.py``: what comes back, and how it reads
* ``widen.py``: `growth.widen_checkpoint`; with ``companions.py``, ``record.py``, ``model_card.py``
* ``shards.py``, ``weights.py``, ``safetensors_writer.py``: the weight files, each by itself; ``ranks.py``: by several
  processes; ``unfinished.py``: going on after an interruption
* ``destination.py``, ``workspace.py``, ``workspace_lock.py``, ``durable.py``, ``interrupts.py``: a folder that appears
  whole or not at all; ``model_folder.py``: what may be replaced
* ``fsdp.py``, ``fsdp_weights.py``, ``fsdp_optimizer.py``, ``fsdp_training.py``, ``dcp_writer.py``: the same for what
  was saved under FSDP
* ``verify.py``, ``run_pair.py``: `growth.check_equivalence`
* ``trainer_state.py``, ``optimizer_file.py``, ``parameter_numbers.py``, ``parameter_tensors.py``,
  ``grown_optimizer.py``: what ``--optimizer`` grows
"""
