// bench/models.hpp - workloads by the name of the model whose attention they are.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace bench {

struct model_workload {
  std::string_view name, words, meaning;
};

inline constexpr std::array<model_workload, 11> model_workloads{{
    {"whisper_encoder", "B=1,Hq=12,Lq=1500,d=64", "Whisper small, 30 s of speech (arXiv:2212.04356)"},
    {"whisper_cross", "B=5,Hq=12,Lq=1,Lk=1500,d=64", "its decoder's look at them, 5 beams"},
    {"sd15_self", "B=2,Hq=8,Lq=4096,d=40", "Stable Diffusion 1.5 at 64 x 64, with and without guidance"},
    {"sd15_cross", "B=2,Hq=8,Lq=4096,Lk=77,d=40", "its look at the text"},
    {"clip_text", "B=2,Hq=12,Lq=77,d=64,mask=causal", "CLIP ViT-L/14's text encoder (arXiv:2103.00020)"},
    {"vit_b16", "B=8,Hq=12,Lq=197,d=64", "ViT-B/16, 8 pictures of 224 x 224 (arXiv:2010.11929)"},
    {"sam_global", "B=1,Hq=12,Lq=4096,d=64",
     "SAM ViT-B, 1024 x 1024 pixels, without its position terms (arXiv:2304.02643)"},
    {"gemma3_local", "B=1,Hq=8,Hkv=4,Lq=4096,d=256,mask=window:1023",
     "Gemma 3 4B, a local layer (arXiv:2503.19786)"},
    {"gemini_mqa_32k", "B=1,Hq=16,Hkv=1,Lq=1,Lk=32768,d=128",
     "multi-query decoding of 32,768 tokens, as in Gemini (arXiv:2312.11805, which has no sizes)"},
    {"gpt_oss_sink", "B=1,Hq=64,Hkv=8,Lq=2048,d=64,mask=window:127,with=sink",
     "gpt-oss 20B, a local layer (arXiv:2508.10925)"},
    {"llama3_8b_decode", "B=1,Hq=32,Hkv=8,Lq=1,Lk=8192,d=128", "Llama 3 8B, a token (arXiv:2407.21783)"},
}};

/// Words in which the name of a model, before the first comma, stands for its workload.
inline std::string without_names(std::string_view words) {
  const std::string_view first = words.substr(0, words.find(','));
  for (const auto& m : model_workloads)
    if (m.name == first) return std::string(m.words) + std::string(words.substr(first.size()));
  return std::string(words);
}

}  // namespace bench
