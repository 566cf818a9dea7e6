// fovea/mask/neighbourhood.hpp - tokens of a line, a picture or a volume see their nearest ones.
#pragma once

#include <fovea/mask/division.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN

/// One axis: a coordinate below `size` sees `kernel` coordinates, `dilation` apart.
struct neighbourhood_axis {
  index_type size, kernel, dilation;
  bool causal;

  /// Whether coordinate q sees coordinate k, both numbers.
  template <class V>
  auto sees(const V& q, const V& k) const noexcept {
    using std::max, std::min;
    if (dilation == 1 && !causal) {
      const V least = max(min(q - whole<V>(kernel / 2), whole<V>(size - kernel)), V(0.0f));
      return (k >= least) & (k < least + whole<V>(kernel));
    }
    const V first = quotient(q, dilation), rest = q - whole<V>(dilation) * first;  // of those of q's residue
    const V other = quotient(k, dilation), apart = k - whole<V>(dilation) * other - rest;
    const V count = quotient(whole<V>(size - 1) - rest, dilation) + V(1.0f);
    const V least = causal ? max(first - whole<V>(kernel - 1), V(0.0f))
                           : max(min(first - whole<V>(kernel / 2), count - whole<V>(kernel)), V(0.0f));
    const V most = causal ? first : least + whole<V>(kernel - 1);
    return (apart == V(0.0f)) & (other >= least) & (other <= most);
  }
  /// All that some of these coordinates may see.
  range seen_by(range c) const noexcept {
    if (causal) return {std::max<index_type>(c.first - (kernel - 1) * dilation, 0), c.last};
    return {std::max<index_type>(std::min(c.first - kernel / 2 * dilation, size - kernel * dilation), 0),
            std::min(std::max(c.last + (kernel - 1) / 2 * dilation, kernel * dilation), size)};
  }
  /// What each of them sees, without dilation.
  range seen_by_all(range c) const noexcept {
    return intersect(seen_by({c.first, c.first + 1}), seen_by({c.last - 1, c.last}));
  }
};

/// The coordinates of an axis that some queries may see: of [hull.first, hull.last) those whose remainder by
/// `step` is one of `rests` from `first_rest` on.
struct seen_coordinates {
  range hull;
  index_type step = 1, first_rest = 0, rests = 1;

  /// The first of them from x on; hull.last or more where there is none.
  index_type from(index_type x) const noexcept {
    x = std::max(x, hull.first);
    if (step == 1) return x;
    const index_type apart = (x - first_rest) % step, behind = apart < 0 ? apart + step : apart;
    return behind < rests ? x : x + step - behind;
  }
  /// Counted from the last coordinate.
  seen_coordinates mirrored(index_type size) const noexcept {
    return {{size - hull.last, size - hull.first}, step, (size - first_rest - rests) % step, rests};
  }
};

/// neighbourhood, where query q is token q + first_query. Tokens count coordinates, the last axis first.
template <int D>
struct neighbourhood_cells {
  using reads_cells = void;
  using box = std::array<range, std::size_t{D}>;  // the coordinates of each axis
  using seen_box = std::array<seen_coordinates, std::size_t{D}>;
  std::array<neighbourhood_axis, std::size_t{D}> axes;
  index_type keys, first_query;

  auto visible(const auto& cells) const noexcept {
    using number = std::remove_cvref_t<decltype(cells.row())>;
    number q = cells.row() + whole<number>(first_query), k = cells.col();
    auto seen = cells.truth(true);
    for (std::size_t a = D; a-- > 0;) {
      const number q_rows = a == 0 ? number(0.0f) : quotient(q, axes[a].size),
                   k_rows = a == 0 ? number(0.0f) : quotient(k, axes[a].size),
                   size = whole<number>(axes[a].size);
      seen = seen & axes[a].sees(number(q - size * q_rows), number(k - size * k_rows));
      q = q_rows, k = k_rows;
    }
    return seen;
  }

  /// Full where every row sees the box around the keys, none where no key of the box that rows see is there.
  coverage cover(range rows, range block) const noexcept {
    if (rows.empty() || block.empty() || next(rows, block.first) >= block.last) return coverage::none;
    const box of_rows = around(tokens_of(rows)), of_keys = around(block);
    for (std::size_t a = 0; a < D; ++a)
      if (axes[a].dilation != 1 || !(intersect(axes[a].seen_by_all(of_rows[a]), of_keys[a]) == of_keys[a]))
        return coverage::partial;
    return coverage::full;
  }
  range reach(range rows) const noexcept {
    if (rows.empty()) return {};
    const seen_box seen = seen_by(rows);
    index_type first = 0, last = 0;
    for (std::size_t a = 0; a < D; ++a)
      first = first * axes[a].size + seen[a].hull.first, last = last * axes[a].size + seen[a].hull.last - 1;
    return {first, last + 1};
  }
  index_type next(range rows, index_type key) const noexcept {
    return rows.empty() || key >= keys ? keys : next_in(seen_by(rows), key);
  }
  index_type row_edge(index_type row) const noexcept { return key_edge(row + first_query) - first_query; }
  index_type key_edge(index_type key) const noexcept {
    return (key / axes[D - 1].size + 1) * axes[D - 1].size;
  }
  range shown(range rows, range block) const noexcept {
    seen_box seen = seen_by(rows);
    const index_type first = next_in(seen, block.first);
    if (first >= block.last) return {};
    index_type tokens = 1;  // counted from the last one, they lie in the mirrored box
    for (std::size_t a = 0; a < D; ++a) {
      seen[a] = seen[a].mirrored(axes[a].size);
      tokens *= axes[a].size;
    }
    return {first, tokens - next_in(seen, tokens - block.last)};
  }

 private:
  range tokens_of(range rows) const noexcept { return {rows.first + first_query, rows.last + first_query}; }
  std::array<index_type, std::size_t{D}> coordinates(index_type token) const noexcept {
    std::array<index_type, std::size_t{D}> at;
    for (std::size_t a = D; a-- > 1; token /= axes[a].size) at[a] = token % axes[a].size;
    at[0] = token;
    return at;
  }
  /// The first token from this one on that is seen; beyond all keys where none is.
  index_type next_in(const seen_box& seen, index_type token) const noexcept {
    std::array<index_type, std::size_t{D}> at = coordinates(token);
    std::size_t a = 0;
    while (a < D && seen[a].from(at[a]) == at[a] && at[a] < seen[a].hull.last) ++a;
    if (a == D) return token;
    for (index_type x = seen[a].from(at[a]);; x = seen[a].from(at[a] + 1))
      if (x < seen[a].hull.last) {
        at[a++] = x;
        break;
      } else if (a-- == 0) {  // the next one of an axis further out
        return most_positions;
      }
    token = 0;
    for (std::size_t b = 0; b < D; ++b) token = token * axes[b].size + (b < a ? at[b] : seen[b].from(0));
    return token;
  }
  /// The smallest box that holds these tokens.
  box around(range tokens) const noexcept {
    const auto first = coordinates(tokens.first), last = coordinates(tokens.last - 1);
    box all;
    bool one = true;  // all tokens agree in the axes so far
    for (std::size_t a = 0; a < D; ++a) {
      all[a] = one ? range{first[a], last[a] + 1} : range{0, axes[a].size};
      one = one && first[a] == last[a];
    }
    return all;
  }
  seen_box seen_by(range rows) const noexcept {
    const box all = around(tokens_of(rows));
    seen_box seen;
    for (std::size_t a = 0; a < D; ++a) {
      seen[a].hull = axes[a].seen_by(all[a]);
      if (const index_type step = axes[a].dilation; all[a].size() < step)
        seen[a].step = step, seen[a].first_rest = all[a].first % step, seen[a].rests = all[a].size();
    }
    return seen;
  }
};

/// Neighbourhood attention in D dimensions (NATTEN: Hassani et al., arXiv:2204.07143; dilated:
/// arXiv:2209.15001). Token t stands at coordinates (t / sizes[1], t % sizes[1]) of a picture of sizes[0] x
/// sizes[1], and so on for any D: the last axis runs fastest. On each axis a query sees `kernel` coordinates,
/// `dilation` apart, its own in the middle (of an even kernel the first behind it); at a border these are the
/// `kernel` nearest it, so that each query sees as many. On a causal axis it sees its own and the kernel - 1
/// before, fewer at the border.
///
///   neighbourhood<2>{.sizes = {64, 64}, .kernel = {7, 7}}
///   neighbourhood<3>{.sizes = {8, 32, 32}, .kernel = {3, 7, 7}, .causal = {true, false, false}}
///
/// There are as many queries as keys, or a cache whose last tokens they are (the picture is then begun, its
/// tokens are the first ones). Throws std::invalid_argument, with both numbers, for more keys than the sizes
/// hold, fewer without a cache, for kernel * dilation beyond a size, and from 2^21 tokens on. Work is
/// skipped outside of the box that a block of queries sees, and within it at what none of them sees of a
/// dilated axis: where they stand at fewer of its coordinates than the dilation.
template <int D>
struct neighbourhood {
  static_assert(D >= 1, "fovea: a neighbourhood has at least one dimension");
  using is_mask = void;
  using numbers = std::array<index_type, std::size_t{D}>;
  numbers sizes, kernel;
  numbers dilation = ones();
  std::array<bool, std::size_t{D}> causal = {};

  void check(const place& at) const {
    at.check_first_query("neighbourhood"), check_divided("neighbourhood", at);
    index_type tokens = 1;
    for (std::size_t a = 0; a < D; ++a) {
      const auto axis = static_cast<index_type>(a);
      if (sizes[a] < 1 || sizes[a] >= most_divided)
        reject("neighbourhood's size ", axis, " is ", sizes[a], ", not within 1 and ", most_divided - 1);
      if (kernel[a] < 1 || dilation[a] < 1 || kernel[a] > sizes[a] / dilation[a])
        reject("neighbourhood's kernel ", axis, " is ", kernel[a], ", dilated ", dilation[a],
               " times, not within 1 and the size of ", sizes[a]);
      tokens = size_product("neighbourhood's sizes", tokens, sizes[a]);
    }
    if (at.keys > tokens || (at.keys < tokens && !at.in_cache))
      reject("neighbourhood's sizes hold ", tokens, " tokens, not ", at.keys, " keys");
  }
  neighbourhood_cells<D> bind(const place& at) const noexcept {
    neighbourhood_cells<D> bound{{}, at.keys, at.first_query()};
    for (std::size_t a = 0; a < D; ++a) bound.axes[a] = {sizes[a], kernel[a], dilation[a], causal[a]};
    return bound;
  }

 private:
  static constexpr numbers ones() noexcept {
    numbers all{};
    for (index_type& n : all) n = 1;
    return all;
  }
};

FOVEA_NAMESPACE_END
