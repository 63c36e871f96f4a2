"""UMT5: mT5 with a relative position table in every layer. transformers 5 always multiplies its
decoder's output by d_model**(-1/2)."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures.families.t5 import T5, output_remarks

UMT5 = replace(
    T5,
    model_type="umt5",
    variants={f"UM{name}": variant for name, variant in T5.variants.items()},
    vouched={
        **{name: values for name, values in T5.vouched.items() if name != "scale_decoder_outputs"},
        # From other implementations; the class reads neither.
        **dict.fromkeys(("scalable_attention", "n_positions")),
    },
    remarks=output_remarks(T5.constants["output_scale"], tied=True),
    branches=({}, {"feed_forward_proj": "relu", "num_decoder_layers": 3}),
)
