// tests/property/rules.hpp - a kind of rules as the library's own masks, scores and sink.
#pragma once

#include "problem.hpp"

#include <fovea/attention.hpp>

#include <memory>
#include <tuple>

namespace fovea_test {

/// The prefix of a prefix language model is visible to all, the rest causally: a mask as a user would write
/// one.
struct prefix_mask {
  index_type prefix_keys;

  auto visible(const auto& q, const auto& k) const {
    using position = std::remove_cvref_t<decltype(q)>;
    return (k < position(static_cast<int>(prefix_keys))) | (k <= q);
  }
  fovea::coverage cover(fovea::range rows, fovea::range keys) const {
    if (keys.last <= prefix_keys || keys.last - 1 <= rows.first) return fovea::coverage::full;
    return keys.first >= std::max(prefix_keys, rows.last) ? fovea::coverage::none : fovea::coverage::partial;
  }
};

/// The numbers of rules as the library reads them. B: the element of the bias; Keep: of the boolean mask.
template <class B, class Keep>
class stored_rules {
 public:
  stored_rules(const rules& r, element_kind bias_kind)
      : given(r), keep_(r.keep.x.size()), map_(r.map.x.size()), bias_(r.addend.x.size()) {
    for (const double x : r.numbers.x) numbers_.push_back(static_cast<float>(x));
    for (const double x : r.slopes) slopes.push_back(static_cast<float>(x));
    for (const index_type i : r.parents) parents.push_back(static_cast<int>(i));
    ancestors = fovea::ancestors_of(parents);
    for (const double x : r.sinks) sinks.push_back(static_cast<float>(x));
    for (std::size_t i = 0; i < keep_.size(); ++i) keep_[i].value = r.keep.x[i] != 0;
    for (std::size_t i = 0; i < map_.size(); ++i) map_[i].value = r.map.x[i] != 0;
    for (std::size_t i = 0; i < bias_.size(); ++i) encode(bias_kind, r.addend.x[i], &bias_[i]);
  }
  const auto& query_ids() const { return query_ids_.view; }
  const auto& key_ids() const { return key_ids_.view; }
  auto keep() const { return over(keep_.empty() ? nullptr : &keep_.data()->value, given.keep); }
  auto map() const { return over(&map_.data()->value, given.map); }
  auto bias() const { return over(bias_.data(), given.addend); }
  /// Slots x heads.
  auto numbers() const {
    const index_type slots = given.numbers.keys, heads = given.numbers.heads;
    return fovea::tensor_view<const float>{numbers_.data(), 1, 1, slots, heads, 0, 0, 1, slots};
  }

  const rules& given;
  std::vector<float> slopes, sinks;
  std::vector<int> parents;
  std::vector<std::uint64_t> ancestors;

 private:
  using ids_matrix = Eigen::Matrix<int, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  struct truth {
    Keep value;  // not std::vector<bool>
  };
  template <class E>
  static fovea::tensor_view<const E> over(const E* data, const table& t) {
    return fovea::bhsd(data, t.batch, t.heads, t.queries, t.keys);
  }
  /// Ids, a row a sequence, as long as the longest. (No matrix that owns its numbers: Eigen aligns memory
  /// as each instruction set wants it, and this is compiled for several.)
  struct id_rows {
    using lists = std::vector<std::vector<index_type>>;
    explicit id_rows(const lists& all)
        : ids(numbers(all)),
          view(ids.data(), static_cast<Eigen::Index>(all.size()), static_cast<Eigen::Index>(longest(all))) {}
    static std::size_t longest(const lists& all) {
      std::size_t most = 0;
      for (const auto& list : all) most = std::max(most, list.size());
      return most;
    }
    static std::vector<int> numbers(const lists& all) {
      std::vector<int> ids;
      for (const auto& list : all)
        for (std::size_t t = 0; t < longest(all); ++t)
          ids.push_back(t < list.size() ? static_cast<int>(list[t]) : -99);
      return ids;
    }
    id_rows(const id_rows&) = delete;

    std::vector<int> ids;
    Eigen::Map<const ids_matrix> view;
  };
  id_rows query_ids_{given.query_ids}, key_ids_{given.key_ids};
  std::vector<truth> keep_, map_;
  std::vector<B> bias_;
  std::vector<float> numbers_;
};

/// The one in a tuple where wanted, else nothing.
template <bool Wanted, class Make>
auto where(Make make) {
  if constexpr (Wanted)
    return std::make_tuple(make());
  else
    return std::tuple<>();
}

inline index_type step_of(const std::vector<index_type>& steps, index_type n) {
  return steps[static_cast<std::size_t>(n)];
}

template <std::uint64_t Has>
auto masks_of(const auto& r) {
  const auto& p = r.given;
  return std::tuple_cat(
      where<(Has & causal) != 0>([] { return fovea::causal; }),
      where<(Has & causal_top_left) != 0>([] { return fovea::causal_top_left; }),
      where<(Has & causal_bottom_right) != 0>([] { return fovea::causal_bottom_right; }),
      where<(Has & causal_offset) != 0>([&] { return fovea::causal_offset{p.offset}; }),
      where<(Has & window) != 0>(
          [&] { return fovea::sliding_window{.left = p.left, .right = p.right, .offset = p.diagonal}; }),
      where<(Has & right_padding) != 0>([&] { return fovea::key_lengths{p.lengths}; }),
      where<(Has & left_padding) != 0>([&] { return fovea::left_padding{p.starts}; }),
      where<(Has & documents) != 0>([&] {
        return fovea::documents{r.query_ids(), r.key_ids()};
      }),
      where<(Has & boolean) != 0>([&] { return fovea::boolean_mask(r.keep()); }),
      where<(Has & blocks) != 0>(
          [&] { return fovea::block_map(r.map(), {.queries = p.block_queries, .keys = p.block_keys}); }),
      where<(Has & drafts) != 0>([&] {
        return fovea::draft_tree{r.ancestors, static_cast<index_type>(r.parents.size())};
      }),
      where<(Has & pattern) != 0>([&] {
        return fovea::sliding_window{.left = p.reach, .right = p.reach} | fovea::dilated{p.nth} |
               fovea::global_tokens{p.global};
      }),
      where<(Has & every_nth) != 0>([&] { return fovea::dilated{.step = p.nth, .offset = p.offset}; }),
      where<(Has & picture) != 0>([&] {
        return fovea::neighbourhood<2>{
            .sizes = {p.rows, p.columns}, .kernel = {p.kernel, p.kernel}, .dilation = {p.dilation, 1}};
      }),
      where<(Has & diffusion) != 0>([&] { return fovea::block_diffusion{p.chunk}; }),
      where<(Has & chunks) != 0>([&] { return fovea::chunked{p.chunk}; }), where<(Has & predicate) != 0>([&] {
        const int period = static_cast<int>(p.period);
        return fovea::mask(
            [period](auto q, auto k) { return ((k & decltype(k)(period)) == decltype(k)(0)) | (k == q); });
      }),
      where<(Has & prefix) != 0>([&] { return prefix_mask{p.prefix_keys}; }),
      where<(Has & language_prefix) != 0>([&] {
        return fovea::prefix{p.lengths, p.offset};
      }),
      where<(Has & birds) != 0>([&] {
        return fovea::big_bird{.side = 16,
                               .window = 2 * p.beside + 1,
                               .global = p.first_blocks,
                               .random = p.drawn,
                               .seed = p.seed};
      }),
      where<(Has & of_heads) != 0>([&] {
        return fovea::mask([&p](index_type b, index_type h, auto q, auto k) {
          using position = decltype(k);
          const position step(static_cast<int>(step_of(p.head_steps, h) + step_of(p.sequence_steps, b)));
          return (((k + step) & position(static_cast<int>(p.period))) == position(0)) | (k == q);
        });
      }),
      where<(Has & complement) != 0>(
          [&] { return !fovea::sliding_window{.left = 0, .right = 0, .offset = p.hole}; }));
}

template <std::uint64_t Has>
auto scores_of(const auto& r) {
  const auto& p = r.given;
  return std::tuple_cat(
      where<(Has & alibi) != 0>([&] {
        return fovea::alibi{r.slopes, p.alibi_offset};
      }),
      where<(Has & bias) != 0>([&] { return fovea::bias(r.bias()); }), where<(Has & function) != 0>([&] {
        const float tilt = static_cast<float>(p.tilt);
        return fovea::score([tilt](auto s, auto q, auto k) { return s + decltype(s)(tilt) * (q - k - k); });
      }),
      where<(Has & of_heads) != 0>([&] {
        return fovea::score([&p](auto s, index_type b, index_type h, auto q, auto k) {
          const index_type steps = step_of(p.head_steps, h) - step_of(p.sequence_steps, b);
          return s + decltype(s)(static_cast<float>(steps) / 64) * (q - k - k);
        });
      }),
      where<(Has & distances) != 0>(
          [&] { return fovea::t5_bias(r.numbers(), {.max_distance = 20, .offset = p.alibi_offset}); }),
      where<(Has & offsets) != 0>(
          [&] { return fovea::swin_bias(r.numbers(), {.height = p.rows, .width = p.columns}); }),
      where<(Has & slots) != 0>([&] {
        return fovea::bias_table(r.numbers(), [](auto q, auto k) {
          using std::max, std::min;
          using position = decltype(q);
          return min(max(k - q, position(-9)), position(9)) + position(9) - (k & position(8)) * position(9);
        });
      }),
      where<(Has & sink) != 0>([&] { return fovea::sink{r.sinks}; }),
      where<(Has & softcap) != 0>([&] { return fovea::softcap{static_cast<float>(p.cap)}; }));
}

/// f(mods...): masks joined by & or one by one; of the scores the softcap comes last, though it acts first.
template <std::uint64_t Has, class F>
decltype(auto) with_rules(const auto& stored, F f) {
  auto masks = masks_of<Has>(stored);
  auto scores = scores_of<Has>(stored);
  if constexpr (Has == joined_masks)
    return std::apply([&](const auto&... m) { return f((m & ...)); }, masks);
  else
    return std::apply(f, std::tuple_cat(scores, masks));
}

}  // namespace fovea_test
