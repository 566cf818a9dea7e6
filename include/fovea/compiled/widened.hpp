// fovea/compiled/widened.hpp - a call with elements of 16 bits as one of floats, whose results are rounded
// once.
#pragma once

#include <fovea/compiled/numbers.hpp>
#include <fovea/compiled/operands.hpp>

#include <memory>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

template <class T>
fovea_tensor described_tensor(const tensor_view<T>& x) noexcept {
  fovea_tensor view{};
  view.data = const_cast<std::remove_const_t<T>*>(x.data),
  view.element = element_code<std::remove_const_t<T>>;
  view.batch = x.batch, view.heads = x.heads, view.tokens = x.tokens, view.dim = x.dim;
  view.batch_stride = x.batch_stride, view.head_stride = x.head_stride;
  view.token_stride = x.token_stride, view.dim_stride = x.dim_stride;
  return view;
}

template <class To, class From>
void copy_rows(const tensor_view<From>& from, const To& to) {
  for (index_type b = 0; b < from.batch; ++b)
    for (index_type h = 0; h < from.heads; ++h)
      for (index_type t = 0; t < from.tokens; ++t)
        for (index_type c = 0; c < from.dim; ++c) to(b, h, t, c) = from(b, h, t, c);
}

inline bool is_narrow(const fovea_tensor& x) noexcept {
  return x.element == FOVEA_BF16 || x.element == FOVEA_F16;
}

/// Floats in place of the tensors of a call; what it writes is stored by store().
class widened {
 public:
  /// In place of what is read, if it is of 16 bits.
  void read(fovea_tensor& x, const char* name) {
    if (!is_narrow(x)) return;
    auto& copy = *copies_.emplace_back(std::make_unique<as_numbers<float>>(x, name));
    x = described_tensor(copy.view);
  }
  /// In place of what is written.
  void write(fovea_tensor& x, const char* name) {
    if (!is_narrow(x)) return;
    with_real(x, name, [&](const auto& view) { static_cast<void>(as_sequences(view, any_heads, name)); });
    written_tensors().add(name, x);
    auto& one = *results_.emplace_back(std::make_unique<result>(x, name));
    x = described_tensor(one.numbers.view());
  }
  void store() const {
    for (const auto& one : results_)
      with_real(one->to, one->name, [&](const auto& view) {
        using E = std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>;
        E* const first = const_cast<E*>(view.data);
        for (index_type b = 0; b < view.batch; ++b)
          for (index_type h = 0; h < view.heads; ++h)
            for (index_type t = 0; t < view.tokens && view.dim > 0; ++t)
              store_elements(&one->numbers(b, h, t, 0), view.dim, first + (&view(b, h, t, 0) - view.data),
                             view.dim_stride);
      });
  }

 private:
  struct result {
    result(const fovea_tensor& x, const char* of)
        : to(x), name(of), numbers(x.batch, x.heads, x.tokens, x.dim) {}
    fovea_tensor to;
    const char* name;
    tensor<float> numbers;
  };
  std::vector<std::unique_ptr<as_numbers<float>>> copies_;
  std::vector<std::unique_ptr<result>> results_;
};

}  // namespace described
FOVEA_NAMESPACE_END
