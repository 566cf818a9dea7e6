// fovea/distributed/head_exchange.hpp - from tokens of all heads to all tokens of some heads, and back.
#pragma once

#include <fovea/distributed/key_blocks.hpp>
#include <fovea/distributed/slices.hpp>
#include <fovea/view/tensor.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// The query heads of member m of a group, and the key/value heads that these read: some are read by several
/// members, where there are fewer of them than members.
struct head_shares {
  index_type heads, kv_heads;
  int members;

  bool fit() const noexcept {
    if (heads % members != 0) return false;
    const index_type share = heads / members, group = heads / kv_heads;
    return share % group == 0 || group % share == 0;
  }
  range queries_of(int m) const noexcept {
    const index_type share = heads / members;
    return {m * share, (m + 1) * share};
  }
  range keys_of(int m) const noexcept {
    const range q = queries_of(m);
    const index_type group = heads / kv_heads;
    return {q.first / group, (q.last - 1) / group + 1};
  }
};

/// The all-to-all of a group of ranks that hold slices of the same sequences: each gives every other one the
/// heads that are its share, of the tokens that it holds. Where the group's slices stand side by side, as
/// those of ranks that follow each other do in both layouts, so do the rows that come together. (Jacobs et
/// al., "DeepSpeed Ulysses", arXiv:2309.14509.)
class head_exchange {
 public:
  /// The group's member m is rank first + m of those of `everyone`, whom `tokens` speaks of. Where one of
  /// them has no memory for an exchange, all throw, before its messages.
  head_exchange(const communicator& everyone, const communicator& group, int first,
                const std::vector<slices_of_ranks>& tokens)
      : everyone_(everyone), group_(group), first_(first), tokens_(tokens) {
    for (const slices_of_ranks& of : tokens) {
      index_type rows = 0;
      for (int m = 0; m < group.ranks(); ++m) rows += of.held(first + m);
      offsets_.push_back(offsets_.back() + rows);
    }
  }

  /// Where the rows of each sequence begin once they have come together.
  const std::vector<index_type>& offsets() const noexcept { return offsets_; }

  /// All rows of this rank's share of heads, of a type W that they travel in: 1 x heads x rows x columns.
  template <class W, class E, class HeadsOf>
  tensor<W> to_heads(const sequences<E>& x, const HeadsOf& heads_of) const {
    std::vector<tensor<W>> out, in;
    tensor<W> all;
    const index_type own = held_by(group_.rank()), own_heads = heads_of(group_.rank()).size();
    together(everyone_, [&] {
      for (int m = 0; m < group_.ranks(); ++m)
        out.emplace_back(1, heads_of(m).size(), own, x.dim()),
            in.emplace_back(1, own_heads, held_by(m), x.dim());
      all = tensor<W>(1, own_heads, offsets_.back(), x.dim());
    });
    for (int m = 0; m < group_.ranks(); ++m)
      each_sequence(group_.rank(), [&](index_type b, index_type before, index_type held) {
        tensor_view<E> rows = rows_of(x, b, {0, held});
        rows.data += heads_of(m).first * rows.head_stride, rows.heads = heads_of(m).size();
        copy_elements(rows, part_of(out[static_cast<std::size_t>(m)].view(), before, held));
      });
    pass(out, in);
    for (int m = 0; m < group_.ranks(); ++m)
      each_run(m, [&](index_type row, index_type to, index_type count) {
        copy_elements(tensor_view<const W>(part_of(in[static_cast<std::size_t>(m)].view(), row, count)),
                      part_of(all.view(), to, count));
      });
    return all;
  }

  /// The reverse: this rank's tokens of all heads; what several members give of a head is summed.
  template <class T, class E, class HeadsOf>
  void to_tokens(tensor<T>& x, const HeadsOf& heads_of, const sequences<E>& to) const {
    std::vector<tensor<T>> out, in;
    tensor<T> sum;
    const index_type own = held_by(group_.rank());
    together(everyone_, [&] {
      for (int m = 0; m < group_.ranks(); ++m)
        out.emplace_back(1, x.heads(), held_by(m), to.dim()),
            in.emplace_back(1, heads_of(m).size(), own, to.dim());
      sum = tensor<T>(1, to.heads(), own, to.dim());
    });
    for (int m = 0; m < group_.ranks(); ++m)
      each_run(m, [&](index_type row, index_type from, index_type count) {
        copy_elements(tensor_view<const T>(part_of(x.view(), from, count)),
                      part_of(out[static_cast<std::size_t>(m)].view(), row, count));
      });
    pass(out, in);
    for (int m = 0; m < group_.ranks(); ++m) {
      tensor_view<T> heads = sum.view();
      heads.data += heads_of(m).first * heads.head_stride, heads.heads = heads_of(m).size();
      add_elements(in[static_cast<std::size_t>(m)].view(), heads);
    }
    each_sequence(group_.rank(), [&](index_type b, index_type before, index_type held) {
      copy_elements(tensor_view<const T>(part_of(sum.view(), before, held)), rows_of(to, b, {0, held}));
    });
  }

 private:
  template <class E>
  static tensor_view<E> part_of(tensor_view<E> all, index_type first, index_type count) noexcept {
    all.data += first * all.token_stride, all.tokens = count;
    return all;
  }
  index_type held_by(int m) const noexcept {
    index_type sum = 0;
    for (const slices_of_ranks& of : tokens_) sum += of.held(first_ + m);
    return sum;
  }
  /// f(b, rows of the sequences before, rows) of what a member holds.
  template <class F>
  void each_sequence(int m, const F& f) const {
    index_type before = 0;
    for (std::size_t b = 0; b < tokens_.size(); ++b) {
      const index_type held = tokens_[b].held(first_ + m);
      f(static_cast<index_type>(b), before, held);
      before += held;
    }
  }
  /// f(row of the member, row of all, count): rows of a member that stand side by side. In the balanced
  /// layout the first slices of the members rise, the second ones fall.
  template <class F>
  void each_run(int m, const F& f) const {
    each_sequence(m, [&](index_type b, index_type before, index_type) {
      const slices_of_ranks& of = tokens_[static_cast<std::size_t>(b)];
      index_type rising = 0, falling = 0, firsts = 0;
      for (int other = 0; other < group_.ranks(); ++other) {
        const auto& parts = of.of(first_ + other);
        firsts += parts[0].count;
        if (other < m) rising += parts[0].count;
        if (other > m) falling += parts[1].count;
      }
      const auto& parts = of.of(first_ + m);
      const index_type start = offsets_[static_cast<std::size_t>(b)];
      f(before + parts[0].row, start + rising, parts[0].count);
      f(before + parts[1].row, start + firsts + falling, parts[1].count);
    });
  }
  /// out[m] to member m, in[m] from it.
  template <class T>
  void pass(std::vector<tensor<T>>& out, std::vector<tensor<T>>& in) const {
    messages on_their_way;
    const int own = group_.rank();
    for (int m = 0; m < group_.ranks(); ++m) {
      const auto i = static_cast<std::size_t>(m);
      if (m != own) on_their_way.receive(group_, m, 1, in[i].data(), in[i].size());
    }
    for (int step = 1; step < group_.ranks(); ++step) {
      const int m = group_.rank_after(step);
      const auto i = static_cast<std::size_t>(m);
      on_their_way.send(group_, m, 1, out[i].data(), out[i].size());
    }
    std::swap(out[static_cast<std::size_t>(own)], in[static_cast<std::size_t>(own)]);
    on_their_way.wait();
  }

  const communicator &everyone_, &group_;
  int first_;
  const std::vector<slices_of_ranks>& tokens_;
  std::vector<index_type> offsets_{0};
};

}  // namespace distributed
FOVEA_NAMESPACE_END
