// fovea/hard/decoded_tokens.hpp - the tokens of caches as numbers in memory, which gradients are made of.
#pragma once

#include <fovea/kv_cache/read_tokens.hpp>
#include <fovea/view/ragged.hpp>
#include <fovea/view/tensor.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Packed sequences whose queries are the last tokens, as those of caches are.
template <class E>
struct cached_sequences : sequences<E> {
  static constexpr bool in_cache = true;
};
template <class E>
cached_sequences<const E> read_only(const cached_sequences<E>& x) noexcept {
  return {read_only(static_cast<const sequences<E>&>(x))};
}

/// The keys or the values that one or several caches show, decoded, one sequence after another.
template <class T>
class decoded_tokens {
 public:
  template <class Shown>
  explicit decoded_tokens(const Shown& shown)
      : offsets_(starts_of(shown)),
        numbers_(1, shown.heads(), offsets_.back(), shown.dim()),
        list_(offsets_) {
    for (index_type b = 0; b < shown.batches(); ++b)
      for (index_type h = 0; h < shown.heads(); ++h) {
        const index_type t = h * offsets_.back() + offsets_[static_cast<std::size_t>(b)];
        caching::read_tokens(shown.head(b, h), {0, shown.tokens(b)}, numbers_.data() + t * shown.dim(),
                             shown.dim());
      }
  }

  decoded_tokens(decoded_tokens&&) noexcept = default;  // list_ stays where it is: in the heap

  const tensor<T>& numbers() const noexcept { return numbers_; }
  const list_view<index_type>& offsets() const noexcept { return list_; }

 private:
  template <class Shown>
  static std::vector<index_type> starts_of(const Shown& shown) {
    std::vector<index_type> starts{0};
    for (index_type b = 0; b < shown.batches(); ++b) starts.push_back(starts.back() + shown.tokens(b));
    return starts;
  }

  std::vector<index_type> offsets_;
  tensor<T> numbers_;
  list_view<index_type> list_;
};

template <class T>
struct view_traits<decoded_tokens<T>> {
  using element = const T;
  static cached_sequences<const T> view(const decoded_tokens<T>& x, index_type heads, const char* name) {
    cached_sequences<const T> packed{as_sequences(x.numbers(), heads, name)};
    packed.offsets = &x.offsets();
    packed.count = x.offsets().size() - 1;
    return packed;
  }
  template <class U>
  static tensor<U> make_like(const decoded_tokens<T>& x, index_type heads, index_type dim) {
    return tensor<U>(1, heads, x.numbers().tokens(), dim);
  }
};
template <class T, class Y>
ragged<Y> shaped_like(const decoded_tokens<T>& x, Y& like) noexcept {
  return {like, x.offsets()};
}

FOVEA_NAMESPACE_END
