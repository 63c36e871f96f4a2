"""Folders of weights that are no model as ``from_pretrained`` reads one: which kind they are, and what
to do. Without torch, since it is told before that is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from growth.hf.fsdp_folder import FULL, SHARDED, SHARDED_OPTIMIZER, unread_fsdp
from growth.hf.source_files import leaves

ADAPTER = "adapter_config.json"

_NOT_MERGED = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT")
"""Kinds of adapter that PEFT cannot merge: they add tokens or layers, not weights."""

CONVERT_GGUF = (
    "Name the folder of the original model, or convert it first: AutoModelForCausalLM.from_pretrained(folder, "
    "gguf_file=...).save_pretrained(...) writes one."
)

_ORIGINAL = (
    "Convert them with the script of transformers for this family (src/transformers/models/FAMILY/"
    "convert_*_weights_to_hf.py), or fetch the same model in the format of save_pretrained."
)

_OLD_TRANSFORMERS = "Load them with transformers 4 ({option}=True), save them with save_pretrained, and widen that."

_OF_DEEPSPEED = (
    "{folder} holds a model in the shards of DeepSpeed ('{found}'). Convert it with the zero_to_fp32.py beside them "
    "(python zero_to_fp32.py FOLDER OUT --safe_serialization), put its config.json into OUT, and widen OUT; the state "
    "of the optimizer has no such form."
)

_OF_MEGATRON = (
    "{folder} holds a checkpoint of Megatron ('{found}'), which has names and layouts of its own. Convert it with "
    "Megatron-Bridge (examples/conversion/convert_checkpoints.py export --hf-model ID --megatron-path FOLDER "
    "--hf-path OUT), widen OUT, and import the result."
)

_ALONE = "which only `grow plan` and `grow widen` read, with --config where it has none."

_OF_FSDP = (
    f"{{folder}} holds a model as FSDP saves it ('{{found}}'), {_ALONE} Load it into the model for anything else, and "
    "save_pretrained."
)

_OF_TITAN = (
    "{folder} holds a checkpoint of torchtitan ('{found}'), whose names and order of rows are its own. Convert it "
    "with torchtitan's scripts/checkpoint_conversion/convert_to_hf.py, or save with last_save_in_hf; widen that, and "
    "start from the result with initial_load_in_hf."
)

_OF_DCP = (
    "{folder} holds a checkpoint of torch.distributed.checkpoint ('{found}') that accelerate did not lay out. Save "
    "the model with accelerator.save_state (SHARDED_STATE_DICT), or gather its state dict and save_pretrained."
)

_KINDS: tuple[tuple[str, str], ...] = (
    ("*.gguf", f"{{folder}} holds GGUF weights ('{{found}}'), which are usually quantised. {CONVERT_GGUF}"),
    *((pattern, _OF_DEEPSPEED) for pattern in ("global_step*", "zero_to_fp32.py", "*_model_states.pt")),
    *((pattern, _OF_DEEPSPEED) for pattern in ("zero_pp_rank_*", "bf16_zero_pp_rank_*")),
    *((name, _OF_MEGATRON) for name in ("latest_checkpointed_iteration.txt", "mp_rank_*", "common.pt", "iter_0*")),
    (SHARDED, _OF_FSDP),
    (FULL, _OF_FSDP),
    ("consolidated.*", f"{{folder}} holds weights in Meta's or Mistral's own format ('{{found}}'). {_ORIGINAL}"),
    *(
        (name, f"{{folder}} holds weights in {whose} format ('{{found}}'). {_OLD_TRANSFORMERS.format(option=option)}")
        for name, whose, option in (
            ("tf_model*.h5", "TensorFlow", "from_tf"),
            ("flax_model*.msgpack", "Flax", "from_flax"),
        )
    ),
    *(
        (
            pattern,
            f"{{folder}} holds a model exported to {whose} ('{{found}}'), which is not trained further. Name the "
            "folder of the model it was exported from.",
        )
        for pattern, whose in (("*.onnx", "ONNX"), ("onnx/*.onnx", "ONNX"), ("openvino_model.*", "OpenVINO"))
    ),
)
"""Pattern of a file that only such a folder has -> what is said of it."""

_VARIANT = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.([A-Za-z]\w*)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")

_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")

_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|npz)")


def known_folder(folder: Path) -> str:
    """The sentence for a folder without a model's weights, of a kind that can be told; empty for
    others.

    Example:
        >>> known_folder(Path("small"))[:59]
        "small holds weights of variant 'fp16' ('model.fp16.safetensors')"
    """
    if (folder / ADAPTER).is_file():
        return adapter(folder)
    for pattern, said in _KINDS:
        if found := sorted(folder.glob(pattern)):
            return said.format(folder=folder, found=found[0].relative_to(folder))
    if said := unread_fsdp(folder) or _sharded(folder):
        return said
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if shard := _first(_SHARD, names):
        index = f"{shard[1]}.{shard[2]}.index.json"
        return f"{folder} holds shards ('{shard[0]}') without the index that lists them, '{index}'. Fetch the index."
    if one := _first(_VARIANT, names):
        return (
            f"{folder} holds weights of variant '{one[1]}' ('{one[0]}'), which are read only on request. Load them "
            f"with from_pretrained(folder, variant='{one[1]}'), save them with save_pretrained, and widen that."
        )
    return ""


def _sharded(folder: Path) -> str:
    """The sentence for a folder of torch.distributed.checkpoint itself; empty for others. Its metadata is not
    unpickled, only looked through for names that torchtitan gives."""
    metadata = folder / ".metadata"
    if not metadata.is_file() or leaves(metadata, folder) is not None:
        return ""
    if folder.name in (SHARDED, SHARDED_OPTIMIZER):
        return f"{folder} is a part of what FSDP saves. Name the folder that it lies in: {folder.parent}."
    titan = any(name in metadata.read_bytes() for name in (b"tok_embeddings.weight", b".attention.wq.weight"))
    return (_OF_TITAN if titan else _OF_DCP).format(folder=folder, found=metadata.name)


def other_weights(folder: Path) -> list[str]:
    """Files of a folder whose names say that they hold weights."""
    return [path.name for path in sorted(folder.iterdir()) if _WEIGHTS.fullmatch(path.name) and path.is_file()]


def adapter(folder: Path) -> str:
    """The sentence for an adapter's folder."""
    about = _adapter_config(folder)
    kind, base = about.get("peft_type"), about.get("base_model_name_or_path")
    what = f"{kind} adapter" if isinstance(kind, str) and kind else "adapter"
    of = f" of '{base}'" if isinstance(base, str) and base else ""
    said = f"{folder} holds an adapter (PEFT, {what}{of}), not a whole model."
    if kind in _NOT_MERGED:
        return f"{said} This kind cannot be merged into weights: widen the base model, and train a new adapter for it."
    return (
        f"{said} Load it with peft (AutoPeftModelForCausalLM.from_pretrained, for example), save what "
        "model.merge_and_unload() returns, and widen that."
    )


def adapter_beside_weights(folder: Path) -> str:
    """The sentence for an adapter that lies beside a whole model's weights; empty where none does."""
    if not (folder / ADAPTER).is_file():
        return ""
    return (
        f"{folder} holds an adapter ({ADAPTER}) beside a model's weights, and from_pretrained loads both where peft "
        "is installed, which is another function than that of the weights. Save what model.merge_and_unload() "
        f"returns and widen that, or move {ADAPTER} elsewhere to widen the base model alone."
    )


def _adapter_config(folder: Path) -> dict[str, Any]:
    """What the adapter's config says; empty where it cannot be read."""
    path = folder / ADAPTER
    if leaves(path, folder) is not None or not path.is_file():  # a pipe has no end
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _first(pattern: re.Pattern[str], names: Iterable[str]) -> re.Match[str] | None:
    return next(filter(None, map(pattern.fullmatch, names)), None)
