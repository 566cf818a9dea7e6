// fovea/compiled/described_score.hpp - the scores of a call, of kinds known at run time only, as one score.
#pragma once

#include <fovea/compiled/call_memory.hpp>
#include <fovea/kernel/rules/cells.hpp>
#include <fovea/score/alibi.hpp>
#include <fovea/score/bias.hpp>
#include <fovea/score/softcap.hpp>
#include <fovea/view/sequences.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// A score of one head, asked through pointers: see score/concept.hpp.
template <class Arch, class T>
class bound_score {
 public:
  using by_query = kernel::cells<Arch, T, kernel::in_lanes::queries>;
  using by_key = kernel::cells<Arch, T, kernel::in_lanes::keys>;
  using number = kernel::vec<Arch, T>;
  using block = kernel::staging_block<Arch, T>;

  virtual number apply(const number& s, const by_query& at) const noexcept = 0;
  virtual number apply(const number& s, const by_key& at) const noexcept = 0;
  virtual number derivative(const number& s, const by_key& at) const noexcept = 0;
  virtual number parameter_slope(const number& s, const by_key& at) const noexcept = 0;
  using position = std::remove_cvref_t<decltype(std::declval<const by_key&>().q())>;
  virtual position slot(const by_key& at) const noexcept = 0;
  /// A copy of what is read in a block of cells, of a score that adds a matrix.
  virtual kernel::staged_cells<T> copy(block& here) const noexcept = 0;

  bool hides = false;  // whether it can make a logit -inf
  bool adds_matrix = false;
  /// That matrix, for what asks for its lines: its elements have so many bytes.
  index_type element_bytes = 0;
  bool is_of_numbers = false;  // of T
  matrix_view<const std::byte> elements{};
  enum class kind : std::uint8_t { any, softcap, alibi } is = kind::any;

 protected:
  bound_score() = default;
  bound_score(const bound_score&) = default;
  ~bound_score() = default;
};

/// Bound: what a score of the library binds to.
template <class Arch, class T, class Bound>
class bound_score_of final : public bound_score<Arch, T> {
  using base = bound_score<Arch, T>;
  using number = typename base::number;
  static constexpr bool reads_matrix = requires(const Bound& b) { b.values.row_stride; };

 public:
  explicit bound_score_of(const Bound& bound) noexcept : bound_(bound) {
    this->hides = score_hides<Bound>, this->adds_matrix = reads_matrix;
    if constexpr (reads_matrix) {
      const auto& m = bound_.values;
      this->element_bytes = sizeof(*m.data),
      this->is_of_numbers = std::is_same_v<std::remove_cvref_t<decltype(*m.data)>, T>;
      this->elements = {reinterpret_cast<const std::byte*>(m.data), m.rows, m.cols, m.row_stride,
                        m.col_stride};
    }
    if (std::is_same_v<Bound, softcap<double>>) this->is = base::kind::softcap;
    if (std::is_same_v<Bound, linear_bias>) this->is = base::kind::alibi;
  }
  const Bound& bound() const noexcept { return bound_; }

  number apply(const number& s, const typename base::by_query& at) const noexcept override {
    return apply_score(bound_, s, at);
  }
  number apply(const number& s, const typename base::by_key& at) const noexcept override {
    return apply_score(bound_, s, at);
  }
  number derivative(const number& s, const typename base::by_key& at) const noexcept override {
    return slope_of_score(bound_, s, at);
  }
  number parameter_slope(const number& s, const typename base::by_key& at) const noexcept override {
    return slope_of_parameter(bound_, s, at);
  }
  typename base::position slot(const typename base::by_key& at) const noexcept override {
    if constexpr (requires { bound_.slot(at); }) return bound_.slot(at);
    return typename base::position(-1);
  }
  kernel::staged_cells<T> copy(typename base::block& here) const noexcept override {
    if constexpr (reads_matrix) return here.copy(bound_.values);
    return {};
  }

 private:
  Bound bound_;
};

/// f(score) as what it is, of the two that most calls have; false, and nothing called, of others.
template <class Arch, class T>
bool with_kind(const bound_score<Arch, T>& score, const auto& f) noexcept {
  using kind = typename bound_score<Arch, T>::kind;
  if (score.is == kind::softcap)
    f(softcap<T>(
        static_cast<T>(static_cast<const bound_score_of<Arch, T, softcap<double>>&>(score).bound().cap)));
  else if (score.is == kind::alibi)
    f(static_cast<const bound_score_of<Arch, T, linear_bias>&>(score).bound());
  return score.is != kind::any;
}

/// What a score makes of a register: those two in place, others through a pointer.
template <class Arch, class T, class V, class Cells>
V apply_bound(const bound_score<Arch, T>& score, V s, const Cells& cells) noexcept {
  if (with_kind(score, [&](const auto& known) { s = apply_score(known, s, cells); })) return s;
  return score.apply(s, cells);
}

/// The scores of a call, bound to a head, with copies of the matrices that they add in a block of cells.
template <class Arch, class T>
struct staged_scores {
  static constexpr score_stage stage = score_stage::bias;
  const bound_score<Arch, T>* const* scores;
  int count, copies = 0;
  kernel::staged_cells<T> copy[2] = {};

  template <class V>
  V apply(V s, const auto& cells) const noexcept {
    for (int i = 0, next = 0; i < count; ++i)
      if (scores[i]->adds_matrix && next < copies)
        s = cells.sum_or_hidden(s, cells.load(copy[next++]));
      else
        s = apply_bound(*scores[i], s, cells);
    return s;
  }
};

/// The scores of a call, bound to a head; with queries in lanes their matrices are copied a block at a time,
/// two of them at most. Learns: whether the first one has parameters to learn.
template <class Arch, class T>
struct described_scores {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr int matrices = 2;
  const bound_score<Arch, T>* const* scores;
  int count;

  bool may_hide() const noexcept {
    return std::any_of(scores, scores + count, [](const auto* s) { return s->hides; });
  }
  /// A softcap, ALiBi or a matrix of T alone. (Asked a register at a time they took a fifth more, matrices a
  /// third. Kinds in float alone: of double too they were 2 % more of the library.)
  void of_kind(const auto& f) const noexcept {
    if constexpr (std::is_same_v<T, float>)
      if (count == 1) {
        const auto& m = scores[0]->elements;
        if (scores[0]->adds_matrix && scores[0]->is_of_numbers)
          return f(bias_cells<matrix_view<const T>>{
              {reinterpret_cast<const T*>(m.data), m.rows, m.cols, m.row_stride, m.col_stride}});
        if (with_kind(*scores[0], f)) return;
      }
    f(*this);
  }
  template <class V>
  V apply(V s, const auto& cells) const noexcept {
    for (int i = 0; i < count; ++i) s = apply_bound(*scores[i], s, cells);
    return s;
  }
  template <class V>
  V derivative(V s, const auto& cells) const noexcept {
    V slope(1);
    for (int i = 0; i < count; ++i) {
      slope = slope * scores[i]->derivative(s, cells);
      s = scores[i]->apply(s, cells);
    }
    return slope;
  }
  template <class V>
  V parameter_slope(const V& s, const auto& cells) const noexcept {
    return count == 0 ? V(0) : scores[0]->parameter_slope(s, cells);
  }
  auto slot(const auto& cells) const noexcept { return scores[0]->slot(cells); }
  template <class Block>
  staged_scores<Arch, T> staged(Block& block) const noexcept {
    staged_scores<Arch, T> here{scores, count};
    for (int i = 0; i < count && here.copies < matrices; ++i)
      if (scores[i]->adds_matrix) here.copy[here.copies++] = scores[i]->copy(block);
    return here;
  }
  void each_matrix(const auto& f) const noexcept {
    for (int i = 0, next = 0; i < count && next < matrices; ++i) {
      if (!scores[i]->adds_matrix) continue;
      ++next;
      const auto as = [&]<class E>(E) {
        const auto& m = scores[i]->elements;
        f(matrix_view<const E>{reinterpret_cast<const E*>(m.data), m.rows, m.cols, m.row_stride,
                               m.col_stride});
      };
      const index_type bytes = scores[i]->element_bytes;
      bytes == 2 ? as(std::uint16_t()) : bytes == 4 ? as(std::uint32_t()) : as(std::uint64_t());
    }
  }
};

/// A score before it is bound.
template <class Arch, class T>
class any_score {
 public:
  virtual void check(const place& at) const = 0;
  virtual void check_numbers() const = 0;
  virtual const bound_score<Arch, T>* bind(const place& at, call_memory& memory) const = 0;
  virtual parameter_gradient<T> gradient() const noexcept = 0;
  virtual tensor_view<T> slots() const noexcept = 0;
  bool learns() const noexcept { return gradient().data != nullptr || slots().data != nullptr; }
  bool is_softcap = false, hides = false;

 protected:
  ~any_score() = default;
};

/// S: a score of the library. to: where the gradient of its parameters goes, if anywhere.
template <class Arch, class T, class S>
class score_of final : public any_score<Arch, T> {
 public:
  explicit score_of(S score, const parameter_gradient<T>& to = {}) : score_(std::move(score)), to_(to) {
    this->is_softcap = S::stage == score_stage::softcap, this->hides = score_hides<S>;
  }
  void check(const place& at) const override { check_score_at(score_, at); }
  void check_numbers() const override { check_numbers_of<T>(score_); }
  const bound_score<Arch, T>* bind(const place& at, call_memory& memory) const override {
    using bound = std::remove_cvref_t<decltype(bind_score(score_, at))>;
    return memory.keep(bound_score_of<Arch, T, bound>(bind_score(score_, at)));
  }
  parameter_gradient<T> gradient() const noexcept override { return to_; }
  tensor_view<T> slots() const noexcept override {
    if constexpr (requires { score_.slots().data; }) return score_.slots();
    return {};
  }

 private:
  S score_;
  parameter_gradient<T> to_;
};

/// Scores of a call as one score: bound when they are checked, for all sequences and heads.
template <class Arch, class T>
class described_score {
 public:
  static constexpr score_stage stage = score_stage::bias;
  described_score(call_memory& memory, index_type heads) noexcept : memory_(memory), heads_(heads) {}
  described_score(const described_score&) = delete;

  void add(const any_score<Arch, T>* score) { scores_.push_back(score); }
  bool may_hide() const noexcept {
    return std::any_of(scores_.begin(), scores_.end(), [](const auto* s) { return s->hides; });
  }
  bool empty() const noexcept { return scores_.empty(); }

  void check(const place& at) const {
    for (const auto* score : scores_) score->check(at);
    if (static_cast<index_type>(bound_.size()) >= (at.batch + 1) * heads_) return;
    place here = at;
    for (here.head = 0; here.head < heads_; ++here.head) {
      const auto** const list = memory_.array<const bound_score<Arch, T>*>(scores_.size());
      for (std::size_t i = 0; i < scores_.size(); ++i) list[i] = scores_[i]->bind(here, memory_);
      bound_.push_back({list, static_cast<int>(scores_.size())});
    }
  }
  template <class Logit>
  void check_numbers() const {
    for (const auto* score : scores_) score->check_numbers();
  }
  described_scores<Arch, T> bind(const place& at) const noexcept {
    const auto i = static_cast<std::size_t>(at.batch * heads_ + at.head);
    return i < bound_.size() ? bound_[i] : described_scores<Arch, T>{nullptr, 0};
  }

 protected:
  std::vector<const any_score<Arch, T>*> scores_;

 private:
  call_memory& memory_;
  index_type heads_;
  mutable std::vector<described_scores<Arch, T>> bound_;
};

/// The same of one score, or none, with parameters to learn.
template <class Arch, class T>
struct learnt_score : described_score<Arch, T> {
  static constexpr const char* gradient_name = "the gradient of a score";
  using described_score<Arch, T>::described_score;
  parameter_gradient<T> gradient() const noexcept {
    return this->empty() ? parameter_gradient<T>{} : this->scores_.front()->gradient();
  }
  /// Or of a table.
  tensor_view<T> slots() const noexcept {
    return this->empty() ? tensor_view<T>{} : this->scores_.front()->slots();
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
