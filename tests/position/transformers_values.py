# Prints transformers_values.hpp: what transformers computes for small models.
#
#   pip install torch transformers      (made with torch 2.14.1, transformers 5.24.0, on a CPU)
#   python tests/position/transformers_values.py > tests/position/transformers_values.hpp
import textwrap

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.dinov3_vit.modeling_dinov3_vit import get_patches_center_coordinates
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import (Qwen2VLRotaryEmbedding,
                                                            Qwen2VLVisionRotaryEmbedding)
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from transformers.models.whisper.modeling_whisper import sinusoids


def literal(x):
    text = f"{float(x):.9g}"
    return text if any(c in text for c in ".e") else text + "."


def show(name, values):
    numbers = ", ".join(literal(x) for x in torch.as_tensor(values).flatten().tolist())
    definition = f"inline const std::vector<double> {name}{{{numbers}}};"
    print(textwrap.fill(definition, 110, subsequent_indent="    "))


def frequencies(name, kind, head_dim=16, context=4096, seq_len=None, **rope):
    config = LlamaConfig(hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim,
                         max_position_embeddings=context,
                         rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **rope})
    values, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len)
    show(name, torch.cat([values.double(), torch.tensor([attention_factor], dtype=torch.double)]))


print("// transformers_values.hpp - what transformers computes for small models;")
print("// made by transformers_values.py.")
print("#pragma once\n\n#include <vector>\n\n// clang-format off\nnamespace transformers_values {\n")
print("// Frequencies of 8 pairs, base 10000, and the attention factor behind them.")
frequencies("linear_4", "linear", factor=4.0)
frequencies("dynamic_3_of_1000_at_2500", "dynamic", context=1000, seq_len=2500, factor=3.0)
frequencies("yarn_4_of_2048", "yarn", context=8192, factor=4.0, original_max_position_embeddings=2048)
frequencies("yarn_untruncated", "yarn", context=8192, factor=4.0, original_max_position_embeddings=2048,
            truncate=False, beta_fast=16.0, beta_slow=2.0)
frequencies("yarn_mscale", "yarn", context=8192, factor=40.0, original_max_position_embeddings=4096,
            mscale=1.0, mscale_all_dim=0.7)
frequencies("llama3_8_of_512", "llama3", context=4096, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=512)
short, long = [1.0 + 0.1 * i for i in range(8)], [1.0 + 2.5 * i for i in range(8)]
for name, seq_len in (("longrope_short", 4000), ("longrope_long", 5000)):
    frequencies(name, "longrope", context=32768, seq_len=seq_len, factor=8.0, short_factor=short,
                long_factor=long, original_max_position_embeddings=4096)
frequencies("proportional_quarter", "proportional", partial_rotary_factor=0.25)
print()

# Three tokens at (t, h, w), rows of 8 cosines and 8 sines.
positions = torch.tensor([[3, 3, 5], [3, 4, 9], [3, 7, 2]]).view(3, 1, 3)  # axis, batch, token
x = torch.zeros(1, 1)


def angles(name, cos, sin, pairs):
    rows = [x.reshape(-1, 2 * pairs)[:, :pairs] for x in (cos, sin)]
    show(name, torch.cat(rows, dim=1))


def multimodal(name, config_type, module, section):
    config = config_type(hidden_size=64, num_attention_heads=4, num_key_value_heads=4,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                                          "mrope_section": section})
    config.head_dim = 16
    angles(name, *module(config)(x, positions), 8)


print("// Cosines and sines of 8 pairs of three tokens at (3, 3, 3), (3, 4, 7), (5, 9, 2), base 10000.")
multimodal("mrope_2_3_3", Qwen2VLTextConfig, Qwen2VLRotaryEmbedding, [2, 3, 3])
multimodal("mrope_interleaved_4_2_2", Qwen3VLTextConfig, Qwen3VLTextRotaryEmbedding, [4, 2, 2])
print("// Of two axes, tokens at (3, 4), (4, 7), (9, 2).")
vision = Qwen2VLVisionConfig(embed_dim=64, num_heads=4)
vision.head_dim, vision.num_attention_heads = 16, 4
grid = torch.tensor([[3, 4], [4, 7], [9, 2]])
angles("axial", *Qwen2VLVisionRotaryEmbedding(vision)(x, grid), 8)
print("// Of 2 x 3 patches' centres within -1 and 1, times 2 pi, base 100.")
centres = get_patches_center_coordinates(2, 3, dtype=torch.float32, device="cpu")
inv_freq = 1 / 100.0 ** torch.arange(0, 1, 4 / 16, dtype=torch.float32)
turned = (2 * torch.pi * centres[:, :, None] * inv_freq).flatten(1, 2)
show("axial_centres", torch.cat([turned.cos(), turned.sin()], dim=1))
print("\n// Position 3 of 8 numbers, halves, the last pair turning once in 2 pi 10000 (Whisper).")
show("whisper_sinusoids", sinusoids(5, 8)[3])
print("\n// ALiBi's slopes (the bias of key 1 and key 0).")
for heads in (1, 2, 3, 6, 8, 12, 20):
    bias = build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)
    show(f"alibi_{heads}", bias[:, 0, 1])
print("\n}  // namespace transformers_values")
