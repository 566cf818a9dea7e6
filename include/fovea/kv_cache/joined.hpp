// fovea/kv_cache/joined.hpp - keys and values that lie in several places, in one softmax, without a copy.
//
//   fovea::joined all{compressed, window};               // caches, in the order of their tokens
//   attend.into(o, q, all, fovea::causal, fovea::sink{sinks});
//   fovea::joined with_raw{compressed, fovea::segment{k, v}};
#pragma once

#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/read_tokens.hpp>
#include <fovea/lifetime.hpp>
#include <fovea/plan/operands.hpp>

#include <tuple>

FOVEA_NAMESPACE_BEGIN

/// Keys and values that are in no cache, as a part of `joined`: tensors or tensor_views of the same batch, or
/// what else says how many heads it has. Referred to, so temporaries are refused.
template <class K, class V>
class segment {
 public:
  template <class OfK, class OfV>
  segment(OfK&& k, OfV&& v) noexcept : k_(k), v_(v) {
    static_assert(outlives_call<OfK> && outlives_call<OfV>,
                  "fovea: a segment is a view: give named keys and values, not temporaries");
  }
  const auto& keys() const noexcept { return k_; }
  const auto& values() const noexcept { return v_; }

 private:
  stored<const K> k_;
  stored<const V> v_;
};
template <class K, class V>
segment(K&&, V&&) -> segment<std::remove_cvref_t<K>, std::remove_cvref_t<V>>;

template <class K, class V>
inline constexpr bool is_view<segment<K, V>> = true;

namespace caching {

/// One head of one sequence: the heads of its parts, one after another. Where one of them decodes, whose
/// pieces last no longer than it takes to call for them, so do all.
template <class... Heads>
struct joined_head {
  using first_element = typename std::tuple_element_t<0, std::tuple<Heads...>>::element;
  static constexpr bool decodes = (decoding_head<Heads> || ...);
  static constexpr bool of_one_element = !decodes && (has_one_element<Heads> && ...) &&
                                         (std::is_same_v<typename Heads::element, first_element> && ...);
  using element =
      typename std::conditional_t<!decodes && (std::is_same_v<typename Heads::element, first_element> && ...),
                                  std::type_identity<first_element>,
                                  std::type_identity<common_compute_t<typename Heads::element...>>>::type;
  static constexpr bool has_channel_scales = !decodes && (may_scale_channels<Heads> || ...),
                        has_token_scales = !decodes && (may_scale_tokens<Heads> || ...);
  std::tuple<Heads...> parts;
  index_type rows, cols, row_stride = 0, col_stride;

  explicit joined_head(const Heads&... heads) noexcept
      : parts(heads...),
        rows((heads.rows + ...)),
        cols(std::get<0>(parts).cols),
        col_stride(((heads.col_stride == 1) && ...) ? 1 : 2) {}

  template <class F>
  void each_piece(range wanted, F&& f) const noexcept {
    each_part(wanted, [&](const auto& head, range tokens) { head.each_piece(tokens, f); });
  }
  template <class T>
  void read(range wanted, T* to, index_type stride) const noexcept
    requires decodes
  {
    each_part(wanted, [&](const auto& head, range tokens) {
      read_tokens(head, tokens, to, stride);
      to += tokens.size() * stride;
    });
  }

 private:
  /// f(head of a part, its tokens among those that are wanted).
  template <class F>
  void each_part(range wanted, const F& f) const noexcept {
    std::apply(
        [&](const Heads&... heads) {
          index_type first = 0;
          const auto part = [&](const auto& head) {
            const range mine = intersect(wanted, {first, first + head.rows});
            if (!mine.empty()) f(head, range{mine.first - first, mine.last - first});
            first += head.rows;
          };
          (part(heads), ...);
        },
        parts);
  }
};

/// Sequences, each the parts' ones after each other.
template <class... Views>
struct joined_sequences {
  static constexpr bool in_cache = true;
  std::tuple<Views...> parts;

  const auto& first() const noexcept { return std::get<0>(parts); }
  index_type batches() const noexcept { return first().batches(); }
  index_type heads() const noexcept { return first().heads(); }
  index_type dim() const noexcept { return first().dim(); }
  index_type tokens(index_type b) const noexcept {
    return std::apply([&](const Views&... x) { return (x.tokens(b) + ...); }, parts);
  }
  index_type max_tokens() const noexcept {
    index_type most = 0;
    for (index_type b = 0; b < batches(); ++b) most = std::max(most, tokens(b));
    return most;
  }
  /// f(bytes) for the memory of each part; of matrices from the first element to the last.
  template <class F>
  void each_memory(const F& f) const {
    std::apply([&](const Views&... x) { (memory_of(x, f), ...); }, parts);
  }
  auto head(index_type b, index_type h) const noexcept {
    return std::apply([&](const Views&... x) { return joined_head(x.head(b, h)...); }, parts);
  }

 private:
  template <class X, class F>
  static void memory_of(const X& x, const F& f) {
    if constexpr (requires { x.each_memory(f); }) {
      x.each_memory(f);
    } else if constexpr (requires { x.sequence_rows(); }) {  // of a store of one's own it is not known
      const auto rows = x.sequence_rows();
      if (rows.batch == 0 || rows.heads == 0 || rows.tokens == 0 || rows.dim == 0) return;
      index_type low = 0, high = 0;
      const auto reach = [&](index_type size, index_type stride) {
        (stride < 0 ? low : high) += (size - 1) * stride;
      };
      reach(rows.batch, rows.batch_stride), reach(rows.heads, rows.head_stride);
      reach(rows.tokens, rows.token_stride), reach(rows.dim, rows.dim_stride);
      f(std::as_bytes(std::span(rows.data + low, static_cast<std::size_t>(high - low + 1))));
    }
  }
};

/// Keys or values of several parts: Shown is what each shows of itself.
template <class... Shown>
struct joined_side {
  std::tuple<Shown...> parts;
};

}  // namespace caching

template <class... Shown>
struct view_traits<caching::joined_side<Shown...>> {
  using element = common_compute_t<element_of<Shown>...>;
  static constexpr bool tells_heads = true;
  static auto view(const caching::joined_side<Shown...>& x, index_type heads, const char* name) {
    const auto all = std::apply(
        [&](const auto&... shown) {
          return caching::joined_sequences<
              std::remove_cvref_t<decltype(read_only(view_of(shown, heads, name)))>...>{
              {read_only(view_of(shown, heads, name))...}};
        },
        x.parts);
    std::apply(
        [&](const auto& first, const auto&... others) {
          index_type part = 1;
          const auto same = [&](const char* what, index_type has, index_type wanted) {
            if (has != wanted)
              reject(name, ": part ", part, " of what is joined has ", has, " ", what, ", the first ",
                     wanted);
          };
          [[maybe_unused]] const auto check = [&](const auto& other) {
            same("sequences", other.batches(), first.batches()), same("heads", other.heads(), first.heads());
            same("dimensions a head", other.dim(), first.dim());
            ++part;
          };
          (check(others), ...);
        },
        all.parts);
    return all;
  }
};

/// Several caches (or batches of them, and segments) as one: their tokens follow each other, each part's are
/// read where they lie, as they are stored, and one softmax is over all: a window of raw tokens behind
/// compressed ones, a prompt that others share before a reply. It is a cache in every call: the queries are
/// the last tokens of all, and masks and scores count positions from the first token of the first part. The
/// parts have the same number of sequences, heads and dimensions, or the call throws std::invalid_argument;
/// elements may differ. They are referred to: temporaries are refused. What a call writes may not lie between
/// a segment's first and last element. Cost: that of one cache of as many tokens.
template <class... Parts>
class joined {
 public:
  template <class... X>
    requires(sizeof...(X) == sizeof...(Parts))
  explicit joined(X&&... parts) noexcept : parts_(parts...) {
    static_assert((outlives_call<X> && ...), "fovea: what is joined is referred to: give named caches");
    static_assert(sizeof...(Parts) > 0, "fovea: nothing is joined");
  }
  auto keys() const noexcept {
    return std::apply(
        [](const auto&... part) {
          return caching::joined_side<std::remove_cvref_t<decltype(part.keys())>...>{{part.keys()...}};
        },
        parts_);
  }
  auto values() const noexcept {
    return std::apply(
        [](const auto&... part) {
          return caching::joined_side<std::remove_cvref_t<decltype(part.values())>...>{{part.values()...}};
        },
        parts_);
  }

 private:
  std::tuple<stored<const Parts>...> parts_;
};
template <class... X>
joined(X&&...) -> joined<std::remove_cvref_t<X>...>;

template <class... Parts>
inline constexpr bool is_view<joined<Parts...>> = true;

FOVEA_NAMESPACE_END
