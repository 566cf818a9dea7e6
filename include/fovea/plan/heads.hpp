// fovea/plan/heads.hpp - how many heads the arguments of a call hold: as the type of attention<T, Heads,
// KVHeads> says, the options, or the arguments themselves.
#pragma once

#include <fovea/plan/operands.hpp>
#include <fovea/plan/options.hpp>

FOVEA_NAMESPACE_BEGIN

/// Whether an option agrees with the number that the type fixes.
inline void check_heads(const char* name, index_type option, int fixed) {
  if (option < 0) reject("the option ", name, " is ", option, ", below 0");
  if (fixed != dynamic_heads && option != 0 && option != fixed)
    reject("the option ", name, " is ", option, ", but the type says ", fixed);
}

template <int Heads, class Q>
index_type query_heads(const attention_options& options, const Q& q) {
  if (Heads != dynamic_heads) return Heads;
  if (options.heads > 0) return options.heads;
  if constexpr (!tells_heads<Q>)
    reject(
        "q is a matrix, which does not tell how many heads it holds; give their number as an option, "
        "attention<T>{{.heads = 8}}, or in the type, attention<T, 8> (1, where it holds one)");
  return view_of(q, any_heads, "q").all.heads;
}

/// Whether query heads share key/value heads evenly.
inline void check_shared(index_type heads, index_type kv_heads) {
  if (kv_heads <= 0 || heads % kv_heads != 0)
    reject(heads, " query heads can not share ", kv_heads, " key/value heads evenly");
}

template <int KVHeads>
index_type key_value_heads(const attention_options& options, index_type heads) {
  const index_type kv_heads = KVHeads != dynamic_heads ? KVHeads
                              : options.kv_heads > 0   ? options.kv_heads
                                                       : heads;
  check_shared(heads, kv_heads);
  return kv_heads;
}

FOVEA_NAMESPACE_END
