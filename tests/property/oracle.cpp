// The meaning of every mask and score, written without the library.
#include "problem.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fovea_test {

double problem::scale_value() const {
  return scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(n.dim, 1))));
}

namespace {

/// Drafts are the last keys, queries the last tokens.
bool sees_draft(const rules& r, index_type token, index_type j, index_type keys) {
  const index_type first = keys - static_cast<index_type>(r.parents.size());
  if (j < first || token < first) return j <= token;
  while (token > j) {
    const index_type parent = r.parents[static_cast<std::size_t>(token - first)];
    if (parent < 0) return false;
    token = first + parent;
  }
  return token == j;
}

/// BigBird of blocks of 16: where `drawn` of the others are to be seen, these are cut into so many parts as
/// equal as they can be, and row i sees one block of each: that with the number of the splitmix64 generator's
/// output for (seed, head, i, part).
bool sees_bird(const rules& r, index_type head, index_type i, index_type j, index_type tokens) {
  const index_type blocks = (tokens + 15) / 16, global = std::min(r.first_blocks, blocks);
  if (i < global || j < global || std::abs(i - j) <= r.beside) return true;
  std::vector<index_type> others;
  for (index_type o = global; o < blocks; ++o)
    if (std::abs(i - o) > r.beside) others.push_back(o);
  const index_type count = static_cast<index_type>(others.size()), drawn = std::min(r.drawn, blocks);
  if (count <= drawn) return true;
  for (index_type part = 0; part < drawn; ++part) {
    const index_type first = part * count / drawn, last = (part + 1) * count / drawn;
    const std::uint64_t of_head =
        r.seed * 0xd1342543de82ef95u + static_cast<std::uint64_t>(head) * 0xaef17502108ef2d9u;
    std::uint64_t x = of_head + static_cast<std::uint64_t>(i * drawn + part + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u, x = (x ^ (x >> 27)) * 0x94d049bb133111ebu, x ^= x >> 31;
    const index_type n = static_cast<index_type>(x % static_cast<std::uint64_t>(last - first));
    if (others[static_cast<std::size_t>(first + n)] == j) return true;
  }
  return false;
}

bool sees_pattern(const rules& r, index_type i, index_type j) {
  const auto global = [&](index_type t) { return std::count(r.global.begin(), r.global.end(), t) != 0; };
  return std::abs(i - j) <= r.reach || (i - j) % r.nth == 0 || global(i) || global(j);
}

/// The `kernel` coordinates of i's residue that lie nearest it.
bool sees_along(index_type i, index_type j, index_type size, index_type kernel, index_type dilation) {
  if (i % dilation != j % dilation) return false;
  const index_type last = (size - 1 - i % dilation) / dilation - kernel + 1;
  const index_type start = std::clamp<index_type>(i / dilation - kernel / 2, 0, last);
  return j / dilation >= start && j / dilation < start + kernel;
}

}  // namespace

bool visible(const problem& p, index_type b, index_type h, index_type i, index_type j) {
  const rules& r = p.rules;
  const std::size_t sequence = static_cast<std::size_t>(b);
  const index_type shift = p.keys[sequence] - p.queries[sequence];
  const auto has = [&](feature f) { return (r.features & f) != 0; };
  if (has(causal) && j > i) return false;
  if (has(causal_top_left) && j > i) return false;
  if (has(causal_bottom_right) && j > i + shift) return false;
  if (has(causal_offset) && j > i + r.offset) return false;
  if (has(window) && r.left >= 0 && j < i + r.diagonal - r.left) return false;
  if (has(window) && r.right >= 0 && j > i + r.diagonal + r.right) return false;
  if (has(right_padding) && j >= r.lengths[sequence]) return false;
  if (has(left_padding) && j < r.starts[sequence]) return false;
  if (has(boolean) && r.keep.at(b, h, i, j) == 0) return false;
  if (has(predicate) && (j & r.period) != 0 && j != i) return false;
  if (has(complement) && j == i + r.hole) return false;
  if (has(bias) && r.addend.at(b, h, i, j) == -std::numeric_limits<double>::infinity()) return false;
  const auto id = [&](const auto& ids, index_type t) { return ids[sequence][static_cast<std::size_t>(t)]; };
  if (has(documents) && id(r.query_ids, i) != id(r.key_ids, j)) return false;
  if (has(diffusion) && i / r.chunk < j / r.chunk) return false;
  if (has(drafts) && !sees_draft(r, i + shift, j, p.keys[sequence])) return false;
  if (has(pattern) && !sees_pattern(r, i, j)) return false;
  if (!in_local_window(p, b, i, j)) return false;
  if (has(every_nth) && (i + r.offset - j) % r.nth != 0) return false;
  if (has(picture) && (!sees_along(i / r.columns, j / r.columns, r.rows, r.kernel, r.dilation) ||
                       !sees_along(i % r.columns, j % r.columns, r.columns, r.kernel, 1)))
    return false;
  if (has(chunks) && i / r.chunk != j / r.chunk) return false;
  if (has(blocks) && r.map.at(b, h, i / r.block_queries, j / r.block_keys) == 0) return false;
  if (has(prefix) && j >= r.prefix_keys && j > i) return false;
  if (has(language_prefix) && j >= r.lengths[sequence] && j > i + r.offset) return false;
  if (has(birds) && !sees_bird(r, h, i / 16, j / 16, p.keys[sequence])) return false;
  if (has(of_heads)) {
    const index_type step = r.head_steps[static_cast<std::size_t>(h)] + r.sequence_steps[sequence];
    if (((j + step) & r.period) != 0 && j != i) return false;
  }
  return true;
}

/// Below 0 where there is none.
index_type slot_of(const rules& r, index_type i, index_type j) {
  if (r.features & distances) {  // of 8 buckets up to a distance of 20
    const index_type d = j - i - r.alibi_offset, far = std::abs(d);
    return (d > 0 ? 4 : 0) + (far < 2 ? far : far < 7 ? 2 : 3);
  }
  if (r.features & offsets) {
    const index_type down = i / r.columns - j / r.columns, right = i % r.columns - j % r.columns;
    return (down + r.rows - 1) * (2 * r.columns - 1) + right + r.columns - 1;
  }
  return (j / 8) % 2 == 1 ? -1 : std::clamp<index_type>(j - i, -9, 9) + 9;
}

double addend(const problem& p, index_type b, index_type h, index_type i, index_type j) {
  const rules& r = p.rules;
  double sum = 0;
  if (r.features & alibi)
    sum -= r.slopes[static_cast<std::size_t>(h)] * static_cast<double>(std::abs(i + r.alibi_offset - j));
  if (r.features & bias) sum += r.addend.at(b, h, i, j);
  if (r.features & any_slot)
    if (const index_type slot = slot_of(r, i, j); slot >= 0) sum += r.numbers.at(0, h, 0, slot);
  if (r.features & function) sum += r.tilt * static_cast<double>(i - 2 * j);
  if (r.features & of_heads) {
    const auto step = [](const auto& steps, index_type n) { return steps[static_cast<std::size_t>(n)]; };
    const index_type steps = step(r.head_steps, h) - step(r.sequence_steps, b);
    sum += static_cast<double>(steps) / 64 * static_cast<double>(i - 2 * j);
  }
  return sum;
}

double logit(const problem& p, index_type b, index_type h, index_type i, index_type j) {
  if (p.rules.of > relative::kept_weights) return own_logit(p, b, h, i, j) + addend(p, b, h, i, j);
  double s = 0;
  for (index_type c = 0; c < p.n.dim; ++c) s += p.q(b, h, i, c) * p.k(b, p.kv_head(h), j, c);
  s *= p.scale_value();
  if ((p.rules.features & softcap) && p.rules.cap != 0) s = p.rules.cap * std::tanh(s / p.rules.cap);
  return s + addend(p, b, h, i, j);
}

index_type visible_keys(const problem& p, index_type b, index_type h, index_type i) {
  index_type n = 0;
  for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) n += visible(p, b, h, i, j);
  return n;
}

expectation textbook(const problem& p) {
  if (p.rules.of > relative::kept_weights) return textbook_of_relative(p);
  constexpr double hidden = -std::numeric_limits<double>::infinity();
  const sizes& n = p.n;
  expectation e{{n.batch, n.heads, n.queries, n.value_dim}, {n.batch, n.heads, n.queries, 1, hidden}, {}, {}};
  for (index_type b = 0; b < n.batch; ++b)
    for (index_type h = 0; h < n.heads; ++h)
      for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
        std::vector<double> s;
        double largest = p.rules.features & sink ? p.rules.sinks[static_cast<std::size_t>(h)] : hidden;
        for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) {
          s.push_back(visible(p, b, h, i, j) ? logit(p, b, h, i, j) : hidden);
          largest = std::max(largest, s.back());
        }
        if (largest == hidden) continue;
        double sum =
            p.rules.features & sink ? std::exp(p.rules.sinks[static_cast<std::size_t>(h)] - largest) : 0;
        for (const double x : s) sum += std::exp(x - largest);
        e.lse(b, h, i, 0) = largest + std::log(sum);
        for (std::size_t j = 0; j < s.size(); ++j) {
          if (s[j] == hidden) continue;
          const double weight = std::exp(s[j] - largest) / sum;
          for (index_type c = 0; c < n.value_dim; ++c)
            e.out(b, h, i, c) += weight * p.v(b, p.kv_head(h), static_cast<index_type>(j), c);
        }
      }
  return e;
}

}  // namespace fovea_test
