"""One declaration per family, found by ``model_type``."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

from growth.architecture import Architecture
from growth.architectures.albert import ALBERT
from growth.architectures.bart import BART
from growth.architectures.bert import BERT
from growth.architectures.biogpt import BIOGPT
from growth.architectures.bloom import BLOOM
from growth.architectures.clip import CLIP, CLIP_TEXT, CLIP_VISION
from growth.architectures.codegen import CODEGEN
from growth.architectures.cohere import COHERE, COHERE2
from growth.architectures.deberta import DEBERTA
from growth.architectures.deberta_v2 import DEBERTA_V2
from growth.architectures.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from growth.architectures.deit import DEIT
from growth.architectures.dinov2 import DINOV2
from growth.architectures.distilbert import DISTILBERT
from growth.architectures.electra import ELECTRA
from growth.architectures.ernie import ERNIE
from growth.architectures.ernie4_5 import ERNIE4_5
from growth.architectures.esm import ESM
from growth.architectures.falcon import FALCON
from growth.architectures.gemma import GEMMA, GEMMA2, GEMMA3_TEXT
from growth.architectures.glm import GLM, GLM4
from growth.architectures.gpt2 import GPT2
from growth.architectures.gpt_bigcode import GPT_BIGCODE
from growth.architectures.gpt_neo import GPT_NEO
from growth.architectures.gpt_neox import GPT_NEOX
from growth.architectures.gpt_oss import GPT_OSS
from growth.architectures.gptj import GPTJ
from growth.architectures.granite import GRANITE
from growth.architectures.llama import LLAMA, MISTRAL, QWEN2
from growth.architectures.m2m_100 import M2M_100
from growth.architectures.marian import MARIAN
from growth.architectures.mbart import MBART
from growth.architectures.mixtral import GRANITEMOE, MIXTRAL
from growth.architectures.modernbert import MODERNBERT
from growth.architectures.mpnet import MPNET
from growth.architectures.mpt import MPT
from growth.architectures.nemotron import NEMOTRON
from growth.architectures.olmo import OLMO
from growth.architectures.olmo2 import OLMO2
from growth.architectures.olmo3 import OLMO3
from growth.architectures.olmoe import OLMOE
from growth.architectures.opt import OPT
from growth.architectures.pegasus import PEGASUS
from growth.architectures.phi import PHI
from growth.architectures.phi3 import PHI3
from growth.architectures.qwen3 import QWEN3
from growth.architectures.qwen_moe import QWEN2_MOE, QWEN3_MOE
from growth.architectures.roberta import ROBERTA
from growth.architectures.roformer import ROFORMER
from growth.architectures.siglip import SIGLIP, SIGLIP_TEXT, SIGLIP_VISION
from growth.architectures.smollm3 import SMOLLM3
from growth.architectures.stablelm import STABLELM
from growth.architectures.starcoder2 import STARCODER2
from growth.architectures.t5 import MT5, T5
from growth.architectures.umt5 import UMT5
from growth.architectures.vit import VIT
from growth.architectures.whisper import WHISPER
from growth.architectures.xglm import XGLM
from growth.architectures.xlm_roberta import CAMEMBERT, XLM_ROBERTA
from growth.architectures.xlnet import XLNET
from growth.errors import UnsupportedModelError
from growth.own import hold

_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make a declaration known under its ``model_type``; a later one replaces an earlier one.

    Raises:
        UnsupportedModelError: if it has a module class of its own that cannot be used.
    """
    hold(architecture)
    _REGISTRY[architecture.model_type] = architecture
    return architecture


def find(model_type: str) -> Architecture:
    """The declaration for a ``model_type``.

    Raises:
        UnsupportedModelError: if there is none.
    """
    if model_type not in _REGISTRY:
        near = get_close_matches(model_type.lower(), known(), 3, 0.6)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`grow architectures` lists the known ones."
        raise UnsupportedModelError(f"no architecture is declared for model_type '{model_type}'. {hint}")
    return _REGISTRY[model_type]


def known() -> list[str]:
    """Every declared ``model_type``, sorted."""
    return sorted(_REGISTRY)


def classes(model_type: str) -> list[str]:
    """The model classes of a ``model_type``: those of transformers' auto classes and those its declaration adds, or its own."""
    own = find(model_type).module_class
    if own is not None:
        return [own.__name__]
    tables = [getattr(modeling_auto, name) for name in dir(modeling_auto) if name.startswith("MODEL_") and name.endswith("_MAPPING_NAMES")]
    listed = [table[model_type] for table in tables if model_type in table]
    names = {name for entry in listed for name in ([entry] if isinstance(entry, str) else entry)} | {*find(model_type).classes}
    package = import_module(f"transformers.models.{model_type_to_module_name(model_type)}")  # some auto classes list foreign ones
    return sorted((names - find(model_type).without.keys()) & set(dir(package)))


for _architecture in (
    ALBERT,
    BART,
    BERT,
    BIOGPT,
    BLOOM,
    CAMEMBERT,
    CLIP,
    CLIP_TEXT,
    CLIP_VISION,
    CODEGEN,
    COHERE,
    COHERE2,
    DEBERTA,
    DEBERTA_V2,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    DEIT,
    DINOV2,
    DISTILBERT,
    ELECTRA,
    ERNIE,
    ERNIE4_5,
    ESM,
    FALCON,
    GEMMA,
    GEMMA2,
    GEMMA3_TEXT,
    GLM,
    GLM4,
    GPT2,
    GPTJ,
    GPT_BIGCODE,
    GPT_NEO,
    GPT_NEOX,
    GPT_OSS,
    GRANITE,
    GRANITEMOE,
    LLAMA,
    M2M_100,
    MARIAN,
    MBART,
    MISTRAL,
    MIXTRAL,
    MODERNBERT,
    MPNET,
    MPT,
    MT5,
    NEMOTRON,
    OLMO,
    OLMO2,
    OLMO3,
    OLMOE,
    OPT,
    PEGASUS,
    PHI,
    PHI3,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    ROBERTA,
    ROFORMER,
    SIGLIP,
    SIGLIP_TEXT,
    SIGLIP_VISION,
    SMOLLM3,
    STABLELM,
    STARCODER2,
    T5,
    UMT5,
    VIT,
    WHISPER,
    XGLM,
    XLM_ROBERTA,
    XLNET,
):
    register(_architecture)
