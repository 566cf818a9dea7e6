// fovea/view/tensor.hpp - 4-D data (batch, head, token, dim) in any strides, and an owner of such data.
#pragma once

#include <fovea/view/sequences.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// A tensor laid out [batch][head][token][dim] (PyTorch's and ONNX's 4-D layout), contiguous. This and the
/// two below throw std::length_error, naming the sizes, where no index can count their product.
template <class E>
tensor_view<E> bhsd(E* data, index_type batch, index_type heads, index_type tokens, index_type dim) {
  size_product("a tensor_view", batch, heads, tokens, dim);
  return {data, batch, heads, tokens, dim, heads * tokens * dim, tokens * dim, dim, 1};
}

/// A tensor laid out [batch][token][head][dim] (what a linear layer writes), contiguous.
template <class E>
tensor_view<E> bshd(E* data, index_type batch, index_type tokens, index_type heads, index_type dim) {
  size_product("a tensor_view", batch, tokens, heads, dim);
  return {data, batch, heads, tokens, dim, tokens * heads * dim, dim, heads * dim, 1};
}

/// Query, key and value of one fused projection.
template <class E>
struct packed_qkv_views {
  tensor_view<E> q, k, v;
};

/// Interleaved QKV, [batch][token][heads + 2 * kv_heads][dim]: the query heads of a token, its key heads, its
/// value heads. With kv_heads == heads this is the [batch][token][3][head][dim] of a fused QKV layer.
template <class E>
packed_qkv_views<E> packed_qkv(E* data, index_type batch, index_type tokens, index_type heads,
                               index_type kv_heads, index_type dim) {
  if (!countable(batch, tokens, std::max(heads, kv_heads), dim, 4))
    reject_length("packed_qkv of ", batch, " x ", tokens, " x (", heads, " + 2 x ", kv_heads, ") x ", dim,
                  " is more than can be counted");
  const index_type row = (heads + 2 * kv_heads) * dim;
  const auto part = [&](index_type first, index_type count) {
    return tensor_view<E>{data + first * dim, batch, count, tokens, dim, tokens * row, dim, row, 1};
  };
  return {part(0, heads), part(heads, kv_heads), part(heads + kv_heads, kv_heads)};
}

namespace owning {

/// Memory that begins at a line of cache. (What operator new gives for many elements begins 16 bytes after
/// one: of rows there each register is read from two lines. Zen 5: linear attention takes 2 to 12 % more
/// time, one token of delta rules over states beyond caches 35 %.)
template <class E>
struct line_allocator {
  using value_type = E;
  static constexpr std::align_val_t alignment{std::max(alignof(E), std::size_t{64})};

  line_allocator() noexcept = default;
  template <class X>
  line_allocator(const line_allocator<X>&) noexcept {}
  E* allocate(std::size_t count) { return static_cast<E*>(::operator new(count * sizeof(E), alignment)); }
  void deallocate(E* p, std::size_t) noexcept { ::operator delete(p, alignment); }
  bool operator==(const line_allocator&) const noexcept { return true; }
};

}  // namespace owning

/// Owns batch x heads x tokens x dim elements, contiguous in this order from a line of cache on, zero at
/// first. Throws std::invalid_argument for a negative size, std::length_error for a product that no index
/// can count.
template <class E>
class tensor {
 public:
  using value_type = E;

  tensor() = default;
  tensor(index_type batch, index_type heads, index_type tokens, index_type dim)
      : sizes_{batch, heads, tokens, dim}, elements_(checked_size(sizes_)) {}

  index_type batch() const noexcept { return sizes_.batch; }
  index_type heads() const noexcept { return sizes_.heads; }
  index_type tokens() const noexcept { return sizes_.tokens; }
  index_type dim() const noexcept { return sizes_.dim; }
  index_type size() const noexcept { return static_cast<index_type>(elements_.size()); }
  E* data() noexcept { return elements_.data(); }
  const E* data() const noexcept { return elements_.data(); }
  tensor_view<E> view() & noexcept { return viewed(data()); }
  tensor_view<const E> view() const& noexcept { return viewed(data()); }
  template <class X = E>
  tensor_view<E> view() && {
    static_assert(never<X>, "fovea: view() refers to the tensor; give the tensor a name");
  }
  E& operator()(index_type b, index_type h, index_type t, index_type c) noexcept {
    return view()(b, h, t, c);
  }
  const E& operator()(index_type b, index_type h, index_type t, index_type c) const noexcept {
    return view()(b, h, t, c);
  }

 private:
  struct sizes {
    index_type batch, heads, tokens, dim;
  };
  static std::size_t checked_size(const sizes& s) {
    if (s.batch < 0 || s.heads < 0 || s.tokens < 0 || s.dim < 0)
      reject("a tensor of ", s.batch, " x ", s.heads, " x ", s.tokens, " x ", s.dim, " has a negative size");
    size_product("a tensor", s.batch, s.heads, s.tokens, s.dim, sizeof(E));
    return static_cast<std::size_t>(s.batch * s.heads * s.tokens * s.dim);
  }
  template <class P>
  tensor_view<P> viewed(P* first) const noexcept {
    const auto [batch, heads, tokens, dim] = sizes_;
    return {first, batch, heads, tokens, dim, heads * tokens * dim, tokens * dim, dim, 1};
  }

  sizes sizes_{0, 0, 0, 0};
  std::vector<E, owning::line_allocator<E>> elements_;
};

template <class E>
struct view_traits<tensor_view<E>> {
  using element = E;
  static sequences<E> view(const tensor_view<E>& x, index_type heads, const char* name) {
    if (const index_type bits = x.batch | x.heads | x.tokens | x.dim; bits < 0 || bits >> 15 != 0) {
      if (bits < 0)
        reject(name, " has a negative size: ", x.batch, " x ", x.heads, " x ", x.tokens, " x ", x.dim);
      size_product(name, x.batch, x.heads, x.tokens, x.dim);
    }
    if (heads != any_heads && x.heads != heads) reject(name, " has ", x.heads, " heads, not ", heads);
    if (x.data == nullptr && x.batch * x.heads * x.tokens * x.dim != 0) reject(name, " is a null pointer");
    return {x, nullptr};
  }
  template <class T>
  static tensor<T> make_like(const tensor_view<E>& x, index_type heads, index_type dim) {
    return tensor<T>(x.batch, heads, x.tokens, dim);
  }
};

template <class E>
struct view_traits<tensor<E>> {
  using element = E;
  template <class X>
  static auto view(X& x, index_type heads, const char* name) {
    const auto all = x.view();
    return view_traits<std::remove_const_t<decltype(all)>>::view(all, heads, name);
  }
  template <class T>
  static tensor<T> make_like(const tensor<E>& x, index_type heads, index_type dim) {
    return tensor<T>(x.batch(), heads, x.tokens(), dim);
  }
};

FOVEA_NAMESPACE_END
