"""What transformers and the hub know: checkpoint folders, configs, model classes, names on disk; and
modules of the caller's, registered or not, which are given the same form.

May import: `growth.architectures` and the rooms below. Imported by: `growth.plan` and above.
Read in this order:

* ``configs.py``, ``config_json.py``, ``config_fields.py``: parsing a config, editing its JSON, refusing unknown fields
* ``model_classes.py``, ``expected_tensors.py``, ``tensor_names.py``: the class, its tensors, their names on disk
* ``paths.py``, ``folders.py``, ``hub.py``: what a path is, and where a model comes from
* ``reader.py``, ``computed_tables.py``: a checkpoint folder, one tensor at a time
* ``fsdp_folder.py``, ``growable.py``, ``fsdp_reader.py``: one that was saved under FSDP; with ``dcp_metadata.py`` and
  ``dcp_reader.py``, a folder of torch.distributed.checkpoint, read without running what is in it
* ``custom_modules.py``, ``custom_configs.py``: a registered ``nn.Module`` and its config as transformers classes
* ``own_configs.py``, ``own_inputs.py``, ``own_build.py``, ``own_modules.py``: the same for one that nobody registered,
  whatever its config is, whatever it takes and however it is built
* ``nested.py``: the configs in a config
* ``dtensors.py``, ``inner_names.py``: tensors that are spread over ranks; names without wrappers of modules
* ``catalogue.py``: what ``grow architectures`` lists
* ``dtypes.py``, ``dtype_names.py``, ``devices.py``: what a caller may name
"""
