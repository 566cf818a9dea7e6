// bench/workload/check.hpp - workloads that can not be timed.
#pragma once

#include "names.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace bench {

inline index_type side_of_picture(const workload& w) {
  return static_cast<index_type>(std::lround(std::sqrt(double(w.keys))));
}

inline void check(const workload& w) {
  if (w.heads % w.kv_heads != 0)
    throw std::invalid_argument("Hq=" + std::to_string(w.heads) +
                                " is not a multiple of Hkv=" + std::to_string(w.kv_heads));
  if ((w.dtype == element::f64) != (w.kv == element::f64))
    throw std::invalid_argument("dtype=" + std::string(name_of(element_names, w.dtype)) + " beside kv=" +
                                std::string(name_of(element_names, w.kv)) + ": f64 is timed with f64 only");
  if (w.op != operation::forward &&
      (w.dtype != element::f32 || w.kv != element::f32 || w.cache != cache::none ||
       w.layout != layout::bhsd || w.with != modifier::none))
    throw std::invalid_argument("op=" + std::string(name_of(operation_names, w.op)) +
                                ": timed in f32 and bhsd, without modifiers");
  if ((w.op == operation::additive) != (w.hidden > 0))
    throw std::invalid_argument("hidden=" + std::to_string(w.hidden) + ": it goes with op=additive");
  if ((w.op == operation::dsa) != (w.index_heads > 0) || (w.op == operation::dsa) != (w.top > 0))
    throw std::invalid_argument("index=" + std::to_string(w.index_heads) + ", top=" + std::to_string(w.top) +
                                ": they go with op=dsa");
  if (w.op == operation::dsa &&
      (w.batch != 1 || w.kv_heads != 1 || w.mask != mask::none || w.keys < w.queries || w.value_dim > w.dim))
    throw std::invalid_argument(
        "op=dsa: timed with B=1, Hkv=1, no mask, no more queries than keys and values that are "
        "the first dv of d");
  if (w.op == operation::feature && ((w.mask != mask::none && w.mask != mask::causal) || w.queries != w.keys))
    throw std::invalid_argument("op=feature: timed with Lq = Lk, without a mask or causal");
  if (w.op == operation::differential && (w.heads % 2 != 0 || w.kv_heads % 2 != 0))
    throw std::invalid_argument("op=differential: Hq=" + std::to_string(w.heads) +
                                ", Hkv=" + std::to_string(w.kv_heads) + " are those of both softmaxes, even");
  if (!is_linear(w.op) && w.rule != update_rule::linear)
    throw std::invalid_argument("rule=" + std::string(name_of(rule_names, w.rule)) +
                                ": it goes with op=linear");
  if (is_linear(w.op) && (w.queries != w.keys || w.mask != mask::none))
    throw std::invalid_argument("op=linear: timed with Lq = Lk, without a mask");
  const auto few_bits = [](element e) { return e == element::i8 || e == element::f8 || e == element::q4; };
  const auto name_of_element = [](element e) { return std::string(name_of(element_names, e)); };
  if (few_bits(w.dtype))
    throw std::invalid_argument("dtype=" + name_of_element(w.dtype) + ": " +
                                (w.dtype == element::i8 ? "int8" : name_of_element(w.dtype)) +
                                " is for kv, in a cache");
  if (few_bits(w.kv) && w.cache == cache::none)
    throw std::invalid_argument("kv=" + name_of_element(w.kv) + ": say which cache");
  if (w.kv == element::q4 && w.cache != cache::contiguous)
    throw std::invalid_argument("kv=q4: timed with cache=contiguous");
  if (w.kv == element::f8 && w.cache == cache::latent)
    throw std::invalid_argument("kv=f8: not timed with cache=latent");
  if (w.cache != cache::none && ((w.dtype != element::f32 && (w.cache != cache::latent ||
                                                              w.dtype != element::bf16 || w.kv != w.dtype)) ||
                                 w.kv == element::f64 || (w.mask != mask::none && w.mask != mask::causal) ||
                                 w.layout != layout::bhsd || w.with != modifier::none))
    throw std::invalid_argument(
        "cache=" + std::string(name_of(cache_names, w.cache)) +
        ": timed with dtype=f32 (latent: or dtype=bf16 with kv=bf16) in bhsd, causal, without modifiers");
  if (w.cache == cache::latent && w.value_dim > w.dim)
    throw std::invalid_argument("cache=latent: dv=" + std::to_string(w.value_dim) +
                                " is no part of d=" + std::to_string(w.dim));
  if (w.weights != weight_rounding::exact &&
      (w.dtype != element::bf16 || w.kv != element::bf16 || w.op != operation::forward))
    throw std::invalid_argument("weights=rounded: timed forward, with dtype=bf16 and kv=bf16");
  if (!w.lengths.empty() && (w.cache == cache::none || static_cast<index_type>(w.lengths.size()) != w.batch ||
                             *std::min_element(w.lengths.begin(), w.lengths.end()) < w.queries))
    throw std::invalid_argument("lens: one length, at least Lq, for each of B sequences, in a cache");
  if (w.cache != cache::none && w.lengths.empty() && w.keys < w.queries)
    throw std::invalid_argument("Lk=" + std::to_string(w.keys) + ": a cache has at least the Lq=" +
                                std::to_string(w.queries) + " tokens that ask");
  if (w.batch != 1 && (w.layout == layout::eigen || w.layout == layout::eigen_col))
    throw std::invalid_argument("B=" + std::to_string(w.batch) + ": an Eigen matrix holds one sequence");
  if (w.with != modifier::none &&
      ((w.mask != mask::none && !(w.with == modifier::sink && is_plain(w.mask))) || w.dtype != element::f32 ||
       w.kv != element::f32 || w.layout != layout::bhsd))
    throw std::invalid_argument(
        "with=" + std::string(name_of(modifier_names, w.with)) +
        ": timed without a mask (sink: or with causal or a window), in f32 and bhsd only");
  if (!is_plain(w.mask) && (w.dtype != element::f32 || w.kv != element::f32 || w.keys < w.queries ||
                            (w.op != operation::forward && w.op != operation::backward)))
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) +
                                ": timed in f32, forward and backward, with no more queries than keys");
  if (w.mask == mask::topk && (w.op != operation::forward || w.batch != 1 || w.keys % w.mask_size != 0))
    throw std::invalid_argument("mask=topk: timed forward, of one sequence of whole blocks");
  if ((w.mask == mask::prefix || w.mask == mask::tree) && w.mask_size > w.keys)
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) + ":" +
                                std::to_string(w.mask_size) + ": more than Lk=" + std::to_string(w.keys));
  if (w.mask == mask::longformer && global_tokens > w.keys)
    throw std::invalid_argument("mask=longformer: fewer keys than its " + std::to_string(global_tokens) +
                                " global tokens");
  if (needs_square(w.mask) && w.queries != w.keys)
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) + ": timed with Lq = Lk");
  const index_type side = side_of_picture(w);
  if (w.mask == mask::neighbourhood && (side * side != w.keys || w.mask_size > side))
    throw std::invalid_argument("mask=neighbourhood: Lk=" + std::to_string(w.keys) +
                                " is no square picture that holds the kernel");
  if (w.op == operation::decomposed && (w.mask != mask::none || w.queries != w.keys || side * side != w.keys))
    throw std::invalid_argument("op=decomposed: Lq=" + std::to_string(w.queries) + ", Lk=" +
                                std::to_string(w.keys) + ": timed without a mask, of a square grid");
  if (w.with == modifier::swin && (w.queries != w.keys || side * side != w.keys))
    throw std::invalid_argument("with=swin: Lq=" + std::to_string(w.queries) +
                                ", Lk=" + std::to_string(w.keys) + " is no square window");
  const double widest = double(std::max(w.dim, w.value_dim)) * double(w.batch) *
                        std::max(double(w.heads) * double(w.queries), double(w.kv_heads) * double(w.keys));
  if (widest > 1e12) throw std::invalid_argument("a tensor of more than 10^12 elements");
}

}  // namespace bench
