// fovea/distributed/key_blocks.hpp - keys and values as they travel between ranks.
#pragma once

#include <fovea/distributed/communicator.hpp>
#include <fovea/distributed/slices.hpp>
#include <fovea/element/concept.hpp>
#include <fovea/view/sequences.hpp>

#include <memory>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// The tokens `rows` of one sequence, as a tensor_view of one sequence.
template <class E>
tensor_view<E> rows_of(const sequences<E>& x, index_type b, range rows) noexcept {
  tensor_view<E> view = x.all;
  view.data +=
      (x.offsets ? x.offset(b) * view.token_stride : b * view.batch_stride) + rows.first * view.token_stride;
  view.batch = 1, view.tokens = rows.size();
  return view;
}

template <class From, class To>
void copy_elements(const tensor_view<From>& from, const tensor_view<To>& to) noexcept {
  using F = std::remove_const_t<From>;
  for (index_type b = 0; b < from.batch; ++b)
    for (index_type h = 0; h < from.heads; ++h)
      for (index_type t = 0; t < from.tokens; ++t) {
        const From* const source = &from(b, h, t, 0);
        To* const row = &to(b, h, t, 0);
        if constexpr (std::is_same_v<F, To>) {
          if (from.dim_stride == 1 && to.dim_stride == 1) {
            std::copy_n(source, from.dim, row);
            continue;
          }
        }
        for (index_type c = 0; c < from.dim; ++c) {
          const From& x = source[c * from.dim_stride];
          if constexpr (std::is_same_v<F, To>)
            row[c * to.dim_stride] = x;
          else
            row[c * to.dim_stride] = store_element<To>(load_element<compute_t<F>>(x));
        }
      }
}

/// to += from, in the type that sums are made in.
template <class T>
void add_elements(const tensor_view<T>& from, const tensor_view<T>& to) noexcept {
  for (index_type h = 0; h < from.heads; ++h)
    for (index_type t = 0; t < from.tokens; ++t)
      for (index_type c = 0; c < from.dim; ++c) to(0, h, t, c) += from(0, h, t, c);
}

/// Elements of some tokens, head by head, sequence after sequence: [sequence][head][token][column].
template <class E>
class packed_tokens {
 public:
  packed_tokens() = default;
  packed_tokens(index_type heads, index_type columns, index_type most_tokens)
      : heads_(heads),
        columns_(columns),
        elements_(std::make_unique_for_overwrite<E[]>(static_cast<std::size_t>(
            size_product("a block that travels", heads, columns, most_tokens, sizeof(E)) /
            static_cast<index_type>(sizeof(E))))) {}

  E* data() noexcept { return elements_.get(); }
  index_type size(index_type tokens) const noexcept { return tokens * heads_ * columns_; }
  /// Tokens [first, first + count) of the `held` ones of a sequence; `before`: those of the sequences before.
  tensor_view<E> view(index_type before, index_type held, range tokens) noexcept {
    return {elements_.get() + before * heads_ * columns_ + tokens.first * columns_,
            1,
            heads_,
            tokens.size(),
            columns_,
            0,
            held * columns_,
            columns_,
            1};
  }

 private:
  index_type heads_ = 0, columns_ = 0;
  std::unique_ptr<E[]> elements_;  // not set to 0 first
};

/// Messages on their way. MPI counts in int: what is larger goes in several.
class messages {
 public:
  static constexpr index_type most_bytes = index_type(1) << 30;

  template <class E>
  void send(const communicator& to, int rank, int tag, const E* data, index_type count) {
    each_part(data, count, [&](const std::byte* first, int bytes) {
      MPI_Isend(first, bytes, MPI_BYTE, rank, tag, to.get(), next());
    });
  }
  template <class E>
  void receive(const communicator& from, int rank, int tag, E* data, index_type count) {
    each_part(data, count, [&](std::byte* first, int bytes) {
      MPI_Irecv(first, bytes, MPI_BYTE, rank, tag, from.get(), next());
    });
  }
  template <class E>
  void broadcast(const communicator& among, int root, E* data, index_type count) {
    each_part(data, count, [&](std::byte* first, int bytes) {
      MPI_Ibcast(first, bytes, MPI_BYTE, root, among.get(), next());
    });
  }
  /// Lets MPI work, which does so when it is called. Whether all messages have arrived.
  bool progress() {
    int done = 1;
    if (!requests_.empty())
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done != 0) requests_.clear();
    return done != 0;
  }
  void wait() {
    if (!requests_.empty())
      MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
    requests_.clear();
  }

 private:
  MPI_Request* next() { return &requests_.emplace_back(MPI_REQUEST_NULL); }
  template <class E, class F>
  static void each_part(E* data, index_type count, const F& f) {
    using byte = std::conditional_t<std::is_const_v<E>, const std::byte, std::byte>;
    auto* const first = reinterpret_cast<byte*>(data);
    const index_type bytes = count * static_cast<index_type>(sizeof(E));
    for (index_type at = 0; at < bytes; at += most_bytes)
      f(first + at, static_cast<int>(std::min(bytes - at, most_bytes)));
  }

  std::vector<MPI_Request> requests_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
