"""How files spell the roles of tensors: in safetensors, below the text model's or the layer's own name, and in GGUF."""

from __future__ import annotations

from typing import TypeAlias

Names: TypeAlias = "dict[str, tuple[str, str]]"
"""Role: its name in safetensors and in GGUF."""

PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")
"""Where safetensors put the text model, alone or inside a multimodal one."""

LAYER_NORMS: Names = {
    "attention_norm": ("input_layernorm.weight", "attn_norm.weight"),
    "q_norm": ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    "k_norm": ("self_attn.k_norm.weight", "attn_k_norm.weight"),
    "post_attention_norm": ("post_attention_layernorm.weight", "post_attention_norm.weight"),
    "mlp_norm": ("pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    "post_mlp_norm": ("post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    "post_dense_norm": ("post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight"),
    "expert_norm": ("pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight"),
    "post_expert_norm": ("post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight"),
    "ple_norm": ("post_per_layer_input_norm.weight", "post_norm.weight"),
    "laurel_norm": ("laurel.post_laurel_norm.weight", "laurel_post_norm.weight"),
}

LAYER_MATRICES: Names = {
    "q_proj": ("self_attn.q_proj.weight", "attn_q.weight"),
    "k_proj": ("self_attn.k_proj.weight", "attn_k.weight"),
    "v_proj": ("self_attn.v_proj.weight", "attn_v.weight"),
    "o_proj": ("self_attn.o_proj.weight", "attn_output.weight"),
    "gate_proj": ("mlp.gate_proj.weight", "ffn_gate.weight"),
    "up_proj": ("mlp.up_proj.weight", "ffn_up.weight"),
    "down_proj": ("mlp.down_proj.weight", "ffn_down.weight"),
    "router": ("router.proj.weight", "ffn_gate_inp.weight"),
    "ple_gate": ("per_layer_input_gate.weight", "inp_gate.weight"),
    "ple_up": ("per_layer_projection.weight", "proj.weight"),
    "laurel_left": ("laurel.linear_left.weight", "laurel_l.weight"),
    "laurel_right": ("laurel.linear_right.weight", "laurel_r.weight"),
}

LAYER_NUMBERS: Names = {
    "output_scale": ("layer_scalar", "layer_output_scale.weight"),
    "router_norm": ("router.scale", "ffn_gate_inp.scale"),
    "expert_scales": ("router.per_expert_scale", "ffn_down_exps.scale"),
    "stream_router": ("altup.modality_router.weight", "altup_router.weight"),
    "stream_norm": ("altup.router_norm.weight", "altup_router_norm.weight"),
    "stream_predict": ("altup.prediction_coefs.weight", "altup_predict_coef.weight"),
    "stream_correct": ("altup.correction_coefs.weight", "altup_correct_coef.weight"),
    "stream_scale": ("altup.correct_output_scale", "altup_correct_scale.weight"),
}
"""Few numbers, which the kernels take in float32."""

AS_STORED = frozenset(name for _, name in (*LAYER_NUMBERS.values(), LAYER_MATRICES["router"]))
"""Of a layer, in GGUF, what is never quantised. LAYER_NUMBERS are read one by one and not in blocks; and a router, of experts or
of streams, decides where a token goes: with other experts it is another token, not one that is a little less exact."""

EXPERTS: Names = {
    "both": ("experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    "gate_proj": ("experts.gate_proj", "ffn_gate_exps.weight"),
    "up_proj": ("experts.up_proj", "ffn_up_exps.weight"),
    "down_proj": ("experts.down_proj", "ffn_down_exps.weight"),
}
"""All experts' matrices in one tensor: gate and up, one after the other for each expert, or apart."""

MODEL_TENSORS: Names = {
    "token_embedding": ("embed_tokens.weight", "token_embd.weight"),
    "final_norm": ("norm.weight", "output_norm.weight"),
    "ple_embedding": ("embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    "ple_projection": ("per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    "ple_model_norm": ("per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    "projection": ("embedding_projection.weight", ""),
    "stream_begin": ("altup_projections.{}.weight", "altup_proj.weight"),
    "stream_end": ("altup_unembed_projections.{}.weight", "altup_unembd_proj.weight"),
}

HEADS = ("lm_head.weight", "language_model.lm_head.weight"), ("output.weight",)
"""The output head of a model that does not share it with the token embeddings, in safetensors and in GGUF."""
