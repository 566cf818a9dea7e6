// fovea/view/decoded.hpp - keys or values stored in a way of one's own, which no pointer to elements
// reaches: a call decodes them, a block of tokens at a time.
#pragma once

#include <fovea/lifetime.hpp>
#include <fovea/view/sequences.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// One sequence in a store of one's own. It has
///   heads(), tokens(), dim() const         sizes
///   read(head, tokens, to, stride) const   writes the numbers of some tokens of a head: the dim() of token
///                                          tokens.first + i from to[i * stride] on
/// `to` is of float, or of double where a call sums in double. read does not throw, and is called from
/// several threads at once.
template <class S>
concept store_like = requires(const S& store, float* to) {
  store.heads(), store.tokens(), store.dim();
  store.read(index_type{}, range{}, to, index_type{});
};

/// decoded(store), in place of k and of v:
///   attend(q, fovea::decoded(keys), fovea::decoded(values), fovea::causal)
/// A call decodes a block of tokens once for each job that reads it (few queries: values once more where a
/// mask may hide them), into memory that its plan counts: O(1) beyond the store. backward does not take it.
/// The store outlives the call; a temporary is refused.
template <store_like Store>
class decoded {
 public:
  using element = float;
  static constexpr bool in_cache = false;

  template <class S>
    requires std::is_same_v<std::remove_cvref_t<S>, Store>
  explicit decoded(S&& store) noexcept : store_(&store) {
    static_assert(std::is_lvalue_reference_v<S>,
                  "fovea: decoded refers to a store; give it a named one, not a temporary");
  }

  index_type batches() const noexcept { return 1; }
  index_type heads() const noexcept { return store_->heads(); }
  index_type dim() const noexcept { return store_->dim(); }
  index_type tokens(index_type) const noexcept { return store_->tokens(); }
  index_type max_tokens() const noexcept { return store_->tokens(); }

  struct head_of {
    using element = float;
    const Store* store;
    index_type number, rows, cols;
    static constexpr index_type row_stride = 0, col_stride = 1;
    template <class T>
    void read(range tokens, T* to, index_type stride) const noexcept {
      if (cols > 0) store->read(number, tokens, to, stride);
    }
    /// f(piece) once, of rows that live as long as it takes: for what reads element by element.
    template <class F>
    void each_piece(range tokens, F&& f) const {
      std::vector<float> numbers(static_cast<std::size_t>(tokens.size() * cols));
      read(tokens, numbers.data(), cols);
      if (!tokens.empty()) f(piece<float>{{numbers.data(), tokens.size(), cols, cols, 1}});
    }
  };
  head_of head(index_type, index_type h) const noexcept { return {store_, h, tokens(0), dim()}; }

 private:
  const Store* store_;
};

template <class S>
decoded(S&&) -> decoded<std::remove_cvref_t<S>>;

template <class Store>
struct view_traits<decoded<Store>> {
  using element = float;
  static decoded<Store> view(const decoded<Store>& x, index_type heads, const char* name) {
    if (heads != any_heads && x.heads() != heads) reject(name, " has ", x.heads(), " heads, not ", heads);
    return x;
  }
  template <class T>
  static decoded<Store> make_like(const decoded<Store>& x, index_type, index_type) {
    static_assert(never<T>, "fovea: backward takes k and v as matrices or tensors, not as a decoded store");
    return x;
  }
};

FOVEA_NAMESPACE_END
