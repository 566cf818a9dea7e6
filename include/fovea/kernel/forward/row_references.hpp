// fovea/kernel/forward/row_references.hpp - the queries and results of heads that share a key/value head, of
// whatever element, as panels of rows see them: through pointers, once a panel.
#pragma once

#include <fovea/kernel/forward/row_pair_products.hpp>
#include <fovea/kernel/forward/row_value_products.hpp>
#include <fovea/kernel/operand/gated.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Row of Q = scale * from, register by register, max_rows registers apart, with zeros beyond and where the
/// last overlaps the one before.
template <class Arch, class T, class E>
FOVEA_INLINE void copy_row(const row_panel<Arch, T>& to, index_type r, const E* from, index_type stride,
                           T scale) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>, register_stride = row_panel<Arch, T>::max_rows * n;
  const index_type count = to.channels;
  T* q = to.q + r * n;
  index_type c = 0;
  if constexpr (std::is_same_v<T, E>)
    if (stride == 1)
      for (; c + n <= count; c += n, q += register_stride)
        (V::load_unaligned(from + c) * V(scale)).store_aligned(q);
  for (; c < count; c += n, q += register_stride) {
    alignas(64) T part[std::size_t{n}] = {};
    const index_type skipped = c - start_of<Arch, T>(c / n, to.dim);
    load_elements(from + c * stride, stride, std::min(n - skipped, count - c), part + skipped);
    (V::load_aligned(part) * V(scale)).store_aligned(q);
  }
}

/// to = factor * the row's sums. What the last register has in common with the one before is the same there.
template <class Arch, class T, class E>
FOVEA_INLINE void write_row(const row_panel<Arch, T>& from, index_type r,
                            const matrix_view<E>& head) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const V factor = V::load_aligned(from.factor(r));
  E* const to = head.at(from.query(r));
  const index_type stride = head.col_stride, columns = head.cols, width = read_width<Arch, T>(columns);
  for (index_type i = 0; i < from.registers.sums; ++i) {
    const index_type c = start_of<Arch, T>(i, width);
    const V o = V::load_aligned(from.sum(r, i)) * factor;
    if constexpr (std::is_same_v<T, E>)
      if (stride == 1 && c + n <= columns) {
        o.store_unaligned(to + c);
        continue;
      }
    alignas(64) T part[std::size_t{n}];
    o.store_aligned(part);
    store_elements(part, std::min(n, columns - c), to + c * stride, stride);
  }
}

template <class Arch, class T, class E, class G>
void write_row(const row_panel<Arch, T>& from, index_type r, const gated_rows<E, G>& head) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const V factor = V::load_aligned(from.factor(r));
  const index_type columns = head.all.cols, width = read_width<Arch, T>(columns);
  for (index_type i = 0; i < from.registers.sums; ++i) {
    const index_type c = start_of<Arch, T>(i, width);
    alignas(64) T part[std::size_t{n}];
    (V::load_aligned(from.sum(r, i)) * factor).store_aligned(part);
    head.template write<Arch>(from.query(r), {c, std::min(c + n, columns)}, static_cast<const T*>(part));
  }
}

/// The group's queries: to be copied.
template <class Arch, class T>
class row_queries_ref {
  using panel = row_panel<Arch, T>;

 public:
  template <class E>
  row_queries_ref(const sequences<const E>& all, index_type batch, index_type first_head) noexcept
      : all_(&all), batch_(batch), first_head_(first_head), copy_(&copy_rows<E>) {}
  /// For products of pairs: as they are, whatever the scale.
  template <bf16_element E>
  row_queries_ref(const sequences<const E>& all, index_type batch, index_type first_head,
                  as_bf16_pairs) noexcept
      : all_(&all), batch_(batch), first_head_(first_head), copy_(&copy_rows_of_pairs<E>) {}

  /// A panel's Q = scale * Q.
  void copy(const panel& to, T scale) const noexcept { copy_(all_, batch_, first_head_, to, scale); }

 private:
  template <class E>
  static void copy_rows(const void* all, index_type batch, index_type first_head, const panel& to,
                        T scale) noexcept {
    const auto& q = *static_cast<const sequences<const E>*>(all);
    for (index_type r = 0; r < to.count(); ++r) {
      const auto head = q.head(batch, first_head + to.head(r));
      copy_row(to, r, head.at(to.query(r)), head.col_stride, scale);
    }
    copy_halves(to);
  }

  template <class E>
  static void copy_rows_of_pairs(const void* all, index_type batch, index_type first_head, const panel& to,
                                 T) noexcept {
    const auto& q = *static_cast<const sequences<const E>*>(all);
    for (index_type r = 0; r < to.count(); ++r) {
      const auto head = q.head(batch, first_head + to.head(r));
      copy_row_of_pairs(to, r, head.at(to.query(r)), head.col_stride);
    }
  }

  const void* all_;
  index_type batch_, first_head_;
  void (*copy_)(const void*, index_type, index_type, const panel&, T) noexcept;
};

/// The group's results: to be written.
template <class Arch, class T>
class row_results_ref {
  using panel = row_panel<Arch, T>;

 public:
  template <class E>
  row_results_ref(const sequences<E>& all, index_type batch, index_type first_head) noexcept
      : all_(&all), batch_(batch), first_head_(first_head), write_(&write_rows<sequences<E>>) {}
  template <class E, class G>
  row_results_ref(const gated_sequences<E, G>& all, index_type batch, index_type first_head) noexcept
      : all_(&all), batch_(batch), first_head_(first_head), write_(&write_rows<gated_sequences<E, G>>) {}

  /// A panel's sums, each row times its factor.
  void write(const panel& from) const noexcept { write_(all_, batch_, first_head_, from); }

 private:
  template <class Results>
  static void write_rows(const void* all, index_type batch, index_type first_head,
                         const panel& from) noexcept {
    const auto& out = *static_cast<const Results*>(all);
    for (index_type r = 0; r < from.count(); ++r)
      write_row(from, r, out.head(batch, first_head + from.head(r)));
  }

  const void* all_;
  index_type batch_, first_head_;
  void (*write_)(const void*, index_type, index_type, const panel&) noexcept;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
