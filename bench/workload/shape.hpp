// bench/workload/shape.hpp - what a row of the benchmark computes.
#pragma once

#include <cstddef>
#include <vector>

namespace bench {

using index_type = std::ptrdiff_t;

enum class element { f32, f64, bf16, f16, i8, f8, q4 };  // i8, f8 (E4M3) and q4 (4 bits): in a cache alone
enum class layout { bhsd, bshd, eigen, eigen_col };      // eigen: row-major, eigen_col: column-major
enum class operation {
  forward,
  backward,
  hard,  // argmax
  hard_sampled,
  additive,
  linear,
  decomposed,
  gate,  // an element of O
  differential,
  sigmoid,
  transformer_xl,
  talking_heads,
  cosine,
  luong,         // general: q W k
  weights_into,  // of the first head
  linear_backward,
  feature,  // elu + 1 in place of the softmax
  dsa       // an index chooses keys, attention reads those
};
enum class update_rule { linear, gated, gated_channels, delta, gated_delta, gated_delta_channels };
enum class mask {
  none,
  causal,
  window,
  blocks,
  topk,
  documents,
  prefix,
  tree,
  dilated,
  longformer,
  neighbourhood
};
enum class weight_rounding { exact, rounded };  // rounded: they may be, to what V is stored as
enum class cache {
  none,
  contiguous,
  paged,
  ring,
  latent
};  // paged: in random order; latent: values are part of keys
enum class modifier {
  none,
  alibi,
  softcap,
  bias,
  boolean,
  lengths,
  sink,
  function,
  t5,
  swin,
  table
};  // function: alibi as a lambda; table: bias_table of signed distances

/// What a row of the benchmark computes. The queries stand at the last keys: the diagonal of causal, window
/// and prefix joins the last query to the last key, the last query's document is that of the last key. Drafts
/// of a tree are the last keys, each the child of the one at half its number; longformer's global tokens are
/// the first ones; a neighbourhood is of a square picture.
struct workload {
  operation op = operation::forward;
  index_type batch = 1, heads = 8, kv_heads = 8;  // B, Hq, Hkv
  index_type queries = 1024, keys = 1024;         // Lq, Lk
  index_type dim = 64, value_dim = 64;            // d, dv
  index_type hidden = 0;                          // of additive attention
  update_rule rule = update_rule::linear;         // of linear attention
  index_type index_heads = 0, top = 0;            // of op=dsa: heads of 128, and the keys that they choose
  element index = element::f32;                   // of its queries and keys
  bench::mask mask = mask::none;
  index_type mask_size = 0;  // window: keys before a query's own; blocks, documents: tokens; prefix: keys;
                             // tree: drafts; dilated: step; longformer: a side; neighbourhood: kernel's side
  double share = 0;          // blocks: of those of a row, how many are visible
  element dtype = element::f32, kv = element::f32;
  bench::layout layout = layout::bhsd;
  modifier with = modifier::none;
  weight_rounding weights = weight_rounding::exact;
  bench::cache cache = cache::none;
  index_type page_tokens = 16;
  std::vector<index_type> lengths = {};  // of a cache: keys of each sequence, where they differ
  index_type threads = 1;

  friend bool operator==(const workload&, const workload&) = default;
};

}  // namespace bench
