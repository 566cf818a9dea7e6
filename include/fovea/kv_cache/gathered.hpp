// fovea/kv_cache/gathered.hpp - attention over a list of keys a query, read where they lie.
//
//   fovea::key_lists lists;
//   lists.add(std::vector<fovea::index_type>{0, 17, 18, 400});      // of query 0; one list a query
//   attend.into(o, q, fovea::gathered{cache, lists});               // q: batch entry b is query b
#pragma once

#include <fovea/kv_cache/joined.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Lists of keys, by number, each in any order.
class key_lists {
 public:
  /// A list of integers of any type, which may be one of these.
  template <class List>
  void add(const List& list) {
    const list_view<index_type> numbers = list;
    std::vector<index_type> keys;
    keys.reserve(static_cast<std::size_t>(numbers.size()));
    for (index_type i = 0; i < numbers.size(); ++i) keys.push_back(numbers[i]);
    ends_.reserve(ends_.size() + 1);  // then nothing is added unless all is
    keys_.insert(keys_.end(), keys.begin(), keys.end());
    ends_.push_back(static_cast<index_type>(keys_.size()));
  }
  index_type size() const noexcept { return static_cast<index_type>(ends_.size()); }
  std::span<const index_type> operator[](index_type i) const noexcept {
    const index_type first = i == 0 ? 0 : ends_[static_cast<std::size_t>(i - 1)];
    return std::span(keys_).subspan(static_cast<std::size_t>(first),
                                    static_cast<std::size_t>(ends_[static_cast<std::size_t>(i)] - first));
  }

 private:
  std::vector<index_type> keys_, ends_;
};

namespace caching {

/// The rows of a head that a list names, in its order.
template <class Head>
struct gathered_head {
  static constexpr bool decodes = decoding_head<Head>;
  using element =
      typename std::conditional_t<decodes, std::type_identity<common_compute_t<typename Head::element>>,
                                  std::type_identity<typename Head::element>>::type;
  static constexpr bool of_one_element = !decodes && has_one_element<Head>,
                        has_channel_scales = !decodes && may_scale_channels<Head>,
                        has_token_scales = !decodes && may_scale_tokens<Head>;
  Head all;
  std::span<const index_type> list;
  index_type rows = static_cast<index_type>(list.size()), cols = all.cols, row_stride = 0,
             col_stride = all.col_stride;

  /// Whether these are the first part of those keys.
  template <class Keys>
  bool lies_in(const gathered_head<Keys>& keys) const noexcept
    requires(!decodes) && requires { all.lies_in(keys.all); }
  {
    return list.data() == keys.list.data() && rows == keys.rows && all.lies_in(keys.all);
  }
  /// Neighbours in one piece.
  template <class F>
  void each_piece(range wanted, F&& f) const noexcept {
    each_run(wanted, [&](range keys) { all.each_piece(keys, f); });
  }
  template <class T>
  void read(range wanted, T* to, index_type stride) const noexcept
    requires decodes
  {
    each_run(wanted, [&](range keys) {
      all.read(keys, to, stride);
      to += keys.size() * stride;
    });
  }

 private:
  template <class F>
  void each_run(range wanted, const F& f) const noexcept {
    const auto key = [&](index_type i) { return list[static_cast<std::size_t>(i)]; };
    for (index_type i = wanted.first, end; i < wanted.last; i = end) {
      for (end = i + 1; end < wanted.last && key(end) == key(end - 1) + 1;) ++end;
      f(range{key(i), key(end - 1) + 1});
    }
  }
};

/// A sequence for each list, of the tokens of one.
template <class View>
struct gathered_sequences {
  static constexpr bool in_cache = false;
  View all;
  const key_lists* lists;

  index_type batches() const noexcept { return lists->size(); }
  index_type heads() const noexcept { return all.heads(); }
  index_type dim() const noexcept { return all.dim(); }
  index_type tokens(index_type b) const noexcept { return static_cast<index_type>((*lists)[b].size()); }
  index_type max_tokens() const noexcept {
    index_type most = 0;
    for (index_type b = 0; b < batches(); ++b) most = std::max(most, tokens(b));
    return most;
  }
  template <class F>
  void each_memory(const F& f) const {
    joined_sequences<View>{{all}}.each_memory(f);
  }
  auto head(index_type b, index_type h) const noexcept {
    return gathered_head<std::remove_cvref_t<decltype(all.head(0, h))>>{all.head(0, h), (*lists)[b]};
  }
};

template <class Shown>
struct gathered_side {
  Shown shown;
  const key_lists* lists;
};

}  // namespace caching

template <class Shown>
struct view_traits<caching::gathered_side<Shown>> {
  using element = element_of<Shown>;
  static constexpr bool tells_heads = true;
  static auto view(const caching::gathered_side<Shown>& x, index_type heads, const char* name) {
    const auto all = read_only(view_of(x.shown, heads, name));
    if (all.batches() != 1)
      reject(name, ": what is gathered is of ", all.batches(), " sequences, not of one");
    for (index_type b = 0; b < x.lists->size(); ++b)
      for (const index_type key : (*x.lists)[b])
        if (key < 0 || key >= all.tokens(0))
          reject(name, ": list ", b, " has key ", key, ", which is none of ", all.tokens(0));
    return caching::gathered_sequences<std::remove_const_t<decltype(all)>>{all, x.lists};
  }
};

/// A cache of one sequence (or a segment, or what is joined) as many sequences, each with the keys of a
/// list alone: q is a tensor of as many batch entries, or ragged. Nothing is copied beyond a block;
/// neighbours in a list are read together. Masks and scores count positions in the lists: what a query may
/// see is for its list to say. A key that stands twice in a list counts twice. Throws
/// std::invalid_argument, in the call, where a key is none of the cache's. Both arguments are referred to:
/// temporaries are refused.
template <class Cache>
class gathered {
 public:
  template <class C, class L>
    requires std::is_same_v<std::remove_cvref_t<L>, key_lists>
  gathered(C&& cache, L&& lists) noexcept : cache_(cache), lists_(&lists) {
    static_assert(outlives_call<C> && std::is_lvalue_reference_v<L>,
                  "fovea: what is gathered is referred to: give a named cache and named lists");
  }
  auto keys() const noexcept { return side_of(cache_.keys()); }
  auto values() const noexcept { return side_of(cache_.values()); }

 private:
  template <class Shown>
  auto side_of(const Shown& shown) const noexcept {
    return caching::gathered_side<Shown>{shown, lists_};
  }
  stored<const Cache> cache_;
  const key_lists* lists_;
};
template <class C, class L>
gathered(C&&, L&&) -> gathered<std::remove_cvref_t<C>>;

template <class Cache>
inline constexpr bool is_view<gathered<Cache>> = true;

FOVEA_NAMESPACE_END
