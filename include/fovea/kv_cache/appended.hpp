// fovea/kv_cache/appended.hpp - what every cache asks of tokens that are appended.
#pragma once

#include <fovea/position/rotary.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Tokens of one sequence, as many of v as of k, as wide as a cache's. `ks`, `vs`: sequences.
template <class Keys, class Values>
void check_appended(const Keys& ks, const Values& vs, index_type dim, index_type value_dim) {
  const auto same = [](const char* a, const char* what, index_type has, const char* b, index_type other) {
    if (has != other) reject(a, " has ", has, " ", what, " but ", b, " has ", other);
  };
  if (ks.batches() != 1) reject("k has ", ks.batches(), " sequences; a cache appends to one");
  same("v", "sequences", vs.batches(), "k", ks.batches());
  same("v", "tokens", vs.tokens(0), "k", ks.tokens(0));
  same("k", "dimensions a head", ks.dim(), "the cache", dim);
  same("v", "dimensions a head", vs.dim(), "the cache", value_dim);
}

/// Angles of so many positions for keys of `dim` channels, or what `whose` says "has" them.
template <class E>
void check_angles(const rotary_angles<E>& angles, index_type positions, index_type dim,
                  const char* whose = "the cache's keys have") {
  position::check_angles(angles, dim, whose);
  if (positions > angles.cos.rows)
    reject("position ", positions - 1, " is not within the table's ", angles.cos.rows, " rows");
}

}  // namespace caching
FOVEA_NAMESPACE_END
