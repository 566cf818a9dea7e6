// fovea/compiled/described_mask.hpp - the masks of a call, of kinds known at run time only, as one mask.
#pragma once

#include <fovea/compiled/bound_mask.hpp>
#include <fovea/compiled/call_memory.hpp>
#include <fovea/compiled/operands.hpp>
#include <fovea/mask/big_bird.hpp>
#include <fovea/mask/complement.hpp>
#include <fovea/mask/union.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// A mask before it is bound.
template <class Arch, class T>
class any_mask {
 public:
  virtual void check(const place& at) const = 0;
  virtual void name(place& at) const noexcept = 0;
  virtual const bound_mask<Arch, T>* bind(const place& at, call_memory& memory) const = 0;
  /// Whether heads of a sequence differ.
  virtual bool by_head() const noexcept = 0;

 protected:
  ~any_mask() = default;
};

/// M: a mask of the library.
template <class Arch, class T, class M>
class mask_of final : public any_mask<Arch, T> {
 public:
  explicit mask_of(const M& mask) noexcept : mask_(mask) {}
  void check(const place& at) const override { check_at(mask_, at); }
  void name(place& at) const noexcept override { name_diagonals(mask_, at); }
  const bound_mask<Arch, T>* bind(const place& at, call_memory& memory) const override {
    using bound = std::remove_cvref_t<decltype(bind_to(mask_, at))>;
    const auto* const kept = memory.keep(bound_mask_of<Arch, T, bound>(bind_to(mask_, at)));
    if constexpr (requires { kept->bound().keep.row_stride; }) {
      auto copy = *kept;
      copy.matrix = memory.keep(kept->bound().keep);
      return memory.keep(copy);
    }
    return kept;
  }
  bool by_head() const noexcept override {
    if constexpr (requires { mask_.table.table.heads; }) return mask_.table.table.heads != 1;
    if constexpr (requires { mask_.map.table.heads; }) return mask_.map.table.heads != 1;
    return std::is_same_v<M, big_bird>;
  }

 private:
  M mask_;
};

/// Masks that intersect: those of a call, or a part of them.
template <class Arch, class T>
class mask_list final : public any_mask<Arch, T> {
 public:
  void add(const any_mask<Arch, T>* mask) { masks_.push_back(mask); }
  index_type size() const noexcept { return static_cast<index_type>(masks_.size()); }
  const any_mask<Arch, T>& operator[](index_type i) const noexcept {
    return *masks_[static_cast<std::size_t>(i)];
  }
  void check(const place& at) const override {
    const place named = with_diagonals(at);
    for (const auto* mask : masks_) mask->check(named);
  }
  void name(place& at) const noexcept override {
    for (const auto* mask : masks_) mask->name(at);
  }
  described_cells<Arch, T> bound(const place& at, call_memory& memory) const {
    const place named = with_diagonals(at);
    const auto** const cells = memory.array<const bound_mask<Arch, T>*>(masks_.size());
    for (std::size_t i = 0; i < masks_.size(); ++i) cells[i] = masks_[i]->bind(named, memory);
    return {cells, static_cast<int>(masks_.size())};
  }
  const bound_mask<Arch, T>* bind(const place& at, call_memory& memory) const override {
    return memory.keep(bound_mask_of<Arch, T, described_cells<Arch, T>>(bound(at, memory)));
  }
  bool by_head() const noexcept override {
    return std::any_of(masks_.begin(), masks_.end(), [](const auto* m) { return m->by_head(); });
  }

 private:
  place with_diagonals(place at) const noexcept {
    if (at.diagonal.name == nullptr) name(at);
    return at;
  }
  std::vector<const any_mask<Arch, T>*> masks_;
};

/// a | b.
template <class Arch, class T>
class mask_union_of final : public any_mask<Arch, T> {
 public:
  mask_union_of(const any_mask<Arch, T>* a, const any_mask<Arch, T>* b) noexcept : a_(a), b_(b) {}
  void check(const place& at) const override { a_->check(at), b_->check(at); }
  void name(place& at) const noexcept override { a_->name(at), b_->name(at); }
  const bound_mask<Arch, T>* bind(const place& at, call_memory& memory) const override {
    using part = mask_part<Arch, T>;
    const mask_union<part, part> both{{a_->bind(at, memory)}, {b_->bind(at, memory)}};
    bound_mask_of<Arch, T, mask_union<part, part>> bound(both);
    bound.edges = both.a.has_edges() || both.b.has_edges(), bound.gaps = true;
    return memory.keep(bound);
  }
  bool by_head() const noexcept override { return a_->by_head() || b_->by_head(); }

 private:
  const any_mask<Arch, T>*a_, *b_;
};

/// !a.
template <class Arch, class T>
class mask_complement_of final : public any_mask<Arch, T> {
 public:
  explicit mask_complement_of(const any_mask<Arch, T>* a) noexcept : a_(a) {}
  void check(const place& at) const override { a_->check(at); }
  void name(place& at) const noexcept override { a_->name(at); }
  const bound_mask<Arch, T>* bind(const place& at, call_memory& memory) const override {
    const complement_cells<mask_part<Arch, T>> cells{{a_->bind(at, memory)}, at.keys};
    bound_mask_of<Arch, T, complement_cells<mask_part<Arch, T>>> bound(cells);
    bound.edges = cells.mask.has_edges(), bound.gaps = true;
    return memory.keep(bound);
  }
  bool by_head() const noexcept override { return a_->by_head(); }

 private:
  const any_mask<Arch, T>* a_;
};

/// The masks of a call as its mask: bound when they are checked, sequence by sequence, for all heads that
/// differ. Allocates where they do not lie in the call's memory.
template <class Arch, class T>
class described_mask {
 public:
  using is_mask = void;
  /// `operands`: all that masks and scores of the call read.
  described_mask(const mask_list<Arch, T>& masks, const operand_list& operands, call_memory& memory,
                 index_type heads) noexcept
      : masks_(masks), operands_(operands), memory_(memory), heads_(masks.by_head() ? heads : 1) {}
  described_mask(const described_mask&) = delete;

  void check(const place& at) const {
    masks_.check(at);
    if (static_cast<index_type>(bound_.size()) >= (at.batch + 1) * heads_) return;
    place here = at;
    for (here.head = 0; here.head < heads_; ++here.head) bound_.push_back(masks_.bound(here, memory_));
  }
  void each_operand(const auto& f) const { operands_.each_operand(f); }
  described_cells<Arch, T> bind(const place& at) const noexcept {
    const index_type i = at.batch * heads_ + (heads_ == 1 ? 0 : at.head);
    if (i >= static_cast<index_type>(bound_.size())) return {nullptr, 0};  // as types are found out
    return bound_[static_cast<std::size_t>(i)];
  }

 private:
  const mask_list<Arch, T>& masks_;
  const operand_list& operands_;
  call_memory& memory_;
  index_type heads_;
  mutable std::vector<described_cells<Arch, T>> bound_;
};

}  // namespace described
FOVEA_NAMESPACE_END
