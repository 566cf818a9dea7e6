// fovea/compiled/numbers.hpp - tensors and keys of a call as numbers that sums are made in.
#pragma once

#include <fovea/compiled/any_cache.hpp>

#include <optional>
#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// A tensor's elements as T: those of another type are copied one after another, or all.
template <class T>
struct as_numbers {
  tensor<T> copy;
  tensor_view<const T> view;

  as_numbers(const fovea_tensor& x, const char* name, bool copies = false) {
    with_real(x, name, [&](const auto& from) {
      using E = std::remove_cvref_t<decltype(*from.data)>;
      static_cast<void>(as_sequences(from, any_heads, name));
      if constexpr (std::is_same_v<E, T>)
        if (!copies) return void(view = from);
      copy = tensor<T>(from.batch, from.heads, from.tokens, from.dim);
      for (index_type b = 0; b < from.batch; ++b)
        for (index_type h = 0; h < from.heads; ++h)
          for (index_type t = 0; t < from.tokens && from.dim > 0; ++t)
            load_elements(&from(b, h, t, 0), from.dim_stride, from.dim, &copy(b, h, t, 0));
      view = std::as_const(copy).view();
    });
  }
  as_numbers(const as_numbers&) = delete;
  tensor_view<T> copy_view() const noexcept { return const_cast<tensor<T>&>(copy).view(); }
};

/// The keys of a call as T, of tensors or of caches; of caches they are copied, one sequence after another.
template <class T>
struct keys_in_numbers : sequences<const T> {
  bool in_cache = false;
};

template <class T>
class call_keys {
 public:
  explicit call_keys(const fovea_call& call, const list_view<index_type>* offsets) {
    if (call.cache_count == 0) {
      given_.emplace(call.k, "k");
      view_ = {view_traits<packed<const T>>::view({given_->view, offsets}, any_heads, "k"), false};
      return;
    }
    check_count("caches", call.cache_count, most_caches);
    const auto& first = cache_of_call(call, 0);
    starts_.push_back(0);
    for (std::int64_t b = 0; b < call.cache_count; ++b) {
      const auto& one = cache_of_call(call, b);
      if (one.heads() != first.heads() || one.dim() != first.dim() || one.element() != first.element())
        reject("cache ", b, " of a call has ", one.heads(), " x ", one.dim(), " numbers a key of ",
               name_of_element(one.element()), ", the first ", first.heads(), " x ", first.dim(), " of ",
               name_of_element(first.element()));
      starts_.push_back(starts_.back() + one.tokens());
    }
    if ((first.element() == FOVEA_F64) != std::is_same_v<T, double>)
      reject("the call is in ", name_of_element(element_code<T>), ", its caches ",
             name_of_element(first.element()), ": F64 goes with F64 alone");
    read_ = tensor<T>(1, first.heads(), starts_.back(), first.dim());
    for (std::int64_t b = 0; b < call.cache_count; ++b)
      for (index_type h = 0; h < first.heads(); ++h)
        if (cache_of_call(call, b).tokens() > 0)
          cache_of_call(call, b).read_keys(h, &read_(0, h, starts_[static_cast<std::size_t>(b)], 0));
    offsets_ = list_view<index_type>(starts_.data(), static_cast<index_type>(starts_.size()), 1);
    view_ = {{std::as_const(read_).view(), &offsets_, call.cache_count}, true};
  }
  call_keys(const call_keys&) = delete;
  const keys_in_numbers<T>& view() const noexcept { return view_; }

 private:
  std::optional<as_numbers<T>> given_;
  tensor<T> read_;
  std::vector<index_type> starts_;
  list_view<index_type> offsets_;
  keys_in_numbers<T> view_;
};

}  // namespace described

template <class T>
inline constexpr bool is_view<described::keys_in_numbers<T>> = true;
template <class T>
struct view_traits<described::keys_in_numbers<T>> {
  using element = const T;
  static const described::keys_in_numbers<T>& view(const described::keys_in_numbers<T>& x, index_type heads,
                                                   const char* name) {
    if (heads != any_heads && x.heads() != heads) reject(name, " has ", x.heads(), " heads, not ", heads);
    return x;
  }
};

FOVEA_NAMESPACE_END
