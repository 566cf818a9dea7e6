// fovea/score/bias.hpp - a matrix that is added to the logits.
#pragma once

#include <fovea/score/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// One head's matrix, queries x keys.
template <class Matrix>
struct bias_cells {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr int matrices = 1;
  Matrix values;

  auto staged(auto& block) const noexcept {
    return bias_cells<decltype(block.copy(values))>{block.copy(values)};
  }

  void each_matrix(const auto& f) const noexcept { f(values); }

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return cells.sum_or_hidden(s, cells.load(values));
  }
  template <class V>
  V derivative(const V&, const auto&) const noexcept {
    return V(1);
  }
};

/// s -> s + values(q, k); -inf hides the cell. Broadcasts to batch x heads x queries x keys: each of its four
/// sizes is 1 or the full one. It is read, never copied. Made by bias(...).
template <class Table>
struct bias_matrix {
  static constexpr score_stage stage = score_stage::bias;
  Table table;

  void check(const place& at) const { table.check(at, "bias"); }
  void each_operand(const auto& f) const { f("bias", table.table); }
  auto bind(const place& at) const noexcept { return bias_cells<decltype(table.bind(at))>{table.bind(at)}; }
};

/// The same, with where a backward call writes its gradient: a tensor of the same sizes, summed over those
/// that are 1. Made by bias(m, gradient).
template <class Table, class Gradient>
struct learnt_bias_matrix : bias_matrix<Table> {
  static constexpr const char* gradient_name = "the gradient of bias";
  Gradient to;

  auto gradient() const noexcept {
    return parameter_gradient<std::remove_pointer_t<decltype(to.data)>>{
        to.data,         to.batch,       to.heads,        to.tokens,    to.dim,
        to.batch_stride, to.head_stride, to.token_stride, to.dim_stride};
  }
  void check(const place& at) const {
    bias_matrix<Table>::check(at);
    const auto& t = this->table.table;
    const auto same = [](const char* what, index_type has, index_type wanted) {
      if (has != wanted) reject("bias: the gradient has ", has, " ", what, ", the bias ", wanted);
    };
    same("batch entries", to.batch, t.batch), same("heads", to.heads, t.heads);
    same("rows (queries)", to.tokens, t.tokens), same("columns (keys)", to.dim, t.dim);
  }
};

FOVEA_NAMESPACE_END
