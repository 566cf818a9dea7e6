// fovea/distributed/learnt_scores.hpp - gradients of scores' parameters, from slices of the sequences.
#pragma once

#include <fovea/distributed/exact_sums.hpp>
#include <fovea/distributed/slice_rules.hpp>
#include <fovea/view/tensor.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

template <class Score>
inline constexpr bool learns = learning_score<Score> || slot_learning_score<Score>;
template <class List>
inline constexpr bool any_learns = false;
template <class... S>
inline constexpr bool any_learns<value_list<S...>> = (learns<std::remove_cvref_t<S>> || ...);

/// Where a call on slices writes the gradient of one score's parameters, in the type that sums are made in.
template <class T, class Score>
struct slice_gradient {};
template <class T, learning_score Score>
struct slice_gradient<T, Score> {
  static constexpr const char* gradient_name = fovea::gradient_name<Score>;
  parameter_gradient<T> to;
  parameter_gradient<T> gradient() const noexcept { return to; }
};
template <class T, slot_learning_score Score>
struct slice_gradient<T, Score> {
  static constexpr const char* gradient_name = fovea::gradient_name<Score>;
  tensor_view<T> to;
  tensor_view<T> slots() const noexcept { return to; }
};

/// One bound score of a call, at the cells of slices.
template <class Bound>
struct score_at_slice {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = score_hides<std::remove_cvref_t<Bound>>;
  Bound score;
  slice_place at;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return apply_score(score, s, at.cells(cells));
  }
  template <class V>
  V derivative(const V& s, const auto& cells) const noexcept {
    return slope_of_score(score, s, at.cells(cells));
  }
  template <class V>
  V parameter_slope(const V& s, const V& q, const V& k) const noexcept
    requires requires { score.parameter_slope(s, q, k); }
  {
    return score.parameter_slope(s, q + number_as<V>(at.first_query), k + number_as<V>(at.first_key));
  }
  auto slot(const auto& cells) const noexcept
    requires requires { score.slot(cells); }
  {
    return score.slot(at.cells(cells));
  }
};

/// One score of a call on slices, with where its parameters' gradient goes.
template <class T, class Score>
struct slice_score : slice_gradient<T, Score> {
  static constexpr score_stage stage = score_stage::bias;  // in the order in which they already are
  static constexpr bool hides = score_hides<Score>;
  const Score& score;
  slice_place at;

  auto bind(const place& local) const noexcept {
    return score_at_slice<decltype(bind_score(score, at.whole(local.head)))>{
        bind_score(score, at.whole(local.head)), at};
  }
};

/// The gradient of one score's parameters, summed over calls on slices and over ranks. Sums are exact, so
/// that neither their order nor who adds what changes them; but of doubles where it has a number for each
/// query and for each key, one that every cell of a sequence has for itself, and either sequences do not
/// share it, or bits may depend on the ranks: such sums take an eighth of the memory or less.
template <class T>
class parameter_sums {
 public:
  parameter_sums() = default;
  template <class Score>
  parameter_sums([[maybe_unused]] const Score& score, [[maybe_unused]] index_type queries,
                 [[maybe_unused]] index_type keys, [[maybe_unused]] bool same_bits_of_sequences) {
    if constexpr (learning_score<Score>) {
      const auto to = score.gradient();
      if (to.data == nullptr) return;
      batch_ = to.batch, heads_ = to.heads, queries_ = to.queries, keys_ = to.keys;
      const bool each_cell = queries_ > 1 && keys_ > 1;
      if (each_cell && (batch_ > 1 || !same_bits_of_sequences))
        sums_.resize(static_cast<std::size_t>(size_product("the gradient of a score", batch_, heads_,
                                                           queries_, keys_, sizeof(double))) /
                     sizeof(double));
      else
        exact_ = exact_sums<T>(batch_ * heads_ * queries_ * keys_);
      part_ = tensor<T>(1, heads_, queries_ == 1 ? 1 : queries, keys_ == 1 ? 1 : keys);
    } else if constexpr (slot_learning_score<Score>) {
      const auto to = score.slots();
      if (to.data == nullptr) return;
      heads_ = to.dim, queries_ = to.tokens;
      exact_ = exact_sums<T>(heads_ * queries_), part_ = tensor<T>(1, 1, queries_, heads_);
    }
  }

  /// Where a call on some rows and keys writes what they give.
  template <class Score>
  slice_gradient<T, Score> part([[maybe_unused]] index_type rows, [[maybe_unused]] index_type keys) noexcept {
    if constexpr (learning_score<Score>) {
      if (part_.size() == 0) return {{}};
      rows_ = queries_ == 1 ? 1 : rows, columns_ = keys_ == 1 ? 1 : keys;
      return {{.data = part_.data(),
               .batch = 1,
               .heads = heads_,
               .queries = rows_,
               .keys = columns_,
               .batch_stride = 0,
               .head_stride = rows_ * columns_,
               .query_stride = columns_,
               .key_stride = 1}};
    } else if constexpr (slot_learning_score<Score>) {
      return {part_.size() == 0 ? tensor_view<T>{} : part_.view()};
    } else {
      return {};
    }
  }
  /// Adds that to the sums of all.
  template <class Score>
  void add([[maybe_unused]] const slice_place& at) noexcept {
    if (part_.size() == 0) return;
    if constexpr (slot_learning_score<Score>) {
      for (index_type i = 0; i < part_.size(); ++i) exact_.add(i, part_.data()[i]);
    } else {
      const index_type b = batch_ == 1 ? 0 : at.batch, first_row = queries_ == 1 ? 0 : at.first_query,
                       first_key = keys_ == 1 ? 0 : at.first_key;
      const T* from = part_.data();
      for (index_type h = 0; h < heads_; ++h)
        for (index_type i = 0; i < rows_; ++i)
          for (index_type j = 0; j < columns_; ++j, ++from) {
            const index_type cell = ((b * heads_ + h) * queries_ + first_row + i) * keys_ + first_key + j;
            if (sums_.empty())
              exact_.add(cell, *from);
            else
              sums_[static_cast<std::size_t>(cell)] += static_cast<double>(*from);
          }
    }
  }

  /// The sums of all ranks, written where the score wants its gradient, on all of them.
  template <class Score>
  void finish(const communicator& processes, const Score& score) {
    if (part_.size() == 0) return;
    exact_.add_ranks(processes);
    add_numbers_of_ranks(processes, std::span(sums_));
    const auto sum = [&](index_type i) {
      return sums_.empty() ? exact_.value(i) : sums_[static_cast<std::size_t>(i)];
    };
    if constexpr (slot_learning_score<Score>) {
      const auto to = score.slots();
      for (index_type slot = 0; slot < to.tokens; ++slot)
        for (index_type h = 0; h < to.dim; ++h) store(to(0, 0, slot, h), sum(slot * to.dim + h));
    } else if constexpr (learning_score<Score>) {
      const auto to = score.gradient();
      index_type i = 0;
      for (index_type b = 0; b < batch_; ++b)
        for (index_type h = 0; h < heads_; ++h)
          for (index_type q = 0; q < queries_; ++q)
            for (index_type k = 0; k < keys_; ++k, ++i)
              store(
                  to.data[b * to.batch_stride + h * to.head_stride + q * to.query_stride + k * to.key_stride],
                  sum(i));
    }
  }

 private:
  template <class E>
  static void store(E& to, double x) noexcept {
    to = store_element<E>(static_cast<compute_t<E>>(x));
  }

  index_type batch_ = 1, heads_ = 1, queries_ = 1, keys_ = 1;  // of the gradient; of a table: its slots
  index_type rows_ = 0, columns_ = 0;                          // of the last part
  std::vector<double> sums_;
  exact_sums<T> exact_;
  tensor<T> part_;
};

/// Those of all scores of a call.
template <class T, class Rules>
class learnt_scores {
 public:
  /// rows, keys: the most of a call on slices; same_bits_of_sequences: there are several sequences, and sums
  /// over them must not depend on the ranks.
  learnt_scores(const Rules& rules, index_type rows, index_type keys, bool same_bits_of_sequences)
      : rules_(rules) {
    rules.scores.each([&](const auto& score) {
      all_.push_back(parameter_sums<T>(score, std::max<index_type>(rows, 1), std::max<index_type>(keys, 1),
                                       same_bits_of_sequences));
    });
  }

  /// call(mods...) on slices, and what it gives for the parameters added.
  template <class Dropout, class Call>
  void add(const Dropout& dropout, const slice_place& at, index_type rows, index_type keys,
           const Call& call) {
    if constexpr (!learns_any) {
      with_slice_rules(rules_, dropout, at, call);
    } else {
      const auto as_slice = [&]<class Score>(int number, const Score& score) {
        return slice_score<T, Score>{all_[static_cast<std::size_t>(number)].template part<Score>(rows, keys),
                                     score, at};
      };
      with_each_score(rules_.scores, as_slice, [&](const auto&... scores) {
        with_slice_mask(rules_, dropout, at, [&](const auto&... others) { call(others..., scores...); });
      });
      rules_.scores.each_numbered([&](auto i, const auto& score) {
        all_[static_cast<std::size_t>(i())].template add<std::remove_cvref_t<decltype(score)>>(at);
      });
    }
  }
  void finish(const communicator& processes) {
    rules_.scores.each_numbered(
        [&](auto i, const auto& score) { all_[static_cast<std::size_t>(i())].finish(processes, score); });
  }

 private:
  static constexpr bool learns_any = any_learns<decltype(Rules::scores)>;

  template <int I = 0, class Make, class Call, class... Made>
  static void with_each_score(const value_list<>&, const Make&, const Call& call, const Made&... made) {
    call(made...);
  }
  template <int I = 0, class First, class... Rest, class Make, class Call, class... Made>
  static void with_each_score(const value_list<First, Rest...>& scores, const Make& make, const Call& call,
                              const Made&... made) {
    with_each_score<I + 1>(scores.rest, make, call, made..., make(I, scores.first));
  }

  const Rules& rules_;
  std::vector<parameter_sums<T>> all_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
