// The ONNX operator RotaryEmbedding (opset 23), by the library's public API.
#pragma once

#include "operator_io.hpp"

#include <fovea/position.hpp>

namespace onnx {

template <class E>
void run_rotary(const case_file& c, const output_writer& write) {
  using fovea::index_type;
  const auto &x = operand_in(c, 0), &cos = operand_in(c, 1), &sin = operand_in(c, 2);
  const bool rank3 = x.shape.size() == 3;
  if (!rank3 && x.shape.size() != 4)
    throw std::runtime_error("X has rank " + std::to_string(x.shape.size()) + ", not 3 or 4");
  const index_type heads = rank3 ? c.int_or("num_heads", 0) : x.shape[1];
  if (heads <= 0 || (rank3 && x.shape[2] % heads != 0))
    throw std::runtime_error("num_heads is " + std::to_string(heads));
  const E* data = reinterpret_cast<const E*>(x.bytes.data());
  const auto from = rank3 ? fovea::bshd(data, x.shape[0], x.shape[1], heads, x.shape[2] / heads)
                          : fovea::bhsd(data, x.shape[0], heads, x.shape[2], x.shape[3]);
  // Without position_ids the tables are (batch, tokens, r/2): a row a token.
  const auto angles = [&](const tensor_file& t) {
    if (t.shape.size() != (has_in(c, 3) ? 2u : 3u))
      throw std::runtime_error(t.name + " has rank " + std::to_string(t.shape.size()));
    const index_type columns = t.shape.back(), rows = columns == 0 ? 0 : t.count() / columns;
    return fovea::matrix_view<const E>{reinterpret_cast<const E*>(t.bytes.data()), rows, columns, columns, 1};
  };
  if (cos.shape != sin.shape) throw std::runtime_error(cos.name + " and " + sin.name + " differ in shape");
  const fovea::rotary_angles<E> table{angles(cos), angles(sin)};
  std::vector<index_type> positions(static_cast<std::size_t>(from.batch * from.tokens));
  if (has_in(c, 3)) {
    const auto ids = numbers(operand_in(c, 3));
    if (ids.size() != positions.size() && ids.size() != static_cast<std::size_t>(from.tokens))
      throw std::runtime_error("there are " + std::to_string(ids.size()) + " position_ids for " +
                               std::to_string(positions.size()) + " tokens");
    for (std::size_t i = 0; i < positions.size(); ++i)  // those of one sequence are those of all
      positions[i] = static_cast<index_type>(ids[i % ids.size()]);
  } else {
    if ((cos.shape[0] != 1 && cos.shape[0] != from.batch) || cos.shape[1] != from.tokens)
      throw std::runtime_error(cos.name + " is of " + std::to_string(cos.shape[0]) + " x " +
                               std::to_string(cos.shape[1]) + " tokens, X of " + std::to_string(from.batch) +
                               " x " + std::to_string(from.tokens));
    for (std::size_t i = 0; i < positions.size(); ++i)
      positions[i] = static_cast<index_type>(i) % table.cos.rows;
  }
  const index_type r =
      c.int_or("rotary_embedding_dim", 0) == 0 ? from.dim : c.int_or("rotary_embedding_dim", 0);
  if (2 * table.cos.cols != r)
    throw std::runtime_error("cos_cache has " + std::to_string(table.cos.cols) + " columns for " +
                             std::to_string(r) + " rotated dimensions");
  fovea::tensor<E> out(from.batch, from.heads, from.tokens, from.dim);
  const auto pairs =
      c.int_or("interleaved", 0) ? fovea::rotary_pairs::interleaved : fovea::rotary_pairs::halves;
  fovea::rotate_into(out, from, table, {.pairs = pairs, .positions = positions});
  write(0, out.view());
}

}  // namespace onnx
