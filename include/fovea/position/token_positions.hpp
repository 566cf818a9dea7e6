// fovea/position/token_positions.hpp - where the tokens of a batch stand, and whether a result fits it.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN
namespace position {

/// Where the tokens of a batch stand.
struct token_positions {
  list_view<index_type> given;  // empty: counted from `first`
  bool shared;
  index_type first;

  /// Of token t of a sequence that has `before` tokens before it in the batch.
  index_type of(index_type before, index_type t) const noexcept {
    return given.empty() ? first + t : given[shared ? t : before + t];
  }
};

/// The positions that a call names, each within the table's rows: counted from `first`, or given, for one
/// sequence, which all then share, or for all sequences, one after another.
template <class XE>
token_positions checked_positions(const sequences<XE>& x, index_type rows, index_type first,
                                  const list_view<index_type>& positions) {
  const index_type given = positions.size(), one = x.max_tokens();
  index_type all = 0;
  for (index_type b = 0; b < x.batches(); ++b) all += x.tokens(b);
  if (given != 0 && given != one && given != all)
    reject("there are ", given, " positions, neither ", one, " (the tokens of one sequence) nor ", all,
           " (of all)");
  const token_positions at{positions, given == one, first};
  for (index_type b = 0, before = 0; b < x.batches(); before += x.tokens(b++))
    for (index_type t = 0; t < x.tokens(b); ++t)
      if (const index_type p = at.of(before, t); p < 0 || p >= rows)
        reject("position ", given == 0 ? std::to_string(p) : text_of(positions, at.shared ? t : before + t),
               " of token ", t, " is not within the table's ", rows, " rows");
  return at;
}

/// Whether `out` and `x` have the same shape, and are one view or share no memory.
template <class OE, class XE>
void check_result(const sequences<OE>& out, const sequences<XE>& x) {
  const auto same = [](const char* what, index_type of_out, index_type of_x) {
    if (of_out != of_x) reject("out has ", of_out, " ", what, " but x has ", of_x);
  };
  same("sequences", out.batches(), x.batches()), same("heads", out.all.heads, x.all.heads);
  same("dimensions a head", out.all.dim, x.all.dim);
  for (index_type b = 0; b < x.batches(); ++b) same("tokens", out.tokens(b), x.tokens(b));
  check_writable("out", out.all);
  check_apart_or_same("out", out, "x", x);
}

}  // namespace position
FOVEA_NAMESPACE_END
