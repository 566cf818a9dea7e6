// fovea/multi_head/layer_sizes.hpp - which layer made what another call is given.
#pragma once

#include <fovea/multi_head/weights.hpp>

FOVEA_NAMESPACE_BEGIN

/// What two layers have in common that can read each other's values: what a forward call saved, projected
/// keys and values. (Their weights may differ: a layer is trained in between.)
struct layer_sizes {
  index_type width = 0, memory_width = 0, heads = 0, kv_heads = 0, dim = 0, value_dim = 0, rotated = 0;
  bool normalised = false, interleaved = false;
  double scale = 0;

  layer_sizes() = default;
  template <class T>
  explicit layer_sizes(const multi_head_options<T>& o)
      : width(o.width),
        memory_width(o.memory_width),
        heads(o.heads),
        kv_heads(o.kv_heads),
        dim(o.dim),
        value_dim(o.value_dim),
        rotated(2 * o.rotary.cos.cols),
        normalised(o.normalised),
        interleaved(rotated > 0 && o.pairs == rotary_pairs::interleaved),
        scale(o.scale.value_or(1 / std::sqrt(static_cast<double>(o.dim)))) {}

  /// Whether `what`, made by a layer of these sizes, is for a layer of others.
  void check(const char* what, const layer_sizes& own) const {
    const auto same = [&](const char* name, auto is, auto should) {
      if (is != should)
        reject(what, " by a layer whose ", name, " is ", is, ", but this layer's is ", should);
    };
    same("width", width, own.width), same("memory_width", memory_width, own.memory_width);
    same("number of heads", heads, own.heads), same("number of kv_heads", kv_heads, own.kv_heads);
    same("dim", dim, own.dim), same("value_dim", value_dim, own.value_dim);
    same("option normalised", int(normalised), int(own.normalised));
    same("rotary dimension", rotated, own.rotated);
    same("choice of interleaved pairs", int(interleaved), int(own.interleaved));
    same("scale", scale, own.scale);
  }
};

FOVEA_NAMESPACE_END
