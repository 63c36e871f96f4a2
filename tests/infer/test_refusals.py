"""What cannot be grown exactly is refused, by a sentence that names the module, the operation and the reason."""

from __future__ import annotations

import pytest

from growth.errors import UnsupportedModelError
from growth.hf.model_classes import class_of
from growth.infer.infer import infer
from support.ground_truth import default_config

TABLE = "a table that the model computes by itself"
REFUSED = {
    "fnet": (
        "FNetForMaskedLM",
        ("'_fft_c2c'", "'fnet.encoder.layer.0.fourier.self'", "takes a Fourier transform over features"),
    ),
    "funnel": ("FunnelForMaskedLM", ("'bmm'", "'funnel.encoder.blocks.0.0.attention'", TABLE, "Sinusoids")),
    "ctrl": ("CTRLLMHeadModel", ("'add'", "'transformer'", TABLE, "Sinusoids")),
    "bloom": ("BloomForCausalLM", ("'baddbmm'", "'transformer.h.0.self_attention'", TABLE, "ALiBi")),
    "mpt": ("MptForCausalLM", ("'add'", "'transformer.blocks.0.attn'", TABLE, "ALiBi")),
    "neomme": ("NeoMMEForMaskedLM", ("output 'logits' would be 2 times the small model's", "no parameter on the way")),
}
"""Model type -> class, and what the refusal says."""
SMALL = {
    "funnel": {"d_model": 24, "n_head": 3, "d_head": 8, "d_inner": 40, "block_sizes": [1, 1], "vocab_size": 50},
    "ctrl": {"n_embd": 24, "n_head": 3, "dff": 40, "n_layer": 2, "vocab_size": 50},
    "mpt": {"d_model": 24, "n_heads": 3, "n_layers": 2, "vocab_size": 50},
}
"""Sizes under which the slow ones are quick."""


@pytest.mark.parametrize("model_type", REFUSED)
def test_refusal_names_module_operation_and_reason(model_type: str) -> None:
    model_class, said = REFUSED[model_type]
    raw = default_config(model_type, model_class, SMALL.get(model_type, {}))
    with pytest.raises(UnsupportedModelError) as refusal:
        infer(raw, class_of(raw))
    text = str(refusal.value)
    assert text.startswith(f"no declaration could be inferred for this {model_class}: ")
    assert text.endswith(". Declare the model with growth.register, or report it.")
    for part in said:
        assert part in text
    for riddle in ("Unexplained", "Differs", "#", "Error:"):
        assert riddle not in text
